"""OCT2017 (Kermany et al., Cell 2018): retinal OCT slices of four classes.

Some slices have white corners, where the scan was turned and the gap filled; they are left as
they are, and a Grad-CAM map that lights them up shows a model that reads the scanner.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from fedtutor.datasets.readers import files
from fedtutor.errors import DataError
from fedtutor.images import SPLIT_NAMES, MedicalImages

OCT_CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
"""The order of the published folders, of OCTMNIST and of the phantoms."""

TASKS = {"four-class": OCT_CLASSES, **{name: ("NORMAL", name) for name in OCT_CLASSES[:3]}}

FILE_NAME = re.compile(r"(?:.*/)?(?P<label>CNV|DME|DRUSEN|NORMAL)-(?P<patient>\d+)-\d+\.\w+\Z")

logger = logging.getLogger(__name__)


def is_oct2017(folder: Path) -> bool:
    """Tell whether ``folder`` has images, and all are named as in OCT2017."""
    names = files.image_files(folder)
    return bool(names) and all(map(FILE_NAME.match, names))


def read_oct2017(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read OCT2017, or any part of it.

    Class and patient are in the file names, so the folders may be nested in any way; ``train``,
    ``test`` and ``val`` among them are the official split. A patient's number that occurs in two
    classes is taken for one person, whom a model could recognise by the eye.

    The official train and test share patients, which inflates accuracy by 5 to 30 % (Tampu et
    al. 2022). Images of test patients are therefore taken out of train and val, and those of val
    patients out of train: the test set stays whole, so that results can stand beside published
    ones. How many is logged.

    Parameters
    ----------
    folder : has files named CLASS-patient-number at any depth.
    size, strict : as for :func:`fedtutor.datasets.load`; by default 128 pixels. The slices are
        512, 768 or 1536 wide and 496 high, and are squeezed.
    task : "four-class", or "CNV", "DME" or "DRUSEN" against NORMAL.

    Raises
    ------
    DataError
        If a file is not named so, the task is unknown, or fewer than two classes are here.
    """
    folder = Path(folder)
    class_names = files.classes_of_task(task, TASKS, "OCT2017")
    table = without_shared_patients(_table(folder), "OCT2017")
    table = table[table["label"].isin(class_names)].reset_index(drop=True)
    return files.read_classes(folder, table, class_names, "retinal-oct", size=size, strict=strict)


def _table(folder: Path) -> pd.DataFrame:
    """Return file, label, patient, source, licence, and split where it is official."""
    names = pd.Series(files.image_files(folder), dtype=str)
    if names.empty:
        raise DataError(f"{folder} holds no image; put OCT2017's folders train and test there.")
    table = names.str.extract(FILE_NAME)
    wrong = names[table["label"].isna()]
    if len(wrong):
        raise DataError(
            f"{folder / wrong.iloc[0]} is not named CLASS-patient-number as the files of OCT2017 "
            f"are ({len(wrong)} of {len(names)} are not)."
        )
    table.insert(0, "file", names)
    table = table.assign(source="Kermany et al., Mendeley rscbjbr9sj", licence="CC BY 4.0")
    splits = files.split_of_folders(names.tolist())
    return table if splits is None else table.assign(split=splits)


def without_shared_patients(table: pd.DataFrame, name: str, who: str = "patients") -> pd.DataFrame:
    """Leave each patient to one side of the official split, and say so: test, else val, else train.

    ``table`` has ``patient`` or ``cluster``, and maybe ``split``; ``name`` is the data set's, and
    ``who`` is shared.
    """
    if "split" not in table.columns:
        return table
    patients = table["patient" if "patient" in table.columns else "cluster"]
    side = table["split"].map(SPLIT_NAMES.index)
    shared = side < side.groupby(patients).transform("max")
    if shared.any():
        logger.warning(
            "%s: the official split shares %d %s; %d images of them are left out of train and "
            "val, and the test set is kept whole.",
            name,
            patients[shared].nunique(),
            who,
            shared.sum(),
        )
    return table[~shared].reset_index(drop=True)
