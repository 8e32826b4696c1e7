"""MedMNIST v2 (Yang et al. 2023): small standard images in one .npz file a set and size."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from fedtutor.datasets.decode import resize
from fedtutor.datasets.readers.files import one_line
from fedtutor.datasets.readers.nih import FINDINGS
from fedtutor.errors import DataError
from fedtutor.images import SPLIT_NAMES, MedicalImages

MEDMNIST_CLASSES = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "octmnist": ("CNV", "DME", "drusen", "normal"),
    "chestmnist": FINDINGS,
}
"""Label order of the sets this course uses, as in MedMNIST's own ``INFO``."""

FILE_NAME = re.compile(r"(.+?)(?:_(?:64|128|224))?")

BROKEN_NPZ = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    NotImplementedError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise for a file that is damaged or is no .npz at all."""

BATCH = 256
"""Images unpacked at a time: 13 MB of the largest."""


def read_medmnist(path: Path, *, size: int | None = None) -> MedicalImages:
    """Read ``NAME.npz``, ``NAME_64.npz``, ``NAME_128.npz`` or ``NAME_224.npz``.

    The splits are unpacked straight into the array that is returned, so a set takes its own size
    of memory and no more. The official split is in the table; who the patients are is not known.

    Parameters
    ----------
    path : a file with ``{train,val,test}_images``, uint8 (n, h, w), and ``_labels``, (n, 1) or,
        with several findings an image, (n, k) of 0 and 1.
    size : side of the square images to return in pixels; by default as in the file.

    Returns
    -------
    MedicalImages
        Class names are known for the sets of ``MEDMNIST_CLASSES``; else "class 0", "class 1", ...

    Raises
    ------
    DataError
        If the file is broken or holds something else, such as colour images.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            _check_members(path, file)
            labels = [_read_labels(file, f"{split}_labels.npy") for split in SPLIT_NAMES]
            headers = [_header(file, f"{split}_images.npy") for split in SPLIT_NAMES]
            _check_shapes(path, headers, labels)
            images = _read_images(file, headers, size)
    except BROKEN_NPZ as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as an .npz file: {one_line(error)}.") from error
    name = FILE_NAME.fullmatch(path.stem).group(1)
    return _named(name, images, np.concatenate(labels), [header.shape[0] for header in headers])


def _named(name: str, images: np.ndarray, labels: np.ndarray, counts: list[int]) -> MedicalImages:
    """Put the parts together; ``labels`` is (n, k), with k = 1 for one class an image."""
    several = labels.shape[1] > 1
    labels = labels.astype(np.uint8) if several else labels[:, 0].astype(np.int64)
    num_classes = labels.shape[1] if several else int(labels.max()) + 1
    known = MEDMNIST_CLASSES.get(name, ())
    return MedicalImages(
        images=images,
        labels=labels,
        # A few images of a set may not have its last class; the names are for all of them.
        class_names=known
        if len(known) >= num_classes
        else tuple(f"class {k}" for k in range(num_classes)),
        table=pd.DataFrame({"split": np.repeat(SPLIT_NAMES, counts)}),
        name=name,
    )


class _Header(NamedTuple):
    """What an array in the file is, before any of it is unpacked."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def _check_members(path: Path, file: zipfile.ZipFile) -> None:
    keys = [f"{split}_{part}" for split in SPLIT_NAMES for part in ("images", "labels")]
    if missing := [key for key in keys if f"{key}.npy" not in file.namelist()]:
        raise DataError(
            f"{path} has no {', '.join(missing)}; a MedMNIST file has {', '.join(keys)}."
        )


def _read_labels(file: zipfile.ZipFile, member: str) -> np.ndarray:
    """Labels as (n, k), whatever their shape in the file."""
    with file.open(member) as stream:
        labels = np.lib.format.read_array(stream, allow_pickle=False)
    return labels.reshape(len(labels), -1) if labels.ndim and len(labels) else labels.reshape(-1, 1)


def _header(file: zipfile.ZipFile, member: str) -> _Header:
    with file.open(member) as stream:
        return _read_header(stream)


def _read_header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return _Header(*np.lib.format.read_array_header_1_0(stream))
    return _Header(*np.lib.format.read_array_header_2_0(stream))


def _check_shapes(path: Path, headers: list[_Header], labels: list[np.ndarray]) -> None:
    """Refuse what is not grey uint8 images of one shape, with as many labels and equal findings."""
    for split, header, own in zip(SPLIT_NAMES, headers, labels, strict=True):
        if (
            len(header.shape) != 3
            or header.dtype != np.uint8
            or header.fortran_order
            or header.shape[1:] != headers[0].shape[1:]
            or own.dtype.kind not in "iu"
            or own.shape != (header.shape[0], labels[0].shape[1])
        ):
            raise DataError(
                f"{path}: this course reads grey uint8 images (n, h, w), all of one size, with "
                f"labels (n, 1) or (n, findings); got {split} images {header.dtype} "
                f"{header.shape} and labels {own.dtype} {own.shape}."
            )
    if not any(header.shape[0] for header in headers):
        raise DataError(f"{path} holds no image.")


def _read_images(file: zipfile.ZipFile, headers: list[_Header], size: int | None) -> np.ndarray:
    """All images, uint8 (n, h, w, 1), unpacked a batch at a time."""
    height, width = headers[0].shape[1:]
    keep = size is None or (height, width) == (size, size)
    shape = (height, width) if keep else (size, size)
    images = np.empty((sum(header.shape[0] for header in headers), *shape, 1), np.uint8)
    row = 0
    for split, header in zip(SPLIT_NAMES, headers, strict=True):
        with file.open(f"{split}_images.npy") as stream:
            _read_header(stream)
            for start in range(0, header.shape[0], BATCH):
                count = min(BATCH, header.shape[0] - start)
                batch = _unpack(stream, (count, height, width))
                if not keep:
                    batch = np.stack([resize(Image.fromarray(image), size) for image in batch])
                images[row : row + count, ..., 0] = batch
                row += count
    return images


def _unpack(stream: IO[bytes], shape: tuple[int, int, int]) -> np.ndarray:
    content = stream.read(int(np.prod(shape)))
    return np.frombuffer(content, np.uint8).reshape(shape)
