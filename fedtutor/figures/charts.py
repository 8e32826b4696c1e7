"""Two charts that most lessons need, from plain numbers to a Picture, and four of hospitals.

Every series has a colour, a marker and a dash of its own, so that colour alone says nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fedtutor.figures.picture import (
    BLUE,
    CLASS_COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Picture,
    join_some,
    show,
    tidy,
)
from fedtutor.images import MedicalImages

STYLES = (
    (BLUE, "o", "-"),
    (ORANGE, "D", "--"),
    (GREEN, "s", ":"),
    (PURPLE, "^", "-."),
    (RED, "v", "--"),
    (GREY, "X", ":"),
)

Series = tuple[Sequence[float], Sequence[float]]


def lines(
    curves: Mapping[str, Series],
    *,
    x: str,
    y: str,
    dots: Mapping[str, Series] | None = None,
    step: float | None = None,
    size: tuple[float, float] = (8, 3.6),
) -> Picture:
    """Draw curves over a common axis, and dots that belong to no curve.

    Parameters
    ----------
    curves, dots : from a name to (x values, y values).
    x, y : the axes' labels.
    step : what digest and alt text round to, see :func:`fedtutor.figures.digest.digest`.
    """
    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    draw_lines(axes, curves)
    dots, left = dots or {}, STYLES[len(curves) :]
    for (name, (xs, ys)), (colour, marker, _) in zip(dots.items(), left, strict=False):
        axes.plot(xs, ys, marker, color=colour, label=name, alpha=0.75, markersize=5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if all(np.asarray(xs).dtype.kind in "iu" for xs, _ in curves.values()):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    _finish(axes, len(curves) + len(dots))
    said = [
        f"{name} goes from {_say(ys[0], step)} to {_say(ys[-1], step)}"
        for name, (_, ys) in curves.items()
    ]
    said += [
        f"{name} lie between {_say(min(ys), step)} and {_say(max(ys), step)}"
        for name, (_, ys) in dots.items()
    ]
    return Picture(figure, f"{y} against {x}: {'; '.join(said)}.", step)


def draw_lines(axes: Axes, curves: Mapping[str, Series]) -> None:
    """Draw each curve in a style of its own."""
    styles = cycle(STYLES)
    for (name, (xs, ys)), (colour, marker, dash) in zip(curves.items(), styles, strict=False):
        axes.plot(xs, ys, dash, marker=marker, color=colour, label=name, zorder=3)


def rows(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    x: str,
    limits: tuple[float, float] | None = None,
    step: float | None = None,
    size: tuple[float, float] | None = None,
) -> Picture:
    """Draw one row a name, one mark a series in it: a bar chart without its ink.

    Parameters
    ----------
    names : of the rows, from top to bottom.
    series : from a name to one value a row; NaN leaves a gap.
    limits : of the x axis, so that pictures can be compared.
    """
    figure = Figure(figsize=size or (8, 1.1 + 0.38 * len(names)))
    axes = figure.add_subplot()
    draw_rows(axes, names, series)
    axes.set_xlabel(x)
    if limits:
        axes.set_xlim(limits)
    said = [
        f"{row} {', '.join(f'{name} {_say(v[k], step)}' for name, v in series.items())}"
        for k, row in enumerate(names)
    ]
    return Picture(figure, f"{x}: {'; '.join(said)}.", step)


def draw_rows(axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """Draw the rows of :func:`rows` in given axes."""
    styles = cycle(STYLES)
    for (name, values), (colour, marker, _) in zip(series.items(), styles, strict=False):
        axes.plot(values, range(len(names)), marker, color=colour, label=name, markersize=8)
    name_rows(axes, names)
    _finish(axes, len(series) if len(series) > 1 else 0)


def name_rows(axes: Axes, names: Sequence[str], **style: Any) -> None:
    """Write names beside the rows 0, 1, ..., the first of them on top."""
    axes.set_yticks(range(len(names)), names, **style)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _finish(axes: Axes, entries: int) -> None:
    tidy(axes, "both")
    if entries:
        legend_above(axes, min(entries, 4))


def legend_above(axes: Axes, columns: int, *, middle: float = 0.5, **style: Any) -> None:
    """Write the legend above the axes, where it hides nothing."""
    place = (middle, 1.0)
    axes.legend(loc="lower center", bbox_to_anchor=place, ncols=columns, frameon=False, **style)


def _say(value: float, step: float | None) -> str:
    return f"{value:.2f}" if step is not None else f"{value:.3g}"


def train_and_test(
    names: Sequence[str], aucs: np.ndarray | Sequence, further: Sequence[str] = ()
) -> Picture:
    """Draw AUCs as a heat map: rows where a model was trained, columns where it is tested.

    ``aucs`` is float (hospitals and ``further`` models, hospitals), NaN where there is none. The
    diagonal, a hospital's own model on its own test patients, is framed.
    """
    models, aucs = [*names, *further], np.asarray(aucs, dtype=float)
    figure = Figure(figsize=(2.6 + 1.15 * len(names), 1.4 + 0.62 * len(models)))
    axes = figure.add_subplot()
    bar = {"label": "AUC"}
    style = {"annot": True, "fmt": ".2f", "vmin": 0.5, "cbar_kws": bar, "linewidths": 1}
    draw_table(axes, aucs, names, models, **style)
    for k in range(len(names)):
        axes.add_patch(
            Rectangle((k + 0.04, k + 0.04), 0.92, 0.92, fill=False, edgecolor=RED, linewidth=2.5)
        )
    for text, value in zip(axes.texts, aucs[~np.isnan(aucs)], strict=True):
        text.set_color("white" if value > 0.85 else "black")  # to be read on its blue
    axes.set_xlabel("tested on patients of")
    axes.set_ylabel("trained at")
    said = [
        f"the model of {name}: {', '.join(f'{value:.2f}' for value in row)}"
        for name, row in zip(models, aucs, strict=True)
    ]
    alt = f"AUC on the test patients of {', '.join(names)}, in this order; {join_some(said)}."
    return Picture(figure, alt, 0.01)


def draw_table(
    axes: Axes, values: np.ndarray, names: Sequence[str], rows: Sequence[str] = (), **style: Any
) -> None:
    """Draw a table, float (rows, names), darker where nearer to 1; ``style`` is seaborn's."""
    import seaborn  # here, as it takes a second to import

    style |= {"xticklabels": False, "yticklabels": False}  # it would take names for formulas
    seaborn.heatmap(values, cmap="Blues", vmax=1, ax=axes, **style)
    for set_ticks, texts in ((axes.set_xticks, names), (axes.set_yticks, rows or names)):
        set_ticks(np.arange(len(texts)) + 0.5, [textwrap.fill(text, 14) for text in texts])
    axes.tick_params(rotation=0, labelsize=9)


def roc_and_images(probabilities: np.ndarray, data: MedicalImages) -> Picture:
    """Draw ROC curves, one a class, beside images of each class with what the model says.

    ``probabilities`` is float (n, classes) for the n images of ``data``. Of many classes the four
    commonest are shown. A large mark is what comes of calling each image its likeliest class.
    """
    from sklearn.metrics import roc_curve

    rates = np.linspace(0, 1, 101)  # as many for any model: a digest counts them
    each = np.eye(len(data.class_names), dtype=int)
    truth, called = each[data.labels], each[probabilities.argmax(axis=1)]
    counts = truth.sum(axis=0)
    shown = np.sort(np.argsort(-counts, kind="stable")[:4])
    shown = shown[(counts[shown] > 0) & (counts[shown] < len(data))]
    figure = Figure(figsize=(9.6, 4.4))  # without a layout to find it is drawn once, not twice
    left, right = (figure.add_axes((x, 0.12, w, 0.85)) for x, w in ((0.07, 0.5), (0.59, 0.4)))
    left.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    said = []
    for k, dash, marker in zip(shown, ("-", "--", ":", "-."), "oDs^", strict=False):
        false_alarms, found, _ = roc_curve(truth[:, k], probabilities[:, k])
        height = found[np.searchsorted(false_alarms, rates, side="right") - 1]
        name, colour = f"{data.class_names[k]} ({counts[k]} images)", CLASS_COLOURS[k % 8]
        curve = [0, *rates], [0, *height]  # from the corner: nobody is called ill
        left.step(*curve, dash, where="post", color=colour, linewidth=2, zorder=3)
        x, y = called[truth[:, k] == 0, k].mean(), called[truth[:, k] == 1, k].mean()
        left.plot(x, y, marker, color=colour, markersize=11, mec="black", label=name, zorder=4)
        said.append(
            f"{name} finds {height[20]:.2f} at one false alarm in five, and as the likeliest class "
            f"{y:.2f} at {x:.2f} false alarms"
        )
    left.set_xlabel("false alarms (share of the others)")
    left.set_ylabel("found (share of the class)")
    left.set_xlim(-0.03, 1.03)
    left.set_ylim(-0.03, 1.03)
    left.legend(loc="lower right", fontsize=9, title="mark: called the likeliest class")
    tidy(left, grid="both")
    _two_of_each_class(right, probabilities, data, truth, shown)
    kind = "synthetic images" if data.synthetic else "images"
    return Picture(
        figure,
        f"ROC curves: {'; '.join(said)}. Beside them {kind} of each class with the probability "
        "that the model gives the right class.",
        0.1,
    )


def _two_of_each_class(
    axes: Axes,
    probabilities: np.ndarray,
    data: MedicalImages,
    truth: np.ndarray,
    classes: np.ndarray,
) -> None:
    """Draw all in one axes: one for each image would take three times as long."""
    side = data.image_shape[0]
    pitch = 1.2 * side
    for column, k in enumerate(classes):
        middle = (column + 0.5) * pitch
        axes.text(middle, -0.12 * side, data.class_names[k], ha="center", va="bottom", fontsize=9)
        for row, index in enumerate(np.flatnonzero(truth[:, k])[:2]):
            left, top = middle - side / 2, row * 1.35 * side
            extent = (left, left + side, top + side, top)
            image = np.squeeze(data.images[index])
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent)
            words = f"model: {probabilities[index, k]:.2f}"
            axes.text(middle, top + 1.02 * side, words, ha="center", va="top", fontsize=9)
    axes.set(xlim=(0, max(len(classes), 1) * pitch), ylim=(2.7 * side, -0.35 * side))
    axes.set(xticks=[], yticks=[], frame_on=False)


def who_comes(names: Sequence[str], hospitals: Sequence[MedicalImages]) -> Picture:
    """Draw age, sex and view in each hospital, as far as the table knows them.

    Age: the median and the middle 80 %; sex: the share of women; view: the share of one view.
    """
    table = hospitals[0].table
    panels = [column for column in ("age", "sex", "view") if column in table.columns]
    figure = Figure(figsize=(8.6, 1.2 + 0.4 * len(names)), layout="tight")
    grid = figure.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)[0]
    said: dict[str, np.ndarray] = {}
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
        tidy(axes, grid="both")
    name_rows(grid[0], names)
    words = [
        f"{name}: {', '.join(f'{label} {values[k]:.3g}' for label, values in said.items())}"
        for k, name in enumerate(names)
    ]
    return Picture(figure, f"Who comes to each hospital. {join_some(words)}.")


def looks(names: Sequence[str], hospitals: Sequence[MedicalImages]) -> Picture:
    """Show an image of each hospital, all of one class, over the hospitals' grey levels.

    The grey levels are those of a hospital's first 200 images, as they are and standardised; in
    colour they are of red, green and blue together.
    """
    from fedtutor.model import standardise

    stratum = np.bincount(np.concatenate([h.strata for h in hospitals])).argmax()
    figure = Figure(figsize=(9.2, 4.8))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.5)).flat
    grid = top.subplots(1, len(names), squeeze=False)[0]
    for axes, name, own in zip(grid, names, hospitals, strict=True):
        index = int((own.strata == stratum).argmax())
        show(axes, own.images[index])
        axes.set_title(textwrap.fill(name, 16), fontsize=8)
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
    level = "grey level" if hospitals[0].image_shape[2] == 1 else "colour level"
    for axes, label in ((raw, level), (evened, f"{level}, standardised")):
        axes.set_xlabel(label)
        axes.set_yticks([])
        tidy(axes)
    raw.set_ylabel("how common")
    bottom.legend(*raw.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False)
    said = ", ".join(f"{name} {value:.0f}" for name, value in middles.items())
    return Picture(
        figure,
        f"One {hospitals[0].strata_names[stratum]} image of each hospital, and how common each "
        f"{level} is, as it is and standardised. Median {level}: {said}.",
        0.01,
    )
