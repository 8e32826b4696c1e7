"""What a run leaves on disk: summary.json, report.html and model.keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedtutor import figures
from fedtutor.evaluation import TOO_FEW
from fedtutor.external.card import make_card
from fedtutor.external.model_file import save_model
from fedtutor.external.page import pictures_of
from fedtutor.external.traces import Traces
from fedtutor.figures.page import fill
from fedtutor.support.output import CHECKPOINT, LAST_GOOD, MODEL, SUMMARY, write_json, write_text

if TYPE_CHECKING:
    from fedtutor.experiment import Outcome


def write(outcome: Outcome, folder: Path, *, traces: bool = True) -> None:
    """Write the three files of a finished run, each whole, what took longest to compute first.

    ``traces`` in the model tell whom it was trained on, see :mod:`fedtutor.external.traces`.
    """
    card = make_card(outcome.settings, outcome.cohort.train, outcome.summary)
    kept = Traces.of(outcome.cohort.train) if traces else None
    save_model(outcome.model, folder / MODEL, card, kept)
    write_json(folder / SUMMARY, outcome.summary)
    write_text(folder / "report.html", render(outcome))
    for name in (CHECKPOINT, LAST_GOOD):
        (folder / name).unlink(missing_ok=True)


def render(outcome: Outcome) -> str:
    """Return the report as one HTML page that needs no other file."""
    summary = outcome.summary
    return fill(
        "report/page.html.jinja",
        s=summary,
        title=", ".join(filter(None, (summary["dataset"], summary["task"]))),
        external_pictures=pictures_of(summary["home"], outcome.external),
        conclusion=conclusion(summary),
        pictures={name: figures.to_html(draw) for name, draw in _pictures(outcome).items()},
    )


def _pictures(outcome: Outcome) -> dict[str, Callable[[], figures.Picture]]:
    summary, cohort, shown = outcome.summary, outcome.cohort, outcome.explained
    counts, said = cohort.partition.strata_counts(cohort.train), outcome.probabilities["federated"]
    pictures = {
        "headline": lambda: figures.headline(summary),
        "who_has_what": lambda: figures.who_has_what(
            list(cohort.names), counts, cohort.train.strata_names
        ),
        "examples": lambda: figures.examples(cohort.test),
        "rounds": lambda: figures.rounds(summary),
        "heat_maps": lambda: figures.heat_maps(
            cohort.test,
            shown.indices,
            {"Grad-CAM": shown.grad_cam, "HiResCAM": shown.hirescam},
            classes=shown.classes,
        ),
    }
    if summary["home_and_away"] is not None:
        pictures["away"] = lambda: figures.away(summary["home_and_away"])
    if summary["multi_label"]:
        return pictures | {"findings": lambda: figures.findings(summary, said, cohort.test.labels)}
    return pictures | {
        "mistakes": lambda: figures.mistakes(said, cohort.test.labels, summary["classes"])
    }


def conclusion(summary: dict) -> str:
    """Say the result in two sentences, intervals included, whichever way it went."""
    auc, (low, high) = summary["auc"], summary["auc_gain"]["pooled_over_federated"]
    from_pooled = (None, None) if low is None else (-high, -low)
    return (
        f"{_compare(auc, 'local_mean', summary['auc_gain']['federated_over_local_mean'])}. "
        f"{_compare(auc, 'pooled', from_pooled)}."
    )


def _compare(auc: dict, other: str, gain: tuple[float | None, float | None]) -> str:
    """Compare the federated model's AUC with another; ``gain`` is the difference's interval."""
    text = {"local_mean": "the mean hospital alone", "pooled": "training on pooled images"}[other]
    low, high = gain
    if low is None or high is None:
        return f"Against {text} nothing can be said: {TOO_FEW}"
    word = "above" if low > 0 else "below" if high < 0 else "not clearly different from"
    return (
        f"The federated model's AUC of {auc['federated']:.3f} is {word} that of {text} (difference "
        f"{auc['federated'] - auc[other]:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"
    )
