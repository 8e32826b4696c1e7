"""A figure with a text that says what it shows, in one style.

Colours are Okabe and Ito's, told apart by colour-blind people, and never carry meaning alone.
"""

from __future__ import annotations

import base64
import html
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from fedtutor.figures.digest import digest
from fedtutor.support.language import say

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
RED, PURPLE, GREY = "#D55E00", "#CC79A7", "#777777"
CLASS_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, "#56B4E9", "#F0E442", GREY)
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure and what to say to somebody who cannot see it."""

    figure: Figure
    alt: str
    step: float | None = None
    """What the digest rounds to; coarse for whatever comes out of training, see ``digest``."""

    def __post_init__(self) -> None:
        # A name is no formula, whatever dollars are in it, and has no sign that the font lacks.
        for axis in (one for axes in self.figure.axes for one in (axes.xaxis, axes.yaxis)):
            places = list(axis.get_majorticklocs())
            names = axis.get_major_formatter().format_ticks(places)
            if (drawn := [_drawable(name) for name in names]) != names:
                axis.set_ticks(places, drawn)
        for text in self.figure.findobj(Text):
            text.set_parse_math(False)
            text.set_text(_drawable(text.get_text()))

    def to_png(self, dpi: int = 110) -> bytes:
        """Return the figure as a PNG file."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
        return buffer.getvalue()

    def to_html(self, dpi: int = 110) -> str:
        """Return an ``<img>`` element that needs no other file."""
        data = base64.b64encode(self.to_png(dpi)).decode("ascii")
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}">'

    def __repr__(self) -> str:
        return digest(self.figure, step=self.step)

    def _repr_html_(self) -> str:
        # JupyterLab shows a PNG output without any alt text, hence an element of our own; the
        # digest below it is for whoever wants the numbers or cannot see the picture.
        words = say("The figure in words and numbers")
        return (
            f"{self.to_html()}<details><summary>{words}</summary>"
            f"<p>{html.escape(self.alt)}</p><pre>{html.escape(repr(self))}</pre></details>"
        )


def _drawable(text: str) -> str:
    """Return the text with each sign that matplotlib's font lacks written out as an escape."""
    has = get_font(findfont(FontProperties())).get_char_index
    return "".join(c if c.isspace() or has(ord(c)) else ascii(c)[1:-1] for c in text)


def to_html(draw: Callable[[], Picture]) -> str:
    """Return a picture as HTML, or a sentence in its place if it cannot be drawn."""
    try:
        return draw().to_html()
    except Exception as error:  # whatever a figure raises, the rest of the page is written
        print(f"fedtutor: a figure could not be drawn: {error!r}", file=sys.stderr)
        return f"<p>This figure could not be drawn: {html.escape(str(error))}</p>"


def tidy(axes: Axes, grid: Literal["x", "y", "both"] | None = None) -> None:
    """Take the frame's upper and right side away, and draw a faint grid ("x", "y" or "both")."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if grid:
        axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)


def show(
    axes: Axes, image: np.ndarray, title: str = "", *, limits: tuple[float, float] = (0, 255)
) -> None:
    """Show an image, (h, w), (h, w, 1) or RGB (h, w, 3), without axes; ``limits`` are of grey."""
    axes.imshow(np.squeeze(image), cmap="gray", vmin=limits[0], vmax=limits[1])
    axes.set_title(title, fontsize=9)
    axes.set(xticks=(), yticks=())  # else matplotlib lays out ticks that nobody sees
    axes.set_axis_off()


def row_of_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    alt: str,
    *,
    limits: tuple[float, float] = (0, 1),
    step: float | None = None,
    width: float = 1.7,
) -> Picture:
    """Show images in one row, each under its title and so many inches wide; see :func:`show`."""
    figure = Figure(figsize=(width * len(images), width + 0.5))
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    for one, image, title in zip(axes, images, titles, strict=True):
        show(one, image, title, limits=limits)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, wspace=0.06)
    return Picture(figure, alt, step)


def join_some(rows: list[str], most: int = 12) -> str:
    """Join the first ``most`` phrases by semicolons, and say how many more there are."""
    return "; ".join(rows[:most]) + (f"; and {len(rows) - most} more" if len(rows) > most else "")
