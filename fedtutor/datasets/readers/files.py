"""What the readers of real data sets share: finding, listing and decoding their files."""

from __future__ import annotations

import logging
import os
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fedtutor.datasets.cache import cached_images
from fedtutor.datasets.decode import Decoded, read_images
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
DEFAULT_SIZE = 128

CACHE_FROM = 1000
"""Fewer files are decoded in seconds, and leave nothing behind in a folder of one's own."""

CACHE_FOLDER = ".decoded"

BROKEN_TABLE = (OSError, ValueError, EOFError, zlib.error)
"""What pandas and gzip raise for a file that is no table; pandas' own errors are ValueErrors."""

logger = logging.getLogger(__name__)


def image_files(folder: Path) -> list[Path]:
    """All image files at any depth below ``folder``, sorted, hidden ones left out.

    macOS hides a ``._NAME.png`` that is no image beside every file of an archive.
    """
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [
            Path(root, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def find_images(folder: Path, names: Iterable[str]) -> pd.Series:
    """For each name the path, relative to ``folder``, of that file.

    A name that is no path from the folder is looked for in all its sub-folders; where several
    have it, the first is taken. None where there is no such file.
    """
    paths = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    by_name = {path.rpartition("/")[2]: path for path in reversed(paths)}
    by_path = dict(zip(paths, paths, strict=True))
    found = [by_path.get(name) or by_name.get(name.rpartition("/")[2]) for name in map(str, names)]
    return pd.Series(found, dtype=object)


def present_rows(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table read from ``path`` whose ``file`` is here, with its relative path.

    Raises
    ------
    DataError
        If none is.
    """
    files = find_images(path.parent, table["file"])
    present = files.notna().to_numpy()
    if not present.any():
        raise DataError(
            f"{path} lists {len(table)} images and none of them is below {path.parent}."
        )
    return table.assign(file=files.to_numpy())[present].reset_index(drop=True)


def read_csv(path: Path, text_columns: Sequence[str] = ()) -> pd.DataFrame:
    """A table, plain or gzipped; ``text_columns`` keep their leading zeros.

    Raises
    ------
    DataError
        If it is no table or has no rows.
    """
    try:
        with warnings.catch_warnings():
            # NIH's rows end in a comma more than its header has; nothing is lost with it.
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            table = pd.read_csv(path, dtype=dict.fromkeys(text_columns, str), index_col=False)
    except BROKEN_TABLE as error:
        raise DataError(f"{path} cannot be read as a table: {one_line(error)}.") from error
    if table.empty:
        raise DataError(f"{path} has a header but no rows.")
    return table


def refuse_blanks(path: Path, table: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise :class:`DataError` if one of the columns has a gap."""
    for column in columns:
        if blanks := int(table[column].isna().sum()):
            raise DataError(
                f"{path}: {blanks} of {len(table)} rows have no {column}; fill them in."
            )


def decode_rows(
    folder: Path, table: pd.DataFrame, *, size: int | None, strict: bool
) -> tuple[np.ndarray, pd.DataFrame]:
    """Decode the column ``file``, paths relative to ``folder``, of a table.

    Returns
    -------
    (images, table)
        uint8 (n, size, size, 1), and the rows of the n good files. Bad files are counted in a
        logged line and listed in ``table.attrs["bad_files"]``: file and reason of each.

    Raises
    ------
    BadImageError
        If ``strict``, for the first bad file.
    """
    files = [folder / file for file in table["file"]]
    images, kept, bad = _decode(files, folder, size or DEFAULT_SIZE, strict)
    if len(bad):
        logger.warning(
            "%s: %d of %d files are left out because they are no whole images; the first: %s %s.",
            folder.name,
            len(bad),
            len(files),
            bad["file"].iloc[0],
            bad["reason"].iloc[0],
        )
        table = table.iloc[kept].reset_index(drop=True)
        table.attrs["bad_files"] = bad[["file", "reason"]].to_dict("records")
    return images, table


def _decode(files: list[Path], folder: Path, size: int, strict: bool) -> Decoded:
    if len(files) < CACHE_FROM:
        return read_images(files, size=size, strict=strict)
    return cached_images(files, size=size, folder=folder / CACHE_FOLDER, strict=strict)


def one_class_an_image(
    images: np.ndarray,
    table: pd.DataFrame,
    class_names: Sequence[str],
    name: str,
    masks: np.ndarray | None = None,
) -> MedicalImages:
    """Images whose class is named in the column ``label`` of the table, which is taken out."""
    labels = pd.Categorical(table["label"], categories=list(class_names)).codes
    return MedicalImages(
        images=images,
        labels=labels.astype(np.int64),
        class_names=tuple(class_names),
        table=table.drop(columns="label"),
        name=name,
        masks=masks,
    )


def check_task(task: str, allowed: Sequence[str], name: str) -> None:
    """Raise :class:`DataError` if ``task`` is none of those allowed."""
    if task not in allowed:
        raise DataError(f"{name} has no task {task!r}; there are: {', '.join(allowed)}.")


def check_classes(folder: Path, table: pd.DataFrame, class_names: Sequence[str]) -> None:
    """Refuse a set of fewer than two classes; log which of the others nobody has."""
    missing = [name for name in class_names if name not in set(table["label"])]
    if len(class_names) - len(missing) < 2:
        raise DataError(
            f"{folder} has images of fewer than two of the classes {', '.join(class_names)}; "
            f"none is {' or '.join(missing)}."
        )
    if missing:
        logger.warning("%s: no image here is %s.", folder.name, " or ".join(missing))


def one_line(error: Exception) -> str:
    """What an error says, without line breaks and a full stop."""
    return " ".join(str(error).split()).rstrip(".")
