"""Chest phantoms: drawn X-rays of people who do not exist, with every lesion's place known."""

from __future__ import annotations

import numpy as np

from fedtutor.datasets.phantoms import chest_anatomy as anatomy
from fedtutor.datasets.phantoms.canvas import Canvas, column, ellipse, noise, ramp, splat, take
from fedtutor.datasets.phantoms.hospitals import (
    Hospital,
    Scanner,
    Shortcut,
    check_request,
    name_hospitals,
)
from fedtutor.datasets.phantoms.patients import Population, describe, enrol
from fedtutor.datasets.phantoms.scanner import develop_film, scan
from fedtutor.images import MedicalImages

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
    severity: tuple[float, float] = (0.55, 1.0),
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
    sites = name_hospitals(CHEST_HOSPITALS, hospitals, prevalence)
    people = enrol(sites, num_images, severity, seed)
    images, masks = scan(people, sites, size, draw_chests, develop_film, shortcut, seed)
    table = describe(people, sites, ("PA", "AP"))
    return MedicalImages(images, people.label, CHEST_CLASSES, table, "chest-phantoms", True, masks)


def draw_chests(
    people: Population, canvas: Canvas, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much tissue the rays cross, float32 (n, size, size), and the lesion masks, bool.

    Tissue adds up along a ray, so each organ adds to the thickness and air takes away.
    """
    chest, pose = anatomy.Chest(people), people.pose
    zoom = column(1.05 - 0.06 * chest.child[:, 0, 0] + 0.04 * pose[:, 6])
    canvas = canvas.posed(zoom, column(0.015 * pose[:, 2]), column(0.015 * pose[:, 3]))
    x, y = canvas.x, canvas.y
    clouds = noise(rng, len(people), canvas.size, (7, 7))
    grain = noise(rng, len(people), canvas.size, (26, 26))
    centre, heart = anatomy.draw_heart(chest, x, y)
    lungs = anatomy.draw_lungs(chest, x, y) * (1 - centre)
    tissue = anatomy.draw_trunk(chest, x, y)
    tissue *= 1 + np.float32(0.03) * clouds
    air = np.float32(0.78) - np.float32(0.04) * clouds - np.float32(0.02) * grain
    tissue *= 1 - air * lungs
    tissue += heart
    tissue += anatomy.draw_midline(chest, x, y)
    tissue += anatomy.draw_breasts(chest, x, y)
    tissue += anatomy.draw_bones(chest, x, y + chest.tilt * x, clouds)
    tissue += (0.15 + lungs) * anatomy.draw_vessels(chest, canvas, rng)
    lesion, mask = draw_lesions(people, canvas, lungs, clouds, grain)
    tissue += lesion
    return tissue, mask


def draw_lesions(
    people: Population, canvas: Canvas, lungs: np.ndarray, clouds: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the thickness and the mask of each image's disease; nothing for normal ones."""
    lesion, mask = np.zeros_like(lungs), np.zeros(lungs.shape, dtype=bool)
    for label, draw in ((VIRAL, draw_viral), (COVID, draw_covid)):
        rows = np.flatnonzero(people.label == label)
        if len(rows):
            place, texture = draw(take(people, rows), take(canvas, rows), clouds[rows], grain[rows])
            place *= lungs[rows]
            mask[rows] = place > 0.15
            place *= column(people.severity[rows])
            lesion[rows] = place * texture
    return lesion, mask


def draw_covid(
    people: Population, canvas: Canvas, clouds: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ground glass: one to four soft patches near the outer border, most of them low."""
    chest = anatomy.Chest(people)
    place = np.full(clouds.shape, -1, dtype=np.float32)
    first_side = np.where(people.lesion[:, 20] > 0, 1, -1)
    for k in range(4):
        spot = people.lesion[:, 5 * k : 5 * k + 5]
        side = column(first_side * (-1 if k % 2 else 1))
        level = np.clip(column(0.62 + 0.11 * spot[:, 0]), 0.30, 0.80) * (chest.base + 0.06) / 0.8
        out = chest.lung_width * np.clip(column(0.78 + 0.05 * spot[:, 1]), 0.66, 0.88)
        wide = np.clip(column(0.10 + 0.02 * spot[:, 2]), 0.06, None)
        tall = np.clip(column(0.12 + 0.03 * spot[:, 3]), 0.06, None)
        patch = ellipse(canvas.x - side * out, canvas.y - level, wide, tall)
        patch[(k >= 1) & (spot[:, 4] <= 0)] = -1
        np.maximum(place, patch, out=place)
    place += np.float32(0.22) * clouds
    place += np.float32(0.10) * grain
    return ramp(place - 0.2, 0.6), 0.75 + np.float32(0.20) * grain


def draw_viral(
    people: Population, canvas: Canvas, clouds: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw streaks over a faint haze, an interstitial pattern, in two to four zones."""
    place = np.full(clouds.shape, -1, dtype=np.float32)
    for k in range(4):
        spot = people.lesion[:, 5 * k : 5 * k + 5]
        height = np.clip(column(0.53 + 0.14 * spot[:, 0]), 0.28, 0.80)
        aside = np.clip(column(0.20 + 0.05 * spot[:, 1]), 0.11, 0.30)
        wide = np.clip(column(0.10 + 0.015 * spot[:, 2]), 0.07, None)
        tall = np.clip(column(0.12 + 0.025 * spot[:, 3]), 0.07, None)
        zone = ellipse(canvas.x - (-1 if k % 2 else 1) * aside, canvas.y - height, wide, tall)
        zone[(k >= 2) & (spot[:, 4] <= 0)] = -1
        np.maximum(place, zone, out=place)
    place += np.float32(0.25) * clouds
    return ramp(place - 0.1, 0.6), 0.10 + np.float32(0.02) * grain + _streaks(people, canvas)


def _streaks(people: Population, canvas: Canvas) -> np.ndarray:
    """Draw short lines pointing roughly away from the hila, float32 (n, size, size)."""
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
    return splat(canvas, x, y, np.full_like(x, 0.30))
