"""What a run leaves on disk: summary.json, report.html and model.keras."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from fedtutor import figures
from fedtutor.evaluation import TOO_FEW
from fedtutor.support.output import CHECKPOINT, LAST_GOOD, MODEL, SUMMARY, save_model, write_text

if TYPE_CHECKING:
    from fedtutor.experiment import Outcome

TEMPLATE = Path(__file__).with_name("page.html.jinja")


def write(outcome: Outcome, folder: Path) -> None:
    """Write the three files of a finished run, each whole, what took longest to compute first."""
    save_model(outcome.model, folder / MODEL)
    write_text(folder / SUMMARY, json.dumps(outcome.summary, indent=2, allow_nan=False) + "\n")
    write_text(folder / "report.html", render(outcome))
    for name in (CHECKPOINT, LAST_GOOD):
        (folder / name).unlink(missing_ok=True)


def render(outcome: Outcome) -> str:
    """Return the report as one HTML page that needs no other file."""
    summary = outcome.summary
    # What is filled in is escaped; a name the template asks for and does not get is an error.
    page = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        s=summary,
        data=", ".join(filter(None, (summary["dataset"], summary["task"]))),
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
