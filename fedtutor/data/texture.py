"""What the chest and the retina phantoms share: soft shapes, noise, scanners and patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from fedtutor.errors import DataError

MIN_SIZE, MAX_SIZE, MAX_HOSPITALS = 16, 1024, 1000
IMAGES_PER_PATIENT = (0.5, 0.3, 0.15, 0.05)  # the chance of one, two, three and four
FINEST_NEEDED = 64  # pixels across, to draw the thinnest parts
GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly over 0..1 for any count

PLACES = (
    "Harbour", "St Synth", "Phantom Valley", "Northmoor", "Castle Hill", "Riverbend",
    "Lakeside", "Mockingham", "Old Mill", "Westhaven", "Pine Ridge", "Queensbury", "Silverdale",
    "Mistfield", "St Elsewhere", "Greywater", "Orchard Park", "Stonebridge", "Larkspur",
    "Whitecliff", "Seafield",
)  # fmt: skip

# Film letters, seven rows of five dots each.
GLYPHS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "P": ("####.", "#...#", "#...#", "####.", "#....", "#....", "#...."),
    "D": ("####.", "#...#", "#...#", "#...#", "#...#", "#...#", "####."),
    "S": (".####", "#....", "#....", ".###.", "....#", "....#", "####."),
}


@dataclass(frozen=True)
class Scanner:
    """How a hospital's machine renders the same body.

    Attributes
    ----------
    gain : factor on the brightness, about 1.
    gamma : exponent of the brightness; above 1 darkens the mid-tones.
    blur : standard deviation of the blur, as a share of the image's width.
    noise : standard deviation of the noise on the 0..1 brightness scale.
    collimation : black border, as a share of the image's width.
    marker : letters in an upper corner ("R", "L", "AP", ...); empty for none.
    marker_on_left : which upper corner of the image holds the marker.
    """

    gain: float = 1.0
    gamma: float = 1.0
    blur: float = 0.005
    noise: float = 0.02
    collimation: float = 0.0
    marker: str = ""
    marker_on_left: bool = True


@dataclass(frozen=True)
class Shortcut:
    """A planted flaw: one hospital's film marker appears if and only if the class is ``label``."""

    hospital: int = 0
    label: int = 2


@dataclass(frozen=True)
class Hospital:
    """Who comes to a hospital, and the scanner waiting there.

    Attributes
    ----------
    kind : the second half of its name, as in "Harbour *General*".
    prevalence : share of each class among its images, summing to 1.
    share : its share of all images, relative to the other hospitals.
    age : mean and standard deviation of the age in years.
    women : share of women.
    second_view : share of the second view (AP of the chest, OS of the eyes).
    """

    kind: str
    scanner: Scanner
    prevalence: tuple[float, ...]
    share: float = 1.0
    age: tuple[float, float] = (55.0, 18.0)
    women: float = 0.5
    second_view: float = 0.5
    name: str = ""


@dataclass(frozen=True)
class Cohort:
    """One row an image, ordered by hospital; every array is of shape (n,) or (n, k).

    ``body`` and ``lesion`` are a patient's own standard normal numbers, the same in each of his
    or her images; ``pose`` is drawn anew for each image. ``severity`` is the lesion's contrast.
    """

    hospital: np.ndarray
    patient: np.ndarray
    label: np.ndarray
    female: np.ndarray
    age: np.ndarray
    second_view: np.ndarray
    severity: np.ndarray
    body: np.ndarray
    lesion: np.ndarray
    pose: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray | slice) -> Cohort:
        """The cohort's images at ``rows``."""
        return Cohort(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})


# ---------------------------------------------------------------------------------- hospitals


def found_hospitals(
    profiles: tuple[Hospital, ...], count: int, prevalence: np.ndarray | None
) -> tuple[Hospital, ...]:
    """``count`` named hospitals: the profiles in turn, each further round a little different."""
    hospitals = [_vary(profiles[i % len(profiles)], i, len(profiles)) for i in range(count)]
    if prevalence is not None:
        table = _checked_prevalence(prevalence, count, len(profiles[0].prevalence))
        hospitals = [replace(h, prevalence=tuple(row)) for h, row in zip(hospitals, table)]
    return tuple(hospitals)


def _vary(profile: Hospital, index: int, num_profiles: int) -> Hospital:
    """The hospital number ``index``: named, and from the second round on a variation."""
    # No common divisor of places and profiles, so a name comes back only after all pairs.
    name, all_pairs = f"{PLACES[index % len(PLACES)]} {profile.kind}", len(PLACES) * num_profiles
    if index >= all_pairs:
        name += f" {index // all_pairs + 1}"
    if index < num_profiles:
        return replace(profile, name=name)
    wobble = (index * GOLDEN) % 1.0 - 0.5
    scanner, evenly = profile.scanner, 1.0 / len(profile.prevalence)
    gain, gamma = scanner.gain * (1 + 0.15 * wobble), scanner.gamma * (1 - 0.2 * wobble)
    mix = 0.2 * (wobble + 0.5)
    return replace(
        profile,
        name=name,
        scanner=replace(scanner, gain=gain, gamma=gamma),
        prevalence=tuple((1 - mix) * share + mix * evenly for share in profile.prevalence),
        age=(profile.age[0] * (1 + 0.15 * wobble), profile.age[1]),
    )


def _checked_prevalence(prevalence: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    table = np.asarray(prevalence, dtype=np.float64)
    if table.shape != (count, num_classes):
        raise DataError(
            f"prevalence must have one row for each of the {count} hospitals and one column for "
            f"each of the {num_classes} classes; got shape {table.shape}."
        )
    if not np.isfinite(table).all() or table.min() < 0:
        raise DataError("prevalence must hold shares from 0 to 1; got one that is negative or nan.")
    sums = table.sum(axis=1)
    if np.abs(sums - 1).max() > 1e-6:
        worst = int(np.abs(sums - 1).argmax())
        raise DataError(
            f"each row of prevalence must sum to 1; row {worst} sums to {sums[worst]:.4g}."
        )
    return table


# ------------------------------------------------------------------------------------ patients


def check_request(
    num_images: int,
    size: int,
    hospitals: int,
    seed: int,
    severity: tuple[float, float],
    shortcut: Shortcut | None,
    class_names: tuple[str, ...],
) -> None:
    """Raise :class:`DataError` for a set of phantoms that cannot be drawn."""
    whole = {"num_images": num_images, "size": size, "hospitals": hospitals, "seed": seed}
    for name, value in whole.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise DataError(f"{name} must be a whole number; got {value!r}.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"size must lie in {MIN_SIZE}..{MAX_SIZE} pixels; got {size}.")
    if not 1 <= hospitals <= MAX_HOSPITALS:
        raise DataError(f"hospitals must lie in 1..{MAX_HOSPITALS}; got {hospitals}.")
    if num_images < hospitals:
        raise DataError(
            f"{num_images} images cannot be spread over {hospitals} hospitals; "
            "give num_images of at least the number of hospitals."
        )
    if seed < 0:
        raise DataError(f"seed must be 0 or more; got {seed}.")
    if np.shape(severity) != (2,) or not 0 <= severity[0] <= severity[1] <= 1:
        raise DataError(
            "severity must be a pair (lowest, highest) with 0 <= lowest <= highest <= 1; "
            f"got {severity}."
        )
    if shortcut is not None:
        _check_shortcut(shortcut, hospitals, class_names)


def _check_shortcut(shortcut: Shortcut, hospitals: int, class_names: tuple[str, ...]) -> None:
    if shortcut.hospital not in range(hospitals):
        raise DataError(
            f"the shortcut's hospital must lie in 0..{hospitals - 1}; got {shortcut.hospital}."
        )
    if shortcut.label not in range(len(class_names)):
        raise DataError(
            f"the shortcut's label must lie in 0..{len(class_names) - 1} "
            f"({', '.join(class_names)}); got {shortcut.label}."
        )


def enrol(
    hospitals: tuple[Hospital, ...], num_images: int, severity: tuple[float, float], seed: int
) -> Cohort:
    """Draw the patients of all hospitals: who they are, what they have, how ill they are."""
    rng = np.random.default_rng([seed, 0])
    shares = np.array([h.share for h in hospitals])
    # One image each first, so that no hospital stays empty.
    counts = 1 + apportion(num_images - len(hospitals), shares)
    label, sizes, hospital = [], [], []
    for index, (site, count) in enumerate(zip(hospitals, counts)):
        for_site = _draw_patients(rng, apportion(count, np.array(site.prevalence)))
        label.append(for_site[0])
        sizes.append(for_site[1])
        hospital.append(np.full(len(for_site[0]), index))
    hospital, label, sizes = (np.concatenate(part) for part in (hospital, label, sizes))
    return _describe(hospitals, hospital, label, sizes, severity, rng)


def _describe(
    hospitals: tuple[Hospital, ...],
    hospital: np.ndarray,
    label: np.ndarray,
    sizes: np.ndarray,
    severity: tuple[float, float],
    rng: np.random.Generator,
) -> Cohort:
    """Sex, age, body and lesion of each patient, and the view and pose of each image."""
    people = len(sizes)
    age_mean, age_sd = np.array([h.age for h in hospitals]).T[:, hospital]
    age = np.clip(np.rint(rng.normal(age_mean, age_sd)), 1, 95).astype(np.int64)
    female = rng.random(people) < np.array([h.women for h in hospitals])[hospital]
    ill = severity[0] + (severity[1] - severity[0]) * rng.random(people)
    body = rng.standard_normal((people, 12), dtype=np.float32)
    lesion = rng.standard_normal((people, 40), dtype=np.float32)
    who = np.repeat(np.arange(people), sizes)
    view_share = np.array([h.second_view for h in hospitals])[hospital[who]]
    second_view = rng.random(len(who)) < view_share
    pose = rng.standard_normal((len(who), 8), dtype=np.float32)
    return Cohort(
        hospital[who], who, label[who], female[who], age[who], second_view,
        ill[who].astype(np.float32), body[who], lesion[who], pose,
    )  # fmt: skip


def _draw_patients(rng: np.random.Generator, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(label, number of images) of each patient, so that class c has ``counts[c]`` images."""
    label, sizes = [], []
    for index, count in enumerate(counts):
        drawn = rng.choice(4, size=count, p=IMAGES_PER_PATIENT) + 1
        before = np.cumsum(drawn) - drawn
        drawn = np.minimum(drawn, count - before)[before < count]
        sizes.append(drawn)
        label.append(np.full(len(drawn), index))
    order = rng.permutation(sum(map(len, sizes)))
    return np.concatenate(label)[order], np.concatenate(sizes)[order]


def apportion(total: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers summing to ``total`` in proportion to ``shares`` (largest remainders)."""
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts


def describe_table(
    cohort: Cohort, hospitals: tuple[Hospital, ...], views: tuple[str, str]
) -> pd.DataFrame:
    """The columns patient, hospital, sex, age and view, one row an image."""
    names = np.array([h.name for h in hospitals], dtype=object)
    first_of_site = np.searchsorted(cohort.hospital, np.arange(len(hospitals)))
    number = cohort.patient - cohort.patient[first_of_site][cohort.hospital]
    patient = [f"H{h}-P{p:04d}" for h, p in zip(cohort.hospital, number)]
    return pd.DataFrame({
        "patient": patient,
        "hospital": names[cohort.hospital],
        "sex": np.where(cohort.female, "F", "M"),
        "age": cohort.age,
        "view": np.where(cohort.second_view, views[1], views[0]),
    })  # fmt: skip


# ------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Canvas:
    """Relative coordinates: ``x`` from -0.5 (left) to 0.5 and ``y`` from 0 (top) to 1.

    ``x`` is of shape (1, 1, size) and ``y`` of shape (1, size, 1), both float32, so that a shape
    which depends on one of them only costs a row or a column instead of a whole image. After
    :meth:`posed` there is one row of each an image.
    """

    size: int
    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray | float = 1.0
    aside: np.ndarray | float = 0.0
    down: np.ndarray | float = 0.0

    @classmethod
    def of(cls, size: int) -> Canvas:
        """A canvas of ``size`` x ``size`` pixels."""
        centre = ((np.arange(size) + 0.5) / size).astype(np.float32)
        return cls(size, (centre - 0.5)[None, None, :], centre[None, :, None])

    def posed(self, zoom: np.ndarray, aside: np.ndarray, down: np.ndarray) -> Canvas:
        """The canvas of bodies of size ``zoom``, moved by ``aside`` and ``down``; (n, 1, 1)."""
        x = (self.x - aside) / zoom
        y = (self.y - np.float32(0.5) - down) / zoom + np.float32(0.5)
        return Canvas(self.size, x, y, zoom, aside, down)

    def take(self, rows: np.ndarray) -> Canvas:
        """The posed canvases at ``rows``."""
        parts = (self.x, self.y, self.zoom, self.aside, self.down)
        return Canvas(self.size, *(part[rows] for part in parts))

    def pixel_of(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fractional (column, row) of points (n, points, 1) on the canvas."""
        across = (x * self.zoom + self.aside + 0.5) * self.size - 0.5
        return across, ((y - 0.5) * self.zoom + self.down + 0.5) * self.size - 0.5


def column(values: np.ndarray) -> np.ndarray:
    """One number an image, (n,) to float32 (n, 1, 1), ready to meet a canvas."""
    return np.asarray(values, dtype=np.float32)[:, None, None]


def ramp(distance: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """A soft step: 0 where ``distance`` is below -width/2, 1 above width/2, linear between."""
    step = distance * np.float32(1.0 / width) if np.isscalar(width) else distance / width
    step += np.float32(0.5)
    return np.clip(step, 0, 1, out=step)


def ellipse(
    x: np.ndarray, y: np.ndarray, half_width: np.ndarray, half_height: np.ndarray,
    slant: np.ndarray | float = 0.0,
) -> np.ndarray:  # fmt: skip
    """A dome over a (sheared) ellipse around the origin: 1 in its centre, 0 on its edge, below
    zero outside."""
    across = (x - slant * y) / half_width if np.any(slant) else x / half_width
    down = y / half_height
    return 1 - across * across - down * down


def hump(t: np.ndarray) -> np.ndarray:
    """A smooth bump of height 1 over -1 < t < 1, zero elsewhere: (1 - t^2)^2."""
    t = np.clip(1 - t * t, 0, None)
    return t * t


def smooth_noise(
    rng: np.random.Generator, count: int, size: int, cells: tuple[int, int]
) -> np.ndarray:
    """Clouds: random numbers on a coarse grid, joined by quadratic B-splines.

    ``cells`` is the number of grid cells (down, across). Returns float32 of shape
    (count, size, size), about standard normal.
    """
    coarse = rng.standard_normal((count, cells[0] + 2, cells[1] + 2), dtype=np.float32)
    rows = _interpolate(coarse.swapaxes(1, 2), size, cells[0]).swapaxes(1, 2)
    clouds = _interpolate(np.ascontiguousarray(rows), size, cells[1])
    clouds *= np.float32(1.8)  # the spline averages neighbours and so shrinks the spread
    return clouds


def _interpolate(grid: np.ndarray, size: int, cells: int) -> np.ndarray:
    """Quadratic B-spline along the last axis, (..., cells + 2) to (..., size)."""
    at = (np.arange(size) + 0.5) / size * cells
    first = at.astype(np.int64)
    t = (at - first).astype(np.float32)
    weights = (0.5 * (1 - t) ** 2, 0.5 + t - t * t, 0.5 * t * t)
    total = grid[..., first] * weights[0]
    for step in (1, 2):
        total += grid[..., first + step] * weights[step]
    return total


def splat(canvas: Canvas, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Dabs of paint at canvas points; a dab of weight 1 brightens one pixel of 128 x 128 by 1.

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


# ------------------------------------------------------------------------------------ scanning

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
    for start, stop in zip(np.r_[0, edges], np.r_[edges, len(hospital)]):
        for first in range(start, stop, most):
            yield slice(first, min(first + most, stop))


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
    dots = np.array([[c == "#" for c in ".".join(row)] for row in zip(*(GLYPHS[c] for c in text))])
    height = max(5, round(0.08 * size))
    width = max(3, round(height * dots.shape[1] / dots.shape[0]))
    # Four samples a pixel in either direction keep the strokes even at awkward sizes.
    down = ((np.arange(4 * height) + 0.5) / (4 * height) * dots.shape[0]).astype(int)
    across = ((np.arange(4 * width) + 0.5) / (4 * width) * dots.shape[1]).astype(int)
    fine = dots[np.ix_(down, across)].reshape(height, 4, width, 4)
    return (fine.mean(axis=(1, 3)) * 235).astype(np.uint8)
