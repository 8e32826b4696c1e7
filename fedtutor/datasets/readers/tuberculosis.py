"""Tuberculosis in two hospitals (Jaeger et al. 2014): Shenzhen, China, and Montgomery, USA.

Two small sets of the U.S. National Library of Medicine with one question, two countries, two ways
of choosing the patients and two X-ray machines: excellent at home may be worthless next door.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from fedtutor.datasets.readers import files
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

CLASSES = ("Normal", "Tuberculosis")
"""In the order of the last digit of a file's name."""

HOSPITALS = {"CHNCXR": "Shenzhen", "MCUCXR": "Montgomery"}
"""By how the names of a hospital's files begin."""

FILE_NAME = re.compile(r"(?P<patient>(?P<hospital>CHNCXR|MCUCXR)_\d{4})_(?P<label>[01])\.png")
NO_XRAYS = {"ManualMask", "leftMask", "rightMask", "masks", "mask", "test"}
"""Folders of lungs drawn by hand, with the very names of the X-rays, and of second copies."""

READINGS = "ClinicalReadings"
SEX = re.compile(r"\b(?:sex:\s*([fm])\b|(fe)?male)", re.IGNORECASE)
AGE = re.compile(r"(\d+)\s*(y|yrs?|years?|m|months?|w|weeks?|d|days?)\b", re.IGNORECASE)
AGE_UNITS = {"y": 1.0, "m": 1 / 12, "w": 1 / 52.18, "d": 1 / 365.25}

LICENCE = "free for research; name the NLM and the hospital, cite Jaeger et al. 2014"

logger = logging.getLogger(__name__)


def find_tuberculosis(folder: Path) -> list[str]:
    """Return the X-rays at any depth below ``folder`` that are named as in the two sets.

    A name that occurs twice, as in some copies of the sets, is taken once, where it is first.
    """
    found: dict[str, str] = {}
    for file in files.image_files(folder):
        *folders, name = file.split("/")
        if FILE_NAME.fullmatch(name) and not NO_XRAYS & set(folders):
            found.setdefault(name, file)
    return list(found.values())


def read_tuberculosis(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read the sets of Shenzhen and of Montgomery, both or one of them.

    The last digit of a name is the class, its beginning the hospital, its number the patient: the
    sets have one X-ray a case. Sex and age stand in ``ClinicalReadings/``, where each hospital
    writes them its own way ("Patient's Age: 027Y", "male 45yrs"), before what was seen. The lungs
    that were drawn by hand are not read: they are no lesions.

    Parameters
    ----------
    folder : has the X-rays and the readings at any depth, such as ``MontgomerySet/CXR_png`` and
        ``ChinaSet_AllFiles/CXR_png``.
    size, strict : as for :func:`fedtutor.datasets.load`; by default 128 pixels. The files have
        4020 x 4892 (Montgomery) or about 3000 x 3000 (Shenzhen), and are squeezed.
    task : there is one only.

    Returns
    -------
    MedicalImages
        With the columns patient, hospital, sex, age (years; NaN where no reading tells it),
        reading (in the radiologists' words), source and licence.

    Raises
    ------
    DataError
        If no X-ray of the two sets is here, or only of one class.
    """
    folder = Path(folder)
    if task is not None:
        raise DataError(f"the tuberculosis sets have one task only; got {task!r}.")
    found = find_tuberculosis(folder)
    if not found:
        raise DataError(
            f"{folder} has no X-ray named like CHNCXR_0001_0.png or MCUCXR_0001_0.png; put the "
            "folders CXR_png and ClinicalReadings of the two sets there."
        )
    names = pd.Series(found, dtype=str)
    table = names.str.rpartition("/")[2].str.extract(FILE_NAME)
    table.insert(0, "file", names)
    table["label"] = table["label"].astype(int).map(dict(enumerate(CLASSES)))
    table["hospital"] = table["hospital"].map(HOSPITALS)
    table = pd.concat([table, _readings(folder, names)], axis=1)
    table = table.assign(source="U.S. National Library of Medicine", licence=LICENCE)
    if table["hospital"].nunique() == 1:
        what = "tuberculosis-cxr: only %s is here; the two hospitals are what the set is for."
        logger.warning(what, table["hospital"].iloc[0])
    return files.read_classes(folder, table, CLASSES, "tuberculosis-cxr", size=size, strict=strict)


def _readings(folder: Path, names: pd.Series) -> pd.DataFrame:
    """Return sex, age and reading of each X-ray, and log how many have no reading."""
    texts = {
        place.rpartition("/")[2].removesuffix(".txt"): folder / place
        for place in files.visible_files(folder)
        if place.endswith(".txt") and READINGS in place.split("/")
    }
    stems = names.str.rpartition("/")[2].str.removesuffix(".png")
    rows = [_reading(texts[stem]) if stem in texts else (None, None, None) for stem in stems]
    if absent := sum(row[2] is None for row in rows):
        what = "tuberculosis-cxr: %d of %d X-rays have no %s, so no sex and no age."
        logger.warning(what, absent, len(rows), READINGS)
    table = pd.DataFrame(rows, columns=["sex", "age", "reading"])
    return table.astype({"age": float})


def _reading(path: Path) -> tuple[str | None, float | None, str]:
    """Return sex, age in years and what was seen of one text file; None for what is not told."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Sex and age stand in the first line or the first two, the words on the lungs after them.
    head = [line for line in lines[:2] if SEX.search(line) or AGE.search(line)]
    told = " ".join(head)
    sex, age = SEX.search(told), AGE.search(told)
    letter = (sex[1] or ("F" if sex[2] else "M")).upper() if sex else None
    years = int(age[1]) * AGE_UNITS[age[2][0].lower()] if age else None
    return letter, years, " ".join(lines[len(head) :])
