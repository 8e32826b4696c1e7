"""The one list of data sets, and the door to them: :func:`load`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtutor.datasets.download import RemoteFile
from fedtutor.datasets.phantoms import (
    CHEST_CLASSES,
    OCT_CLASSES,
    SKIN_CLASSES,
    chest_phantoms,
    oct_phantoms,
    skin_phantoms,
)
from fedtutor.datasets.readers import covid, heart, isic, medmnist, nih, oct, tuberculosis
from fedtutor.datasets.readers.folders import read_path
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages
from fedtutor.support.language import say
from fedtutor.support.places import data_folder


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is loaded.

    Attributes
    ----------
    classes : of the default task.
    tasks : the classes of each task by its name, the default first; empty if there is one only.
    images, patients : how many, of a table its rows; None where the source does not say.
    size : side of the images in pixels by default; 0 of a table, which has none.
    source : where a person finds it.
    read : from (folder, size, task, strict) to its images; from (folder) to a table.
    parts : what can be fetched, by the name that ``fetch --part`` takes; by default the first is,
        with ``all_parts`` all are.
    tables : come with any part, and alone as the part "tables".
    git, kaggle : where else it comes from.
    needs : what pip installs for it.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    size: int
    licence: str
    source: str
    read: Callable[..., Any]
    tasks: dict[str, tuple[str, ...]]
    parts: dict[str, RemoteFile]
    tables: tuple[RemoteFile, ...]
    images: int | None = None
    patients: int | None = None
    git: str | None = None
    kaggle: str | None = None
    needs: str | None = None
    all_parts: bool = False
    synthetic: bool = False

    @property
    def folder(self) -> Path:
        """Where its files belong."""
        return data_folder() / self.name

    @property
    def fetching(self) -> str:
        """The command that fetches it."""
        unverified = any(not file.hash for file in self.parts.values())
        return f"fedtutor fetch {self.name}{' --unverified' if unverified else ''}"

    def is_present(self) -> bool:
        """Whether there are images of it in its folder, and not only a card, tables or archives."""
        other = (".md", ".txt", ".csv", ".gz", ".db", ".ini")  # the last two are Windows' own
        return self.synthetic or any(p.suffix not in other for p in self.folder.glob("[!.]*"))


# By name what reads a set, and the classes of each of its tasks, the default first; "" is the
# only one.
READERS: dict[str, tuple[Any, dict[str, tuple[str, ...]]]] = {
    "chest-phantoms": (chest_phantoms, {"": CHEST_CLASSES}),
    "oct-phantoms": (oct_phantoms, {"": OCT_CLASSES}),
    "skin-phantoms": (skin_phantoms, {"": SKIN_CLASSES}),
    "nih-chestxray14": (nih.read_nih, nih.TASKS),
    "covid19-radiography": (covid.read_radiography, covid.RADIOGRAPHY_TASKS),
    "covid-chestxray": (covid.read_covid_chestxray, covid.CHESTXRAY_TASKS),
    "retinal-oct": (oct.read_oct2017, oct.TASKS),
    "fed-isic2019": (isic.read_fed_isic, isic.TASKS),
    "tuberculosis-cxr": (tuberculosis.read_tuberculosis, {"": tuberculosis.CLASSES}),
    "fed-heart-disease": (heart.read_heart_disease, {"": heart.CLASSES}),
    **{name: (medmnist.read_set, {"": names}) for name, names in medmnist.MEDMNIST_CLASSES.items()},
}


def _entry(name: str, **info: Any) -> Dataset:
    """Tie what ``sets.toml`` says of a set, all that can be said without code, to its reader."""
    read, tasks = READERS[name]
    classes = next(iter(tasks.values()))
    info["parts"] = {part: RemoteFile(**file) for part, file in info.get("parts", {}).items()}
    info["tables"] = tuple(RemoteFile(**file) for file in info.get("tables", {}).values())
    tasks = tasks if len(tasks) > 1 else {}
    return Dataset(name=name, read=read, classes=classes, tasks=tasks, **info)


_SETS = tomllib.loads(Path(__file__).with_name("sets.toml").read_text(encoding="utf-8"))
DATASETS = {name: _entry(name, **info) for name, info in _SETS.items()}


def dataset_names() -> tuple[str, ...]:
    """Return the names that :func:`load` knows."""
    return tuple(DATASETS)


def find_dataset(name: str) -> Dataset:
    """Return the entry of that name, or raise :class:`DataError` that lists the known ones."""
    if name not in DATASETS:
        said = say(
            "unknown data set {name!r}; known: {known}. Where images are read, the path of an .npz "
            "file or of a folder will do, too.",
            name=name,
            known=", ".join(DATASETS),
        )
        raise DataError(said)
    return DATASETS[name]


def load(
    dataset: str | Path = "chest-phantoms",
    *,
    size: int | None = None,
    task: str | None = None,
    strict: bool | None = None,
    colour: bool = False,
    hospitals: int = 5,
    seed: int = 0,
) -> MedicalImages:
    """Load a data set by name, or whatever lies at a path.

    Parameters
    ----------
    dataset : a name of :func:`dataset_names`, an ``.npz`` file or a folder
        (see :func:`fedtutor.datasets.readers.folders.read_path`).
    size : side of the square images in pixels; by default the set's own.
    task : what to tell apart, one of the set's ``tasks``; by default the first.
    strict : refuse a set with an image that cannot be read, or leave such images out and log how
        many. By default a folder of one's own is refused, and a known data set is not.
    colour : read a folder of one's own as red, green and blue. By default its images become grey,
        as X-rays are that were saved in colours. Known sets and ``.npz`` files are as they are.
    hospitals, seed : of the phantoms, which are drawn on the spot; real sets do not use them.

    Raises
    ------
    DataError
        For an unknown name or task, or files that are missing or broken.
    """
    if size is not None and size < 1:
        raise DataError(f"size must be at least 1 pixel; got {size}.")
    path = Path(dataset).expanduser()
    # A name never has a separator or a suffix, so that a typing error is told from a path.
    is_path = str(dataset) and (path.exists() or path.suffix or len(path.parts) > 1)
    if is_path and str(dataset) not in DATASETS:
        return read_path(path, size=size, task=task, strict=strict, colour=colour)
    info = find_dataset(str(dataset))
    if task is not None and task not in info.tasks:
        raise DataError(
            f"{info.name} has no task {task!r}; it has: {', '.join(info.tasks) or 'one task only'}."
        )
    if info.synthetic:
        return info.read(info.images, size=size or info.size, hospitals=hospitals, seed=seed)
    if not info.is_present():
        said = say(
            "{name} is not here; this fetches it: {fetching}. Or put its files from {source} into "
            "{folder}, or give their path.",
            **{one: getattr(info, one) for one in ("name", "fetching", "source", "folder")},
        )
        raise DataError(said)
    if not info.size:
        raise DataError(
            f"{info.name} is a table and has no images; notebook 14 trains on it, with "
            "fedtutor.topics.tables."
        )
    return info.read(info.folder, size=size, task=task, strict=bool(strict))
