"""The data of one run: who has which images, and the test set that none of them saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedtutor.datasets import load
from fedtutor.datasets.duplicates import remove_across
from fedtutor.datasets.warned import heard_warnings, warn_of_small_test_set
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.partition import Partition, partition
from fedtutor.settings import RunSettings


@dataclass(frozen=True)
class Cohort:
    """The data of one run.

    Attributes
    ----------
    train, test : the training images and the central test set, of different patients.
    partition : which hospital has which training images.
    hospitals : the images of each hospital.
    scheme : by which they were dealt out, such as "dirichlet".
    warnings : what was warned of meanwhile, a sentence or two each.
    """

    train: MedicalImages
    test: MedicalImages
    partition: Partition
    hospitals: list[MedicalImages]
    scheme: str
    warnings: Sequence[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The hospitals' names."""
        return self.partition.names


def build_cohort(settings: RunSettings) -> Cohort:
    """Load the data, set the test patients aside and deal the others out to the hospitals."""
    with heard_warnings() as heard:
        data = load(
            settings.dataset,
            size=settings.size,
            colour=settings.colour == "rgb",
            task=settings.task,
            hospitals=settings.hospitals or 5,
            seed=settings.seed,
        )
        train, test = split_by_patient(data, seed=settings.seed)
        if not data.synthetic:  # a twin of a test image among the training images would flatter
            train, test, _ = remove_across(train, test)
        warn_of_small_test_set(test)
    knows_hospitals = "hospital" in data.table.columns
    scheme = settings.partition or ("by:hospital" if knows_hospitals else "dirichlet")
    parts = partition(train, scheme, settings.hospitals, alpha=settings.alpha, seed=settings.seed)
    return Cohort(train, test, parts, parts.hospitals(train), scheme, heard)
