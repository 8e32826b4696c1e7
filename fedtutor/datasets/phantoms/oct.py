"""Retina phantoms: drawn OCT scans, layer by layer, with fluid and drusen in known places."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedtutor.datasets.phantoms.canvas import Canvas, column, ellipse, hump, noise, ramp, take
from fedtutor.datasets.phantoms.hospitals import (
    Hospital,
    Scanner,
    Shortcut,
    check_request,
    name_hospitals,
)
from fedtutor.datasets.phantoms.patients import Population, describe, enrol
from fedtutor.datasets.phantoms.scanner import develop_scan, scan
from fedtutor.images import MedicalImages

OCT_CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")  # the order of OCT2017 and OCTMNIST
CNV, DME, DRUSEN, NORMAL = range(4)

OCT_HOSPITALS = (
    Hospital("Eye Clinic", Scanner(1.0, 1.0, 0.004, 0.045, 0.0, "S"),
             (0.18, 0.13, 0.14, 0.55), 1.3, (62, 14), 0.52, 0.5),
    Hospital("Diabetes Centre", Scanner(1.15, 0.8, 0.006, 0.065, 0.0, "A", False),
             (0.05, 0.60, 0.05, 0.30), 0.9, (56, 11), 0.45, 0.5),
    Hospital("Macula Institute", Scanner(0.9, 1.25, 0.004, 0.035, 0.02, "SD", False),
             (0.52, 0.06, 0.30, 0.12), 1.1, (76, 8), 0.58, 0.5),
    Hospital("Optician", Scanner(1.1, 1.1, 0.0065, 0.045, 0.0),
             (0.04, 0.05, 0.17, 0.74), 0.8, (48, 16), 0.55, 0.5),
    Hospital("University Hospital", Scanner(0.95, 0.9, 0.005, 0.055, 0.0, "DP"),
             (0.20, 0.28, 0.32, 0.20), 0.9, (66, 13), 0.50, 0.5),
)  # fmt: skip


def oct_phantoms(
    num_images: int = 1200,
    *,
    size: int = 128,
    hospitals: int = 5,
    seed: int = 0,
    severity: tuple[float, float] = (0.4, 1.0),
    prevalence: np.ndarray | None = None,
    shortcut: Shortcut | None = None,
) -> MedicalImages:
    """Draw synthetic OCT scans of the retinas of several hospitals' patients.

    The keywords and errors are those of :func:`~fedtutor.datasets.phantoms.chest_phantoms`;
    ``prevalence`` has four columns, and the view is the eye: "OD" (right) or "OS" (left).
    """
    check_request(num_images, size, hospitals, seed, severity, shortcut, OCT_CLASSES)
    sites = name_hospitals(OCT_HOSPITALS, hospitals, prevalence)
    people = enrol(sites, num_images, severity, seed)
    images, masks = scan(people, sites, size, draw_retinas, develop_scan, shortcut, seed)
    table = describe(people, sites, ("OD", "OS"))
    return MedicalImages(images, people.label, OCT_CLASSES, table, "oct-phantoms", True, masks)


class Disease(NamedTuple):
    """What bends the layers, each of shape (n, 1, size) as a share of the image's height.

    ``full`` is what they would be at severity 1, so that the mask is known at any severity.
    """

    lift: np.ndarray  # of the pigment epithelium, by drusen or new vessels below it
    fluid: np.ndarray  # between the photoreceptors and the pigment epithelium
    swelling: np.ndarray  # of the layers in the middle
    full: np.ndarray  # all three together at severity 1


class Retina(NamedTuple):
    """Where the layers begin, each (n, 1, size): from the vitreous down to the choroid."""

    nerve_fibres: np.ndarray
    ganglion_cells: np.ndarray
    inner_nuclei: np.ndarray
    outer_plexus: np.ndarray
    outer_nuclei: np.ndarray
    photoreceptors: np.ndarray
    gap: np.ndarray
    pigment: np.ndarray
    below_pigment: np.ndarray
    choroid: np.ndarray


# Brightness of the layers of Retina, in order; the vitreous above them is nearly black.
VITREOUS = 0.05
BRIGHTNESS = (0.66, 0.43, 0.25, 0.42, 0.22, 0.80, 0.45, 0.92, 0.50)


def draw_retinas(
    people: Population, canvas: Canvas, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the reflected light, float32 (n, size, size), 0..1, and the lesion masks, bool."""
    disease = draw_disease(people, canvas)
    retina = draw_layers(people, canvas, disease)
    ripple = noise(rng, len(people), canvas.size, (3, 24))
    light = paint_layers(people, canvas, retina, disease, ripple)
    light *= cast_shadows(rng, len(people), canvas, retina)
    mask = mask_lesions(people, canvas, retina, disease)
    for label, draw in ((CNV, draw_membrane), (DME, draw_cysts)):
        rows = np.flatnonzero(people.label == label)
        if len(rows):
            part = Retina(*(layer[rows] for layer in retina))
            light[rows] = draw(light[rows], take(people, rows), canvas, part, ripple[rows])
    return light, mask


def draw_disease(people: Population, canvas: Canvas) -> Disease:
    """Return how far each disease pushes the layers apart, column by column."""
    x, label = canvas.x, people.label
    drusen = column(label == DRUSEN) * bumps(people.lesion, x)
    centre = column(0.10 * people.lesion[:, 0])
    vessels = hump((x - centre) / column(0.13 + 0.02 * people.lesion[:, 1]))
    vessels = vessels * (0.8 + 0.2 * np.sin(column(60 + 8 * people.lesion[:, 2]) * x))
    vessels = vessels * column((label == CNV) * (0.065 + 0.012 * people.lesion[:, 3]).clip(0.035))
    aside = centre + column(0.11 * np.sign(people.lesion[:, 4]))
    pool = hump((x - aside) / column(0.15 + 0.02 * people.lesion[:, 5]))
    pool = pool * column((label == CNV) * (0.055 + 0.012 * people.lesion[:, 6]).clip(0.025))
    focus = fovea(people) + column(0.04 * people.lesion[:, 0])
    swollen = hump((x - focus) / column(0.24 + 0.03 * people.lesion[:, 1]))
    swollen = swollen * column((label == DME) * (0.11 + 0.02 * people.lesion[:, 2]).clip(0.06))
    ill = column(people.severity)
    lift = drusen + vessels
    return Disease(lift * ill, pool * ill, swollen * ill, lift + pool + swollen)


def bumps(numbers: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Draw seven drusen of random place, width and height, (n, 1, size)."""
    total = np.zeros(1, dtype=np.float32)
    cluster = 0.10 * numbers[:, 35]
    for k in range(7):
        place, width, height = numbers[:, 3 * k : 3 * k + 3].T
        where = column(cluster + 0.07 * (k - 3) + 0.02 * place)
        total = total + column(0.036 * np.exp(0.35 * height)) * hump(
            (x - where) / column(0.038 * np.exp(0.25 * width))
        )
    return np.minimum(total, np.float32(0.06))


def fovea(people: Population) -> np.ndarray:
    """Return where the pit lies across the image, (n, 1, 1)."""
    return column(0.05 * people.pose[:, 2])


def draw_layers(people: Population, canvas: Canvas, disease: Disease) -> Retina:
    """Stack the layers from the choroid upwards; the pit is where the inner ones thin out."""
    body, pose = people.body, people.pose
    x = canvas.x - fovea(people)
    # The optic disc, and with it the thicker nerve fibres, lies on the nose's side.
    nasal = x * column(np.where(people.second_view, -1.0, 1.0))
    old = np.clip((people.age - 50) / 40, 0, 1)
    thick = column(1.2 * (1 + 0.03 * ~people.female - 0.08 * old) * np.exp(0.05 * body[:, 0]))
    pit = np.exp(-np.square(x / column(0.11 * np.exp(0.12 * body[:, 1]))))
    rim = 1 + 0.25 * np.exp(-np.square(x / 0.22))
    inner = thick * rim * (1 - pit)
    arch = column(0.25 + 0.20 * body[:, 2]) * np.square(canvas.x)
    choroid = column(0.60 + 0.035 * pose[:, 3]) + column(0.10 * pose[:, 4]) * canvas.x - arch
    below_pigment = choroid - disease.lift
    pigment = below_pigment - 0.017
    gap = pigment - 0.008 - disease.fluid
    photoreceptors = gap - 0.013
    squeezed = np.maximum(0.044 + 0.016 * pit - 0.9 * disease.lift, 0.010)
    outer_nuclei = photoreceptors - thick * squeezed - 0.55 * disease.swelling
    outer_plexus = outer_nuclei - 0.003 - 0.012 * inner
    inner_nuclei = outer_plexus - 0.003 - 0.022 * inner - 0.45 * disease.swelling
    ganglion_cells = inner_nuclei - 0.002 - 0.048 * inner
    fibres = (0.020 + 0.05 * np.clip(nasal + 0.1, 0, None)) * (1 - pit)
    return Retina(
        ganglion_cells - thick * fibres - 0.003, ganglion_cells, inner_nuclei, outer_plexus,
        outer_nuclei, photoreceptors, gap, pigment, below_pigment, choroid,
    )  # fmt: skip


def mask_lesions(
    people: Population, canvas: Canvas, retina: Retina, disease: Disease
) -> np.ndarray:
    """Return bool (n, size, size): in DME the swollen layers, else all below the lesion's roof."""
    swollen = column(people.label == DME) > 0
    top = np.where(swollen, retina.nerve_fibres, retina.choroid - disease.full - 0.045)
    bottom = np.where(swollen, retina.gap, retina.choroid + 0.012)
    wide_enough = disease.full > 0.12 * disease.full.max(axis=2, keepdims=True) + 1e-6
    return (canvas.y > top) & (canvas.y < bottom) & wide_enough


def paint_layers(
    people: Population, canvas: Canvas, retina: Retina, disease: Disease, ripple: np.ndarray
) -> np.ndarray:
    """Fill each layer with its brightness, from top to bottom, with soft borders."""
    y, soft = canvas.y, max(0.008, 1.2 / canvas.size)
    levels: list[np.ndarray | np.float32] = [np.float32(level) for level in BRIGHTNESS]
    wet = disease.fluid / (disease.fluid + np.float32(0.004))
    levels[6] = levels[6] * (1 - wet) + np.float32(0.07) * wet
    light = np.full((len(people), canvas.size, canvas.size), VITREOUS, dtype=np.float32)
    before: np.ndarray | np.float32 = np.float32(VITREOUS)
    for top, level in zip(retina[:-1], levels, strict=True):
        light += (level - before) * ramp(y - top, soft)
        before = level
    light += ramp(y - retina.choroid, soft) * (paint_choroid(people, y, retina, ripple) - before)
    return light


def paint_choroid(
    people: Population, y: np.ndarray, retina: Retina, ripple: np.ndarray
) -> np.ndarray:
    """Draw light that fades with the depth, mottled by vessels; the choroid thins with age."""
    old = np.clip((people.age - 45) / 50, 0, 1)
    deep = column(0.12 * (1 - 0.4 * old) + 0.01 * people.body[:, 3])
    depth = (y - retina.choroid) / deep
    mottle = np.float32(0.55) + np.float32(0.10) * ripple
    return mottle / (1 + depth * depth) + np.float32(0.03)


def cast_shadows(rng: np.random.Generator, n: int, canvas: Canvas, retina: Retina) -> np.ndarray:
    """Return the shade below the vessels of the retina, a factor of shape (n, size, size)."""
    shade = np.zeros((n, 1, canvas.size), dtype=np.float32)
    for _ in range(4):
        where = column(rng.uniform(-0.5, 0.5, n))
        width, depth = column(rng.uniform(0.008, 0.02, n)), column(rng.uniform(0, 0.45, n))
        shade += depth * hump((canvas.x - where) / width)
    return 1 - np.minimum(shade, 0.6) * ramp(canvas.y - retina.ganglion_cells, 0.02)


def draw_membrane(
    light: np.ndarray, people: Population, canvas: Canvas, retina: Retina, ripple: np.ndarray
) -> np.ndarray:
    """Draw new vessels below the pigment epithelium: uneven bright tissue that breaks it up."""
    depth = retina.choroid - retina.below_pigment
    inside = ramp(canvas.y - retina.below_pigment + 0.02, 0.01)
    inside *= ramp(retina.choroid - canvas.y, 0.01)
    inside *= ramp(depth - 0.006, 0.008)
    return light * (1 + inside * (0.35 * column(people.severity)) * ripple)


def draw_cysts(
    light: np.ndarray, people: Population, canvas: Canvas, retina: Retina, ripple: np.ndarray
) -> np.ndarray:
    """Draw dark fluid-filled holes in the swollen layers, tall near the pit and flat elsewhere."""
    holes = np.full(light.shape, -1, dtype=np.float32)
    focus = fovea(people) + column(0.04 * people.lesion[:, 0])
    room = retina.photoreceptors - retina.inner_nuclei
    for k in range(6):
        place, level, width, height = people.lesion[:, 4 + 4 * k : 8 + 4 * k].T
        off = 0.055 * (k - 2.5) + 0.012 * place
        middle = retina.inner_nuclei + room * column((0.5 + 0.12 * level).clip(0.25, 0.72))
        wide = column(0.024 * np.exp(0.25 * width))
        flatter = 1 - 2.2 * np.abs(off)
        tall = room * column((0.34 * np.exp(0.2 * height) * flatter).clip(0.1, 0.42))
        hole = ellipse(canvas.x - focus - column(off), canvas.y - middle, wide, tall)
        np.maximum(holes, hole, out=holes)
    dark = ramp(holes - 0.1, 0.5) * column(people.severity)
    return light * (1 - np.float32(0.85) * dark)
