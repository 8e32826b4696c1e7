"""A hospital's own images in one file, as each has them on its own disk in a deployment."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from fedtutor.datasets import load
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

PARTS = ("images", "labels", "class_names", "name", "synthetic")


def write_images(images: MedicalImages, path: Path) -> None:
    """Write images, labels and class names, and nothing about who the patients are, to ``.npz``.

    ``patients``, where known, are written as numbers, as the test set's intervals need to know
    which images belong together.
    """
    parts = {
        "images": np.asarray(images.images),
        "labels": images.labels,
        "class_names": np.array(images.class_names),
        "name": np.array(images.name),
        "synthetic": np.array(images.synthetic),
    }
    if "patient" in images.table.columns:
        _, parts["patients"] = np.unique(images.table["patient"].astype(str), return_inverse=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **parts)


def read_images(path: Path, *, size: int | None = None) -> MedicalImages:
    """Read what :func:`write_images` wrote, or what :func:`fedtutor.datasets.load` reads.

    Parameters
    ----------
    path : such an ``.npz``, one of MedMNIST, or a folder of images.
    size : side of the square images in pixels; a file of ours has its own.

    Raises
    ------
    DataError
        If there is nothing there, or it cannot be read.
    """
    if not _is_ours(path):
        return load(path, size=size)
    with np.load(path, allow_pickle=False) as file:
        patients = file["patients"] if "patients" in file.files else None
        images = MedicalImages(
            images=file["images"],
            labels=file["labels"],
            class_names=tuple(map(str, file["class_names"])),
            table=pd.DataFrame(index=range(len(file["labels"]))),
            name=str(file["name"]),
            synthetic=bool(file["synthetic"]),
        )
    if size is not None and images.image_shape[0] != size:
        raise DataError(f"{path} has images of {images.image_shape[0]} pixels; size says {size}.")
    if patients is not None:
        images.table["patient"] = patients.astype(str)
    return images


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return {f"{part}.npy" for part in PARTS} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
