"""Skin phantoms: drawn pictures of moles through a dermatoscope, in colour, with known outlines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedtutor.datasets.phantoms.canvas import Canvas, column, hump, noise, ramp, splat
from fedtutor.datasets.phantoms.hospitals import (
    Hospital,
    Scanner,
    Shortcut,
    check_request,
    name_hospitals,
)
from fedtutor.datasets.phantoms.patients import Population, describe, enrol
from fedtutor.datasets.phantoms.scanner import develop_photo, scan
from fedtutor.images import MedicalImages

SKIN_CLASSES = ("Naevus", "Melanoma")
MELANOMA = 1

# Lamps differ in colour, and the field is round where the dermatoscope's rim is in the picture.
SKIN_HOSPITALS = (
    Hospital("General Practice", Scanner(1.0, 1.0, 0.006, 0.020, 0.0, "+", True, (1.0, 0.98, 0.94)),
             (0.78, 0.22), 1.2, (46, 18), 0.55, 0.2),
    Hospital("Skin Cancer Centre", Scanner(0.93, 1.08, 0.003, 0.012, 0.02, "", True,
                                           (0.97, 0.99, 1.04)),
             (0.35, 0.65), 1.1, (64, 13), 0.45, 0.9),
    Hospital("Screening Van", Scanner(1.05, 0.92, 0.008, 0.026, 0.0, "", True, (1.03, 1.0, 0.90)),
             (0.85, 0.15), 1.0, (38, 14), 0.60, 0.4),
    Hospital("Beach Clinic", Scanner(1.07, 1.0, 0.004, 0.016, 0.0, "+", False, (1.01, 1.0, 0.98)),
             (0.55, 0.45), 0.8, (52, 15), 0.50, 0.5),
    Hospital("University Hospital", Scanner(0.97, 1.05, 0.003, 0.014, 0.025, "", True,
                                            (0.99, 1.0, 1.02)),
             (0.48, 0.52), 0.9, (57, 17), 0.50, 0.7),
)  # fmt: skip

# How much of red, green and blue light the pigments take, after how skin looks; and the light
# that pigment deep in the skin sends back.
MELANIN, BLOOD = (0.50, 0.92, 1.30), (0.10, 0.62, 0.46)
VEIL = (0.34, 0.40, 0.50)


def skin_phantoms(
    num_images: int = 1200,
    *,
    size: int = 128,
    hospitals: int = 5,
    seed: int = 0,
    severity: tuple[float, float] = (0.35, 1.0),
    prevalence: np.ndarray | None = None,
    shortcut: Shortcut | None = None,
) -> MedicalImages:
    """Draw synthetic dermatoscope pictures, uint8 (n, size, size, 3), of several hospitals.

    The keywords and errors are those of :func:`~fedtutor.datasets.phantoms.chest_phantoms`;
    ``prevalence`` has two columns, the view is the light ("contact" or "polarised"), and every
    image has a mask, as a naevus is a lesion, too. ``severity`` is how asymmetric, uneven at the
    border and many-coloured a melanoma is (the A, B and C of Friedman et al. 1985); a naevus has a
    little of each. The ``shortcut``'s mark is of violet ink, which real models took for a sign of
    melanoma (Winkler et al. 2019).
    """
    check_request(num_images, size, hospitals, seed, severity, shortcut, SKIN_CLASSES)
    sites = name_hospitals(SKIN_HOSPITALS, hospitals, prevalence)
    people = enrol(sites, num_images, severity, seed)
    images, masks = scan(people, sites, size, draw_skin, develop_photo, shortcut, seed, channels=3)
    table = describe(people, sites, ("contact", "polarised"))
    return MedicalImages(images, people.label, SKIN_CLASSES, table, "skin-phantoms", True, masks)


class Mole(NamedTuple):
    """A mole in its own, turned coordinates, each (n, size, size); its radius is about 1."""

    across: np.ndarray
    down: np.ndarray
    distance: np.ndarray  # from the border, above 0 inside
    wild: np.ndarray  # (n, 1, 1), 0 for an even mole, 1 for a melanoma as in a textbook


def draw_skin(
    people: Population, canvas: Canvas, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the light that comes back, float32 (3, n, size, size), and the masks, bool.

    Melanin and blood each take their share of every colour (Beer-Lambert), so that skin of any
    tone, freckles, moles and vessels follow from how much there is of the two.
    """
    n, body = len(people), people.body
    clouds, grain = (noise(rng, n, canvas.size, cells) for cells in ((6, 6), (26, 26)))
    sun = column(0.10 + 0.14 * np.clip((people.age - 30) / 50, 0, 1))
    melanin = column(0.22 * np.exp(0.7 * np.clip(body[:, 0], -2, 2))) * (
        1 + sun * clouds + 0.05 * grain
    )
    blood = column(0.26 + 0.06 * body[:, 1]) * (1 - 0.10 * clouds + 0.06 * grain)
    mole = shape_mole(people, canvas)
    brown, red, veil = colour_mole(people, mole, grain)
    melanin = np.maximum(melanin + brown, 0) + draw_hairs(people, canvas, rng)
    blood = np.maximum(blood + red, 0)
    # Without polarisers the surface shines; with them one sees deeper, and more red.
    contact = column(~people.second_view)
    blood *= 1.12 - 0.22 * contact
    shares = zip(MELANIN, BLOOD, VEIL, strict=True)
    light = np.stack([
        (1 - veil) * np.exp(-m * melanin - b * blood) + veil * np.float32(v) for m, b, v in shares
    ])  # fmt: skip
    light *= 1 - 0.07 * contact
    light += 0.06 * contact
    return light, mole.distance > 0


def shape_mole(people: Population, canvas: Canvas) -> Mole:
    """Place, turn and bend the outline: its radius is a sum of waves around the mole."""
    own, pose = people.lesion, people.pose
    naevus = np.clip(0.20 * np.abs(own[:, 39]), 0, 0.6)
    wild = column(np.where(people.label == MELANOMA, people.severity, naevus))
    radius = column(np.clip(0.20 * np.exp(0.22 * own[:, 0]), 0.12, 0.30))
    x = (canvas.x - column(np.clip(0.04 * pose[:, 0], -0.1, 0.1))) / radius
    y = (canvas.y - 0.5 - column(np.clip(0.04 * pose[:, 1], -0.1, 0.1))) / radius
    place = (x + 1j * y) * np.exp(1j * column(np.pi * pose[:, 2]))
    far = np.abs(place) + np.float32(1e-4)
    direction = place / far
    edge = np.ones_like(far)
    for k in range(2, 7):  # the third to the sixth make it asymmetric
        height = column(np.clip(own[:, k], -2, 2)) * ((0.04 if k == 2 else 0.01) + 0.12 * wild / k)
        edge += height * (direction**k * np.exp(1j * column(3 * own[:, k + 5]))).real
    return Mole(place.real, place.imag, np.maximum(edge, 0.35) - far, wild)


def colour_mole(
    people: Population, mole: Mole, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how much melanin, blood and blue-white veil the mole adds, (n, size, size) each."""
    own, wild = people.lesion, mole.wild
    inside = ramp(mole.distance, 0.45 - 0.33 * wild)  # a naevus fades out, a melanoma ends
    dark = column(0.75 * np.exp(0.25 * own[:, 1]))
    brown = inside * dark * (0.75 + 0.25 * np.clip(mole.distance, 0, 1) + 0.12 * grain)

    def patch(k: int, wide: float) -> np.ndarray:
        """Return a spot, of the patient's own place and width."""
        across, down = (column(np.clip(0.42 * own[:, k + i], -0.8, 0.8)) for i in (0, 1))
        near = np.hypot(mole.across - across, mole.down - down)
        return wild * inside * hump(near / (column(np.exp(0.2 * own[:, k + 2])) * wide))

    black, blue, red, pale = patch(12, 0.75), patch(15, 0.85), patch(18, 0.85), patch(21, 0.65)
    brown += 1.3 * black - 0.75 * brown * np.minimum(pale + 0.5 * red, 1)
    return brown, 0.75 * red, np.clip(0.8 * blue, 0, 0.8)


def draw_hairs(people: Population, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Draw up to sixteen thin dark arcs, more of them on men, float32 (n, size, size)."""
    n, hairs = len(people), 16
    start_x, start_y, heading, bend = rng.uniform(-1, 1, (4, n, hairs, 1)).astype(np.float32)
    along = np.linspace(0, 0.55, 140, dtype=np.float32)
    angle = column(3 * people.body[:, 2]) + 0.7 * heading + 2.5 * bend * along
    step = along[1]
    x = 0.6 * start_x + np.cumsum(np.cos(angle), axis=2) * step
    y = 0.5 + 0.6 * start_y + np.cumsum(np.sin(angle), axis=2) * step
    count = 16 * np.clip(0.25 - 0.15 * people.female + 0.18 * people.body[:, 3], 0, 1)
    there = np.arange(hairs) < count[:, None]
    return splat(canvas, x, y, np.broadcast_to(0.55 * there[..., None], x.shape))
