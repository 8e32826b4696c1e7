"""Synthetic images, drawn on the spot: chest X-rays and retinal OCT of patients who never lived."""

from fedtutor.datasets.phantoms.chest import CHEST_CLASSES, chest_phantoms
from fedtutor.datasets.phantoms.hospitals import Shortcut
from fedtutor.datasets.phantoms.oct import OCT_CLASSES, oct_phantoms

__all__ = ["CHEST_CLASSES", "OCT_CLASSES", "Shortcut", "chest_phantoms", "oct_phantoms"]
