"""The figures of a run: who has what, how good each model is, and where it looks.

Every function returns a :class:`~fedtutor.figures.picture.Picture`; its ``alt`` is made from the
same data as the figure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.evaluation import Calibration, calibration, confusion
from fedtutor.figures.picture import (
    BLUE,
    CLASS_COLOURS,
    GREY,
    HATCHES,
    ORANGE,
    Picture,
    join_some,
    tidy,
)
from fedtutor.images import NO_FINDING, MedicalImages


def who_has_what(names: list[str], counts: np.ndarray, class_names: Sequence[str]) -> Picture:
    """Draw stacked bars: images of each class, (hospitals, classes), in each hospital.

    The bars are as long as a hospital has images if ``counts`` has each image once, as
    ``Partition.strata_counts`` has.
    """
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
            hatch=HATCHES[(k + k // 8) % 8],  # the ninth class has the first one's colour only
            edgecolor="white",
            linewidth=0.5,
        )
        left += counts[:, k]
    axes.invert_yaxis()
    axes.set_xlabel("training images")
    tidy(axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    rows = [
        f"{name} has {', '.join(f'{n} {c}' for n, c in zip(row, class_names, strict=True))}"
        for name, row in zip(names, counts, strict=True)
    ]
    return Picture(figure, f"Stacked bars of training images by class. {join_some(rows)}.")


def headline(summary: dict) -> Picture:
    """Draw the answer: AUC of each hospital alone, federated and pooled."""
    auc, bounds = summary["auc"], summary["auc_interval"]
    bars = (
        ("one hospital alone\n(mean)", "local_mean", ORANGE),
        ("the best hospital\nalone", "local_best", ORANGE),
        (f"federated\n({summary['strategy']})", "federated", BLUE),
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
    tidy(axes, grid="x")
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
    """Draw the global AUC after each round, between the hospital alone and the pooled model."""
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
    axes.locator_params(axis="x", integer=True)
    tidy(axes, grid="y")
    by_round = ", ".join(f"{r}: {a:.3f}" for r, a in zip(x, y, strict=True))
    return Picture(
        figure,
        f"AUC of the global model by round: {by_round}; pooled {summary['auc']['pooled']:.3f}, "
        f"one hospital alone {summary['auc']['local_mean']:.3f}.",
    )


def examples(data: MedicalImages, *, columns: int = 6) -> Picture:
    """Draw a row of images for each class, from as many hospitals as there are.

    Multi-label: for each of the commonest findings, and for the images without any.
    """
    classes = _examples_of(data)
    figure = Figure(figsize=(1.45 * columns + 1.2, 1.6 * len(classes)))
    grid = figure.subplots(len(classes), columns, squeeze=False)
    hospitals = data.table.get("hospital")
    for (name, members), row in zip(classes.items(), grid, strict=True):
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
            name,
            transform=row[0].transAxes,
            ha="right",
            va="center",
            fontsize=10,
        )
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    kind = "synthetic images" if data.synthetic else "images"
    return Picture(figure, f"Up to {columns} {kind} of each class: {', '.join(classes)}.")


def _examples_of(data: MedicalImages, most: int = 5) -> dict[str, np.ndarray]:
    """Return the positions of the images of each class, or of the commonest findings and none."""
    if not data.multi_label:
        return {name: np.flatnonzero(data.labels == k) for k, name in enumerate(data.class_names)}
    commonest = np.argsort(-data.class_counts(), kind="stable")[:most]
    having = {data.class_names[k]: np.flatnonzero(data.labels[:, k]) for k in commonest}
    return having | {NO_FINDING: np.flatnonzero(~data.labels.any(axis=1))}


def heat_maps(
    data: MedicalImages,
    indices: np.ndarray,
    maps: dict[str, np.ndarray],
    *,
    classes: np.ndarray | None = None,
    opacity: float = 0.8,
) -> Picture:
    """Draw images in a row, each under its heat maps, known lesions outlined.

    ``maps`` is from a name to float (len(indices), h, w) in 0..1; ``classes``, int
    (len(indices),), is what they ask for, by default the image's own class or rarest finding;
    ``opacity`` is that of the hottest point, and where there is no heat the image is left as it
    is.
    """
    classes = data.strata[indices] if classes is None else classes
    titles = [data.strata_names[k] for k in classes]
    rows = ["image", *maps]
    figure = Figure(figsize=(1.55 * max(len(indices), 1) + 1.1, 1.75 * len(rows)))
    grid = figure.subplots(len(rows), max(len(indices), 1), squeeze=False)
    for column, index in enumerate(indices):
        grid[0, column].set_title(titles[column], fontsize=9)
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
    shown = ", ".join(titles) or "none"
    outline = " The true lesion is outlined." if data.masks is not None else ""
    return Picture(figure, f"Heat maps by {' and '.join(maps)} over images of: {shown}.{outline}")


def mistakes(probabilities: np.ndarray, labels: np.ndarray, class_names: list[str]) -> Picture:
    """Draw a confusion matrix beside a reliability curve."""
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
    _reliability(right, curve, "how sure the model is", "how often it is right")
    right.set_xlim(min(0.3, curve.confidence.min()), 1.02)
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


def findings(summary: dict, probabilities: np.ndarray, labels: np.ndarray) -> Picture:
    """Draw the AUC of each finding in three ways to train, and the reliability curve."""
    names, auc = summary["classes"], summary["class_auc"]
    curve = calibration(probabilities, labels)
    figure = Figure(figsize=(9, max(3.6, 1.2 + 0.3 * len(names))))
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for key, label, colour, marker in (
        ("local_mean", "alone (mean)", ORANGE, "D"),
        ("pooled", "pooled", GREY, "|"),
        ("federated", "federated", BLUE, "o"),
    ):
        values = [np.nan if value is None else value for value in auc[key]]
        left.plot(
            values,
            range(len(names)),
            marker,
            color=colour,
            label=label,
            markersize=8,
            markeredgewidth=2,
        )
    left.axvline(0.5, color=GREY, linestyle="--", linewidth=1)
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_xlabel("AUC (0.5 is guessing)")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    tidy(left, grid="both")
    _reliability(right, curve, "probability of a finding", "how often it is there")
    right.set_xlim(0, 1.02)
    figure.tight_layout()
    said = [
        f"{name} none, as all or no test images have it" if value is None else f"{name} {value:.3f}"
        for name, value in zip(names, auc["federated"], strict=True)
    ]
    return Picture(
        figure,
        f"AUC of the federated model by finding: {join_some(said, 20)}. Reliability curve of all "
        f"findings: expected calibration error {curve.error:.2f}.",
    )


def _reliability(axes: Axes, curve: Calibration, said: str, was: str) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.plot(curve.confidence, curve.accuracy, "o-", color=BLUE)
    axes.set_xlabel(said)
    axes.set_ylabel(was)
    axes.set_ylim(0, 1.05)
    tidy(axes, grid="both")


def _bounds(bounds: list) -> str:
    return "" if bounds[0] is None else f" (95 % interval {bounds[0]:.3f} to {bounds[1]:.3f})"
