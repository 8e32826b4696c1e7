"""MedMNIST v2 (Yang et al. 2023): small standard images in one .npz file a set and size."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from PIL import Image

from fedtutor.datasets.decode import MAX_PIXELS, resize
from fedtutor.datasets.disk import require_memory
from fedtutor.datasets.readers.files import MAX_CLASSES, one_line
from fedtutor.datasets.readers.nih import FINDINGS
from fedtutor.errors import DataError
from fedtutor.images import SPLIT_NAMES, MedicalImages

MEDMNIST_CLASSES = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "octmnist": ("CNV", "DME", "drusen", "normal"),
    "chestmnist": FINDINGS,
    "dermamnist": (
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "naevus",
        "vascular lesion",
    ),
}
"""Label order of the sets this course uses, as in MedMNIST's own ``INFO``; some names shorter."""

BROKEN_NPZ = (
    OSError, ValueError, TypeError, EOFError, RuntimeError, SyntaxError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise for a file that is damaged or is no .npz at all."""


def read_set(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read the file in a set's folder whose images are just large enough, or else the largest."""
    name = folder.name
    files = {28: folder / f"{name}.npz"}
    files |= {side: folder / f"{name}_{side}.npz" for side in (64, 128, 224)}
    here = [side for side, file in files.items() if file.is_file()]
    if not here:
        raise DataError(f"{folder} has no {name}.npz; run: fedtutor fetch {name}")
    fitting = [side for side in here if side >= (size or min(here))]
    return read_medmnist(files[min(fitting, default=max(here))], size=size)


def read_medmnist(path: Path, *, size: int | None = None) -> MedicalImages:
    """Read ``NAME.npz``, ``NAME_64.npz``, ``NAME_128.npz`` or ``NAME_224.npz``.

    The splits are unpacked straight into the array that is returned, so a set takes its own size
    of memory and no more. The official split is in the table; who the patients are is not known.

    Parameters
    ----------
    path : a file with ``{train,val,test}_images``, uint8 (n, h, w), in colour (n, h, w, 3), and
        ``_labels``, (n, 1) or, with several findings an image, (n, k) of 0 and 1.
    size : side of the square images to return in pixels; by default as in the file.

    Returns
    -------
    MedicalImages
        Class names are known for the sets of ``MEDMNIST_CLASSES``; else "class 0", "class 1", ...

    Raises
    ------
    DataError
        If the file is broken or holds something else.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            shapes = _read_shapes(path, file, size)
            labels = _read_labels(path, file)
            images = _read_images(file, shapes, size)
    except DataError:
        raise
    except BROKEN_NPZ as error:
        raise DataError(f"{path} cannot be read as an .npz file: {one_line(error)}.") from error
    return MedicalImages(
        images=images,
        labels=labels.astype(np.uint8) if labels.shape[1] > 1 else labels[:, 0].astype(np.int64),
        class_names=_class_names(name := re.sub(r"_(64|128|224)$", "", path.stem), labels),
        table=pd.DataFrame({"split": np.repeat(SPLIT_NAMES, [shape[0] for shape in shapes])}),
        name=name,
    )


def _class_names(name: str, labels: np.ndarray) -> tuple[str, ...]:
    """Return the names of a known set, if it has no more classes than they are, or numbers."""
    # A few images of a set may not have its last class; the names are for all of them.
    num_classes = labels.shape[1] if labels.shape[1] > 1 else int(labels.max()) + 1
    known = MEDMNIST_CLASSES.get(name, ())
    return known if len(known) >= num_classes else tuple(f"class {k}" for k in range(num_classes))


def _read_shapes(path: Path, file: zipfile.ZipFile, size: int | None) -> list[tuple[int, ...]]:
    """Return the shape of the images of each split, before any of it is unpacked.

    Raises :class:`DataError` if these are not uint8 images, all grey or all in colour and of one
    size, with as many labels and equal findings, or do not fit into memory. A few bytes can claim
    any number of images.
    """
    keys = [f"{split}_{part}" for split in SPLIT_NAMES for part in ("images", "labels")]
    if missing := [key for key in keys if f"{key}.npy" not in file.namelist()]:
        raise DataError(
            f"{path} has no {', '.join(missing)}; a MedMNIST file has {', '.join(keys)}."
        )
    headers = []
    for key in keys:
        with file.open(f"{key}.npy") as stream:
            headers.append(_read_header(stream))
    (first, _, _), (first_labels, _, _) = headers[:2]
    for split, image, label in zip(SPLIT_NAMES, headers[::2], headers[1::2], strict=True):
        (shape, is_fortran, dtype), (label_shape, _, label_dtype) = image, label
        if (
            (dtype, is_fortran) != (np.uint8, False)
            or (len(shape) != 3 and shape[3:] != (3,))
            or shape[1:] != first[1:]
            or not 0 < math.prod(shape[1:3]) <= MAX_PIXELS
            or label_dtype.kind not in "iu"
            or label_shape != (shape[0], *first_labels[1:])
            or math.prod(label_shape[1:]) > MAX_CLASSES
        ):
            raise DataError(
                f"{path}: this course reads uint8 images, grey (n, h, w) or colour (n, h, w, 3), "
                f"all of one size, with labels (n, 1) or (n, findings), at most {MAX_CLASSES}; got "
                f"{split} images {dtype} {shape} and labels {label_dtype} {label_shape}."
            )
    count = sum(shape[0] for shape, _, _ in headers[::2])
    if count < 1:
        raise DataError(f"{path} holds no image.")
    pixels = math.prod((size, size, *first[3:]) if size else first[1:])
    memory = count * (pixels + 8 * math.prod(first_labels[1:]))
    require_memory(f"the {count} images of {path}", memory)
    return [shape for shape, _, _ in headers[::2]]


def _read_labels(path: Path, file: zipfile.ZipFile) -> np.ndarray:
    """Read all labels as (n, k), and refuse those that are none."""
    splits = []
    for split in SPLIT_NAMES:
        with file.open(f"{split}_labels.npy") as stream:
            splits.append(np.lib.format.read_array(stream, allow_pickle=False))
    labels = np.concatenate(splits).reshape(sum(map(len, splits)), -1)
    most = 1 if labels.shape[1] > 1 else MAX_CLASSES - 1
    if not 0 <= labels.min() <= labels.max() <= most:
        raise DataError(
            f"{path} has labels from {labels.min()} to {labels.max()}; 0 to {most} are read."
        )
    return labels


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    np.lib.format.read_magic(stream)  # version 1.0, as of every array without named fields
    return np.lib.format.read_array_header_1_0(stream)


def _read_images(
    file: zipfile.ZipFile, shapes: list[tuple[int, ...]], size: int | None
) -> np.ndarray:
    """Unpack all images, one at a time, into uint8 (n, h, w, channels), resized where needed."""
    shape = shapes[0][1:]
    wanted = (size, size, *shape[2:]) if size else shape
    images = np.empty((sum(n for n, *_ in shapes), *wanted), np.uint8)
    places = iter(images)
    for split, (count, *_) in zip(SPLIT_NAMES, shapes, strict=True):
        with file.open(f"{split}_images.npy") as stream:
            _read_header(stream)
            for place in islice(places, count):
                image = np.frombuffer(stream.read(math.prod(shape)), np.uint8).reshape(shape)
                place[:] = image if wanted == shape else resize(Image.fromarray(image), wanted[0])
    return images if len(shape) == 3 else images[..., None]
