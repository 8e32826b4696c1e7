"""Synthetic images, drawn on the spot: chest X-rays and retinal OCT of patients who never lived."""

from fedtutor.datasets.phantoms.chest import chest_phantoms
from fedtutor.datasets.phantoms.oct import oct_phantoms

__all__ = ["chest_phantoms", "oct_phantoms"]
