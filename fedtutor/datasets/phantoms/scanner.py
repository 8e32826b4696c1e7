"""What a scanner makes of a body: the film developed, its border and its marker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from fedtutor.datasets.phantoms.people import Cohort, Hospital, Scanner, Shortcut
from fedtutor.datasets.phantoms.texture import Canvas, ramp

FINEST_NEEDED = 64  # pixels across, to draw the thinnest parts

# Film letters, seven rows of five dots each.
GLYPHS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "P": ("####.", "#...#", "#...#", "####.", "#....", "#....", "#...."),
    "D": ("####.", "#...#", "#...#", "#...#", "#...#", "#...#", "####."),
    "S": (".####", "#....", "#....", ".###.", "....#", "....#", "####."),
}

Draw = Callable[[Cohort, Canvas, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Develop = Callable[[np.ndarray, Scanner, np.random.Generator], np.ndarray]


def scan(
    cohort: Cohort,
    hospitals: tuple[Hospital, ...],
    size: int,
    draw: Draw,
    develop: Develop,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw every image of the cohort and develop it as its hospital's scanner does.

    Returns the images, uint8 (n, size, size), and the lesion masks, bool (n, size, size).
    """
    images = np.empty((len(cohort), size, size), dtype=np.uint8)
    masks = np.empty((len(cohort), size, size), dtype=bool)
    # Thin layers would fall between the pixels of a small image: draw it larger, then shrink.
    finer = -(-FINEST_NEEDED // size)
    canvas, rng = Canvas.of(size * finer), np.random.default_rng([seed, 1])
    for block in _blocks(cohort.hospital, canvas.size):
        people = cohort.take(block)
        scene, lesion = draw(people, canvas, rng)
        film = _shrink(develop(scene, hospitals[people.hospital[0]].scanner, rng), finer)
        images[block] = np.clip(film * np.float32(255) + np.float32(0.5), 0, 255)
        masks[block] = _shrink_mask(lesion, finer)
    return images, masks


def _shrink(images: np.ndarray, times: int) -> np.ndarray:
    """The mean of each square of ``times`` x ``times`` pixels, float32."""
    if times == 1:
        return images
    cells = [images[:, i::times, j::times] for i in range(times) for j in range(times)]
    return sum(cells[1:], cells[0].astype(np.float32)) / np.float32(times**2)


def _shrink_mask(masks: np.ndarray, times: int) -> np.ndarray:
    """Pixels at least half covered; the most covered ones if the lesion is smaller than that."""
    if times == 1:
        return masks
    covered = _shrink(masks, times)
    most = covered.max(axis=(1, 2), keepdims=True)
    return (covered >= np.minimum(most, 0.5)) & (most > 0)


def _blocks(hospital: np.ndarray, size: int) -> Iterator[slice]:
    """Slices of one hospital's images, few enough to stay in the processor's cache."""
    most = max(1, 2**17 // size**2)
    edges = np.flatnonzero(np.diff(hospital)) + 1
    for start, stop in pairwise(np.r_[0, edges, len(hospital)]):
        for first in range(start, stop, most):
            yield slice(first, min(first + most, stop))


def develop_film(tissue: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Tissue thickness to brightness 0..1 (bone is bright), as the scanner shows it."""
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
    """Reflected light to brightness 0..1: speckle grows with the light, as in real OCT."""
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


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (n, size, size) images, ``sigma`` in pixels; edges are repeated."""
    radius = max(1, round(2.5 * sigma))
    steps = np.arange(radius + 1)
    kernel = np.exp(-0.5 * (steps / max(sigma, 0.05)) ** 2)
    kernel = (kernel / (2 * kernel.sum() - 1)).astype(np.float32)
    for axis in (1, 2):
        images = _blur_axis(images, kernel, axis)
    return images


def _blur_axis(images: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    radius, size = len(kernel) - 1, images.shape[axis]
    pad = [(0, 0)] * 3
    pad[axis] = (radius, radius)
    padded = np.pad(images, pad, mode="edge")

    def shifted(step: int) -> np.ndarray:
        part = slice(radius + step, radius + step + size)
        return padded[:, part] if axis == 1 else padded[:, :, part]

    total = shifted(0) * kernel[0]
    for step in range(1, radius + 1):
        pair = shifted(-step) + shifted(step)
        pair *= kernel[step]
        total += pair
    return total


def collimate(film: np.ndarray, border: float) -> None:
    """Blacken, in place, a border of ``border`` times the image's width."""
    if border:
        canvas = Canvas.of(film.shape[1])
        film *= ramp(0.5 - border - np.abs(canvas.x), 0.01)
        film *= ramp(0.5 - border - np.abs(canvas.y - np.float32(0.5)), 0.01)


def stamp_markers(
    images: np.ndarray, cohort: Cohort, hospitals: tuple[Hospital, ...], shortcut: Shortcut | None
) -> None:
    """Put, in place, each hospital's film marker into its corner of the images."""
    for index, site in enumerate(hospitals):
        rows, text = np.flatnonzero(cohort.hospital == index), site.scanner.marker
        if shortcut is not None and shortcut.hospital == index:
            rows, text = rows[cohort.label[rows] == shortcut.label], text or "R"
        if text:
            glyph = render_marker(text, images.shape[1])
            for row in rows:
                _stamp(images[row], glyph, site.scanner.marker_on_left, cohort.pose[row])


def _stamp(image: np.ndarray, glyph: np.ndarray, on_left: bool, pose: np.ndarray) -> None:
    # The letter is a lead piece placed by hand, so it never sits at quite the same spot.
    aside, down = 0.045 + 0.012 * np.clip(pose[:2], -2, 2)
    height, width = glyph.shape
    size = len(image)
    left = round(float(aside) * size) if on_left else size - width - round(float(aside) * size)
    top = round(float(down) * size)
    corner = image[top : top + height, left : left + width]
    np.maximum(corner, glyph, out=corner)


def render_marker(text: str, size: int) -> np.ndarray:
    """The letters of ``text`` as bright dots, uint8, 8 % of an image of ``size`` pixels high."""
    rows = zip(*(GLYPHS[letter] for letter in text), strict=True)
    dots = np.array([[dot == "#" for dot in ".".join(row)] for row in rows])
    height = max(5, round(0.08 * size))
    width = max(3, round(height * dots.shape[1] / dots.shape[0]))
    # Four samples a pixel in either direction keep the strokes even at awkward sizes.
    down = ((np.arange(4 * height) + 0.5) / (4 * height) * dots.shape[0]).astype(int)
    across = ((np.arange(4 * width) + 0.5) / (4 * width) * dots.shape[1]).astype(int)
    fine = dots[np.ix_(down, across)].reshape(height, 4, width, 4)
    return (fine.mean(axis=(1, 3)) * 235).astype(np.uint8)
