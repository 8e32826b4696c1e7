"""Grey images side by side, each under a title."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.figures.picture import Picture


def draw_images(
    grid: Iterable[Axes],
    images: Iterable[np.ndarray],
    titles: Iterable[str],
    *,
    limits: tuple[float, float] = (0, 1),
) -> None:
    """Draw one image on each of some axes.

    Parameters
    ----------
    images : each (h, w) or (h, w, 1).
    limits : what is black and what is white.
    """
    for axes, image, title in zip(grid, images, titles, strict=True):
        axes.imshow(np.squeeze(image), cmap="gray", vmin=limits[0], vmax=limits[1])
        axes.set_title(title, fontsize=9)
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
    """Return the images in one row, each so many inches wide; see :func:`draw_images`."""
    figure = Figure(figsize=(width * len(images), width + 0.5))
    draw_images(figure.subplots(1, len(images), squeeze=False)[0], images, titles, limits=limits)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, wspace=0.06)
    return Picture(figure, alt, step)
