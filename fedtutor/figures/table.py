"""What a run found as a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def print_table(summary: dict, console: Console) -> None:
    """Print a row a hospital: its images, its AUC alone and that of the federated model.

    How many images are of each class is in the report, and here if there is room for it.
    """
    table, free = _table(summary, summary["classes"]), console.options.update_width(10_000)
    if summary["multi_label"] or console.measure(table, options=free).minimum > console.width:
        table = _table(summary, [])
    console.print(table)
    if summary["warnings"]:
        console.print(f"Warnings, printed above and in the report: {len(summary['warnings'])}.")
    if summary["left_out"]:
        console.print(f"{len(summary['left_out'])} updates were left out; the report names them.")


def _table(summary: dict, classes: Sequence[str]) -> Table:
    synthetic = " (synthetic)" if summary["synthetic"] else ""
    table = Table(title=f"{summary['dataset']}{synthetic}: AUC on the central test set")
    table.add_column("hospital", overflow="fold")  # no name may lose what tells it from another
    for column in ("images", *classes, "alone", "federated"):
        table.add_column(column, justify="right", no_wrap=" " not in column)
    for row in summary["hospitals"]:
        counts = [row["num_examples"], *row["class_counts"][: len(classes)]]
        scores = [_number(row["auc_local"]), _number(row["auc_federated"])]
        table.add_row(row["name"], *map(str, counts), *scores)
    table.add_section()
    blank = [""] * (1 + len(classes))
    auc = summary["auc"]
    table.add_row("mean", *blank, _number(auc["local_mean"]), _number(auc["federated"]))
    table.add_row("pooled (reference)", *blank, "", _number(auc["pooled"]))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
