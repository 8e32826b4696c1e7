"""The figures of a run: who has what, how good each model is, and where it looks.

Every :class:`~fedtutor.figures.picture.Picture` has an ``alt`` made from the figure's own data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.evaluation import TOO_FEW, Calibration, calibration, confusion
from fedtutor.figures.charts import draw_rows, draw_table, legend_above, lines, name_rows
from fedtutor.figures.picture import (
    BLUE,
    CLASS_COLOURS,
    GREY,
    HATCHES,
    ORANGE,
    Picture,
    join_some,
    show,
    tidy,
)
from fedtutor.images import NO_FINDING, MedicalImages
from fedtutor.support.language import say


def who_has_what(names: list[str], counts: np.ndarray, class_names: Sequence[str]) -> Picture:
    """Draw stacked bars: images of each class, (hospitals, classes), in each hospital.

    The bars are as long as a hospital has images if ``counts`` has each image once, as
    ``Partition.strata_counts`` has.
    """
    names, counts = [say(name) for name in names], np.asarray(counts)
    class_names = [say(name) for name in class_names]
    figure = Figure(figsize=(8, 0.9 + 0.42 * min(len(names), 40)))
    axes = figure.add_subplot()
    draw_counts(axes, names, counts, class_names)
    legend_above(axes, 4)
    rows = []
    for name, row in zip(names, counts, strict=True):
        images = ", ".join(f"{n} {c}" for n, c in zip(row, class_names, strict=True))
        rows.append(say("{hospital} has {images}", hospital=name, images=images))
    alt = say("Stacked bars of training images by class. {rows}.", rows=join_some(rows))
    return Picture(figure, alt)


def draw_counts(
    axes: Axes, names: Sequence[str], counts: np.ndarray, class_names: Sequence[str]
) -> None:
    """Draw the bars of :func:`who_has_what` in given axes, without a legend."""
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
    axes.set_xlabel(say("training images"))
    tidy(axes)


def headline(summary: dict) -> Picture:
    """Draw the answer: AUC of each hospital alone, federated and pooled."""
    ways = (
        (say("one hospital alone\n(mean)"), "local_mean", ORANGE, "D"),
        (say("the best hospital\nalone"), "local_best", ORANGE, "D"),
        (say("federated\n({way})", way=summary["strategy"]), "federated", BLUE, "o"),
        (say("pooled\n(reference)"), "pooled", GREY, "s"),
    )
    figure = Figure(figsize=(8, 3.6))
    axes = figure.add_subplot()
    draw_aucs(axes, summary, ways)
    alone = [row["auc_local"] for row in summary["hospitals"]]
    axes.plot(alone, np.zeros(len(alone)), "|", color="black", markersize=12, alpha=0.6)
    measured = say("AUC on images that no hospital trained on (line: 95 % interval)")
    if summary["patients_known"]:
        measured = say("AUC on patients that no hospital trained on (line: 95 % interval)")
    axes.set_xlabel(measured)
    said = [
        f"{label} {summary['auc'][key]:.3f}{_bounds(summary['auc_interval'][key])}"
        for label, key, *_ in ways
    ]
    values = {"ways": "; ".join(said), "n": len(alone), "low": min(alone), "high": max(alone)}
    alt = say(
        "AUC on the central test set: {ways}. Ticks in the first row are the {n} hospitals, from "
        "{low:.3f} to {high:.3f}.",
        **values,
    )
    return Picture(figure, alt.replace("\n", " "))


Way = tuple[str, str, str, str]


def draw_aucs(axes: Axes, summary: dict, ways: Sequence[Way]) -> None:
    """Draw the AUC of each way to train over its 95 % interval, a row each.

    ``ways`` are (label, key in the summary, colour, marker), from top to bottom.
    """
    for y, (_, key, colour, marker) in enumerate(ways):
        auc, bounds = summary["auc"][key], summary["auc_interval"][key]
        ends = [auc if bound is None else bound for bound in bounds]
        axes.plot(ends, [y, y], color=colour, linewidth=3)
        axes.plot(auc, y, marker, color=colour, markersize=10)
        words, above = f"{auc:.3f}{f' ({say(TOO_FEW)})' * (None in bounds)}", (0, 10)
        axes.annotate(words, (auc, y), above, textcoords="offset points", ha="center")
    name_rows(axes, [label for label, *_ in ways], fontsize=9)
    tidy(axes, "x")


def rounds(summary: dict) -> Picture:
    """Draw the global AUC after each round, between the hospital alone and the pooled model."""
    auc = summary["auc"]
    x, y = zip(*((row["round"], row["auc"]) for row in summary["rounds"]), strict=True)
    curves = {
        "federated": (x, y),
        "one hospital alone, mean": (x, [auc["local_mean"]] * len(x)),
        "pooled": (x, [auc["pooled"]] * len(x)),
    }
    picture = lines(curves, x="round", y="AUC on the central test set", size=(8, 3.4))
    by_round = ", ".join(f"{r}: {a:.3f}" for r, a in zip(x, y, strict=True))
    words = (
        f"AUC of the global model by round: {by_round}; pooled {auc['pooled']:.3f}, one hospital "
        f"alone {auc['local_mean']:.3f}."
    )
    return replace(picture, alt=words)


def examples(data: MedicalImages, *, columns: int = 6) -> Picture:
    """Draw a row of images for each class, from as many hospitals as there are.

    Multi-label: for each of the commonest findings, and for the images without any.
    """
    classes = {say(name): members for name, members in _examples_of(data).items()}
    figure, grid = _grid_of_images(list(classes), columns, cell=(1.45, 1.6))
    hospitals = data.table.get("hospital")
    for members, row in zip(classes.values(), grid, strict=True):
        if hospitals is not None and len(members):
            rank = hospitals.iloc[members].groupby(hospitals.iloc[members]).cumcount()
            members = members[np.argsort(rank.to_numpy(), kind="stable")]
        for axes, index in zip(row, members, strict=False):
            show(axes, data.images[index])
    kind = say("synthetic images") if data.synthetic else say("images")
    alt = say(
        "Up to {n} {kind} of each class: {names}.", n=columns, kind=kind, names=", ".join(classes)
    )
    return Picture(figure, alt)


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
) -> Picture:
    """Draw images in a row, each under its heat maps, known lesions outlined.

    ``maps`` is from a name to float (len(indices), h, w) in 0..1; ``classes``, int
    (len(indices),), is what they ask for, by default the image's own class or rarest finding.
    Where there is no heat the image is left as it is.
    """
    classes = data.strata[indices] if classes is None else classes
    titles = [data.strata_names[k] for k in classes]
    rows = ["image", *maps]
    figure, grid = _grid_of_images(rows, len(indices), cell=(1.55, 1.75))
    for column, index in enumerate(indices):
        for axes, name in zip(grid[:, column], rows, strict=True):
            show(axes, data.images[index], "" if name in maps else titles[column])
            if name in maps:
                heat = maps[name][column]
                axes.imshow(heat, cmap="inferno", alpha=0.8 * heat, vmin=0, vmax=1)
            if data.masks is not None and data.masks[index].any():
                axes.contour(data.masks[index], levels=[0.5], colors="cyan", linewidths=0.8)
    shown = ", ".join(titles) or "none"
    outline = " The true lesion is outlined." if data.masks is not None else ""
    return Picture(figure, f"Heat maps by {' and '.join(maps)} over images of: {shown}.{outline}")


def _grid_of_images(
    rows: Sequence[str], columns: int, *, cell: tuple[float, float]
) -> tuple[Figure, np.ndarray]:
    """Make a grid of axes for images, its rows named; ``cell`` is the inches an image has."""
    columns = max(columns, 1)
    figure = Figure(figsize=(cell[0] * columns + 1.15, cell[1] * len(rows)))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, name in zip(grid[:, 0], rows, strict=True):
        axes.text(-0.08, 0.5, name, transform=axes.transAxes, ha="right", va="center")
    return figure, grid


def mistakes(probabilities: np.ndarray, labels: np.ndarray, class_names: list[str]) -> Picture:
    """Draw a confusion matrix beside a reliability curve."""
    matrix, curve = confusion(probabilities, labels), calibration(probabilities, labels)
    figure = Figure(figsize=(9, 3.6), layout="tight")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    draw_table(left, shares, class_names, annot=matrix, fmt="d", vmin=0, cbar=False, square=True)
    left.set_xlabel("the model says")
    left.set_ylabel("truth")
    _reliability(right, curve, "how sure the model is", "how often it is right", start=0.3)
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
    figure = Figure(figsize=(9, max(3.6, 1.2 + 0.3 * len(names))), layout="tight")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    ways = {"federated": "federated", "alone (mean)": "local_mean", "pooled": "pooled"}
    shown = {way: np.array(auc[key], dtype=float).tolist() for way, key in ways.items()}
    draw_rows(left, names, shown)
    left.lines[0].set_zorder(3)  # the federated model's marks above the others
    left.axvline(0.5, color=GREY, linestyle="--", linewidth=1)
    left.set_xlabel("AUC (0.5 is guessing)")
    _reliability(right, curve, "probability of a finding", "how often it is there", start=0)
    said = [
        f"{name} none, as all or no test images have it" if value is None else f"{name} {value:.3f}"
        for name, value in zip(names, auc["federated"], strict=True)
    ]
    return Picture(
        figure,
        f"AUC of the federated model by finding: {join_some(said, 20)}. Reliability curve of all "
        f"findings: expected calibration error {curve.error:.2f}.",
    )


def _reliability(axes: Axes, curve: Calibration, said: str, was: str, *, start: float) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.plot(curve.confidence, curve.accuracy, "o-", color=BLUE)
    axes.set_xlabel(said)
    axes.set_ylabel(was)
    axes.set_xlim(min(start, curve.confidence.min()), 1.02)
    axes.set_ylim(0, 1.05)
    tidy(axes, grid="both")


def _bounds(bounds: list) -> str:
    low, high = bounds
    if low is None:
        return f" ({say(TOO_FEW)})"
    return say(" (95 % interval {low:.3f} to {high:.3f})", low=low, high=high)
