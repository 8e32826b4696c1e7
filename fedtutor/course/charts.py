"""The two charts that most of the course needs, from plain numbers to a Picture.

Every series has a colour, a marker and a dash of its own, so that colour alone says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.report.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Picture

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
    """Curves over a common axis, and dots that belong to no curve.

    Parameters
    ----------
    curves, dots : from a name to (x values, y values).
    x, y : the axes' labels.
    step : of the numbers in digest and alt text, such as 0.01 for what comes out of training;
        see :func:`fedtutor.report.digest.digest`.
    """
    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    for (name, (xs, ys)), (colour, marker, dash) in zip(curves.items(), STYLES, strict=False):
        axes.plot(xs, ys, dash, marker=marker, color=colour, label=name, zorder=3)
    for (name, (xs, ys)), (colour, marker, _) in zip(
        (dots or {}).items(), STYLES[len(curves) :], strict=False
    ):
        axes.plot(xs, ys, marker, color=colour, label=name, alpha=0.75, markersize=5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if all(np.asarray(xs).dtype.kind in "iu" for xs, _ in curves.values()):
        axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(axes, "both", len(curves) + len(dots or {}))
    said = [
        f"{name} goes from {_say(ys[0], step)} to {_say(ys[-1], step)}"
        for name, (_, ys) in curves.items()
    ]
    said += [
        f"{name} lie between {_say(min(ys), step)} and {_say(max(ys), step)}"
        for name, (_, ys) in (dots or {}).items()
    ]
    return Picture(figure, f"{y} against {x}: {'; '.join(said)}.", step)


def rows(
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    x: str,
    limits: tuple[float, float] | None = None,
    step: float | None = None,
    size: tuple[float, float] | None = None,
) -> Picture:
    """One row a name, one mark a series in it: a bar chart without its ink.

    Parameters
    ----------
    names : of the rows, from top to bottom.
    series : from a name to one value a row; NaN leaves a gap.
    limits : of the x axis, so that pictures can be compared.
    """
    figure = Figure(figsize=size or (8, 1.1 + 0.38 * len(names)))
    axes = figure.add_subplot()
    for (name, values), (colour, marker, _) in zip(series.items(), STYLES, strict=False):
        axes.plot(values, range(len(names)), marker, color=colour, label=name, markersize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(x)
    if limits:
        axes.set_xlim(limits)
    _finish(axes, "both", len(series) if len(series) > 1 else 0)
    said = [
        f"{row} {', '.join(f'{name} {_say(v[k], step)}' for name, v in series.items())}"
        for k, row in enumerate(names)
    ]
    return Picture(figure, f"{x}: {'; '.join(said)}.", step)


def _finish(axes: Axes, grid: str, entries: int) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    if entries:
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(entries, 4), frameon=False
        )


def _say(value: float, step: float | None) -> str:
    return f"{value:.2f}" if step is not None else f"{value:.3g}"
