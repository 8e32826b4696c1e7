"""What a run leaves on disk: summary.json, report.html and model.keras."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from fedtutor.report import figures

if TYPE_CHECKING:
    from fedtutor.experiment import Outcome

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1b1b; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; } figcaption { color: #444; font-size: .92rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.note { border-left: 4px solid #E69F00; padding: .4rem 1rem; background: #fff8e8; }
"""


def write(outcome: Outcome, folder: Path) -> None:
    """Write the three files of a finished run; all of them appear, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as temporary:
        staged = Path(temporary)
        text = json.dumps(outcome.summary, indent=2, allow_nan=False)
        (staged / "summary.json").write_text(text + "\n", encoding="utf-8")
        (staged / "report.html").write_text(render(outcome), encoding="utf-8")
        outcome.model.save(staged / "model.keras")
        with _no_interrupt():
            for path in sorted(staged.iterdir()):
                os.replace(path, folder / path.name)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back for the few milliseconds in which the files get their names."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def render(outcome: Outcome) -> str:
    """Return the report as one HTML page that needs no other file."""
    summary, cohort = outcome.summary, outcome.cohort
    test, explained = cohort.test, outcome.explained
    names = list(cohort.partition.names)
    sections = [
        _section(
            "What federation bought",
            figures.headline(summary),
            conclusion(summary) + _if_several(summary, "AUCs are the mean over the findings."),
        ),
        _section(
            "Who has what",
            figures.who_has_what(
                names, cohort.partition.strata_counts(cohort.train), cohort.train.strata_names
            ),
            f"{summary['num_train']} training images in {len(names)} hospitals, dealt out by "
            f"“{summary['partition']}”. The mixtures of classes differ from the common one by "
            f"{summary['label_divergence']:.2f} (0 is the same everywhere)."
            + _if_several(summary, "An image with several findings is drawn as the rarest one."),
        ),
        _section("The images", figures.examples(test), _about_images(summary)),
        _section(
            "Round by round",
            figures.rounds(summary),
            "After each round the server averages the hospitals' models and sends the result "
            f"back. A round moved {_megabytes(summary)} in all.",
        ),
        _right_and_wrong(outcome),
        _section(
            "Where the model looks",
            figures.heat_maps(
                test,
                explained.indices,
                {"Grad-CAM": explained.grad_cam, "HiResCAM": explained.hirescam},
                classes=explained.classes,
            ),
            _about_maps(summary),
        ),
        f"<h2>Every hospital</h2><div class=wide>{_hospitals(summary)}</div>",
        _left_out(summary),
        _small_print(summary),
    ]
    kind = "synthetic images" if summary["synthetic"] else "images"
    data = ", ".join(filter(None, (summary["dataset"], summary["task"])))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>fedtutor: {escape(data)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{len(names)} hospitals, {summary['num_train'] + summary['num_test']} {kind}, "
        f"one model: {escape(data)}</h1>"
        f"<p class=note>This page teaches federated learning; it does not diagnose.</p>"
        + "".join(sections)
        + "</body></html>\n"
    )


def conclusion(summary: dict) -> str:
    """Say the result in two sentences, intervals included, whichever way it went."""
    auc, gain = summary["auc"], summary["auc_gain"]
    parts = []
    for text, key, difference in (
        (
            "the mean hospital alone",
            "federated_over_local_mean",
            auc["federated"] - auc["local_mean"],
        ),
        ("training on pooled images", "pooled_over_federated", auc["federated"] - auc["pooled"]),
    ):
        low, high = gain[key]
        if low is None:
            parts.append(f"Against {text} nothing can be said")
            continue
        if key == "pooled_over_federated":
            low, high = -high, -low
        word = "above" if low > 0 else "below" if high < 0 else "not clearly different from"
        parts.append(
            f"The federated model's AUC of {auc['federated']:.3f} is {word} that of {text} "
            f"(difference {difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"
        )
    return ". ".join(parts) + "."


def _section(title: str, picture: figures.Picture, caption: str) -> str:
    return (
        f"<h2>{escape(title)}</h2><figure>{picture.to_html()}"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _if_several(summary: dict, text: str) -> str:
    """Return the sentence, for multi-label data only."""
    return f" {text}" if summary["multi_label"] else ""


def _right_and_wrong(outcome: Outcome) -> str:
    summary, test = outcome.summary, outcome.cohort.test
    said = outcome.probabilities["federated"]
    if not summary["multi_label"]:
        return _section(
            "Right and wrong",
            figures.mistakes(said, test.labels, summary["classes"]),
            "Left: what the federated model said of each test image. Right: how sure it was "
            "against how often it was right; on the dashed line it can be taken at its word.",
        )
    section = _section(
        "Finding by finding",
        figures.findings(summary, said, test.labels),
        "Left: how well each finding is told from its absence. Right: the probability that the "
        "federated model gave a finding against how often it was there. There is no confusion "
        "matrix: it needs one class an image, and these images have several findings or none.",
    )
    return section + f"<div class=wide>{_findings(summary)}</div>"


def _about_images(summary: dict) -> str:
    if summary["synthetic"]:
        return "Synthetic images, drawn by a program; no patient was ever imaged."
    known = "Patients are known" if summary["patients_known"] else "Patients are not known"
    return f"Test images. {known} in this data set."


def _about_maps(summary: dict) -> str:
    scores = summary["grad_cam"]
    if not scores["lesions_known"]:
        return (
            "Where the lesions are is not known in this data set, so the maps are not scored."
            + _if_several(
                summary, "Each map asks for the likeliest of the findings that the image has."
            )
        )
    if not scores["num_images"]:
        return "No image with a lesion was classified rightly, so there is nothing to score."
    rightly = "" if summary["multi_label"] else "rightly classified "
    return (
        f"On {scores['num_images']} {rightly}images with a lesion (outlined) the hottest "
        f"point lies in it in {scores['pointing_game']:.0%} (Grad-CAM) and "
        f"{scores['pointing_game_hirescam']:.0%} (HiResCAM); a random point would in "
        f"{scores['pointing_game_random']:.0%}."
    )


def _megabytes(summary: dict) -> str:
    last = summary["rounds"][-1]
    return f"{(last['bytes_down'] + last['bytes_up']) / 1e6:.1f} MB"


def _hospitals(summary: dict) -> str:
    head = ["hospital", "images", *summary["classes"], "AUC alone", "AUC federated"]
    body = [
        [
            escape(row["name"]),
            str(row["num_examples"]),
            *map(str, row["class_counts"]),
            _number(row["auc_local"]),
            _number(row["auc_federated"]),
        ]
        for row in summary["hospitals"]
    ]
    return _table(head, body)


def _findings(summary: dict) -> str:
    head = ["finding", "test images with it", "AUC alone (mean)", "AUC federated", "AUC pooled"]
    auc, counts = summary["class_auc"], summary["test_class_counts"]
    body = [
        [escape(name), str(counts[k])]
        + [_number(auc[key][k]) for key in ("local_mean", "federated", "pooled")]
        for k, name in enumerate(summary["classes"])
    ]
    note = "–: all or none of the test images have it, so there is no AUC."
    return _table(head, body) + (f"<p>{note}</p>" if None in auc["federated"] else "")


def _table(head: list[str], body: list[list[str]]) -> str:
    """Return an HTML table; the cells of ``body`` are HTML already."""
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
    return (
        f"<table><thead><tr>{''.join(f'<th scope=col>{escape(cell)}</th>' for cell in head)}</tr>"
        f"</thead><tbody>{cells}</tbody></table>"
    )


def _left_out(summary: dict) -> str:
    if not summary["left_out"]:
        return ""
    items = "".join(
        f"<li>round {out['round']}, {escape(out['hospital'])}: {escape(out['reason'])}</li>"
        for out in summary["left_out"]
    )
    return f"<h2>Left out</h2><ul>{items}</ul>"


def _small_print(summary: dict) -> str:
    training = summary["training"]
    pull = f", FedProx's μ {training['proximal_mu']:g}" if training["proximal_mu"] else ""
    return (
        f"<h2>How</h2><p>Strategy {escape(summary['strategy'])}; seed {summary['seed']}; "
        f"{summary['num_rounds']} rounds of {summary['local_epochs']} local epochs; "
        f"{training['optimizer']}, learning rate {training['learning_rate']:g} ({training['schedule']}), batches of "
        f"{training['batch_size']}{pull}. Each training image was seen "
        f"{summary['num_rounds'] * summary['local_epochs']} times in each of the three "
        f"ways to train. {sum(summary['seconds'].values()):.0f} s in all. "
        + ", ".join(f"{escape(k)} {escape(v)}" for k, v in summary["versions"].items())
        + ".</p>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
