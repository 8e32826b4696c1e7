"""Drawing primitives: the canvas, soft shapes, clouds and dabs of paint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Record = TypeVar("Record")


@dataclass(frozen=True)
class Canvas:
    """Relative coordinates: ``x`` from -0.5 (left) to 0.5 and ``y`` from 0 (top) to 1.

    ``x`` is of shape (1, 1, size) and ``y`` of shape (1, size, 1), both float32, so that a shape
    which depends on one of them only costs a row or a column instead of a whole image. After
    :meth:`posed` all parts have one row an image.
    """

    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray
    aside: np.ndarray
    down: np.ndarray

    @classmethod
    def of(cls, size: int) -> Canvas:
        """Return a canvas of ``size`` x ``size`` pixels."""
        centre = ((np.arange(size) + 0.5) / size).astype(np.float32)
        none = np.zeros((1, 1, 1), dtype=np.float32)
        return cls((centre - 0.5)[None, None, :], centre[None, :, None], none + 1, none, none)

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.x.shape[-1]

    def posed(self, zoom: np.ndarray, aside: np.ndarray, down: np.ndarray) -> Canvas:
        """Return the canvas of bodies enlarged by ``zoom`` and moved; all (n, 1, 1)."""
        x = (self.x - aside) / zoom
        y = (self.y - np.float32(0.5) - down) / zoom + np.float32(0.5)
        return Canvas(x, y, zoom, aside, down)

    def pixel_of(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the fractional (column, row) of points (n, points, 1) on the canvas."""
        across = (x * self.zoom + self.aside + 0.5) * self.size - 0.5
        return across, ((y - 0.5) * self.zoom + self.down + 0.5) * self.size - 0.5


def take(record: Record, rows: np.ndarray | slice) -> Record:
    """Return a dataclass of arrays with only these rows of each."""
    return type(record)(**{name: array[rows] for name, array in vars(record).items()})


def column(values: np.ndarray) -> np.ndarray:
    """Turn one number an image, (n,), into float32 (n, 1, 1), to be drawn on a canvas."""
    return np.asarray(values, dtype=np.float32)[:, None, None]


def ramp(distance: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """Return a soft step: 0 where ``distance`` is below -width/2, 1 above width/2."""
    step = distance / width if isinstance(width, np.ndarray) else distance * np.float32(1 / width)
    step += np.float32(0.5)
    return np.clip(step, 0, 1, out=step)


def ellipse(
    x: np.ndarray,
    y: np.ndarray,
    half_width: float | np.ndarray,
    half_height: float | np.ndarray,
    slant: float = 0.0,
) -> np.ndarray:
    """Return a dome over a (sheared) ellipse: 1 at the origin, 0 on its edge, negative outside."""
    across = (x - slant * y) / half_width if slant else x / half_width
    down = y / half_height
    return 1 - across * across - down * down


def hump(t: np.ndarray) -> np.ndarray:
    """Return a smooth bump of height 1 over -1 < t < 1, zero elsewhere: (1 - t^2)^2."""
    t = np.clip(1 - t * t, 0, None)
    return t * t


def noise(rng: np.random.Generator, count: int, size: int, cells: tuple[int, int]) -> np.ndarray:
    """Draw clouds: random numbers on a coarse grid, joined by quadratic B-splines.

    ``cells`` is the number of grid cells (down, across). Returns float32 of shape
    (count, size, size), about standard normal.
    """
    coarse = rng.standard_normal((count, cells[0] + 2, cells[1] + 2), dtype=np.float32)
    rows = _interpolate(coarse.swapaxes(1, 2), size, cells[0]).swapaxes(1, 2)
    clouds = _interpolate(np.ascontiguousarray(rows), size, cells[1])
    clouds *= np.float32(1.8)  # the spline averages neighbours and so shrinks the spread
    return clouds


def _interpolate(grid: np.ndarray, size: int, cells: int) -> np.ndarray:
    """Lay a quadratic B-spline along the last axis, (..., cells + 2) to (..., size)."""
    at = (np.arange(size) + 0.5) / size * cells
    first = at.astype(np.int64)
    t = (at - first).astype(np.float32)
    weights = (0.5 * (1 - t) ** 2, 0.5 + t - t * t, 0.5 * t * t)
    total = grid[..., first] * weights[0]
    for step in (1, 2):
        total += grid[..., first + step] * weights[step]
    return total


def splat(canvas: Canvas, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Paint dabs at canvas points; a dab of weight 1 brightens one pixel of 128 x 128 by 1.

    ``x``, ``y`` and ``weight`` hold n rows of points in any shape (n, ...). Returns float32 of
    shape (n, size, size).
    """
    n, size = len(x), canvas.size
    across, down = canvas.pixel_of(x.reshape(n, -1, 1), y.reshape(n, -1, 1))
    left, top = np.floor(across), np.floor(down)
    right_share, bottom_share = across - left, down - top
    inside = (left >= 0) & (top >= 0) & (left < size - 1) & (top < size - 1)
    weight = np.where(inside, weight.reshape(n, -1, 1) * np.float32((size / 128) ** 2), 0)
    pixel = np.arange(n)[:, None, None] * size**2 + top.astype(np.int64) * size
    pixel = np.where(inside, pixel + left.astype(np.int64), 0)
    paint = np.zeros(n * size**2)
    # Shared among the four pixels around the point, so that lines are smooth at any size.
    for share_y, row in ((1 - bottom_share, 0), (bottom_share, size)):
        for share_x, step in ((1 - right_share, 0), (right_share, 1)):
            dab = (weight * share_y * share_x).ravel()
            paint += np.bincount((pixel + (row + step)).ravel(), dab, minlength=len(paint))
    return paint.reshape(n, size, size).astype(np.float32)
