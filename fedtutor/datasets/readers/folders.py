"""From a path to :class:`MedicalImages`: a known data set by its layout, a table, class folders."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from fedtutor.datasets.readers import covid, files, isic, medmnist, nih, oct, tuberculosis
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

COLUMN_NAMES = {
    "file": ("file", "Image Index", "filename"),
    "label": ("label", "Finding Labels", "finding", "class"),
    "patient": ("patient", "Patient ID", "patient_id", "patientid"),
    "hospital": ("hospital", "location"),
    "sex": ("sex", "Patient Gender"),
    "age": ("age", "Patient Age"),
    "view": ("view", "View Position"),
    "split": ("split",),
    "source": ("source", "url"),
    "licence": ("licence", "license"),
}
"""Our name of a column, and what the data sets' own tables call it, first match first."""

KERMANY_NAME = re.compile(
    r"(?:.*[/_])?(?:(person\d+)_(?:bacteria|virus)_|((?:NORMAL2-)?IM-\d+)-|"
    r"(?:BACTERIA|VIRUS|NORMAL|CNV|DME|DRUSEN)-(\d+)-)\d+[^/]*\Z"
)
"""person12_bacteria_46.jpeg, IM-0115-0001.jpeg, VIRUS-1008087-0001.jpeg (Kermany et al. 2018)."""


def read_path(
    path: Path,
    *,
    size: int | None = None,
    task: str | None = None,
    strict: bool | None = None,
    colour: bool = False,
) -> MedicalImages:
    """Read an .npz file or a folder, whatever its layout.

    Parameters
    ----------
    path : a MedMNIST ``.npz``; the folder of one of the known data sets; or a folder with a
        ``labels.csv`` beside images in any sub-folder; or one whose sub-folders are the classes.
    size, strict, colour : as for :func:`fedtutor.datasets.load`; by default the pixels of the
        ``.npz``, or 128.
    task : what to tell apart, for a known data set that offers a choice.

    Raises
    ------
    DataError
        One line that says what is wrong with which file.
    """
    path = Path(path)
    if not path.is_dir() and not (path.is_file() and path.suffix == ".npz"):
        problem = "is not an .npz file" if path.exists() else "does not exist"
        raise DataError(f"{path} {problem}; give an .npz file or a folder of images.")
    if path.is_dir() and (known := _known_reader(path)):
        return known(path, size=size, task=task, strict=bool(strict))
    if task is not None:
        raise DataError(f"{path} has its own classes and no choice of tasks; got {task!r}.")
    if path.is_file():
        return medmnist.read_medmnist(path, size=size)
    listed = path / "labels.csv"
    if (path / "metadata.csv").is_file() and not listed.is_file():
        raise DataError(
            f"{path / 'metadata.csv'} is the table of no known data set, so it would not be read; "
            "to use it, save it as labels.csv with the columns file and label, and patient if it "
            "is known; to go by the sub-folders, move it away."
        )
    table = _table_of_csv(listed) if listed.is_file() else _table_of_folders(path)
    class_names = sorted(table["label"].unique())
    class_names.sort(key=lambda name: name.lower() not in ("normal", "no finding"))
    if len(class_names) < 2:
        raise DataError(
            f"all images of {path} are of one class, {class_names[0]!r}; put the images into "
            "one sub-folder for each class, or give at least two labels in labels.csv."
        )
    if len(class_names) > files.MAX_CLASSES:
        raise DataError(
            f"{path} has {len(class_names)} classes, such as {class_names[0]!r} and "
            f"{class_names[1]!r}; at most {files.MAX_CLASSES} are read. Are these the labels?"
        )
    name, strict = path.resolve().name, strict is None or strict
    return files.read_classes(
        path, table, class_names, name, size=size, strict=strict, colour=colour
    )


def _known_reader(folder: Path) -> Callable[..., MedicalImages] | None:
    """Return the reader of the data set whose layout the folder has."""
    readers = {
        nih.find_nih_table: nih.read_nih,
        covid.find_chestxray_table: covid.read_covid_chestxray,
        covid.find_radiography: covid.read_radiography,
        isic.find_isic: isic.read_fed_isic,
        oct.is_oct2017: oct.read_oct2017,
        tuberculosis.find_tuberculosis: tuberculosis.read_tuberculosis,
    }
    return next((read for has_layout, read in readers.items() if has_layout(folder)), None)


def _table_of_csv(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV whose image lies anywhere below its folder.

    The columns may have any of the names in ``COLUMN_NAMES``; ``file`` and ``label`` must be
    there. Other rows are left out, so that a part of a set can be used with its full table.
    """
    source = files.read_csv(path)
    table = pd.DataFrame()
    for ours, theirs in COLUMN_NAMES.items():
        if found := [name for name in theirs if name in source.columns]:
            table[ours] = source[found[0]]
    if missing := {"file", "label"} - set(table.columns):
        raise DataError(
            f"{path} has no column for the {' or the '.join(sorted(missing))}; known names: "
            + "; ".join(f"{ours}: {', '.join(COLUMN_NAMES[ours])}" for ours in sorted(missing))
        )
    needed = [name for name in ("file", "label", "patient") if name in table.columns]
    files.refuse_blanks(path, table, needed)
    if "age" in table.columns:
        with suppress(ValueError):  # one that is no number of years is told where ages are used
            table["age"] = pd.to_numeric(table["age"])
    table = files.present_rows(path.parent, table)
    if len(twice := table["file"][table["file"].duplicated()]):
        raise DataError(
            f"{path} lists {twice.nunique()} images more than once, such as {twice.iloc[0]}; "
            "leave one row of each."
        )
    return table


def _table_of_folders(folder: Path) -> pd.DataFrame:
    """Return all images with the folder they lie in as their class.

    ``train``, ``val`` and ``test`` above the class folders are the official split. Where files
    have Kermany's names, which say who the patient is, a patient's images stay on one side.
    """
    images = files.image_files(folder)
    if not images:
        raise DataError(
            f"{folder} holds no {', '.join(files.IMAGE_SUFFIXES)} file; put the images into one "
            "sub-folder for each class, or beside a labels.csv with the columns file and label."
        )
    labels = [(folder / file).parent.name for file in images]
    table = pd.DataFrame({"file": images, "label": labels})
    splits = files.split_of_folders(images)
    table = table if splits is None else table.assign(split=splits)
    numbers = table["file"].str.extract(KERMANY_NAME).bfill(axis=1).iloc[:, 0]
    if numbers.isna().all():
        return table
    table["patient"] = numbers.fillna(table["file"])
    # Where some files have other names, not all patients are known.
    known = table if numbers.notna().all() else table.rename(columns={"patient": "cluster"})
    return oct.without_shared_patients(known, folder.resolve().name)
