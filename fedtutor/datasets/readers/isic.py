"""Fed-ISIC2019 (FLamby, Ogier du Terrail et al. 2022): skin lesions in colour, from six centres.

The images of the ISIC challenge of 2019 whose centre is known, with FLamby's split. That split was
drawn by image and not by lesion: of its 4,650 test images 3,066 show a lesion that is also among
the training images (at Barcelona 2,301 of 2,483).
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from fedtutor.datasets.readers import files
from fedtutor.datasets.readers.oct import without_shared_patients
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages
from fedtutor.support.system import patiently

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
"""Melanoma, naevus, basal cell carcinoma, actinic keratosis, benign keratosis, dermatofibroma,
vascular lesion, squamous cell carcinoma: FLamby's ``target``, 0 to 7."""

TASKS: dict[str, tuple[str, ...]] = {"eight-class": CLASSES, "as-published": CLASSES}

CENTRES = (
    "Barcelona", "Vienna (MoleMax)", "Vienna (modern)", "Rosendahl, Queensland", "MSK",
    "Vienna (diapositives)",
)  # fmt: skip
"""FLamby's ``center``, 0 to 5; all but the first and the fifth are parts of HAM10000."""

SPLITS = ("train_test_split.csv", "train_test_split")
LESIONS = "ISIC_2019_Training_Metadata.csv"
UNPACKED = "images"

LICENCE = "CC BY-NC 4.0"

logger = logging.getLogger(__name__)


def find_isic(folder: Path) -> Path | None:
    """Return FLamby's table in ``folder``, or None."""
    return next((folder / name for name in SPLITS if (folder / name).is_file()), None)


def read_isic_table(folder: Path) -> pd.DataFrame:
    """Read what is known of each image, for which none need be there.

    Returns
    -------
    DataFrame
        In the order of FLamby's table: ``file`` (such as "ISIC_0065613.jpg"), ``label``,
        ``hospital`` (the centre), ``split`` ("train" or "test"), ``lesion``, ``sex`` ("F", "M"),
        ``age`` (years, rounded to 5), ``place`` (on the body), ``source`` and ``licence``.

    Raises
    ------
    DataError
        If one of the two tables is not here or is not what it should be.
    """
    folder = Path(folder)
    path, known = find_isic(folder), folder / LESIONS
    if path is None or not known.is_file():
        absent = known.name if path else SPLITS[0]
        how = "this fetches it: fedtutor fetch fed-isic2019 --part tables"
        raise DataError(f"{folder} has no {absent}, one of the two tables; {how}")
    split, people = files.read_csv(path), files.read_csv(known)
    people = people.rename(columns={"gender": "sex"})  # as some copies call it
    needed = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    for place, table, columns in (
        (path, split, ("image", "target", "center", "fold")),
        (known, people, needed),
    ):
        if missing := [name for name in columns if name not in table.columns]:
            raise DataError(f"{place} has no column {', '.join(missing)}; fetch it again.")
    files.refuse_blanks(path, split, ["image", "target", "center", "fold"])
    people = people.drop_duplicates("image").set_index("image").reindex(split["image"])
    lesion = people["lesion_id"].to_numpy()
    if untold := int(pd.isna(lesion).sum()):
        raise DataError(
            f"{known} tells the lesion of all but {untold} of the {len(split)} images of "
            f"{path.name}; without it the same lesion could be learnt and tested. Fetch it again."
        )
    return pd.DataFrame(
        {
            "file": split["image"] + ".jpg",
            "label": _named(path, split["target"], CLASSES),
            "hospital": _named(path, split["center"], CENTRES),
            "split": split["fold"],
            "lesion": lesion,
            "sex": people["sex"].map({"female": "F", "male": "M"}).to_numpy(),
            "age": pd.to_numeric(people["age_approx"], errors="coerce").to_numpy(),
            "place": people["anatom_site_general"].to_numpy(),
            "source": "ISIC 2019",
            "licence": LICENCE,
        }
    )


def read_fed_isic(
    folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
) -> MedicalImages:
    """Read Fed-ISIC2019, or the part of its images that is here, in colour.

    Who the patients are is not published; the lesion is, and its images stay together as a
    ``cluster``. Training images of a lesion that is tested, a third of them, are left out; the test
    set stays whole.

    Parameters
    ----------
    folder : has FLamby's ``train_test_split`` and ``ISIC_2019_Training_Metadata.csv``, and the
        images: Flower's two files ``*.parquet``, which are unpacked once into ``images/`` and need
        pyarrow; or, in any sub-folder, the ``ISIC_*.jpg`` of the challenge or of FLamby.
    size, strict : as for :func:`fedtutor.datasets.load`; by default 128 pixels. Images are
        squeezed to a square, where FLamby crops 200 x 200 of 224 x 224 and more.
    task : "eight-class"; or "as-published", with all training images, as FLamby's own figures have
        it: the same lesion is then on both sides, the score too good, and it is said.

    Raises
    ------
    DataError
        As :func:`read_isic_table`; if a parquet file cannot be read, is not the one of FLamby's
        table, or no image is here.
    """
    folder = Path(folder)
    class_names = files.classes_of_task(task, TASKS, "fed-isic2019")
    table = read_isic_table(folder)
    for side in ("train", "test"):
        for path in folder.glob(f"{side}-*.parquet"):
            _unpack(path, table[table["split"] == side], folder / UNPACKED / side)
    table = files.present_rows(folder, table)
    if task == "as-published":
        shared = table.groupby("lesion")["split"].transform("nunique") > 1
        logger.warning(
            "fed-isic2019, as published: %d of %d test images show a lesion that is also among "
            "the training images, so scores are too good; they can stand beside FLamby's only.",
            (shared & (table["split"] == "test")).sum(),
            (table["split"] == "test").sum(),
        )
    else:
        table = table.rename(columns={"lesion": "cluster"})
        table = without_shared_patients(table, "fed-isic2019", "lesions")
    return files.read_classes(
        folder, table, class_names, "fed-isic2019", size=size, strict=strict, colour=True
    )


def _named(path: Path, numbers: pd.Series, names: tuple[str, ...]) -> pd.Series:
    """Return the name of each number of a column of FLamby's table."""
    named = numbers.map({str(k): name for k, name in enumerate(names)})
    if (wrong := numbers[named.isna()]).any():
        raise DataError(
            f"{path} has {numbers.name} {wrong.iloc[0]!r}; 0 to {len(names) - 1} are known."
        )
    return named


def _unpack(path: Path, rows: pd.DataFrame, folder: Path) -> None:
    """Write the images of a parquet file under their names, all or none, unless they are there.

    The file does not tell the names. Its rows are in the order of FLamby's table, centre by
    centre; that the class and the centre of every row agree with it is checked.
    """
    if folder.is_dir():
        return
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f'{path} needs one package more to be read: pip install "fedtutor[parquet]". Or put '
            f"the images themselves, ISIC_*.jpg, into {folder.parent}."
        ) from error
    centre = rows["hospital"].map(CENTRES.index)
    rows = rows.iloc[np.argsort(centre.to_numpy(), kind="stable")]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")), ParquetFile(path) as source:
            if not folder.is_dir():
                _check_order(path, source.read(columns=["center", "label"]).to_pydict(), rows)
                _write_images(source, rows["file"], folder)
    except (ArrowException, OSError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} could not be unpacked into {folder}: {files.one_line(error)}. Fetch it again, "
            "or make room, or get the right to write there."
        ) from error


def _check_order(path: Path, found: dict[str, list[int]], rows: pd.DataFrame) -> None:
    """Raise :class:`DataError` unless each row has the centre and the class of FLamby's table."""
    for column, ours, names in (("center", "hospital", CENTRES), ("label", "label", CLASSES)):
        if found[column] != [names.index(name) for name in rows[ours]]:
            raise DataError(
                f"{path} has {len(found[column])} images, and their {column} is not that of "
                f"FLamby's {len(rows)} in its order, so nobody can tell which lesion each shows. "
                "Put the images of the ISIC challenge there in its place."
            )


def _write_images(source: Any, names: pd.Series, folder: Path) -> None:
    """Write the images, in the order of ``names``, and give the folder its name at the end."""
    name = iter(names)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
        staged = Path(temporary) / folder.name
        staged.mkdir()
        for batch in source.iter_batches(batch_size=256, columns=["image"]):
            for image in batch.column("image").to_pylist():
                (staged / next(name)).write_bytes(image["bytes"])
        patiently(staged.rename, folder)
