"""Figures, each with a text that says what it shows.

Every function returns a :class:`Picture`; its ``alt`` is made from the same data as the figure.
Colours are Okabe and Ito's, told apart by colour-blind people, and never carry meaning alone.
"""

from __future__ import annotations

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedtutor.evaluation import Calibration, calibration, confusion
from fedtutor.images import NO_FINDING, MedicalImages
from fedtutor.report.digest import digest

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
    step: float | None = None
    """What the digest rounds to; coarse for whatever comes out of training, see ``digest``."""

    def to_png(self, dpi: int = 110) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
        return buffer.getvalue()

    def to_html(self, dpi: int = 110) -> str:
        """An ``<img>`` element that needs no other file."""
        data = base64.b64encode(self.to_png(dpi)).decode("ascii")
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}">'

    def rounded(self, step: float) -> Picture:
        """The same picture, its digest rounded to ``step``."""
        return replace(self, step=step)

    def __repr__(self) -> str:
        return digest(self.figure, step=self.step)

    def _repr_html_(self) -> str:
        # JupyterLab shows a PNG output without any alt text, hence an element of our own; the
        # digest below it is for whoever wants the numbers or cannot see the picture.
        words = html.escape(repr(self))
        return (
            f"{self.to_html()}<details><summary>The figure in words and numbers</summary>"
            f"<p>{html.escape(self.alt)}</p><pre>{words}</pre></details>"
        )


def who_has_what(names: list[str], counts: np.ndarray, class_names: Sequence[str]) -> Picture:
    """Stacked bars: images of each class, (hospitals, classes), in each hospital.

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
    """A row of images for each class, from as many hospitals as there are.

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
    """The positions of the images of each class, or of the commonest findings and of none."""
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
    """Images in a row, each under its heat maps; the true lesion, where known, is outlined.

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
    """Multi-label: AUC of each finding in three ways to train, and the reliability curve."""
    names, auc = summary["classes"], summary["class_auc"]
    curve = calibration(probabilities, labels)
    figure = Figure(figsize=(9, max(3.6, 1.2 + 0.3 * len(names))))
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for key, label, colour, marker in (
        ("local_mean", "alone (mean)", ORANGE, "D"),
        ("pooled", "pooled", GREY, "|"),
        ("fedavg", "federated", BLUE, "o"),
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
    _tidy(left, grid="both")
    _reliability(right, curve, "probability of a finding", "how often it is there")
    right.set_xlim(0, 1.02)
    figure.tight_layout()
    said = [
        f"{name} none, as all or no test images have it" if value is None else f"{name} {value:.3f}"
        for name, value in zip(names, auc["fedavg"], strict=True)
    ]
    return Picture(
        figure,
        f"AUC of the federated model by finding: {_some(said, 20)}. Reliability curve of all "
        f"findings: expected calibration error {curve.error:.2f}.",
    )


def _reliability(axes, curve: Calibration, said: str, was: str) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    axes.plot(curve.confidence, curve.accuracy, "o-", color=BLUE)
    axes.set_xlabel(said)
    axes.set_ylabel(was)
    axes.set_ylim(0, 1.05)
    _tidy(axes, grid="both")


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


def train_and_test(names: Sequence[str], aucs: np.ndarray, *, step: float = 0.01) -> Picture:
    """A heat map of AUCs: rows where a model was trained, columns where it is tested.

    ``aucs`` is float (hospitals, hospitals), NaN where there is none; ``step`` is what the digest
    rounds to. The diagonal, a hospital's own model on its own test patients, is framed.
    """
    import seaborn  # here, as it takes a second to import

    wrapped = ["\n".join(textwrap.wrap(name, 14)) for name in names]
    figure = Figure(figsize=(2.6 + 1.15 * len(names), 1.4 + 0.62 * len(names)))
    axes = figure.add_subplot()
    seaborn.heatmap(
        aucs,
        annot=True,
        fmt=".2f",
        cmap="Blues",
        vmin=0.5,
        vmax=1,
        cbar_kws={"label": "AUC"},
        xticklabels=wrapped,
        yticklabels=wrapped,
        linewidths=1,
        ax=axes,
    )
    for k in range(len(names)):
        axes.add_patch(
            Rectangle((k + 0.04, k + 0.04), 0.92, 0.92, fill=False, edgecolor=RED, linewidth=2.5)
        )
    for text, value in zip(axes.texts, np.ravel(aucs), strict=False):
        text.set_color("white" if value > 0.85 else "black")  # to be read on its blue
    axes.tick_params(axis="x", rotation=0, labelsize=9)
    axes.tick_params(axis="y", rotation=0, labelsize=9)
    axes.set_xlabel("tested on patients of")
    axes.set_ylabel("trained at")
    said = [
        f"the model of {name}: {', '.join(f'{value:.2f}' for value in row)}"
        for name, row in zip(names, np.asarray(aucs), strict=True)
    ]
    return Picture(
        figure,
        f"AUC on the test patients of {', '.join(names)}, in this order; {_some(said)}.",
        step,
    )


def roc_and_images(
    probabilities: np.ndarray, data: MedicalImages, *, step: float = 0.1, most: int = 4
) -> Picture:
    """ROC curves, one a class, beside an image of each class with what the model makes of it.

    ``probabilities`` is float (n, classes) for the n images of ``data``. Of many classes the
    ``most`` commonest are shown. The curves are drawn at ten rates, as those of a small test set
    are stairs whose every step is one image.
    """
    from sklearn.metrics import roc_curve

    rates = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0])
    classes = np.arange(len(data.class_names))
    truth = data.labels if data.multi_label else (data.labels[:, None] == classes).astype(int)
    counts = truth.sum(axis=0)
    shown = np.sort(np.argsort(-counts, kind="stable")[:most])
    shown = shown[(counts[shown] > 0) & (counts[shown] < len(data))]
    figure = Figure(figsize=(8.4, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    left.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    said = []
    for k, dash, marker in zip(shown, ("-", "--", ":", "-."), "oDs^", strict=False):
        false_alarms, found, _ = roc_curve(truth[:, k], probabilities[:, k])
        height = found[np.searchsorted(false_alarms, rates, side="right") - 1]
        name, colour = f"{data.class_names[k]} ({counts[k]} images)", CLASS_COLOURS[k % 8]
        left.plot(rates, height, dash, color=colour, marker=marker, markersize=4, label=name)
        said.append(f"{name} finds {height[4]:.2f} at one false alarm in five")
    left.set_xlabel("false alarms (share of the others)")
    left.set_ylabel("found (share of the class)")
    left.set_ylim(-0.02, 1.04)
    left.legend(loc="lower right", frameon=False, fontsize=8)
    _tidy(left, grid="both")
    _two_of_each_class(right, probabilities, data, truth, shown)
    kind = "synthetic images" if data.synthetic else "images"
    return Picture(
        figure,
        f"ROC curves: {'; '.join(said)}. Beside them {kind} of each class with the probability "
        "that the model gives the right class.",
        step,
    )


def _two_of_each_class(axes, probabilities, data: MedicalImages, truth, classes) -> None:
    """All in one axes: a figure with one for each image takes three times as long to draw."""
    side = data.image_shape[0]
    pitch = 1.2 * side
    for column, k in enumerate(classes):
        middle = (column + 0.5) * pitch
        axes.text(middle, -0.12 * side, data.class_names[k], ha="center", va="bottom", fontsize=9)
        for row, index in enumerate(np.flatnonzero(truth[:, k])[:2]):
            left, top = middle - side / 2, row * 1.35 * side
            extent = (left, left + side, top + side, top)
            axes.imshow(data.images[index, ..., 0], cmap="gray", vmin=0, vmax=255, extent=extent)
            words = f"model: {probabilities[index, k]:.2f}"
            axes.text(middle, top + 1.02 * side, words, ha="center", va="top", fontsize=9)
    axes.set_xlim(0, max(len(classes), 1) * pitch)
    axes.set_ylim(2.7 * side, -0.35 * side)
    axes.set_axis_off()


def who_comes(names: Sequence[str], hospitals: Sequence[MedicalImages]) -> Picture:
    """Age, sex and view in each hospital, as far as the table knows them.

    Age: the median and the middle 80 %; sex: the share of women; view: the share of one view.
    """
    table = hospitals[0].table
    panels = [column for column in ("age", "sex", "view") if column in table.columns]
    figure = Figure(figsize=(8.6, 1.2 + 0.4 * len(names)))
    grid = figure.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)[0]
    said = {}
    for axes, column in zip(grid, panels, strict=False):
        values = [h.table[column].dropna() for h in hospitals]
        if column == "age":
            low, middle, high = np.array([np.percentile(v, [10, 50, 90]) for v in values]).T
            axes.hlines(range(len(names)), low, high, color=BLUE, linewidth=3, alpha=0.4)
            axes.set_xlabel("age: median and middle 80 %")
            axes.set_xlim(0, 100)
        else:
            one = "F" if column == "sex" else min(set().union(*map(set, values)))
            middle = np.array([(v == one).mean() for v in values])
            axes.set_xlabel("share of women" if column == "sex" else f"share of view {one}")
            axes.set_xlim(-0.06, 1.06)
        axes.plot(middle, range(len(names)), "oDs"[len(said)], color=BLUE, markersize=8)
        said[axes.get_xlabel()] = middle
        _tidy(axes, grid="both")
    grid[0].set_yticks(range(len(names)), names)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    figure.tight_layout()
    words = [
        f"{name}: {', '.join(f'{label} {values[k]:.3g}' for label, values in said.items())}"
        for k, name in enumerate(names)
    ]
    return Picture(figure, f"Who comes to each hospital. {_some(words)}.")


def looks(names: Sequence[str], hospitals: Sequence[MedicalImages]) -> Picture:
    """An image of each hospital, all of one class, over the hospitals' grey levels.

    The grey levels are of all images of a hospital, as they are and standardised.
    """
    from fedtutor.model import standardise

    stratum = np.bincount(np.concatenate([h.strata for h in hospitals])).argmax()
    figure = Figure(figsize=(9.2, 4.8))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    for axes, name, own in zip(
        top.subplots(1, len(names), squeeze=False)[0], names, hospitals, strict=True
    ):
        index = int((own.strata == stratum).argmax())
        axes.imshow(own.images[index, ..., 0], cmap="gray", vmin=0, vmax=255)
        axes.set_title("\n".join(textwrap.wrap(name, 16)), fontsize=8)
        axes.set_axis_off()
    raw, evened = bottom.subplots(1, 2, gridspec_kw={"top": 0.76})
    middles = {}
    for k, (name, own) in enumerate(zip(names, hospitals, strict=True)):
        style = {
            "color": CLASS_COLOURS[k % 8],
            "linestyle": ("-", "--", ":", "-.")[k % 4],
            "marker": "oDs^vX"[k % 6],
            "markevery": (k % 6, 6),
            "label": name,
        }
        images = np.asarray(own.images[:200])
        middles[name] = float(np.median(images))
        for axes, values, edges in (
            (raw, images, np.linspace(0, 256, 25)),
            (evened, standardise(images), np.linspace(-3, 3, 25)),
        ):
            shares = np.histogram(values, edges)[0] / values.size
            axes.plot((edges[:-1] + edges[1:]) / 2, shares, linewidth=1.6, **style)
    for axes, label in ((raw, "grey level"), (evened, "grey level, standardised")):
        axes.set_xlabel(label)
        axes.set_yticks([])
        _tidy(axes)
    raw.set_ylabel("how common")
    bottom.legend(*raw.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False)
    said = ", ".join(f"{name} {value:.0f}" for name, value in middles.items())
    return Picture(
        figure,
        f"One {hospitals[0].strata_names[stratum]} image of each hospital, and how common each "
        f"grey level is, as it is and standardised. Median grey level: {said}.",
        0.01,
    )
