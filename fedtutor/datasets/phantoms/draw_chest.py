"""How a chest and its lesions are drawn: organs put together, then what disease adds."""

from __future__ import annotations

import numpy as np

from fedtutor.datasets.phantoms.anatomy import (
    Chest,
    draw_bones,
    draw_breasts,
    draw_heart,
    draw_lungs,
    draw_midline,
    draw_trunk,
    draw_vessels,
    measure,
)
from fedtutor.datasets.phantoms.people import Cohort
from fedtutor.datasets.phantoms.texture import Canvas, column, ellipse, ramp, smooth_noise, splat

VIRAL, COVID = 1, 2


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
            mask[rows] = place > 0.15
            place *= column(people.severity[rows])
            lesion[rows] = place * texture
    return lesion, mask


def draw_covid(
    chest: Chest, people: Cohort, canvas: Canvas, clouds: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ground glass: one to four soft patches near the outer border, most of them low."""
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
        _keep_if(patch, spot[:, 4] > 0 if k else None)
        np.maximum(place, patch, out=place)
    place += np.float32(0.22) * clouds
    place += np.float32(0.10) * grain
    return ramp(place - 0.2, 0.6), 0.75 + np.float32(0.20) * grain


def _keep_if(place: np.ndarray, present: np.ndarray | None) -> None:
    """Take a patch away, in place, from the images that do not have it."""
    if present is not None:
        place[~present] = -1


def draw_viral(
    chest: Chest, people: Cohort, canvas: Canvas, clouds: np.ndarray, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Interstitial pattern: thin streaks over a faint haze, in two to four zones of both lungs."""
    place = np.full(clouds.shape, -1, dtype=np.float32)
    for k in range(4):
        spot = people.lesion[:, 5 * k : 5 * k + 5]
        height = np.clip(column(0.53 + 0.14 * spot[:, 0]), 0.28, 0.80)
        aside = np.clip(column(0.20 + 0.05 * spot[:, 1]), 0.11, 0.30)
        wide = np.clip(column(0.10 + 0.015 * spot[:, 2]), 0.07, None)
        tall = np.clip(column(0.12 + 0.025 * spot[:, 3]), 0.07, None)
        zone = ellipse(canvas.x - (-1 if k % 2 else 1) * aside, canvas.y - height, wide, tall)
        _keep_if(zone, spot[:, 4] > 0 if k > 1 else None)
        np.maximum(place, zone, out=place)
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
    return splat(canvas, x, y, np.full_like(x, 0.30))
