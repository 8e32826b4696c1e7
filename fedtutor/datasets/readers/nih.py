"""NIH ChestX-ray14 (Wang et al., CVPR 2017): 112,120 chest X-rays of 30,805 patients.

Its labels were mined from the radiologists' reports by a program, about nine in ten rightly, and
"No Finding" means none of the fourteen. All images come from one institution: its natural silos
are view, sex and age.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from fedtutor.datasets.readers import files
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

NO_FINDING = "No Finding"
FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
    "Hernia",
)  # fmt: skip
"""In the order of the paper, which is that of ChestMNIST too."""

THREE_CLASSES = (NO_FINDING, "Pneumonia", "Effusion")
"""Effusion beside Pneumonia, because fluid is a sign of its own that a reader can point at; what
the reports call infiltration or consolidation is how a pneumonia looks."""

TASKS = {
    "Pneumonia": (NO_FINDING, "Pneumonia"),
    "three-class": THREE_CLASSES,
    "multi-label": FINDINGS,
    **{finding: (NO_FINDING, finding) for finding in FINDINGS if finding != "Pneumonia"},
}
"""The classes of each task, the default first."""

TABLES = ("labels.csv", "Data_Entry_2017*.csv", "Data_Entry_2017*.csv.gz")
BOXES = ("BBox_List_2017.csv", "BBox_List_2017.csv.gz")
SPLIT_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}

COLUMNS = {
    "Finding Labels": "findings",
    "Patient ID": "patient",
    "Patient Gender": "sex",
    "Patient Age": "age",
    "View Position": "view",
}
"""The names of the table, and ours."""

MAX_AGE = 100
"""Years. The table of 2017 has patients of 150 and of 414 years."""

AGE_UNITS = {"Y": 1, "M": 1 / 12, "W": 1 / 52.18, "D": 1 / 365.25}

BOX_SIDE = 1024
"""Pixels of the images in which the boxes were drawn, whatever the size of those here."""

LICENCE = "unrestricted use; cite the NIH and Wang et al. 2017"

logger = logging.getLogger(__name__)


def find_nih_table(folder: Path) -> Path | None:
    """Return the table of the whole set, or of a sample of it, in ``folder``, or None."""
    for pattern in TABLES:
        for path in sorted(folder.glob(pattern)):
            if path.name != "labels.csv" or "Finding Labels" in files.read_header(path)[1]:
                return path
    return None


def read_nih_table(folder: Path, task: str | None = None) -> pd.DataFrame:
    """Read the labels, for which no image need be there.

    Parameters
    ----------
    folder : has ``Data_Entry_2017*.csv[.gz]``, or the ``labels.csv`` of a sample.
    task : as in :func:`read_nih`; by default all rows, and no column ``label``.

    Returns
    -------
    DataFrame
        ``file``, ``findings`` (such as "Mass|Nodule"), ``patient`` (str), ``sex`` ("F" or "M"),
        ``age`` (years; NaN where the table says more than 100, which is logged), ``view`` ("PA"
        or "AP"), ``source`` and ``licence``; ``split`` ("train", "test", or None for an image in
        neither list) if the official lists are there; and ``label``, the class, where the task
        has one an image.

    Raises
    ------
    DataError
        If there is no table or it is broken, the task is unknown, or the official lists share a
        patient.

    Examples
    --------
    >>> table = read_nih_table(folder)                      # doctest: +SKIP
    >>> finding_matrix(table["findings"]).sum(axis=0)       # doctest: +SKIP
    >>> table.groupby(["sex", "view"]).size()               # doctest: +SKIP
    """
    folder = Path(folder)
    class_names = files.classes_of_task(task, TASKS, "NIH ChestX-ray14")
    if (path := find_nih_table(folder)) is None:
        known = " or ".join(TABLES[1:])
        how = "this fetches it, 1 MB: fedtutor fetch nih-chestxray14 --part tables"
        raise DataError(f"{folder} has no {known}, the table of the NIH; {how}")
    source = files.read_csv(path)
    file = "file" if "file" in source.columns else "Image Index"
    if missing := [name for name in (file, *COLUMNS) if name not in source.columns]:
        raise DataError(f"{path} has no column {', '.join(missing)}; is it the table of the NIH?")
    table = source[[file, *COLUMNS]].set_axis(["file", *COLUMNS.values()], axis=1)
    files.refuse_blanks(path, table, ["file", "findings", "patient"])
    table["age"] = _years(table["age"], path)
    table = table.assign(source="NIH Clinical Center", licence=LICENCE)
    if (split := _official_split(folder, table)) is not None:
        table["split"] = split
    if task is None or task == "multi-label":
        return table
    table["label"] = _classes(table["findings"], class_names)
    return table[table["label"].notna()].reset_index(drop=True)


def finding_matrix(findings: pd.Series) -> np.ndarray:
    """Tell which image has which of ``FINDINGS``: uint8 (n, 14) of 0 and 1.

    Raises :class:`DataError` for a finding that is none of the fourteen.
    """
    # A few hundred combinations make up the whole set, so each is taken apart once.
    codes, combinations = pd.factorize(findings)
    matrix = np.zeros((len(combinations), len(FINDINGS)), np.uint8)
    for row, combination in zip(matrix, combinations, strict=True):
        for name in combination.split("|"):
            if name in FINDINGS:
                row[FINDINGS.index(name)] = 1
            elif name != NO_FINDING:
                raise DataError(f"unknown finding {name!r}; known: {', '.join(FINDINGS)}.")
    return matrix[codes]


def read_nih(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read the images that are here, of as many of the twelve parts as there are.

    Parameters
    ----------
    folder : has the table (see :func:`read_nih_table`) and images in any sub-folder; if it has
        ``train_val_list.txt`` or ``test_list.txt``, the split is the official one, and if it has
        ``BBox_List_2017.csv``, the boxes are the masks.
    size, strict : as for :func:`fedtutor.datasets.load`; by default 128 pixels.
    task : - a finding, by default "Pneumonia": images that have it, whatever else they have,
             against those with "No Finding";
           - "three-class": No Finding, Pneumonia, Effusion; an image with both of the latter is
             left out, other findings beside them are not looked at;
           - "multi-label": all images, labels uint8 (n, 14) in the order of ``FINDINGS``.

    Returns
    -------
    MedicalImages
        With the columns of :func:`read_nih_table`, and, if there are boxes, ``boxes``: how many
        of them are in the mask. A mask has the boxes of the image's class, or in "multi-label" of
        any finding; only 880 images have any, so that 0 boxes do not mean no lesion.

    Raises
    ------
    DataError
        As :func:`read_nih_table`; if none of the images is here, or fewer than two classes.
    """
    folder, task, name = Path(folder), task or next(iter(TASKS)), "nih-chestxray14"
    table = files.present_rows(folder, read_nih_table(folder, task))
    if task == "multi-label":
        images, table = files.decode_rows(folder, table, size=size, strict=strict)
        data = MedicalImages(images, finding_matrix(table["findings"]), FINDINGS, table, name)
    else:
        data = files.read_classes(folder, table, TASKS[task], name, size=size, strict=strict)
    return _with_boxes(folder, _with_whole_split(data))


def _classes(findings: pd.Series, class_names: tuple[str, ...]) -> pd.Series:
    """Return the class of each image, None for those that are of none or of two."""
    matrix = finding_matrix(findings)
    has = matrix[:, [FINDINGS.index(name) for name in class_names[1:]]].astype(bool)
    names = np.array([*class_names[1:], None], dtype=object)
    label = names[np.where(has.sum(axis=1) == 1, has.argmax(axis=1), -1)]
    return pd.Series(np.where(matrix.any(axis=1), label, NO_FINDING), index=findings.index)


def _years(ages: pd.Series, path: Path) -> pd.Series:
    """Return ages such as 58, "058Y" or "011M" in years; NaN for what cannot be one."""
    parts = ages.str.extract(r"^(\d+(?:\.\d*)?)([YMWD]?)$")
    years = parts[0].astype(float) * parts[1].replace("", "Y").map(AGE_UNITS).astype(float)
    if wrong := int((years > MAX_AGE).sum()):
        what = "%s: %d ages of more than %d years are taken as unknown."
        logger.warning(what, path.name, wrong, MAX_AGE)
    return years.where(years <= MAX_AGE)


def _official_split(folder: Path, table: pd.DataFrame) -> np.ndarray | None:
    """Return "train", "test" or None (in neither list) for each image; None without lists.

    With one list only, its images are that side and all others the other.
    """
    names = table["file"].str.rpartition("/")[2]
    listed = {
        side: names.isin((folder / name).read_text(encoding="utf-8").split()).to_numpy()
        for side, name in SPLIT_LISTS.items()
        if (folder / name).is_file()
    }
    if not listed:
        return None
    in_train = listed["train"] if "train" in listed else ~listed["test"]
    in_test = listed["test"] if "test" in listed else ~listed["train"]
    patients = table["patient"]
    if shared := sorted(set(patients[in_train]) & set(patients[in_test])):
        raise DataError(
            f"{' and '.join(SPLIT_LISTS[side] for side in listed)} in {folder} have patients on "
            f"both sides: {len(shared)}, such as {shared[0]}; the official ones do not. "
            "Fetch them again or remove them."
        )
    sides = np.array([None, "train", "test"], dtype=object)
    return sides[in_train + 2 * in_test]


def _with_whole_split(data: MedicalImages) -> MedicalImages:
    """Drop the official split if the parts that are here have images of one side only."""
    if "split" not in data.table.columns:
        what = "%s: %s are not here, so its split by patient is ours and not the official one."
        logger.warning(what, data.name, " and ".join(SPLIT_LISTS.values()))
        return data
    if {"train", "test"} <= set(data.table["split"]):
        return data
    logger.warning(
        "nih-chestxray14: of the official split only the %s images are here; it is not used.",
        " and ".join(sorted(data.table["split"].dropna().unique())) or "unlisted",
    )
    return replace(data, table=data.table.drop(columns="split"))


def _with_boxes(folder: Path, data: MedicalImages) -> MedicalImages:
    """Add masks and the column ``boxes``, if there is a list of boxes."""
    path = next((folder / name for name in BOXES if (folder / name).is_file()), None)
    if path is None:
        return data
    boxes = _boxes(path)
    rows = pd.Series(np.arange(len(data)), index=data.table["file"].str.rpartition("/")[2])
    boxes = boxes[boxes["file"].isin(rows.index)]
    row = rows[boxes["file"]].to_numpy()
    if not data.multi_label:
        of_class = boxes["finding"].to_numpy() == np.array(data.class_names)[data.labels[row]]
        boxes, row = boxes[of_class], row[of_class]
    # The pixels that a box touches, one at least in each direction.
    start, extent = boxes[["x", "y"]].to_numpy(), boxes[["w", "h"]].to_numpy()
    size = data.image_shape[0]
    first = np.floor(start * size / BOX_SIDE).astype(int).clip(max=size - 1)
    stop = np.ceil((start + extent) * size / BOX_SIDE).astype(int).clip(min=first + 1)
    # Zeros take memory only where they are written to, and few images have a box.
    masks = np.zeros((len(data), size, size), dtype=bool)
    for k, (left, top), (right, bottom) in zip(row, first, stop, strict=True):
        masks[k, top:bottom, left:right] = True
    counts = np.bincount(row, minlength=len(data))
    return replace(data, masks=masks, table=data.table.assign(boxes=counts))


def _boxes(path: Path) -> pd.DataFrame:
    """Read the columns file, finding and x, y, w, h in pixels of ``BOX_SIDE``."""
    source = files.read_csv(path)
    if len(source.columns) < 6:
        raise DataError(f"{path} has {len(source.columns)} columns; a list of boxes has 6.")
    # By position: the header is "Bbox [x,y,w,h]", which the commas take apart.
    table = source.iloc[:, :6].set_axis(["file", "finding", "x", "y", "w", "h"], axis=1)
    table = table.astype(dict.fromkeys("xywh", float))
    # The one finding that the boxes call by another name than the labels.
    return table.assign(finding=table["finding"].replace("Infiltrate", "Infiltration"))
