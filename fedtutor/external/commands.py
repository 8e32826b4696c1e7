"""``fedtutor evaluate``, and the options that ``fedtutor run --external`` has, too."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fedtutor.external.classes import read_map
from fedtutor.external.scores import Question
from fedtutor.external.validation import Request, judge, prepare
from fedtutor.options import path
from fedtutor.support.output import check_writable, plain, write_json, write_text

EXAMPLES = """examples:
  fedtutor run --dataset covid19-radiography --out covid
  fedtutor evaluate covid/model.keras --dataset covid-chestxray --by hospital \\
      --map "No Finding=Normal" --map "COVID-19=COVID" --map "Other pneumonia="
  fedtutor evaluate fedtutor-run/model.keras --dataset ~/xrays --by view --prevalence 0.02 \\
      --finding COVID-19
"""


def add_commands(commands: Any) -> None:
    """Add ``evaluate`` to the command line."""
    evaluate = commands.add_parser(
        "evaluate",
        help="test a model on patients of another hospital",
        description="Test the model of a run on other images: match the classes by name, leave\n"
        "out patients that it was trained on, and write evaluation.json and evaluation.html: AUC,\n"
        "calibration and alarms beside those at home, by group, and where the model looks.\n"
        "Images are read as the model takes them, at its size, in grey or in colour.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    evaluate.add_argument("model", type=path, metavar="MODEL", help="the model.keras of a run")
    evaluate.add_argument(
        "--dataset",
        required=True,
        metavar="NAME|PATH",
        help="a name from 'fedtutor datasets', an .npz file or a folder",
    )
    evaluate.add_argument("--task", metavar="TEXT", help="where the set has several")
    add_questions(evaluate)
    evaluate.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of phantoms (default: %(default)s)"
    )
    evaluate.add_argument(
        "--out",
        type=path,
        default=Path("fedtutor-evaluation"),
        metavar="DIR",
        help="folder for evaluation.json and evaluation.html (default: %(default)s)",
    )
    evaluate.set_defaults(run=_evaluate)


def add_to_run(run: argparse.ArgumentParser) -> None:
    """Add ``--external`` and its questions to ``fedtutor run``."""
    run.add_argument(
        "--external",
        action="append",
        default=[],
        metavar="NAME|PATH",
        help="also test on another hospital's patients; may be given several times",
    )
    add_questions(run)
    run.add_argument(
        "--no-traces",
        action="store_true",
        help="keep hashes of training patients and images out of model.keras",
    )


def add_questions(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of a model in another hospital."""
    asked = parser.add_argument_group("in another hospital")
    again, said = {"action": "append", "default": []}, "%(default)s"
    options: dict[str, tuple[str | None, str, dict[str, Any]]] = {
        "map": ("THEIRS=OURS", "their name of a class; THEIRS= leaves it out; repeatable", again),
        "by": ("COLUMN", "score each hospital, view, sex or age by itself; repeatable", again),
        "finding": ("CLASS", "what an alarm is of (default: the second of two, else each)", {}),
        "threshold": ("P", f"an alarm from here on (default: {said})", {"default": 0.5}),
        "prevalence": ("P", "how common it is where it would be used (default: as here)", {}),
    }
    for name, (metavar, text, further) in options.items():
        kind = float if metavar == "P" else str
        asked.add_argument(f"--{name}", type=kind, metavar=metavar, help=text, **further)
    text = "equal ids are of different people than those trained on"
    asked.add_argument("--other-patients", action="store_true", help=text)


def request_from(arguments: argparse.Namespace, sources: Sequence[str]) -> Request:
    """Return what the options ask for."""
    question = Question(
        arguments.threshold, arguments.prevalence, arguments.finding, tuple(arguments.by)
    )
    mapping, task = read_map(arguments.map), getattr(arguments, "task", None)
    return Request(sources, mapping, question, task, arguments.other_patients)


def _evaluate(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.external.model_file import load_model
    from fedtutor.external.page import conclusion, render
    from fedtutor.summary import versions

    request = request_from(arguments, [arguments.dataset])
    check_writable(arguments.out)
    saved = load_model(arguments.model)
    abroad = prepare(request, saved.card, saved.traces, seed=arguments.seed)
    home = saved.card.home
    found = [
        judge(one, saved.cnn, {"model": saved.predict(one.data.images)}, home, request.question)
        for one in abroad
    ]
    evaluation = plain(
        {
            "model": {key: value for key, value in saved.card.said.items() if key != "home"},
            "home": home,
            "external": [one.numbers for one in found],
            "warnings": [warning for one in abroad for warning in one.warnings],
            "versions": versions(),
        }
    )
    write_json(arguments.out / "evaluation.json", evaluation)
    write_text(arguments.out / "evaluation.html", render(evaluation, found))
    for one in evaluation["external"]:
        console.print(conclusion(one), soft_wrap=True, highlight=False)
    for name in ("evaluation.html", "evaluation.json"):
        console.print(f"  {arguments.out / name}", soft_wrap=True, highlight=False)
    return 0
