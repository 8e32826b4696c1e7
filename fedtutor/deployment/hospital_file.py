"""A hospital's own images in one file, as each has them on its own disk in a deployment."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedtutor.datasets import load
from fedtutor.deployment.private import open_private
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages, patients_of

PARTS = ("images", "labels", "class_names", "name", "synthetic")


def write_hospital_file(images: MedicalImages, path: Path) -> None:
    """Write images, labels and class names, and nothing about who the patients are, to ``.npz``.

    ``patients``, or clusters where they are known, are written as numbers, as the test set's
    intervals need to know which images belong together. Only this user can read the file (mode
    0600).
    """
    parts: dict[str, Any] = {part: np.asarray(getattr(images, part)) for part in PARTS}
    if {"patient", "cluster"} & set(images.table.columns):
        _, parts["patients"] = np.unique(patients_of(images), return_inverse=True)
    with open_private(path) as file:
        np.savez_compressed(file, **parts)


def read_hospital_file(
    path: Path, *, size: int | None = None, colour: bool = False
) -> MedicalImages:
    """Read what :func:`write_hospital_file` wrote, or what :func:`fedtutor.datasets.load` reads.

    Raises :class:`DataError` if there is nothing there, or it cannot be read.

    Parameters
    ----------
    path : such an ``.npz``, one of MedMNIST, or a folder of images.
    size : side of the square images in pixels; a file of ours has its own.
    colour : read the images of a folder in colour; a file has its own.
    """
    if not _is_ours(path):
        return load(path, size=size, colour=colour)
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    table = pd.DataFrame(index=range(len(parts["labels"])))
    if "patients" in parts:
        table["patient"] = parts["patients"].astype(str)
    side = parts["images"].shape[1]
    if size is not None and side != size:
        raise DataError(f"{path} has images of {side} pixels; size says {size}.")
    return MedicalImages(
        images=parts["images"],
        labels=parts["labels"],
        class_names=tuple(map(str, parts["class_names"])),
        table=table,
        name=str(parts["name"]),
        synthetic=bool(parts["synthetic"]),
    )


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return {f"{part}.npy" for part in PARTS} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
