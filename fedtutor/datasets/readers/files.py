"""What the readers of real data sets share: finding, listing and decoding their files."""

from __future__ import annotations

import gzip
import logging
import os
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd

from fedtutor.datasets.cache import cached_images
from fedtutor.datasets.decode import BadImageError, read_images
from fedtutor.errors import DataError
from fedtutor.images import SPLIT_NAMES, MedicalImages

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
HIDDEN = (".", "__MACOSX")
"""How files and folders begin that belong to the system and not to the data."""

DEFAULT_SIZE = 128

MAX_CLASSES = 100
"""More are a mistake, such as a column of names in the place of the labels."""

CACHE_FROM = 1000
"""Fewer files are decoded in seconds, and leave nothing behind in a folder of one's own."""

CACHE_FOLDER = ".decoded"

BROKEN_TABLE = (OSError, ValueError, EOFError, zlib.error)
"""What pandas and gzip raise for a file that is no table; pandas' own errors are ValueErrors."""

logger = logging.getLogger(__name__)


def image_files(folder: Path) -> list[str]:
    """Return all images at any depth below ``folder`` as paths from there, sorted."""
    return [file for file in visible_files(folder) if file.lower().endswith(IMAGE_SUFFIXES)]


def visible_files(folder: Path) -> list[str]:
    """Return all files at any depth below ``folder`` but hidden ones, as paths from there, sorted.

    macOS puts a ``._NAME.png``, which is no image, beside every file of an archive.
    """
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        below = (Path(root).relative_to(folder).as_posix() + "/").removeprefix("./")
        found += [below + name for name in names if not name.startswith(HIDDEN)]
    return sorted(found, key=lambda file: file.split("/"))


def split_of_folders(files: Sequence[str]) -> list[str] | None:
    """Return the official split that is told by folders ``train``, ``test`` and maybe ``val``.

    None unless each file lies in one of them, at any depth, and some in ``train`` and ``test``.
    """
    splits = [
        next((part for part in file.split("/")[:-1] if part in SPLIT_NAMES), "") for file in files
    ]
    return splits if {"train", "test"} <= set(splits) <= set(SPLIT_NAMES) else None


def present_rows(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table whose ``file`` is here, with its path from ``folder``.

    A file is such a path, or a name alone, which is looked for in all sub-folders. How many rows
    are left out is logged. Raises :class:`DataError` if none is here, or a name alone may mean
    several files.
    """
    places: dict[str, list[str]] = {}
    for place in image_files(folder):
        places.setdefault(normalize("NFC", place.rpartition("/")[2]), []).append(place)
    # A Mac may write the ü of a file's name as u and two dots, where the table has one letter.
    names = table["file"].str.replace("\\", "/").str.removeprefix("./").str.normalize("NFC")
    found = [_place(folder, name, places.get(name.rpartition("/")[2], [])) for name in names]
    absent = [name for name, place in zip(names, found, strict=True) if place is None]
    if len(absent) == len(found):
        raise DataError(
            f"the table in {folder} lists {len(found)} images, such as {absent[0]}, and none of "
            "them is in that folder or below it; put them there, or give their paths from there."
        )
    if absent:
        what = "%s: %d of %d rows have no image here and are left out; the first: %s."
        logger.warning(what, folder.name, len(absent), len(found), absent[0])
    table = table.assign(file=found)
    return table[table["file"].notna()].reset_index(drop=True)


def _place(folder: Path, name: str, places: Sequence[str]) -> str | None:
    """Return which of the images of one name, all ``places``, is meant by ``name``, if any."""
    if same := [place for place in places if normalize("NFC", place) == name]:
        return same[0]
    # Another folder's file of the same name may show another patient.
    if "/" in name or not places:
        return None
    if len(places) > 1:
        raise DataError(
            f"{name} in the table of {folder} may be {' or '.join(places)}; give the path of the "
            "one that is meant, or leave only one."
        )
    return places[0]


def read_header(path: Path) -> tuple[str, list[str]]:
    """Return what separates the columns of a table, plain or gzipped, and their names."""
    reader = gzip.open if path.suffix == ".gz" else open
    with reader(path, "rt", encoding="utf-8-sig", errors="replace") as stream:
        line = stream.readline()
    separator = max(",;\t", key=line.count)
    return separator, [name.strip(' "\r\n') for name in line.split(separator)]


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table with commas, semicolons or tabs, plain or gzipped, without spaces around words.

    All columns are text, so that numbers keep their leading zeros; NaN where there is none.
    Raises :class:`DataError` if it is no table or has no rows.
    """
    try:
        with warnings.catch_warnings():
            # NIH's rows end in a comma more than its header has; nothing is lost with it.
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            table = pd.read_csv(
                path, sep=read_header(path)[0], dtype=str, index_col=False, skipinitialspace=True
            )
    except BROKEN_TABLE as error:
        encoding = " Save it in UTF-8, in Excel as 'CSV UTF-8'." * isinstance(error, UnicodeError)
        what = f"{path} cannot be read as a table: {one_line(error)}.{encoding}"
        raise DataError(what) from error
    if table.empty:
        raise DataError(f"{path} has a header but no rows.")
    table = table.rename(columns=str.strip).apply(lambda column: column.str.strip())
    return table.where(table != "")


def refuse_blanks(path: Path, table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise :class:`DataError` if one of the columns has a gap."""
    for column in columns:
        if blanks := int(table[column].isna().sum()):
            raise DataError(
                f"{path}: {blanks} of {len(table)} rows have no {column}; fill them in."
            )


def classes_of_task(
    task: str | None, tasks: Mapping[str, tuple[str, ...]], name: str
) -> tuple[str, ...]:
    """Return the classes of a task of the data set ``name``, by default of its first.

    Raises :class:`DataError` for an unknown task; it lists those there are.
    """
    if task is None:
        task = next(iter(tasks))
    if task not in tasks:
        raise DataError(f"{name} has no task {task!r}; there are: {', '.join(tasks)}.")
    return tasks[task]


def decode_rows(
    folder: Path, table: pd.DataFrame, *, size: int | None, strict: bool, colour: bool = False
) -> tuple[np.ndarray, pd.DataFrame]:
    """Decode the column ``file``, paths relative to ``folder``, of a table.

    Returns
    -------
    (images, table)
        uint8 (n, size, size, 1), in ``colour`` (n, size, size, 3), and the rows of the n good
        files. Bad files are counted in a logged line and listed in ``table.attrs["bad_files"]``:
        file and reason of each. If ``strict``, the first one raises :class:`BadImageError`.
    """
    files, size = [folder / file for file in table["file"]], size or DEFAULT_SIZE
    if len(files) < CACHE_FROM:
        found = read_images(files, size=size, colour=colour)
    else:
        cache = folder / CACHE_FOLDER
        found = cached_images(files, size=size, folder=cache, colour=colour)
    if found.bad:
        if strict:
            first = min(found.bad)
            raise BadImageError(files[first], found.bad[first])
        bad = [{"file": str(files[k]), "reason": reason} for k, reason in found.bad.items()]
        what = "%s: %d of %d files are left out because they are no whole images; the first: %s %s."
        logger.warning(what, folder.name, len(bad), len(files), *bad[0].values())
        table = table.iloc[found.kept].reset_index(drop=True)
        table.attrs["bad_files"] = bad
    return found.images, table


def read_classes(
    folder: Path,
    table: pd.DataFrame,
    class_names: Sequence[str],
    name: str,
    *,
    size: int | None,
    strict: bool,
    colour: bool = False,
) -> MedicalImages:
    """Read the images of a table whose column ``label``, which is taken out, names their class.

    Raises :class:`DataError` if fewer than two of the classes occur, or as :func:`decode_rows`.
    """
    missing = [name for name in class_names if name not in set(table["label"])]
    if len(class_names) - len(missing) < 2:
        raise DataError(
            f"{folder} has images of fewer than two of the classes {', '.join(class_names)}; "
            f"none is {' or '.join(missing)}."
        )
    if missing:
        logger.warning("%s: no image here is %s.", folder.name, " or ".join(missing))
    images, table = decode_rows(folder, table, size=size, strict=strict, colour=colour)
    labels = pd.Categorical(table["label"], categories=list(class_names)).codes.astype(np.int64)
    return MedicalImages(images, labels, tuple(class_names), table.drop(columns="label"), name)


def one_line(error: Exception) -> str:
    """Return what an error says, without line breaks and a full stop."""
    return " ".join(str(error).split()).rstrip(".")
