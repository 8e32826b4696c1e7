"""What a run shows in a terminal: a live line while it goes on, a table at the end."""

from __future__ import annotations

from rich import progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fedtutor.experiment import Progress


class LiveProgress(Progress):
    """The main job's progress as one live line: what is going on, how far, how long still."""

    def __init__(self, console: Console) -> None:
        self._bar = progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        # Without a terminal the bar would show nothing until the end; stages are then lines.
        self._print = None if console.is_terminal else console.print

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def start(self, total: int) -> None:
        """Say how many images there are to train on, counted once each time."""
        self._bar.update(self._task, total=total)

    def stage(self, text: str) -> None:
        """Say what is going on."""
        self._bar.update(self._task, description=text)
        if self._print and ", " not in text:
            self._print(f"{text} ...")

    def advance(self, images: int) -> None:
        """Say that so many images more were trained on."""
        self._bar.advance(self._task, images)


def print_table(summary: dict, console: Console) -> None:
    """Print a row a hospital: its images, its AUC alone and that of the federated model."""
    synthetic = " (synthetic)" if summary["synthetic"] else ""
    table = Table(title=f"{summary['dataset']}{synthetic}: AUC on the central test set")
    table.add_column("hospital")
    # Fourteen findings would not fit beside each other; the report has them.
    classes = [] if summary["multi_label"] else summary["classes"]
    for column in ("images", *classes, "alone", "federated"):
        table.add_column(column, justify="right")
    for row in summary["hospitals"]:
        counts = [row["num_examples"], *row["class_counts"][: len(classes)]]
        scores = [_number(row["auc_local"]), _number(row["auc_federated"])]
        table.add_row(row["name"], *map(str, counts), *scores)
    table.add_section()
    blank = [""] * (1 + len(classes))
    auc = summary["auc"]
    table.add_row("mean", *blank, _number(auc["local_mean"]), _number(auc["federated"]))
    table.add_row("pooled (reference)", *blank, "", _number(auc["pooled"]))
    console.print(table)
    if summary["left_out"]:
        console.print(f"{len(summary['left_out'])} updates were left out; the report names them.")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
