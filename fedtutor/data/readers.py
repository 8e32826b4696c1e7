"""From files on disk to :class:`MedicalImages`: an .npz, a table of files, folders of classes."""

from __future__ import annotations

import re
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fedtutor.data.decode import read_images, resize
from fedtutor.data.images import SPLIT_NAMES, MedicalImages
from fedtutor.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
DEFAULT_SIZE = 128

COLUMN_NAMES = {
    "file": ("file", "Image Index", "filename"),
    "label": ("label", "Finding Labels", "finding", "class"),
    "patient": ("patient", "Patient ID", "patient_id", "patientid"),
    "hospital": ("hospital", "location"),
    "sex": ("sex", "Patient Gender"),
    "age": ("age", "Patient Age"),
    "view": ("view", "View Position"),
    "split": ("split",),
}
"""Our name of a column, and what the data sets' own tables call it, first match first."""

NIH_TABLES = ("labels.csv", "Data_Entry_2017*.csv", "Data_Entry_2017*.csv.gz")
BROKEN_NPZ = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)
"""What NumPy and zipfile raise for a file that is damaged or is no .npz at all."""

BROKEN_TABLE = (OSError, ValueError, EOFError, zlib.error)
"""What pandas and gzip raise for a file that is no table; pandas' own errors are ValueErrors."""

OCT_FILE_NAME = re.compile(r"^[A-Z]+-(\d+)-\d+$")
"""OCT2017 names its files CLASS-patient-number."""


def read_path(path: Path, *, size: int | None = None, finding: str = "Pneumonia") -> MedicalImages:
    """Read an .npz file or a folder, whatever its layout.

    Parameters
    ----------
    path : a MedMNIST ``.npz``; or a folder with a table (``labels.csv`` or NIH's
        ``Data_Entry_2017*.csv[.gz]``) beside images in any sub-folder; or a folder whose
        sub-folders are the classes.
    size : side of the square images to return, in pixels; by default that of the ``.npz``, or 128.
    finding : for NIH tables, the finding to tell from "No Finding".

    Raises
    ------
    DataError
        One line that says what is wrong with which file.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give an .npz file or a folder of images.")
    if path.is_file():
        if path.suffix != ".npz":
            raise DataError(f"{path} is not an .npz file; give an .npz file or a folder of images.")
        return read_npz(path, size=size)
    for pattern in NIH_TABLES:
        if tables := sorted(path.glob(pattern)):
            return read_table(tables[0], size=size, finding=finding)
    return read_class_folders(path, size=size)


def read_npz(path: Path, *, size: int | None = None) -> MedicalImages:
    """Read a MedMNIST file: ``{train,val,test}_images`` uint8 (n, h, w) and ``_labels`` (n, 1)."""
    keys = [f"{split}_{part}" for split in SPLIT_NAMES for part in ("images", "labels")]
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            if missing := [key for key in keys if key not in file.files]:
                raise DataError(
                    f"{path} has no {', '.join(missing)}; a MedMNIST file has {', '.join(keys)}."
                )
            arrays = {key: file[key] for key in keys}
    except BROKEN_NPZ as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as an .npz file: {_one_line(error)}.") from error
    for split in SPLIT_NAMES:
        _check_grey(path, split, arrays, arrays["train_images"].shape[1:])
    counts = [len(arrays[f"{split}_images"]) for split in SPLIT_NAMES]
    images = np.concatenate([arrays[f"{split}_images"] for split in SPLIT_NAMES])
    labels = np.concatenate([arrays[f"{split}_labels"].reshape(-1) for split in SPLIT_NAMES])
    if not len(images):
        raise DataError(f"{path} holds no image.")
    if size is not None and size != images.shape[1]:
        images = np.stack([resize(Image.fromarray(image), size) for image in images])
    labels = labels.astype(np.int64)
    return MedicalImages(
        images=images[..., None],
        labels=labels,
        class_names=tuple(f"class {k}" for k in range(int(labels.max()) + 1)),
        table=pd.DataFrame({"split": np.repeat(SPLIT_NAMES, counts)}),
        name=path.stem,
    )


def _check_grey(path: Path, split: str, arrays: dict, shape: tuple[int, ...]) -> None:
    """Refuse a split that is not grey uint8 images of one shape, each with one label."""
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if (
        images.ndim != 3
        or images.dtype != np.uint8
        or images.shape[1:] != shape
        or labels.size != len(images)
    ):
        raise DataError(
            f"{path}: this course reads grey uint8 images (n, h, w) with one label each; got "
            f"{split} images {images.dtype} {images.shape} and labels {labels.shape}."
        )


def read_table(path: Path, *, size: int | None = None, finding: str = "Pneumonia") -> MedicalImages:
    """Read the images that a CSV lists, wherever below its folder they lie.

    A ``file`` column is taken as a path from the table's folder, and an ``Image Index``
    (NIH) as a name to be found in any sub-folder. Rows whose image is not here are left out, so
    that a part of a large set can be used with its full table.
    """
    try:
        source = pd.read_csv(path, dtype=dict.fromkeys(COLUMN_NAMES["patient"], str))
    except BROKEN_TABLE as error:
        raise DataError(f"{path} cannot be read as a table: {_one_line(error)}.") from error
    table = pd.DataFrame()
    for ours, theirs in COLUMN_NAMES.items():
        if found := [name for name in theirs if name in source.columns]:
            table[ours] = source[found[0]]
    if missing := {"file", "label"} - set(table.columns):
        raise DataError(
            f"{path} has no column for the {' or the '.join(sorted(missing))}; known names: "
            + "; ".join(f"{ours}: {', '.join(COLUMN_NAMES[ours])}" for ours in sorted(missing))
        )
    if table.empty:
        raise DataError(f"{path} has a header but no rows.")
    for column in {"file", "label", "patient"} & set(table.columns):
        if blanks := int(table[column].isna().sum()):
            raise DataError(
                f"{path}: {blanks} of {len(table)} rows have no {column}; fill them in."
            )
    if "Finding Labels" in source.columns:
        table = _nih_task(table, finding)
    files = _locate(path, table["file"])
    present = files.notna()
    if not present.any():
        raise DataError(
            f"{path} lists {len(table)} images and none of them is below {path.parent}."
        )
    table = table[present.to_numpy()].reset_index(drop=True)
    return _assemble(path.parent, files[present].tolist(), table, size)


def _nih_task(table: pd.DataFrame, finding: str) -> pd.DataFrame:
    """Keep the rows with ``finding`` or "No Finding", and call them that."""
    findings = table["label"].str.split("|")
    known = sorted(set(findings.explode()) - {"No Finding"})
    if finding not in known:
        raise DataError(f"no image has the finding {finding!r}; there are: {', '.join(known)}.")
    has_finding = findings.map(lambda row: finding in row)
    table = table.assign(label=np.where(has_finding, finding, table["label"]))
    return table[table["label"].isin([finding, "No Finding"])].reset_index(drop=True)


def _locate(table_path: Path, names: pd.Series) -> pd.Series:
    """For each name the file at that path or, failing that, of that name, or None."""
    folder = table_path.parent
    by_name = {path.name: path for path in reversed(_image_files(folder))}

    def locate(name: str) -> Path | None:
        path = folder / str(name)
        return path if path.is_file() else by_name.get(path.name)

    return names.map(locate)


def read_class_folders(folder: Path, *, size: int | None = None) -> MedicalImages:
    """Read a folder whose sub-folders, at any depth, are named after the classes.

    ``train``, ``val`` and ``test`` above the class folders are the official split. Files named
    as in OCT2017, CLASS-patient-number, tell their patient.
    """
    files = _image_files(folder)
    if not files:
        raise DataError(
            f"{folder} holds no {', '.join(IMAGE_SUFFIXES)} file; put the images into one "
            "sub-folder for each class, or beside a labels.csv with the columns file and label."
        )
    table = pd.DataFrame({"label": [path.parent.name for path in files]})
    if table["label"].nunique() < 2:
        raise DataError(
            f"all images of {folder} are of one class, {table['label'][0]!r}; "
            "put the images into one sub-folder for each class."
        )
    matches = [OCT_FILE_NAME.match(path.stem) for path in files]
    if all(matches):
        table["patient"] = [match.group(1) for match in matches]
    splits = [path.relative_to(folder).parts[0] for path in files]
    if {"train", "test"} <= set(splits) <= set(SPLIT_NAMES):
        table["split"] = splits
    return _assemble(folder, files, table, size)


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _assemble(
    folder: Path, files: list[Path], table: pd.DataFrame, size: int | None
) -> MedicalImages:
    """Decode the files and put images, labels and the tidied table together."""
    class_names = sorted(table["label"].astype(str).unique(), key=_healthy_first)
    labels = table["label"].astype(str).map({name: k for k, name in enumerate(class_names)})
    if len(class_names) < 2:
        raise DataError(f"{folder}: all images are of one class, {class_names[0]!r}; give two.")
    table = table.drop(columns=["file", "label"], errors="ignore")
    if "patient" in table.columns:
        table["patient"] = table["patient"].astype(str)
    return MedicalImages(
        images=read_images(files, size=size or DEFAULT_SIZE, strict=True).images,
        labels=labels.to_numpy(np.int64),
        class_names=tuple(class_names),
        table=table,
        name=folder.resolve().name,
    )


def _healthy_first(name: str) -> tuple[bool, str]:
    return (name.lower() not in ("normal", "no finding"), name)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
