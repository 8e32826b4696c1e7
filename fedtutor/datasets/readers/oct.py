"""OCT2017 (Kermany et al., Cell 2018): retinal OCT slices of four classes.

Some slices have white corners, where the scan was turned and the gap filled; they are left as
they are, and a Grad-CAM map that lights them up shows a model that reads the scanner.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from fedtutor.datasets.readers.files import (
    check_classes,
    check_task,
    decode_rows,
    image_files,
    one_class_an_image,
)
from fedtutor.errors import DataError
from fedtutor.images import SPLIT_NAMES, MedicalImages

OCT_CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
"""The order of the published folders, of OCTMNIST and of the phantoms."""

DEFAULT_TASK = "four-class"
OCT_TASKS = (DEFAULT_TASK, "CNV", "DME", "DRUSEN")

FILE_NAME = re.compile(r"(CNV|DME|DRUSEN|NORMAL)-(\d+)-(\d+)")
"""CLASS-patient-number, without the suffix."""

SOURCE = "Kermany et al., Mendeley rscbjbr9sj"

logger = logging.getLogger(__name__)


def is_oct2017(files: list[Path]) -> bool:
    """Whether all files are named as in OCT2017."""
    return bool(files) and all(FILE_NAME.fullmatch(path.stem) for path in files)


def read_oct2017(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read OCT2017, or any part of it.

    Class and patient are taken from the file names, so the folders may be nested in any way;
    ``train``, ``test`` and ``val`` among them are the official split. The number in the name is
    the patient: where it occurs in two classes it is taken for one person, who could be known
    again by an eye.

    The official train and test share patients, which inflates accuracy by 5 to 30 % (Tampu et
    al. 2022). Images of test patients are therefore taken out of train and val, and those of val
    patients out of train: the test set stays whole, so that results can stand beside published
    ones. How many is logged.

    Parameters
    ----------
    size : side of the square images in pixels, by default 128; the slices are 512, 768 or 1536
        wide and 496 high, and are squeezed.
    task : "four-class", or "CNV", "DME" or "DRUSEN" against NORMAL.
    strict : refuse the first bad file; by default bad files are left out, which is logged.

    Raises
    ------
    DataError
        If a file is not named so, the task is unknown, or fewer than two classes are here.
    """
    folder, task = Path(folder), task or DEFAULT_TASK
    check_task(task, OCT_TASKS, "OCT2017")
    table = _without_shared_patients(_table(folder))
    class_names = OCT_CLASSES if task == DEFAULT_TASK else ("NORMAL", task)
    table = table[table["label"].isin(class_names)].reset_index(drop=True)
    check_classes(folder, table, class_names)
    images, table = decode_rows(folder, table, size=size, strict=strict)
    return one_class_an_image(images, table, class_names, "retinal-oct")


def _table(folder: Path) -> pd.DataFrame:
    """One row a file: file, label, patient, source, licence, and split where it is official."""
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} holds no image; put OCT2017's folders train and test there.")
    matches = [FILE_NAME.fullmatch(path.stem) for path in files]
    if wrong := [path for path, match in zip(files, matches, strict=True) if not match]:
        raise DataError(
            f"{wrong[0]} is not named CLASS-patient-number as the files of OCT2017 are "
            f"({len(wrong)} of {len(files)} are not)."
        )
    places = [path.relative_to(folder) for path in files]
    table = pd.DataFrame(
        {
            "file": [place.as_posix() for place in places],
            "label": [match.group(1) for match in matches],
            "patient": [match.group(2) for match in matches],
            "source": SOURCE,
            "licence": "CC BY 4.0",
        }
    )
    splits = [next((part for part in place.parts if part in SPLIT_NAMES), None) for place in places]
    if {"train", "test"} <= set(splits) <= set(SPLIT_NAMES):
        table["split"] = splits
    return table


def _without_shared_patients(table: pd.DataFrame) -> pd.DataFrame:
    """Leave each patient to one side of the official split: test before val before train."""
    if "split" not in table.columns:
        return table
    sides = {side: set(table["patient"][table["split"] == side]) for side in SPLIT_NAMES}
    elsewhere = {"train": sides["val"] | sides["test"], "val": sides["test"], "test": set()}
    shared = pd.Series(False, index=table.index)
    for side, patients in elsewhere.items():
        shared |= (table["split"] == side) & table["patient"].isin(patients)
    if shared.any():
        logger.warning(
            "OCT2017: the official split shares %d patients; %d images of them are left out of "
            "train and val, and the test set is kept whole.",
            table["patient"][shared].nunique(),
            shared.sum(),
        )
    return table[~shared].reset_index(drop=True)
