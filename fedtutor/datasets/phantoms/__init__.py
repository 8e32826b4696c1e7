"""Synthetic images, drawn on the spot: chest X-rays, retinal OCT and skin of nobody."""

from fedtutor.datasets.phantoms.chest import CHEST_CLASSES, chest_phantoms
from fedtutor.datasets.phantoms.hospitals import Shortcut
from fedtutor.datasets.phantoms.oct import OCT_CLASSES, oct_phantoms
from fedtutor.datasets.phantoms.skin import SKIN_CLASSES, skin_phantoms

__all__ = [
    "CHEST_CLASSES",
    "OCT_CLASSES",
    "SKIN_CLASSES",
    "Shortcut",
    "chest_phantoms",
    "oct_phantoms",
    "skin_phantoms",
]
