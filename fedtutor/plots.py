"""Figures, each with a text that says what it shows.

Every function returns a :class:`Picture`; its ``alt`` is made from the same data as the figure.
Colours are Okabe and Ito's, told apart by colour-blind people, and never carry meaning alone.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from fedtutor.data.images import MedicalImages
from fedtutor.evaluation import calibration, confusion

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#777777",
)
CLASS_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, "#56B4E9", "#F0E442", GREY)
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure and what to say to somebody who cannot see it."""

    figure: Figure
    alt: str

    def to_png(self, dpi: int = 110) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
        return buffer.getvalue()

    def to_html(self) -> str:
        """An ``<img>`` element that needs no other file."""
        data = base64.b64encode(self.to_png()).decode("ascii")
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}">'

    _repr_html_ = to_html


def who_has_what(names: list[str], counts: np.ndarray, class_names: list[str]) -> Picture:
    """Stacked bars: images of each class, (hospitals, classes), in each hospital."""
    counts = np.asarray(counts)
    figure = Figure(figsize=(8, 0.9 + 0.42 * min(len(names), 40)))
    axes = figure.add_subplot()
    left = np.zeros(len(names))
    for k, label in enumerate(class_names):
        axes.barh(
            names,
            counts[:, k],
            left=left,
            label=label,
            color=CLASS_COLOURS[k % 8],
            hatch=HATCHES[k % 8],
            edgecolor="white",
            linewidth=0.5,
        )
        left += counts[:, k]
    axes.invert_yaxis()
    axes.set_xlabel("training images")
    _tidy(axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    rows = [
        f"{name} has {', '.join(f'{n} {c}' for n, c in zip(row, class_names, strict=True))}"
        for name, row in zip(names, counts, strict=True)
    ]
    return Picture(figure, f"Stacked bars of training images by class. {_some(rows)}.")


def headline(summary: dict) -> Picture:
    """The answer in one figure: AUC of each hospital alone, federated and pooled."""
    auc, bounds = summary["auc"], summary["auc_interval"]
    bars = (
        ("one hospital alone\n(mean)", "local_mean", ORANGE),
        ("the best hospital\nalone", "local_best", ORANGE),
        (f"federated\n({summary['strategy']})", "fedavg", BLUE),
        ("pooled\n(reference)", "pooled", GREY),
    )
    figure = Figure(figsize=(8, 3.6))
    axes = figure.add_subplot()
    for y, (_, key, colour) in enumerate(bars):
        low, high = (auc[key] if b is None else b for b in bounds[key])
        axes.plot([low, high], [y, y], color=colour, linewidth=3, solid_capstyle="round")
        axes.plot(auc[key], y, "o", color=colour, markersize=9)
        axes.annotate(
            f"{auc[key]:.3f}", (auc[key], y), (0, 9), textcoords="offset points", ha="center"
        )
    alone = [row["auc_local"] for row in summary["hospitals"]]
    axes.plot(alone, np.full(len(alone), 0.0), "|", color="black", markersize=12, alpha=0.6)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.6)
    axes.set_xlabel("AUC on patients that no hospital trained on (line: 95 % interval)")
    _tidy(axes, grid="x")
    said = [
        f"{label.replace(chr(10), ' ')} {auc[key]:.3f}{_bounds(bounds[key])}"
        for label, key, _ in bars
    ]
    return Picture(
        figure,
        f"AUC on the central test set: {'; '.join(said)}. Ticks in the first row are the "
        f"{len(alone)} hospitals, from {min(alone):.3f} to {max(alone):.3f}.",
    )


def rounds(summary: dict) -> Picture:
    """Global AUC after each round, between the hospital alone and the pooled model."""
    rows = summary["rounds"]
    x, y = [row["round"] for row in rows], [row["auc"] for row in rows]
    figure = Figure(figsize=(8, 3.4))
    axes = figure.add_subplot()
    axes.plot(x, y, "o-", color=BLUE)
    for key, colour, label, style in (
        ("pooled", GREY, "pooled", "--"),
        ("local_mean", ORANGE, "one hospital alone, mean", ":"),
    ):
        axes.axhline(summary["auc"][key], color=colour, linestyle=style, linewidth=2)
        axes.annotate(
            label, (x[-1], summary["auc"][key]), (0, 4), textcoords="offset points", ha="right"
        )
    axes.set_xlabel("round")
    axes.set_ylabel("AUC of the global model")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _tidy(axes, grid="y")
    by_round = ", ".join(f"{r}: {a:.3f}" for r, a in zip(x, y, strict=True))
    return Picture(
        figure,
        f"AUC of the global model by round: {by_round}; pooled {summary['auc']['pooled']:.3f}, "
        f"one hospital alone {summary['auc']['local_mean']:.3f}.",
    )


def examples(data: MedicalImages, *, columns: int = 6) -> Picture:
    """A row of images for each class, from as many hospitals as there are."""
    num_classes = len(data.class_names)
    figure = Figure(figsize=(1.45 * columns + 1.2, 1.6 * num_classes))
    grid = figure.subplots(num_classes, columns, squeeze=False)
    hospitals = data.table.get("hospital")
    for label, row in enumerate(grid):
        members = np.flatnonzero(data.labels == label)
        if hospitals is not None and len(members):
            rank = hospitals.iloc[members].groupby(hospitals.iloc[members]).cumcount()
            members = members[np.argsort(rank.to_numpy(), kind="stable")]
        for axes, index in zip(row, members, strict=False):
            axes.imshow(data.images[index, ..., 0], cmap="gray", vmin=0, vmax=255)
        for axes in row:
            axes.set_axis_off()
        row[0].text(
            -0.08,
            0.5,
            data.class_names[label],
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=10,
        )
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    kind = "synthetic images" if data.synthetic else "images"
    return Picture(figure, f"Up to {columns} {kind} of each class: {', '.join(data.class_names)}.")


def heat_maps(
    data: MedicalImages,
    indices: np.ndarray,
    maps: dict[str, np.ndarray],
    *,
    opacity: float = 0.8,
) -> Picture:
    """Images in a row, each under its heat maps; the true lesion, where known, is outlined.

    ``maps`` is from a name to float (len(indices), h, w) in 0..1; ``opacity`` is that of the
    hottest point, and where there is no heat the image is left as it is.
    """
    rows = ["image", *maps]
    figure = Figure(figsize=(1.55 * max(len(indices), 1) + 1.1, 1.75 * len(rows)))
    grid = figure.subplots(len(rows), max(len(indices), 1), squeeze=False)
    for column, index in enumerate(indices):
        grid[0, column].set_title(data.class_names[data.labels[index]], fontsize=9)
        for row, name in enumerate(rows):
            axes = grid[row, column]
            axes.imshow(data.images[index, ..., 0], cmap="gray", vmin=0, vmax=255)
            if name in maps:
                heat = maps[name][column]
                axes.imshow(heat, cmap="inferno", alpha=opacity * heat, vmin=0, vmax=1)
            if data.masks is not None and data.masks[index].any():
                axes.contour(data.masks[index], levels=[0.5], colors="cyan", linewidths=0.8)
    for row, name in enumerate(rows):
        grid[row, 0].text(
            -0.08, 0.5, name, transform=grid[row, 0].transAxes, ha="right", va="center"
        )
        for axes in grid[row]:
            axes.set_axis_off()
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    shown = ", ".join(data.class_names[data.labels[index]] for index in indices) or "none"
    outline = " The true lesion is outlined." if data.masks is not None else ""
    return Picture(figure, f"Heat maps by {' and '.join(maps)} over images of: {shown}.{outline}")


def mistakes(probabilities: np.ndarray, labels: np.ndarray, class_names: list[str]) -> Picture:
    """Confusion matrix and reliability curve, side by side."""
    import seaborn  # here, as it takes a second to import

    matrix, curve = confusion(probabilities, labels), calibration(probabilities, labels)
    figure = Figure(figsize=(9, 3.6))
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    seaborn.heatmap(
        shares,
        annot=matrix,
        fmt="d",
        cmap="Blues",
        vmin=0,
        vmax=1,
        cbar=False,
        square=True,
        xticklabels=class_names,
        yticklabels=class_names,
        ax=left,
    )
    left.tick_params(axis="x", rotation=15)
    left.tick_params(axis="y", rotation=0)
    left.set_xlabel("the model says")
    left.set_ylabel("truth")
    right.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    right.plot(curve.confidence, curve.accuracy, "o-", color=BLUE)
    right.set_xlabel("how sure the model is")
    right.set_ylabel("how often it is right")
    right.set_xlim(min(0.3, curve.confidence.min()), 1.02)
    right.set_ylim(0, 1.05)
    _tidy(right, grid="both")
    figure.tight_layout()
    said = [
        f"of {row.sum()} {name} {row[k]} were called so"
        for k, (name, row) in enumerate(zip(class_names, matrix, strict=True))
    ]
    return Picture(
        figure,
        f"Confusion matrix of the global model: {'; '.join(said)}. "
        f"Reliability curve: expected calibration error {curve.error:.2f}.",
    )


def _tidy(axes, grid: str | None = None) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if grid:
        axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)


def _bounds(bounds: list) -> str:
    return "" if bounds[0] is None else f" (95 % interval {bounds[0]:.3f} to {bounds[1]:.3f})"


def _some(rows: list[str], most: int = 12) -> str:
    return "; ".join(rows[:most]) + (f"; and {len(rows) - most} more" if len(rows) > most else "")
