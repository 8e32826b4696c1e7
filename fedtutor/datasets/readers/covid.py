"""Chest X-rays of COVID-19: the COVID-19 Radiography Database, and ieee8023/covid-chestxray.

Both were collected from papers, websites and other data sets. Which class an image is of can be
read from where it comes from, so a model may score well without looking at a lung
(DeGrave et al. 2021; Maguolo & Nanni 2021); neither set can show that a model works on patients.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from fedtutor.datasets.duplicates import duplicate_groups, find_duplicates
from fedtutor.datasets.readers import files
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

RADIOGRAPHY_TASKS = {
    "three-class": ("Normal", "Viral Pneumonia", "COVID"),
    "four-class": ("Normal", "Viral Pneumonia", "COVID", "Lung_Opacity"),
}
RADIOGRAPHY_SOURCES = {
    "Normal": "RSNA challenge (adults, from NIH) and Kermany (children)",
    "Viral Pneumonia": "Kermany, Guangzhou (children)",
    "COVID": "PadChest, Hannover, SIRM, GitHub and papers (adults)",
    "Lung_Opacity": "RSNA challenge (adults, from NIH)",
}
"""What is known of each class, by the name of its folder."""

CHESTXRAY_TASKS = {
    "three-class": ("No Finding", "Other pneumonia", "COVID-19"),
    "COVID-19": ("No Finding", "COVID-19"),
}
CHESTXRAY_TABLES = ("metadata.csv", "labels.csv")
CHESTXRAY_COLUMNS = {"patientid", "finding", "view", "location", "license"}

OTHER_PNEUMONIAS = re.compile(
    "pneumonia|sars|mers|pneumocystis|strepto|klebsiella|legionella|chlamydophila|mycoplasma|"
    r"e\.coli|varicella|influenza|herpes|aspiration|lipoid|nocardia|staphylo|aspergillosis",
    re.IGNORECASE,
)
"""Findings that early versions of the table name without "Pneumonia/" before them."""

COUNTRIES = {"USA": "United States", "US": "United States", "UK": "United Kingdom"}

logger = logging.getLogger(__name__)


def find_radiography(folder: Path) -> dict[str, Path] | None:
    """Return the folder of images of each class, or None if COVID and another are not there.

    The newer releases have ``CLASS/images/`` and, beside it, ``masks/`` of the lungs, which are
    not read; the older have the images in ``CLASS/``.
    """
    for root in (folder, folder / "COVID-19_Radiography_Dataset"):
        found = {name: root / name for name in RADIOGRAPHY_SOURCES if (root / name).is_dir()}
        if "COVID" in found and len(found) > 1:
            return found | {k: v / "images" for k, v in found.items() if (v / "images").is_dir()}
    return None


def read_radiography(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read the COVID-19 Radiography Database (Chowdhury et al. 2020, Rahman et al. 2021).

    Who the patients are was not published. Exact and near duplicates (450 of the COVID images
    have one) are given one number in the column ``cluster``, and every other image one of its
    own: twins cannot straddle a split, two different X-rays of one person still can. A column
    ``source`` names the collections of each class; that the classes are confounded with source
    and age is logged at every load.

    Parameters
    ----------
    folder : holds ``COVID``, ``Normal``, ``Viral Pneumonia`` and ``Lung_Opacity``, at once or in
        ``COVID-19_Radiography_Dataset``, each with ``images/`` and ``masks/`` or with the images.
    size, strict : as for :func:`fedtutor.datasets.load`; by default 128 pixels, in the files 299.
    task : "three-class" (Normal, Viral Pneumonia, COVID) or "four-class" (and Lung_Opacity).

    Raises
    ------
    DataError
        If the folders are not there, the task is unknown, or fewer than two classes have images.
    """
    folder = Path(folder)
    class_names = files.classes_of_task(task, RADIOGRAPHY_TASKS, "COVID-19 Radiography")
    if (folders := find_radiography(folder)) is None:
        raise DataError(
            f"{folder} has no folders {', '.join(RADIOGRAPHY_SOURCES)}; unpack the archive "
            "of the COVID-19 Radiography Database there."
        )
    rows = [
        ((folders[name] / file).relative_to(folder).as_posix(), name, RADIOGRAPHY_SOURCES[name])
        for name in class_names
        if name in folders
        for file in files.image_files(folders[name])
    ]
    table = pd.DataFrame(rows, columns=["file", "label", "source"])
    table["licence"] = "see the source"
    data = files.read_classes(
        folder, table, class_names, "covid19-radiography", size=size, strict=strict
    )
    groups = duplicate_groups(find_duplicates(data.images), len(data))
    logger.warning(
        "COVID-19 Radiography: class is confounded with source and age (viral pneumonia: children "
        "from Guangzhou; COVID: adults of many collections), and no patient is known: %d images "
        "make %d clusters of near twins, and two images of one person may be on both sides of a "
        "split.",
        len(data),
        len(set(groups)),
    )
    return replace(data, table=data.table.assign(cluster=groups.astype(str)))


def find_chestxray_table(folder: Path) -> Path | None:
    """Return the table of ieee8023/covid-chestxray in ``folder``, or None."""
    for path in (folder / name for name in CHESTXRAY_TABLES):
        if path.is_file() and CHESTXRAY_COLUMNS.issubset(files.read_header(path)[1]):
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
    size, strict : as for :func:`fedtutor.datasets.load`; by default 128 pixels.
    task : "three-class", or "COVID-19" against No Finding.

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
    folder = Path(folder)
    class_names = files.classes_of_task(task, CHESTXRAY_TASKS, "covid-chestxray")
    if (path := find_chestxray_table(folder)) is None:
        raise DataError(f"{folder} has no metadata.csv of ieee8023/covid-chestxray-dataset.")
    source = files.read_csv(path)
    files.refuse_blanks(path, source, ["patientid", "finding"])
    table = _chestxray_table(source)
    is_xray = _text(source, "modality", "X-ray").eq("X-ray")
    is_frontal = table["view"].str.match(r"(?:PA|AP)\b")
    used = is_xray & is_frontal & table["label"].isin(class_names)
    if not used.all():
        logger.warning(
            "covid-chestxray: %d of %d rows are not used: no frontal X-ray, or no class of %s.",
            (~used).sum(),
            len(used),
            ", ".join(class_names),
        )
    logger.warning(
        "covid-chestxray: class is confounded with source (most papers and hospitals gave images "
        "of few classes), so a good score need not come from the lungs."
    )
    table = files.present_rows(folder, table[used])
    return files.read_classes(
        folder, table, class_names, "covid-chestxray", size=size, strict=strict
    )


def _chestxray_table(source: pd.DataFrame) -> pd.DataFrame:
    """Return our columns of all rows; ``label`` is None where the finding has no class."""
    location = _text(source, "location", "unknown")
    country = location.str.rpartition(",")[2].str.strip()
    if "file" in source.columns:
        file = source["file"]
    else:
        file = _text(source, "folder", "images") + "/" + source["filename"]
    return pd.DataFrame(
        {
            "file": file,
            "label": source["finding"].map(_class_of),
            "patient": source["patientid"],
            "hospital": country.replace(COUNTRIES),
            "location": location,
            "sex": _text(source, "sex").where(lambda sex: sex.isin(["F", "M"])),
            "age": pd.to_numeric(_text(source, "age"), errors="coerce"),
            "view": _text(source, "view", "unknown"),
            "finding": source["finding"],
            "source": _text(source, "url", "unknown"),
            "licence": _text(source, "license", "unknown"),
        }
    )


def _text(source: pd.DataFrame, column: str, missing: str | None = None) -> pd.Series:
    """Return a column, and ``missing`` where there is none."""
    if column not in source.columns:
        return pd.Series(missing, index=source.index, dtype=object)
    return source[column].astype(object).where(source[column].notna(), missing)


def _class_of(finding: str) -> str | None:
    """Return the class of a finding such as "Pneumonia/Viral/SARS"."""
    if "COVID-19" in finding:
        return "COVID-19"
    if OTHER_PNEUMONIAS.search(finding):
        return "Other pneumonia"
    return finding if finding == "No Finding" else None
