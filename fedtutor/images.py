"""The one value every data set becomes: images, labels, and who they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fedtutor.errors import DataError, check_whole, visible
from fedtutor.support.rows import Rows, on_disk

Images = np.ndarray | Rows
"""uint8 (n, height, width, 1 or 3), in memory or read from a file when asked for."""

SPLIT_NAMES = ("train", "val", "test")
NO_FINDING = "no finding"
pd.set_option("mode.string_storage", "python")  # pyarrow, if it is here, refuses odd names of files


@dataclass(frozen=True)
class MedicalImages:
    """A set of labelled medical images, all grey or all in colour.

    Attributes
    ----------
    images : uint8 array of shape (n, height, width, 1), grey, or (n, height, width, 3), red, green
        and blue; 0 is black. In memory, mapped from a file, or
        :class:`~fedtutor.support.rows.Rows` of such a file.
    labels : one class an image: int64 array of shape (n,), an index into ``class_names``.
        Multi-label, any number of findings an image: uint8 array of shape (n, k), 1 where the
        image has the finding and 0 where not.
    class_names : the classes, or the k findings, in label order.
    table : one row an image, in the same order. Columns where known: ``patient`` (str, no gaps),
        ``hospital`` (str), ``sex`` ("F" or "M"), ``age`` (years), ``view`` ("PA", "AP", ...),
        ``split`` (the official "train", "val" or "test"). Where patients are not known,
        ``cluster`` (str) may say which images must stay together, such as near twins.
    name : the data set's name, as in :func:`fedtutor.datasets.dataset_names`.
    synthetic : True if no patient was ever imaged.
    masks : bool array of shape (n, height, width), True on the lesion, or None if unknown.
    """

    images: Images
    labels: np.ndarray
    class_names: tuple[str, ...]
    table: pd.DataFrame
    name: str
    synthetic: bool = False
    masks: np.ndarray | Rows | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", visible(self.name))
        object.__setattr__(self, "class_names", tuple(map(visible, self.class_names)))
        n, shape = len(self.images), self.images.shape
        if shape[1:][2:] not in ((1,), (3,)) or self.images.dtype != np.uint8:
            raise DataError(
                "images must be uint8 of shape (n, height, width, 1), grey, or (n, height, width, "
                f"3), colour; got {self.images.dtype} of shape {shape}."
            )
        lengths = {"labels": len(self.labels), "table": len(self.table)}
        if self.masks is not None:
            lengths["masks"] = len(self.masks)
        for part, length in lengths.items():
            if length != n:
                raise DataError(f"{n} images but {length} rows of {part}; give one for each image.")
        for column in {"patient", "cluster"} & set(self.table.columns):
            known = self.table[column]
            if gaps := int((known.isna() | known.eq("")).sum()):
                raise DataError(
                    f"{self.name}: {gaps} of {n} images have no {column}; give each image one, or "
                    f"leave the column {column!r} out."
                )
        if self.multi_label:
            self._check_findings()
        elif n and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise DataError(
                f"labels must lie in 0..{len(self.class_names) - 1} for the "
                f"{len(self.class_names)} classes {', '.join(self.class_names)}; "
                f"got {self.labels.min()}..{self.labels.max()}."
            )

    def _check_findings(self) -> None:
        labels, k = self.labels, len(self.class_names)
        if not k or labels.dtype != np.uint8 or labels.shape[1:] != (k,) or (labels > 1).any():
            raise DataError(
                f"labels of several findings an image must be uint8 of shape (n, {k}), 0 or 1 for "
                f"each of the findings {', '.join(self.class_names)}; got {labels.dtype} of shape "
                f"{labels.shape}, up to {labels.max(initial=0)}."
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def multi_label(self) -> bool:
        """True if an image can have several findings or none, False if it is of one class."""
        return self.labels.ndim > 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels), the input shape of a model for these images."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def form(self) -> dict[str, Any]:
        """What a model for these images must know, as :func:`~fedtutor.create_model` takes it."""
        classes = {"num_classes": len(self.class_names), "multi_label": self.multi_label}
        return {"input_shape": self.image_shape, **classes}

    def take(self, indices: np.ndarray) -> MedicalImages:
        """Return the images at ``indices`` (int array of shape (m,)), in that order.

        Images on disk stay there, see :class:`fedtutor.support.rows.Rows`.
        """

        def rows(array: np.ndarray | Rows) -> np.ndarray | Rows:
            return Rows(array, indices) if on_disk(self.images) else array[indices]

        return replace(
            self,
            images=rows(self.images),
            labels=self.labels[indices],
            table=self.table.iloc[indices].reset_index(drop=True),
            masks=None if self.masks is None else rows(self.masks),
        )

    def has_lesion(self) -> np.ndarray:
        """Which images have a known lesion: bool (n,); one mask is looked at after the other."""
        if self.masks is None:
            return np.zeros(len(self), bool)
        return np.array([self.masks[k].any() for k in range(len(self))], bool)

    def class_counts(self) -> np.ndarray:
        """Count the images of each class, or with each finding: int64 (num_classes,)."""
        return count_classes(self.labels, len(self.class_names))

    @property
    def strata(self) -> np.ndarray:
        """One number an image, int64 (n,), an index into :attr:`strata_names`.

        It is the class; of several findings the one that the fewest images of the set have, for
        those are what an uneven share would leave a hospital without; k if there is no finding.
        """
        if not self.multi_label:
            return self.labels
        rarest_first = np.argsort(self.class_counts(), kind="stable")
        rarest = rarest_first[self.labels[:, rarest_first].argmax(axis=1)]
        return np.where(self.labels.any(axis=1), rarest, len(self.class_names))

    @property
    def strata_names(self) -> tuple[str, ...]:
        """The classes; or the findings and, last, :data:`NO_FINDING`."""
        return (*self.class_names, NO_FINDING) if self.multi_label else self.class_names

    def column(self, name: str) -> np.ndarray:
        """One column of the table as an array of shape (n,).

        Raises
        ------
        DataError
            If the data set has no such column; lists those it has.
        """
        if name not in self.table.columns:
            known = ", ".join(self.table.columns) or "none"
            raise DataError(f"{self.name} has no column {name!r}. It has: {known}.")
        return self.table[name].to_numpy()


def say_shape(shape: Sequence[int]) -> str:
    """Say "28x28 pixels in colour" for (28, 28, 3)."""
    return f"{shape[0]}x{shape[1]} pixels in {'grey' if shape[2] == 1 else 'colour'}"


def count_classes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Images of each class: int64 (num_classes,), of labels as :class:`MedicalImages` has them."""
    if labels.ndim > 1:
        return labels.sum(axis=0, dtype=np.int64)
    return np.bincount(labels, minlength=num_classes)


def patients_of(data: MedicalImages) -> np.ndarray:
    """Who each image is of, str array (n,); else its cluster, or else one patient an image."""
    for column in ("patient", "cluster"):
        if column in data.table.columns:
            return data.table[column].astype(str).to_numpy()
    return np.array([f"image-{i}" for i in range(len(data))])


def split_by_patient(
    data: MedicalImages, test_fraction: float = 0.25, *, seed: int = 0
) -> tuple[MedicalImages, MedicalImages]:
    """Split into (train, test) so that no patient is on both sides.

    An official split, where the table has a ``split`` column, is honoured: "test" is the test
    set, "train" the training set and "val" is left aside. Otherwise ``test_fraction`` of the
    patients of each class (a patient's class is that of his or her first image, of several
    findings the rarest) is drawn.

    Raises
    ------
    DataError
        If a side would be empty, or the official split shares a patient.
    """
    if not 0 < test_fraction < 1:
        raise DataError(f"test_fraction must lie between 0 and 1; got {test_fraction}.")
    check_whole("seed", seed, least=0)
    if "split" in data.table.columns:
        split = data.table["split"].to_numpy()
        train, test = (data.take(np.flatnonzero(split == name)) for name in ("train", "test"))
    else:
        in_test = _draw_test_patients(data, test_fraction, seed)
        train, test = data.take(np.flatnonzero(~in_test)), data.take(np.flatnonzero(in_test))
    if not len(train) or not len(test):
        raise DataError(
            f"{data.name}: {len(data)} images of {len(set(patients_of(data)))} patients leave "
            f"{len(train)} to train on and {len(test)} to test on; give more patients."
        )
    check_no_leakage(train, test)
    return train, test


def _draw_test_patients(data: MedicalImages, test_fraction: float, seed: int) -> np.ndarray:
    """Bool array of shape (n,), True for the images of the drawn patients."""
    patients, first, inverse = np.unique(patients_of(data), return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    strata = data.strata[first][order]
    drawn = np.zeros(len(patients), dtype=bool)
    for stratum in range(len(data.strata_names)):
        members = order[strata == stratum]
        # At least one and never all, so that a rare class is on both sides where it can be.
        count = min(max(1, round(test_fraction * len(members))), len(members) - 1)
        drawn[members[: max(count, 0)]] = True
    return drawn[inverse]


def check_no_leakage(train: MedicalImages, test: MedicalImages) -> None:
    """Raise :class:`DataError` if a patient is on both sides of a split."""
    if not {"patient", "cluster"} & set(train.table.columns) & set(test.table.columns):
        return
    shared = sorted(set(patients_of(train)) & set(patients_of(test)))
    if shared:
        raise DataError(
            f"{train.name}: {len(shared)} patients are in both the training and the test set "
            f"(for example {', '.join(shared[:3])}), so the test score would be too good. "
            "Split by patient: fedtutor.split_by_patient(data)."
        )
