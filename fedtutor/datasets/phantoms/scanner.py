"""What a scanner makes of a body: the film developed, its border and its marker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from fedtutor.datasets.phantoms.canvas import Canvas, ramp, take
from fedtutor.datasets.phantoms.hospitals import Hospital, Scanner, Shortcut
from fedtutor.datasets.phantoms.patients import Population

FINEST_NEEDED = 64  # pixels across, to draw the thinnest parts

# Film letters, seven rows of five dots each.
GLYPHS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "P": ("####.", "#...#", "#...#", "####.", "#....", "#....", "#...."),
    "D": ("####.", "#...#", "#...#", "#...#", "#...#", "#...#", "####."),
    "+": ("..#..", "..#..", "#####", "#####", "..#..", "..#..", "....."),
    "S": (".####", "#....", "#....", ".###.", "....#", "....#", "####."),
}

INK = np.array([0.55, 0.75, 0.30], np.float32)
"""How much of red, green and blue a surgeon's violet pen takes away."""

Draw = Callable[[Population, Canvas, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Develop = Callable[[np.ndarray, Scanner, np.random.Generator], np.ndarray]


def scan(
    population: Population,
    hospitals: tuple[Hospital, ...],
    size: int,
    draw: Draw,
    develop: Develop,
    shortcut: Shortcut | None,
    seed: int,
    *,
    channels: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw every image of the population and develop it as its hospital's scanner does.

    What is drawn is float32 (n, size, size), or (3, n, size, size) in colour. Returns the images,
    uint8 (n, size, size, channels), and the lesion masks, bool (n, size, size).
    """
    images = np.empty((len(population), size, size, channels), dtype=np.uint8)
    masks = np.empty((len(population), size, size), dtype=bool)
    # Thin layers would fall between the pixels of a small image: draw it larger, then shrink.
    finer = -(-FINEST_NEEDED // size)
    canvas, rng = Canvas.of(size * finer), np.random.default_rng([seed, 1])
    for block in _blocks(population.hospital, canvas.size):
        people = take(population, block)
        scanner = hospitals[people.hospital[0]].scanner
        scene, lesion = draw(people, canvas, rng)
        film = _shrink(develop(scene, scanner, rng), finer)
        film = film[..., None] if channels == 1 else np.moveaxis(film, 0, -1)
        images[block] = np.clip(film * np.float32(255) + np.float32(0.5), 0, 255)
        stamp_markers(images[block], people, scanner, shortcut)
        masks[block] = _shrink_mask(lesion, finer)
    return images, masks


def _shrink(images: np.ndarray, times: int) -> np.ndarray:
    """Return the mean of each square of ``times`` x ``times`` pixels, float32."""
    cells = [images[..., i::times, j::times] for i in range(times) for j in range(times)]
    return sum(cells[1:], cells[0].astype(np.float32)) / np.float32(times**2)


def _shrink_mask(masks: np.ndarray, times: int) -> np.ndarray:
    """Keep pixels at least half covered; the most covered ones if the lesion is smaller."""
    covered = _shrink(masks, times)
    most = covered.max(axis=(1, 2), keepdims=True)
    return (covered >= np.minimum(most, 0.5)) & (most > 0)


def _blocks(hospital: np.ndarray, size: int) -> Iterator[slice]:
    """Yield slices of one hospital's images, few enough for the processor's cache."""
    most = max(1, 2**17 // size**2)
    edges = np.flatnonzero(np.diff(hospital)) + 1
    for start, stop in pairwise(np.r_[0, edges, len(hospital)]):
        for first in range(start, stop, most):
            yield slice(first, min(first + most, stop))


def develop_film(tissue: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Turn tissue thickness into brightness 0..1 (bone is bright), as the scanner shows it."""
    size = tissue.shape[1]
    film = blur(tissue, scanner.blur * size)
    film *= np.float32(-1.05)
    np.exp(film, out=film)
    np.subtract(1, film, out=film)
    if scanner.gamma != 1:
        np.clip(film, 0, None, out=film)
        film **= np.float32(scanner.gamma)
    film *= np.float32(scanner.gain)
    film += rng.standard_normal(film.shape, dtype=np.float32) * np.float32(scanner.noise)
    film += np.float32(0.02)
    collimate(film, scanner.collimation)
    return film


def develop_scan(light: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Turn reflected light into brightness 0..1; speckle grows with the light, as in real OCT."""
    speckle = rng.standard_normal(light.shape, dtype=np.float32)
    film = light * (1 + np.float32(5 * scanner.noise) * speckle)
    np.abs(speckle, out=speckle)
    film += np.float32(1.2 * scanner.noise) * speckle
    film = blur(film, scanner.blur * light.shape[1])
    np.clip(film, 0, None, out=film)
    if scanner.gamma != 1:
        film **= np.float32(scanner.gamma)
    film *= np.float32(0.9 * scanner.gain)
    collimate(film, scanner.collimation)
    return film


def develop_photo(light: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Take a picture of light (3, n, size, size) through a dermatoscope: its lamp, lens and rim."""
    size = light.shape[-1]
    film = np.stack([blur(plane, scanner.blur * size) for plane in light])
    canvas = Canvas.of(size)
    far = np.hypot(canvas.x, canvas.y - np.float32(0.5))
    film *= (1 - np.float32(0.5) * far * far) * np.float32(scanner.gain)
    film *= np.array(scanner.cast, np.float32)[:, None, None, None]
    film **= np.float32(scanner.gamma)
    film += rng.standard_normal(film.shape, dtype=np.float32) * np.float32(scanner.noise)
    if scanner.collimation:
        film *= ramp(0.66 - 2 * scanner.collimation - far, 0.02)
    return film


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Return a Gaussian blur of (n, size, size) images, ``sigma`` in pixels; edges are repeated."""
    radius = max(1, round(2.5 * sigma))
    steps = np.arange(radius + 1)
    kernel = np.exp(-0.5 * (steps / max(sigma, 0.05)) ** 2)
    kernel = (kernel / (2 * kernel.sum() - 1)).astype(np.float32)
    return _blur_axis(_blur_axis(images, kernel, axis=1), kernel, axis=2)


def _blur_axis(images: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    """Blur along one axis with a kernel of which the middle and one half are given."""
    radius, size = len(kernel) - 1, images.shape[axis]
    pad = [(radius, radius) if k == axis else (0, 0) for k in range(3)]
    lines = np.moveaxis(np.pad(images, pad, mode="edge"), axis, 0)
    total = lines[radius : radius + size] * kernel[0]
    for step in range(1, radius + 1):
        before, after = radius - step, radius + step
        pair = lines[before : before + size] + lines[after : after + size]
        pair *= kernel[step]
        total += pair
    return np.moveaxis(total, 0, axis)


def collimate(film: np.ndarray, border: float) -> None:
    """Blacken, in place, a border of ``border`` times the image's width."""
    if border:
        canvas = Canvas.of(film.shape[1])
        film *= ramp(0.5 - border - np.abs(canvas.x), 0.01)
        film *= ramp(0.5 - border - np.abs(canvas.y - np.float32(0.5)), 0.01)


def stamp_markers(
    images: np.ndarray, people: Population, scanner: Scanner, shortcut: Shortcut | None
) -> None:
    """Put, in place, the scanner's film marker, on skin a pen's, into a corner of the images."""
    rows, text, (size, _, channels) = np.arange(len(images)), scanner.marker, images.shape[1:]
    if shortcut is not None and shortcut.hospital == people.hospital[0]:
        rows, text = np.flatnonzero(people.label == shortcut.label), text or "R"
    if not text:
        return
    glyph = render_marker(text, size)
    height, width = glyph.shape
    for row in rows:
        # The letter is a lead piece placed by hand, so it never sits at quite the same spot.
        place = (0.045 if channels == 1 else 0.15) + 0.012 * np.clip(people.pose[row, :2], -2, 2)
        aside, top = (round(float(share) * size) for share in place)
        left = aside if scanner.marker_on_left else size - width - aside
        corner = images[row, top : top + height, left : left + width]
        if channels == 1:
            np.maximum(corner, glyph[..., None], out=corner)
        else:  # a pen takes light away
            corner[:] = corner * (1 - glyph[..., None] / np.float32(235) * INK)


def render_marker(text: str, size: int) -> np.ndarray:
    """Return ``text`` as bright dots, uint8, 8 % of an image of ``size`` pixels high."""
    rows = zip(*(GLYPHS[letter] for letter in text), strict=True)
    dots = np.array([[dot == "#" for dot in ".".join(row)] for row in rows])
    height = max(5, round(0.08 * size))
    width = max(3, round(height * dots.shape[1] / dots.shape[0]))
    # Four samples a pixel in either direction keep the strokes even at awkward sizes.
    down = ((np.arange(4 * height) + 0.5) / (4 * height) * dots.shape[0]).astype(int)
    across = ((np.arange(4 * width) + 0.5) / (4 * width) * dots.shape[1]).astype(int)
    fine = dots[np.ix_(down, across)].reshape(height, 4, width, 4)
    return (fine.mean(axis=(1, 3)) * 235).astype(np.uint8)
