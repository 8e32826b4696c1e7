"""The figures of an external validation: home beside abroad."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from fedtutor.evaluation import TOO_FEW
from fedtutor.figures.charts import draw_lines, legend_above, name_rows, train_and_test
from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture, join_some, tidy


def home_and_abroad(
    home: Mapping[str, Any] | None, external: Sequence[Mapping[str, Any]]
) -> Picture:
    """Draw the AUC at home over that in each other hospital and in its groups, with intervals.

    ``home`` and ``external`` are as ``summary.json`` has them.
    """
    rows = [] if home is None else [("at home", home, GREY, "s")]
    for one in external:
        rows.append((f"abroad: {one['dataset']}", one, BLUE, "o"))
        for column, groups in one["groups"].items():
            rows += [(f"{column}: {name}", row, ORANGE, "D") for name, row in groups.items()]
    figure = Figure(figsize=(8, 0.9 + 0.5 * len(rows)))
    axes, said = figure.add_subplot(), []
    for y, (label, row, colour, marker) in enumerate(rows):
        auc, ends = row["auc"], row["auc_interval"]
        words = TOO_FEW if auc is None else f"{auc:.3f}"
        if auc is None:
            axes.text(0.5, y, words, ha="center", va="center", color=GREY)
        else:
            low, high = (auc if end is None else end for end in ends)
            axes.plot([low, high], [y, y], color=colour, linewidth=3)
            axes.plot(auc, y, marker, color=colour, markersize=9)
            axes.annotate(words, (auc, y), (0, 9), textcoords="offset points", ha="center")
            if None not in ends:
                words += f" (95 % interval {low:.3f} to {high:.3f})"
        said.append(f"{label} {words}")
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlabel("AUC (line: 95 % interval; 0.5 is guessing)")
    name_rows(axes, [label for label, *_ in rows], fontsize=9)
    tidy(axes, "x")
    return Picture(figure, f"AUC of the model: {join_some(said, 20)}.")


def reliability(curves: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Draw reliability curves: how sure a model is against how often it is right.

    ``curves`` are by name, as ``summary.json`` has them under ``calibration``.
    """
    figure = Figure(figsize=(5.2, 4))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    draw_lines(axes, {name: (one["confidence"], one["accuracy"]) for name, one in curves.items()})
    axes.set_xlabel("how sure the model is")
    axes.set_ylabel("how often it is right")
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.05))
    legend_above(axes, 2)
    tidy(axes, "both")
    said = [f"{name} {one['error']:.2f}" for name, one in curves.items()]
    return Picture(
        figure, f"Reliability curves; the expected calibration error is: {join_some(said)}."
    )


def away(table: Mapping[str, Any]) -> Picture:
    """Draw ``home_and_away`` of a summary: each model on each hospital's own test patients."""
    values = [[math.nan if one is None else one for one in row] for row in table["auc"]]
    columns = [f"{one['name']} ({one['num_images']})" for one in table["hospitals"]]
    return train_and_test(columns, values, table["models"][len(columns) :])
