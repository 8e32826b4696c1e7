"""Chest phantoms: drawn X-rays of people who do not exist, with every lesion's place known."""

from __future__ import annotations

import numpy as np

from fedtutor.datasets.phantoms.draw_chest import draw_chests
from fedtutor.datasets.phantoms.people import (
    Hospital,
    Scanner,
    Shortcut,
    check_request,
    describe_table,
    enrol,
    found_hospitals,
)
from fedtutor.datasets.phantoms.scanner import develop_film, scan, stamp_markers
from fedtutor.images import MedicalImages

__all__ = ["CHEST_CLASSES", "Scanner", "Shortcut", "chest_phantoms"]

CHEST_CLASSES = ("Normal", "Viral pneumonia", "COVID-19")

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
    sites = found_hospitals(CHEST_HOSPITALS, hospitals, prevalence)
    cohort = enrol(sites, num_images, severity, seed)
    images, masks = scan(cohort, sites, size, draw_chests, develop_film, seed)
    stamp_markers(images, cohort, sites, shortcut)
    table = describe_table(cohort, sites, ("PA", "AP"))
    return MedicalImages(
        images[..., None], cohort.label, CHEST_CLASSES, table, "chest-phantoms", True, masks
    )
