"""The healthy chest: the measures of its body and how its organs are drawn."""

from __future__ import annotations

import numpy as np

from fedtutor.datasets.phantoms.canvas import Canvas, column, ellipse, hump, ramp, splat
from fedtutor.datasets.phantoms.patients import Population


class Chest:
    """The measures of one body a row, float32 of shape (n, 1, 1), as shares of the image."""

    def __init__(self, people: Population) -> None:
        body, pose, age = people.body, people.pose, people.age
        child, old = np.clip((15 - age) / 15, 0, 1), np.clip((age - 55) / 35, 0, 1)
        portable, female = people.second_view.astype(float), people.female.astype(float)
        lung_width = 0.375 - 0.012 * female - 0.02 * child + 0.012 * body[:, 0]
        heart_ratio = 0.46 + 0.08 * portable + 0.06 * child + 0.03 * old + 0.025 * body[:, 1]
        mediastinum = 0.07 + 0.012 * portable + 0.01 * child + 0.006 * body[:, 4]
        base = 0.755 - 0.06 * portable - 0.03 * child + 0.02 * body[:, 3] + 0.015 * pose[:, 4]
        stout = 1 - 0.10 * child + 0.06 * portable + 0.12 * body[:, 5]
        bone = (1 - 0.3 * old - 0.1 * child) * np.exp(0.15 * body[:, 6])
        breast = female * np.clip((age - 12) / 6, 0, 1) * 0.20 * np.exp(0.35 * body[:, 7])
        self.child = column(child)  # 1 in a baby, 0 from 15 years on
        self.old = column(old)  # 0 until 55 years, 1 at 90
        self.portable = column(portable)  # 1 in AP views, 0 in PA views
        self.apex = column(0.115 + 0.03 * child + 0.012 * body[:, 2])  # top of the lungs
        self.base = column(base)  # top of the diaphragm's dome
        self.lung_width = column(lung_width)  # from the midline to the outer border, at the base
        self.mediastinum = column(mediastinum)  # half its width
        self.heart = column(2 * lung_width * heart_ratio)  # its whole width
        self.tilt = column(0.03 * pose[:, 5])  # of the shoulders
        self.stout = column(stout)  # thickness of the soft tissue, about 1
        self.bone = column(bone)  # contrast of the bones, about 1
        self.rib_gap = column(0.088 - 0.012 * child + 0.004 * body[:, 8])  # from rib to rib
        self.breast = column(breast)  # thickness of its shadow, 0 in men and children
        self.vessels = column(0.12 * np.exp(0.25 * body[:, 9]) * (1 + 0.3 * old))  # their contrast


def draw_trunk(chest: Chest, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Draw neck, shoulders, chest wall and belly as one soft body in front of the dark film."""
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
    """Return 1 between chest wall, apex and diaphragm, 0 elsewhere; the heart comes on top."""
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
    """Return how far down the lungs reach, (n, 1, size): two domes, the image's left one higher."""
    from_crest = (np.abs(x) - 0.17) / 0.2
    dome = np.where(from_crest > 0, 0.09 * np.abs(from_crest) ** 2.8, 0.03 * from_crest**2)
    return chest.base + dome + 0.022 * ramp(x, 0.1) + chest.tilt * x


def draw_heart(chest: Chest, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the silhouette (0..1) and the thickness of the great vessels and the heart.

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
    """Draw spine and hila and, taking away, the windpipe and the air in the stomach."""
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
    """Draw shadows over the lower lungs with a curved lower border; flatter when lying (AP)."""
    if not chest.breast.any():
        return np.zeros(1, dtype=np.float32)
    drop = y - 0.64 - 0.04 * chest.old
    dome = ellipse(np.abs(x) - 0.22, drop, 0.17, 0.16 - 0.03 * chest.portable)
    return chest.breast * ramp(dome - 0.2, 0.5) * ramp(drop + 0.05, 0.28)


def draw_bones(chest: Chest, x: np.ndarray, y: np.ndarray, clouds: np.ndarray) -> np.ndarray:
    """Draw ribs, clavicles, shoulder blades and the heads of the upper arms."""
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
    """Draw two families of arcs: behind they run outwards and down, in front inwards and down."""
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
    """Return round bars wherever ``phase`` is a whole number; ``phase`` is overwritten."""
    phase -= np.rint(phase)
    phase *= np.float32(1 / half_width)
    np.square(phase, out=phase)
    return np.clip(1 - phase, 0, None)


def draw_vessels(chest: Chest, canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Draw blood vessels that leave the two hila, each forking twice, thinner on their way out."""
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
    x, y, thick = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return splat(canvas, x, y, thick)


def _branch(
    angle: np.ndarray, length: np.ndarray, bend: np.ndarray, fork: float, start: float, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points x, y along (n, trunks) bent lines and the thickness: (n, trunks, 18) each."""
    t = np.linspace(0, 1, 18, dtype=np.float32)
    root = angle + 0.5 * bend * start
    heading = angle + fork + 0.5 * bend * (start + t)
    x = length * (start * np.cos(root) + reach * t * np.cos(heading))
    y = length * (start * np.sin(root) + reach * t * np.sin(heading))
    return x, y, (1 - start) * (1.1 - t) * (0.4 + 4 * length)
