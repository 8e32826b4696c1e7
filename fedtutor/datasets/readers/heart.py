"""UCI Heart Disease (Janosi, Steinbrunn, Pfisterer, Detrano 1988): a table from each hospital."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from fedtutor.datasets.readers.files import one_line
from fedtutor.errors import DataError

CLASSES = ("no heart disease", "heart disease")

FILES = {
    "Cleveland": "processed.cleveland.data",
    "Budapest": "processed.hungarian.data",
    "Zürich and Basel": "processed.switzerland.data",
    "Long Beach VA": "processed.va.data",
}
"""By hospital (the Swiss two sent one file), in FLamby's order."""

COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"),
)
"""Of the official files, which have no header; their codes stand in the set's card."""


def read_heart_disease(folder: Path) -> pd.DataFrame:
    """Read the official ``processed.*.data`` files of the four hospitals.

    Returns
    -------
    One row a patient, in the order of :data:`FILES`: :data:`COLUMNS` as float64, NaN where a file
    has ``?``, and ``hospital`` (str).

    Raises
    ------
    DataError
        If a file is missing, has other columns, or something that is no number.
    """
    tables = [_read_file(Path(folder) / name) for name in FILES.values()]
    sizes = [len(table) for table in tables]
    return pd.concat(tables, ignore_index=True).assign(hospital=np.repeat(list(FILES), sizes))


def _read_file(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, header=None, na_values="?", dtype=str, encoding="utf-8")
        if table.shape[1] != len(COLUMNS) or table.empty:
            raise ValueError(f"{table.shape[1]} columns, and not {len(COLUMNS)}")
        return table.set_axis(list(COLUMNS), axis=1).astype(np.float64)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing; fedtutor fetch fed-heart-disease brings all four files."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no table of UCI Heart Disease: {one_line(error)}.") from error
