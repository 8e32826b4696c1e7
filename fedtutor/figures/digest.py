"""What a figure shows, in text made from the figure itself.

A picture cannot be compared by eye in a test, and another machine draws other pixels. The digest
is read from the axes (labels, series, rounded data), so that it changes when the figure does and
only then; it is also what somebody reads who cannot see the figure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FuncFormatter

from fedtutor.support.language import say

MOST_VALUES = 12
"""A longer series is given by its number of points, five of them and their mean."""

Rounding = Callable[[float], str]


def digest(figure: Figure, *, step: float | None = None) -> str:
    """Describe the figure in lines of text.

    ``step`` is for whatever comes out of training, which differs a little from one type of
    processor to another: a power of ten such as 0.01, to which numbers are rounded; they are then
    written ≈0.87, and the course's tests let such a number differ by three in its last digit. By
    default three significant digits, for data that are the same everywhere.
    """
    rounded = _rounding(step)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    lines = []
    if title := figure.get_suptitle():
        lines.append(f"{say('title')}: {_round_in(title, rounded)}")
    blocks = [list(_axes_lines(axes, rounded)) for axes in shown]
    if len(blocks) == 1:
        return "\n".join([*lines, *blocks[0]])
    for number, block in enumerate(blocks, start=1):
        if block:  # an axes with nothing on it shows nothing
            head = say("panel {number} of {total}", number=number, total=len(blocks))
            lines += [head, *(f"  {line}" for line in block)]
    return "\n".join(lines)


def _axes_lines(axes: Axes, rounded: Rounding) -> Iterator[str]:
    labels = ((say("title"), axes.get_title()), ("x", axes.get_xlabel()), ("y", axes.get_ylabel()))
    for name, text in labels if axes.axison else labels[:1]:
        if text:
            yield f"{name}: {_round_in(text, rounded)}"
    if axes.axison:
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if names := _tick_names(axis):
                said = ", ".join(_round_in(text, rounded) for text in names)
                yield say("{axis} ticks: {said}", axis=name, said=said)
    for line in axes.lines:
        yield f"{say('line')}{_label(line)}: {_points(line.get_xdata(), line.get_ydata(), rounded)}"
    for container in axes.containers:
        if isinstance(container, BarContainer):
            bars = _values(np.asarray(container.datavalues), rounded)
            yield f"{say('bars')}{_label(container)}: {len(container)}, {bars}"
    for collection in axes.collections:
        yield _collection(collection, rounded)
    for image in axes.images:
        yield f"{say('image')}: {_array(image.get_array(), rounded)}"
    for note in axes.texts:
        if note.get_text():
            yield f"{say('text')}: {_round_in(note.get_text(), rounded)}"


def _collection(collection: Any, rounded: Rounding) -> str:
    if isinstance(collection, QuadMesh):
        return f"{say('cells')}: {_array(collection.get_array(), rounded)}"
    if isinstance(collection, PathCollection):
        x, y = np.ma.getdata(collection.get_offsets()).reshape(-1, 2).T
        return f"{say('dots')}{_label(collection)}: {_points(x, y, rounded)}"
    return f"{type(collection).__name__}{_label(collection)}"


def _points(x: Any, y: Any, rounded: Rounding) -> str:
    said = {name: _values(np.asarray(one), rounded) for name, one in (("x", x), ("y", y))}
    return say("{n} points, x {x}; y {y}", n=len(y), **said)


def _array(array: Any, rounded: Rounding) -> str:
    array = np.ma.getdata(array)
    values = f", {_values(array.ravel(), rounded)}" if array.size <= MOST_VALUES else ""
    mean = say("mean {value}", value=rounded(float(np.nanmean(array))))
    return f"{'x'.join(map(str, array.shape))}, {mean}{values}"


def _values(values: np.ndarray, rounded: Rounding) -> str:
    if values.dtype.kind not in "fiub":
        return " ".join(map(str, values[:MOST_VALUES]))
    one = rounded if values.dtype.kind == "f" else lambda value: str(int(value))  # counted
    if len(values) <= MOST_VALUES:
        return " ".join(map(one, values))
    some = values[np.linspace(0, len(values) - 1, 5).round().astype(int)]
    mean = say("mean {value}", value=rounded(np.nanmean(values)))
    return f"{' .. '.join(map(one, some))}, {mean}"


def _tick_names(axis: Axis) -> list[str]:
    """Return the ticks' labels if somebody wrote them; matplotlib's own say nothing new."""
    formatter = axis.get_major_formatter()
    if not isinstance(formatter, (FixedFormatter, FuncFormatter, StrCategoryFormatter)):
        return []
    return [text for text in formatter.format_ticks(list(axis.get_majorticklocs())) if text]


def _label(artist: Any) -> str:
    label = str(artist.get_label())
    return "" if label.startswith("_") or not label else f" {label!r}"


def _rounding(step: float | None) -> Rounding:
    if step is None:  # + 0.0 makes -0 a plain 0
        return lambda value: f"{float(f'{value:.3g}') + 0.0:.12g}" if math.isfinite(value) else "-"
    if not 0 < step <= 1:
        raise ValueError(f"step must lie above 0 and be at most 1, such as 0.01; got {step}.")
    decimals = round(-math.log10(step))

    def rounded(value: float) -> str:
        return f"≈{round(value, decimals) + 0.0:.{decimals}f}" if math.isfinite(value) else "-"

    return rounded


def _round_in(text: str, rounded: Rounding) -> str:
    """Put the text on one line, its decimal numbers rounded as the data are."""
    flat = " ".join(text.split())
    return re.sub(r"-?\d+\.\d+", lambda match: rounded(float(match.group())), flat)
