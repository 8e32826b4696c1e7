"""Chest X-rays of COVID-19: the COVID-19 Radiography Database, and ieee8023/covid-chestxray.

Both were collected from papers, websites and other data sets. Which class an image is of can be
read from where it comes from, so a model may score well without looking at a lung
(DeGrave et al. 2021; Maguolo & Nanni 2021); neither set can show that a model works on patients.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from fedtutor.datasets.duplicates import duplicate_groups, find_duplicates
from fedtutor.datasets.readers.files import (
    check_classes,
    check_task,
    decode_rows,
    image_files,
    one_class_an_image,
    present_rows,
    read_csv,
    refuse_blanks,
)
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

RADIOGRAPHY_CLASSES = ("Normal", "Viral Pneumonia", "COVID")
RADIOGRAPHY_FOUR_CLASSES = (*RADIOGRAPHY_CLASSES, "Lung_Opacity")
RADIOGRAPHY_TASKS = ("three-class", "four-class")
RADIOGRAPHY_ROOT = "COVID-19_Radiography_Dataset"

RADIOGRAPHY_FOLDERS = {
    "normal": "Normal",
    "viral pneumonia": "Viral Pneumonia",
    "covid": "COVID",
    "covid-19": "COVID",
    "lung_opacity": "Lung_Opacity",
}
"""What the releases call the folder of each class, in lower case."""

RADIOGRAPHY_SOURCES = {
    "Normal": "RSNA challenge (adults, from NIH) and Kermany (children)",
    "Viral Pneumonia": "Kermany, Guangzhou (children)",
    "COVID": "PadChest, Hannover, SIRM, GitHub and papers (adults)",
    "Lung_Opacity": "RSNA challenge (adults, from NIH)",
}

CHESTXRAY_CLASSES = ("No Finding", "Other pneumonia", "COVID-19")
CHESTXRAY_TASKS = ("three-class", "COVID-19")
CHESTXRAY_TABLES = ("metadata.csv", "labels.csv")
CHESTXRAY_COLUMNS = {"patientid", "finding", "view", "location", "license"}

OTHER_PNEUMONIAS = (
    "pneumonia|sars|mers|pneumocystis|strepto|klebsiella|legionella|chlamydophila|mycoplasma|"
    r"e\.coli|varicella|influenza|herpes|aspiration|lipoid|nocardia|staphylo|aspergillosis"
)
"""Findings that early versions of the table name without "Pneumonia/" before them."""

COUNTRIES = {"USA": "United States", "US": "United States", "UK": "United Kingdom"}

logger = logging.getLogger(__name__)


def find_radiography(folder: Path) -> dict[str, Path] | None:
    """The folder of images of each class in ``folder`` or in the one it was packed in.

    The newer releases have ``CLASS/images/`` and, beside it, ``masks/`` of the lungs, which are
    no images; the older have the images in ``CLASS/``. None if fewer than two are there.
    """
    for root in (folder, folder / RADIOGRAPHY_ROOT, folder / "COVID-19 Radiography Database"):
        if not root.is_dir():
            continue
        found = {
            RADIOGRAPHY_FOLDERS[path.name.lower()]: path
            for path in sorted(root.iterdir())
            if path.is_dir() and path.name.lower() in RADIOGRAPHY_FOLDERS
        }
        if "COVID" in found and len(found) > 1:
            return {
                name: path / "images" if (path / "images").is_dir() else path
                for name, path in found.items()
            }
    return None


def read_radiography(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read the COVID-19 Radiography Database (Chowdhury et al. 2020, Rahman et al. 2021).

    Who the patients are was not published. Exact and near duplicates (450 of the COVID images
    have one) are given one number in the column ``patient``, and every other image one of its
    own: twins cannot straddle a split, two different X-rays of one person still can. A column
    ``source`` names the collections of each class; that the classes are confounded with source
    and age is logged at every load.

    Parameters
    ----------
    folder : holds ``COVID``, ``Normal``, ``Viral Pneumonia`` and ``Lung_Opacity``, at once or in
        ``COVID-19_Radiography_Dataset``, each with ``images/`` and ``masks/`` or with the images.
    size : side of the square images in pixels; by default 128, in the files 299.
    task : "three-class" (Normal, Viral Pneumonia, COVID) or "four-class" (and Lung_Opacity).
    strict : refuse the first bad file; by default bad files are left out, which is logged.

    Raises
    ------
    DataError
        If the folders are not there, the task is unknown, or fewer than two classes have images.
    """
    folder, task = Path(folder), task or RADIOGRAPHY_TASKS[0]
    check_task(task, RADIOGRAPHY_TASKS, "COVID-19 Radiography")
    class_names = RADIOGRAPHY_CLASSES if task == "three-class" else RADIOGRAPHY_FOUR_CLASSES
    folders = find_radiography(folder)
    if folders is None:
        raise DataError(
            f"{folder} has no folders {', '.join(RADIOGRAPHY_FOUR_CLASSES)}; unpack the archive "
            "of the COVID-19 Radiography Database there."
        )
    rows = [
        (path.relative_to(folder).as_posix(), name, RADIOGRAPHY_SOURCES[name])
        for name in class_names
        if name in folders
        for path in image_files(folders[name])
    ]
    table = pd.DataFrame(rows, columns=["file", "label", "source"])
    table["licence"] = "see the source"
    check_classes(folder, table, class_names)
    images, table = decode_rows(folder, table, size=size, strict=strict)
    table["patient"] = _pseudo_patients(images)
    logger.warning(
        "COVID-19 Radiography: class is confounded with source and age (viral pneumonia: children "
        "from Guangzhou; COVID: adults of many collections), and no patient is known: %d images "
        "are taken for %d patients by their duplicates.",
        len(table),
        table["patient"].nunique(),
    )
    return one_class_an_image(images, table, class_names, "covid19-radiography")


def _pseudo_patients(images: np.ndarray) -> np.ndarray:
    """One name for an image and its twins, str (n,)."""
    groups = duplicate_groups(find_duplicates(images), len(images))
    return np.array([f"group-{group}" for group in groups])


def find_chestxray_table(folder: Path) -> Path | None:
    """The table of ieee8023/covid-chestxray in ``folder``, or None."""
    for name in CHESTXRAY_TABLES:
        path = folder / name
        if path.is_file():
            with open(path, encoding="utf-8", errors="replace") as stream:
                header = {column.strip() for column in stream.readline().split(",")}
            if header >= CHESTXRAY_COLUMNS:
                return path
    return None


def read_covid_chestxray(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read ieee8023/covid-chestxray-dataset (Cohen et al. 2020): frontal X-rays.

    Kept are rows whose view is PA or AP of any kind (not lateral, not CT) and whose modality, if
    given, is X-ray. ``COVID-19`` is what has that finding, ``Other pneumonia`` every other
    pneumonia by name, whatever the germ, ``No Finding`` what is called so; tuberculosis, unknown
    findings and open ones ("todo") are left out. How many rows are not used is logged.

    Most locations have a handful of images, so the ``hospital`` is the country, the last part of
    the ``location`` ("unknown" where there is none); the location itself is kept beside it.

    Parameters
    ----------
    folder : a clone, with ``metadata.csv`` and ``images/``.
    size : side of the square images in pixels; by default 128.
    task : "three-class", or "COVID-19" against No Finding.
    strict : refuse the first bad file; by default bad files are left out, which is logged.

    Returns
    -------
    MedicalImages
        With the columns patient, hospital, location, sex, age, view, source (the address of the
        page), licence (of this very image; "unknown" where none is given), finding and file.

    Raises
    ------
    DataError
        If there is no such table, the task is unknown, or nothing listed is here.
    """
    folder, task = Path(folder), task or CHESTXRAY_TASKS[0]
    check_task(task, CHESTXRAY_TASKS, "covid-chestxray")
    path = find_chestxray_table(folder)
    if path is None:
        raise DataError(f"{folder} has no metadata.csv of ieee8023/covid-chestxray-dataset.")
    class_names = CHESTXRAY_CLASSES if task == "three-class" else ("No Finding", "COVID-19")
    source = read_csv(path, ["patientid"]).rename(columns=str.strip)
    table = _chestxray_table(path, source)
    used = _is_frontal(source) & table["label"].isin(class_names)
    if not used.all():
        logger.warning(
            "covid-chestxray: %d of %d rows are not used: no frontal X-ray, or no class of %s.",
            (~used).sum(),
            len(used),
            ", ".join(class_names),
        )
    table = present_rows(path, table[used].reset_index(drop=True))
    check_classes(folder, table, class_names)
    images, table = decode_rows(folder, table, size=size, strict=strict)
    return one_class_an_image(images, table, class_names, "covid-chestxray")


def _chestxray_table(path: Path, source: pd.DataFrame) -> pd.DataFrame:
    """Our columns of all rows of the table; ``label`` is None where the finding has no class."""
    refuse_blanks(path, source, ["patientid", "finding"])
    location = _text(source, "location", "unknown")
    country = location.str.rpartition(",")[2].str.strip()
    return pd.DataFrame(
        {
            "file": _file(source),
            "label": _group(source["finding"]),
            "patient": source["patientid"].str.strip(),
            "hospital": country.replace(COUNTRIES),
            "location": location,
            "sex": _text(source, "sex").where(lambda sex: sex.isin(["F", "M"])),
            "age": pd.to_numeric(_text(source, "age"), errors="coerce"),
            "view": _text(source, "view", "unknown"),
            "finding": source["finding"].str.strip(),
            "source": _text(source, "url", "unknown"),
            "licence": _text(source, "license", "unknown"),
        }
    )


def _text(source: pd.DataFrame, column: str, missing: str | None = None) -> pd.Series:
    """A column as text without blanks around it, and ``missing`` where there is none."""
    if column not in source.columns:
        return pd.Series(missing, index=source.index, dtype=object)
    text = source[column].astype(object)
    return text.where(text.isna(), text.astype(str).str.strip()).where(text.notna(), missing)


def _file(source: pd.DataFrame) -> pd.Series:
    """The path of each image from the folder of the table."""
    if "file" in source.columns:
        return source["file"]
    return _text(source, "folder", "images") + "/" + source["filename"]


def _is_frontal(source: pd.DataFrame) -> pd.Series:
    frontal = source["view"].astype(str).str.match(r"\s*(?:PA|AP)\b")
    return frontal & _text(source, "modality", "X-ray").eq("X-ray")


def _group(findings: pd.Series) -> pd.Series:
    """The class of a finding such as "Pneumonia/Viral/SARS", or None."""
    findings = findings.str.strip()
    covid = findings.str.contains("COVID-19", regex=False)
    other = findings.str.contains(OTHER_PNEUMONIAS, case=False)
    label = np.select(
        [covid, other, findings == "No Finding"],
        ["COVID-19", "Other pneumonia", "No Finding"],
        default=None,
    )
    return pd.Series(label, index=findings.index, dtype=object)
