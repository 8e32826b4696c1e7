"""Chest phantoms: drawn X-rays of people who do not exist, with every lesion's place known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedtutor.data.images import MedicalImages
from fedtutor.data.texture import (
    Canvas,
    Cohort,
    Hospital,
    Scanner,
    Shortcut,
    blur,
    check_request,
    collimate,
    column,
    describe_table,
    ellipse,
    enrol,
    found_hospitals,
    hump,
    ramp,
    scan,
    smooth_noise,
    splat,
    stamp_markers,
)

__all__ = ["CHEST_CLASSES", "Scanner", "Shortcut", "chest_phantoms"]

CHEST_CLASSES = ("Normal", "Viral pneumonia", "COVID-19")
VIRAL, COVID = 1, 2

# Each sees little of some class and has a machine of its own, so none can learn alone what all
# can learn together.
CHEST_HOSPITALS = (
    Hospital("General", Scanner(1.0, 1.0, 0.005, 0.020, 0.0, "R"),
             (0.70, 0.18, 0.12), 1.3, (58, 17), 0.50, 0.35),
    Hospital("Children's Hospital", Scanner(1.12, 0.85, 0.004, 0.025, 0.03, "L", False),
             (0.34, 0.60, 0.06), 0.9, (8, 4), 0.48, 0.50),
    Hospital("Pandemic Centre", Scanner(0.88, 1.2, 0.007, 0.026, 0.0, "RD", False),
             (0.20, 0.08, 0.72), 1.1, (64, 14), 0.40, 0.90),
    Hospital("Screening Clinic", Scanner(1.05, 1.1, 0.004, 0.012, 0.0),
             (0.88, 0.04, 0.08), 0.8, (44, 12), 0.62, 0.02),
    Hospital("University Hospital", Scanner(0.95, 0.8, 0.006, 0.022, 0.02, "SL"),
             (0.28, 0.40, 0.32), 0.9, (52, 20), 0.52, 0.45),
)  # fmt: skip


def chest_phantoms(
    num_images: int = 1200,
    *,
    size: int = 128,
    hospitals: int = 5,
    seed: int = 0,
    severity: tuple[float, float] = (0.2, 0.8),
    prevalence: np.ndarray | None = None,
    shortcut: Shortcut | None = None,
) -> MedicalImages:
    """Draw synthetic chest X-rays of the patients of several hospitals.

    Parameters
    ----------
    num_images : how many, at least one a hospital.
    size : height and width in pixels, 16..1024.
    hospitals : how many hospitals, 1..1000. Each has its own scanner, age and sex mix.
    seed : 0 or more; the same seed gives the same bytes.
    severity : range from which each ill patient's lesion contrast is drawn, uniformly; 0 is
        invisible, 1 is obvious.
    prevalence : share of each class in each hospital, float of shape (hospitals, 3), rows
        summing to 1. By default each hospital sees little of some class.
    shortcut : plant a film marker that gives a class away.

    Returns
    -------
    MedicalImages
        Ordered by hospital, with masks and the columns patient, hospital, sex, age and view.

    Raises
    ------
    DataError
        If a parameter is out of its range.
    """
    check_request(num_images, size, hospitals, seed, severity, shortcut, CHEST_CLASSES)
    sites = found_hospitals(CHEST_HOSPITALS, hospitals, prevalence)
    cohort = enrol(sites, num_images, severity, seed)
    images, masks = scan(cohort, sites, size, draw_chests, develop_film, seed)
    stamp_markers(images, cohort, sites, shortcut)
    table = describe_table(cohort, sites, ("PA", "AP"))
    return MedicalImages(
        images[..., None], cohort.label, CHEST_CLASSES, table, "chest-phantoms", True, masks
    )


@dataclass(frozen=True)
class Chest:
    """The measures of one body a row, float32 of shape (n, 1, 1), as shares of the image."""

    apex: np.ndarray  # top of the lungs
    base: np.ndarray  # top of the diaphragm's dome
    lung_width: np.ndarray  # from the midline to the outer border, at the base
    mediastinum: np.ndarray  # half its width
    heart: np.ndarray  # its whole width
    tilt: np.ndarray  # of the shoulders
    stout: np.ndarray  # thickness of the soft tissue, about 1
    bone: np.ndarray  # contrast of the bones, about 1
    rib_gap: np.ndarray  # from one rib to the next
    child: np.ndarray  # 1 in a baby, 0 from 15 years on
    old: np.ndarray  # 0 until 55 years, 1 at 90
    breast: np.ndarray  # thickness of the breast shadow, 0 in men and children
    portable: np.ndarray  # 1 in AP views, 0 in PA views
    vessels: np.ndarray  # how marked the vessels are


def measure(people: Cohort) -> Chest:
    """From who somebody is to how the chest is shaped."""
    body, pose, age = people.body, people.pose, people.age
    child, old = np.clip((15 - age) / 15, 0, 1), np.clip((age - 55) / 35, 0, 1)
    portable, female = people.second_view.astype(float), people.female.astype(float)
    grown_woman = female * np.clip((age - 12) / 6, 0, 1)
    lung_width = 0.375 - 0.012 * female - 0.02 * child + 0.012 * body[:, 0]
    heart_ratio = 0.46 + 0.08 * portable + 0.06 * child + 0.03 * old + 0.025 * body[:, 1]
    return Chest(*map(column, (
        0.115 + 0.03 * child + 0.012 * body[:, 2],
        0.755 - 0.06 * portable - 0.03 * child + 0.02 * body[:, 3] + 0.015 * pose[:, 4],
        lung_width,
        0.07 + 0.012 * portable + 0.01 * child + 0.006 * body[:, 4],
        2 * lung_width * heart_ratio,
        0.03 * pose[:, 5],
        1 - 0.10 * child + 0.06 * portable + 0.12 * body[:, 5],
        (1 - 0.3 * old - 0.1 * child) * np.exp(0.15 * body[:, 6]),
        0.088 - 0.012 * child + 0.004 * body[:, 8],
        child,
        old,
        grown_woman * 0.20 * np.exp(0.35 * body[:, 7]),
        portable,
        0.12 * np.exp(0.25 * body[:, 9]) * (1 + 0.3 * old),
    )))  # fmt: skip


def draw_chests(
    people: Cohort, canvas: Canvas, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How much tissue the rays cross, float32 (n, size, size), and the lesion masks, bool.

    Tissue adds up along a ray, so each organ adds to the thickness and air takes away.
    """
    chest, pose = measure(people), people.pose
    zoom = column(1.05 - 0.06 * chest.child[:, 0, 0] + 0.04 * pose[:, 6])
    canvas = canvas.posed(zoom, column(0.015 * pose[:, 2]), column(0.015 * pose[:, 3]))
    x, y = canvas.x, canvas.y
    clouds = smooth_noise(rng, len(people), canvas.size, (7, 7))
    grain = smooth_noise(rng, len(people), canvas.size, (26, 26))
    centre, heart = draw_heart(chest, x, y)
    lungs = draw_lungs(chest, x, y) * (1 - centre)
    tissue = draw_trunk(chest, x, y)
    tissue *= 1 + np.float32(0.03) * clouds
    air = np.float32(0.78) - np.float32(0.04) * clouds - np.float32(0.02) * grain
    tissue *= 1 - air * lungs
    tissue += heart
    tissue += draw_midline(chest, x, y)
    tissue += draw_breasts(chest, x, y)
    tissue += draw_bones(chest, x, y + chest.tilt * x, clouds)
    tissue += (0.15 + lungs) * draw_vessels(chest, canvas, rng)
    lesion, mask = draw_lesions(chest, people, canvas, lungs, clouds, grain)
    tissue += lesion
    return tissue, mask


def draw_trunk(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Neck, shoulders, chest wall and belly as one soft body in front of the dark film."""
    shoulders = ramp(y - 0.105 - 0.02 * chest.child, 0.15)
    armpits = ramp(y - 0.42, 0.28)
    half_width = 0.12 + 0.50 * shoulders * np.sqrt(shoulders) + 0.05 * (chest.stout - 1)
    half_width = half_width - (0.165 - 0.25 * (chest.stout - 1)) * armpits * armpits
    depth = np.clip(1 - np.square(x / half_width), 0, None)
    np.sqrt(depth, out=depth)
    neck_to_belly = 0.80 + 0.30 * ramp(y - 0.30, 0.5) + 0.75 * ramp(y - chest.base - 0.05, 0.35)
    depth *= (neck_to_belly * chest.stout).astype(np.float32)
    return depth


def draw_lungs(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 between chest wall, apex and diaphragm, 0 elsewhere; what lies between comes on top."""
    aside = np.abs(x)
    down = np.clip((y - chest.apex) / (chest.base + 0.1 - chest.apex), 0, 1)
    crest = 0.135 - 0.02 * chest.child
    outer = crest + (chest.lung_width - crest) * (1 - (1 - down) ** 3) ** 0.6 + 0.012 * down
    inner = crest * (1 - down) ** 9
    lungs = ramp(outer - aside, 0.018)
    lungs *= ramp(aside - inner, 0.025)
    lungs *= ramp(diaphragm(chest, x) - y, 0.018)
    return lungs


def diaphragm(chest: Chest, x: np.ndarray) -> np.ndarray:
    """How far down the lungs reach, (n, 1, size): two domes, the image's left one higher."""
    from_crest = (np.abs(x) - 0.17) / 0.2
    dome = np.where(from_crest > 0, 0.09 * np.abs(from_crest) ** 2.8, 0.03 * from_crest**2)
    return chest.base + dome + 0.022 * ramp(x, 0.1) + chest.tilt * x


def draw_heart(chest: Chest, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The silhouette (0..1) and the thickness of the great vessels and the heart.

    Both borders are a function of the height alone: the great vessels are narrow, the aortic
    arch bulges to the image's right and below it the heart widens, more to the right.
    """
    top = 0.45
    down = np.clip((y - top) / (chest.base - top), 0, 1.1)
    bulge = np.sqrt(np.clip(1 - (1 - np.minimum(down, 1)) ** 2, 0, 1))
    arch = (0.016 + 0.014 * chest.old) * hump((y - 0.315) / 0.075)
    artery = 0.014 * hump((y - 0.43) / 0.07)
    shoulders = 0.018 * hump((y - 0.12) / 0.14)
    left = chest.mediastinum + shoulders + arch + artery
    left += (0.67 * chest.heart - chest.mediastinum) * bulge**1.6
    left -= 0.10 * np.clip(down - 0.9, 0, None)
    right = chest.mediastinum - 0.012 + shoulders
    right += (0.35 * chest.heart - chest.mediastinum) * hump((down - 0.75) / 0.85)
    middle, half_width = 0.5 * (left - right), 0.5 * (left + right)
    off = np.abs(x - middle)
    silhouette = ramp(half_width - off, 0.028)
    thickness = np.clip(1.15 - np.square(off / half_width), 0, None)
    thickness *= 0.20 * ramp(y - 0.15, 0.2) + 0.38 * ramp(down - 0.2, 0.5)
    return silhouette, thickness * silhouette


def draw_midline(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spine and hila and, taking away, the windpipe and the air in the stomach."""
    vertebra = np.cos((2 * np.pi / 0.065) * (y + 0.1 * y * y))
    tissue = (hump(x / 0.055) * chest.bone) * (0.24 + 0.05 * vertebra).astype(np.float32)
    windpipe = hump((x + 0.004) / 0.03)
    tissue -= windpipe * (0.32 * ramp(0.36 - y, 0.12)).astype(np.float32)
    hila = np.clip(ellipse(np.abs(x) - 0.09, y - 0.46, 0.06, 0.10, 0.2), 0, None)
    tissue += np.float32(0.22) * hila
    bubble = ramp(ellipse(x - 0.16, y - chest.base - 0.10, 0.065, 0.04), 0.6)
    tissue -= (0.45 * (1 - chest.portable) * np.clip(chest.bone - 0.9, 0, 1)) * bubble
    return tissue


def draw_breasts(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shadows over the lower lungs with a curved lower border; flatter when lying (AP)."""
    if not chest.breast.any():
        return np.zeros(1, dtype=np.float32)
    drop = y - 0.64 - 0.04 * chest.old
    dome = ellipse(np.abs(x) - 0.22, drop, 0.17, 0.16 - 0.03 * chest.portable)
    return chest.breast * ramp(dome - 0.2, 0.5) * ramp(drop + 0.05, 0.28)


def draw_bones(chest: Chest, x: np.ndarray, y: np.ndarray, clouds: np.ndarray) -> np.ndarray:
    """Ribs behind and in front, clavicles, shoulder blades and the heads of the upper arms."""
    aside = np.abs(x)
    bones = draw_ribs(chest, aside, y, clouds)
    clavicle_y = chest.apex + 0.095 - 0.42 * (aside - 0.03) + 0.70 * (aside - 0.03) ** 2
    along = ramp(aside - 0.04, 0.03) * ramp(0.40 - aside, 0.08)
    bones += (0.30 * along) * np.clip(1 - np.square((y - clavicle_y) / 0.019), 0, None)
    apart = 0.405 - 0.055 * chest.portable
    blade = ellipse(aside - apart, y - 0.30, 0.06, 0.16, -0.3)
    bones += (0.10 + 0.03 * chest.portable) * ramp(blade, 0.3)
    joint = ellipse(aside - 0.475, y - 0.19, 0.06, 0.07)
    bones += np.float32(0.22) * ramp(joint, 0.5)
    bones *= chest.bone
    return bones


def draw_ribs(chest: Chest, aside: np.ndarray, y: np.ndarray, clouds: np.ndarray) -> np.ndarray:
    """Two families of arcs: those behind run outwards and down, those in front inwards and down."""
    wobble = np.float32(0.04) * clouds
    slope = 1.5 - 0.8 * chest.child
    behind = (y - slope * (aside - 0.1) ** 2 + 0.08 * aside) / chest.rib_gap + wobble
    front = (y + 0.8 * aside - 0.5 * aside * aside) / (1.15 * chest.rib_gap) + wobble
    bones = 0.17 * ramp(aside - 0.03, 0.04) * _bars(behind, 0.25)
    bones += 0.10 * ramp(aside - 0.15, 0.14) * _bars(front, 0.27)
    narrowing = np.clip(1.35 * np.clip(y - 0.05, 0, 1) ** 0.45, 0.3, 1)
    bones *= ramp((chest.lung_width + 0.025) * narrowing - aside, 0.02)
    bones *= ramp(y - 0.10, 0.06) * ramp(0.98 - y, 0.2)
    return bones


def _bars(phase: np.ndarray, half_width: float) -> np.ndarray:
    """Round bars wherever ``phase`` is a whole number, in place."""
    phase -= np.rint(phase)
    phase *= np.float32(1 / half_width)
    np.square(phase, out=phase)
    return np.clip(1 - phase, 0, None)


def draw_vessels(chest: Chest, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Blood vessels that leave the two hila, each forking twice, thinner on their way out."""
    n, trunks = len(chest.apex), 20
    angle = rng.uniform(-1.2, 1.45, (n, trunks, 1)).astype(np.float32)
    length = rng.uniform(0.10, 0.32, (n, trunks, 1)).astype(np.float32)
    bend = rng.normal(0, 0.5, (n, trunks, 1)).astype(np.float32)
    side = np.where(np.arange(trunks) % 2, 1, -1).astype(np.float32)[:, None]
    parts = []
    for fork, start, reach in ((0.0, 0.0, 1.0), (0.55, 0.35, 0.6), (-0.5, 0.55, 0.5)):
        x, y, thick = _branch(angle, length, bend, fork, start, reach)
        # Roots lie along the hilum, the steeper vessels at its ends.
        parts.append((side * (0.08 + x), 0.46 + 0.05 * angle + y, chest.vessels[:, :1] * thick))
    x, y, thick = (np.concatenate(part, axis=1) for part in zip(*parts))
    return splat(canvas, x, y, thick)


def _branch(
    angle: np.ndarray, length: np.ndarray, bend: np.ndarray, fork: float, start: float, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along (n, trunks) bent lines, and how thick the vessel is: (n, trunks, 18) each."""
    t = np.linspace(0, 1, 18, dtype=np.float32)
    root = angle + 0.5 * bend * start
    heading = angle + fork + 0.5 * bend * (start + t)
    x = length * (start * np.cos(root) + reach * t * np.cos(heading))
    y = length * (start * np.sin(root) + reach * t * np.sin(heading))
    return x, y, (1 - start) * (1.1 - t) * (0.4 + 4 * length)


# ------------------------------------------------------------------------------------- lesions


def draw_lesions(
    chest: Chest,
    people: Cohort,
    canvas: Canvas,
    lungs: np.ndarray,
    clouds: np.ndarray,
    grain: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Added thickness and the mask of each image's disease; nothing for normal ones."""
    lesion = np.zeros_like(lungs)
    mask = np.zeros(lungs.shape, dtype=bool)
    for label, draw in ((VIRAL, draw_viral), (COVID, draw_covid)):
        rows = np.flatnonzero(people.label == label)
        if len(rows):
            ill = Chest(*(part[rows] for part in vars(chest).values()))
            place, texture = draw(
                ill, people.take(rows), canvas.take(rows), clouds[rows], grain[rows]
            )
            place *= lungs[rows]
            mask[rows] = place > 0.3
            place *= column(people.severity[rows])
            lesion[rows] = place * texture
    return lesion, mask


def draw_covid(
    chest: Chest, people: Cohort, canvas: Canvas, clouds: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ground glass: soft patches along the outer border, most of them low, on both sides."""
    place = np.full(clouds.shape, -1, dtype=np.float32)
    x = canvas.x
    for k in range(4):
        spot = people.lesion[:, 5 * k : 5 * k + 5]
        side = -1 if k % 2 else 1
        level = column(0.66 + 0.07 * spot[:, 0]) if k < 2 else column(0.52 + 0.1 * spot[:, 0])
        level = np.minimum(level, 0.78) * (chest.base + 0.06) / 0.8
        out = chest.lung_width * (0.80 + 0.02 * column(spot[:, 1]))
        wide = 0.10 + 0.015 * column(spot[:, 2])
        tall = np.clip((0.12 if k < 2 else 0.07) + 0.025 * column(spot[:, 3]), 0.03, None)
        np.maximum(place, ellipse(x - side * out, canvas.y - level, wide, tall), out=place)
    place += np.float32(0.22) * clouds
    place += np.float32(0.10) * grain
    return ramp(place - 0.2, 0.7), 0.55 + np.float32(0.10) * grain


def draw_viral(
    chest: Chest, people: Cohort, canvas: Canvas, clouds: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Interstitial pattern: many thin streaks around both hila, over a faint haze."""
    x = np.abs(canvas.x)
    height = column(0.50 + 0.04 * people.lesion[:, 0])
    tall = column(0.22 + 0.025 * people.lesion[:, 1])
    place = ellipse(x - 0.18, canvas.y - height, 0.15, tall)
    place += np.float32(0.25) * clouds
    return ramp(place - 0.1, 0.6), 0.10 + np.float32(0.02) * grain + _streaks(people, canvas)


def _streaks(people: Cohort, canvas: Canvas) -> np.ndarray:
    """Short lines pointing roughly away from the hila, float32 (n, size, size)."""
    k = np.arange(1, 161, dtype=np.float32)
    # Multiples of four irrational steps scatter evenly, from a start of the patient's own.
    aside, down, turn, long = (
        ((np.abs(people.lesion[:, 2 + i, None]) * 10 + k * step) % 1)[..., None]
        for i, step in enumerate((0.618034, 0.754878, 0.569840, 0.414214))
    )
    side = np.where(k % 2, 1, -1)[:, None]
    aside, down = 0.07 + 0.26 * aside, 0.22 + 0.52 * down
    heading = np.arctan2(down - 0.46, aside - 0.05) + 2.4 * (turn - 0.5)
    step = (0.025 + 0.045 * long) * np.linspace(-0.5, 0.5, 8, dtype=np.float32)
    x, y = side * (aside + step * np.cos(heading)), down + step * np.sin(heading)
    return splat(canvas, x, y, np.full_like(x, 0.27))


# ---------------------------------------------------------------------------------------- film


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
