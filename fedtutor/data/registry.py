"""The one list of data sets, and the door to them: :func:`load`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fedtutor.data import oct_phantoms, phantoms, readers
from fedtutor.data.images import MedicalImages
from fedtutor.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is loaded.

    ``files`` are the names it needs below its folder in :func:`data_folder`; a set that is
    generated needs none.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    images: int
    size: int
    licence: str
    source: str
    read: Callable[..., MedicalImages]
    files: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return data_folder() / self.name

    @property
    def synthetic(self) -> bool:
        return not self.files

    def is_present(self) -> bool:
        """Whether :func:`load` would find its files."""
        return all((self.folder / file).is_file() for file in self.files)


def data_folder() -> Path:
    """Where data sets lie: ``$FEDTUTOR_DATA``, or ``datasets/`` of the clone, or a user folder."""
    if folder := os.environ.get("FEDTUTOR_DATA"):
        return Path(folder).expanduser()
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file():
        return clone / "datasets"
    return Path.home() / ".local" / "share" / "fedtutor"


def _generate(make: Callable[..., MedicalImages]) -> Callable[..., MedicalImages]:
    def read(info: Dataset, size: int | None, hospitals: int, seed: int) -> MedicalImages:
        return make(info.images, size=size or info.size, hospitals=hospitals, seed=seed)

    return read


def _read_npz(info: Dataset, size: int | None, hospitals: int, seed: int) -> MedicalImages:
    return _name_classes(readers.read_npz(info.folder / info.files[0], size=size))


DATASETS = {
    info.name: info
    for info in (
        Dataset(
            name="chest-phantoms",
            title="Chest X-ray phantoms (synthetic)",
            classes=phantoms.CHEST_CLASSES,
            images=2000,
            size=64,
            licence="Apache-2.0, generated",
            source="fedtutor.data.phantoms",
            read=_generate(phantoms.chest_phantoms),
        ),
        Dataset(
            name="oct-phantoms",
            title="Retinal OCT phantoms (synthetic)",
            classes=oct_phantoms.OCT_CLASSES,
            images=2000,
            size=64,
            licence="Apache-2.0, generated",
            source="fedtutor.data.oct_phantoms",
            read=_generate(oct_phantoms.oct_phantoms),
        ),
        Dataset(
            name="pneumoniamnist",
            title="PneumoniaMNIST: paediatric chest X-rays",
            classes=("normal", "pneumonia"),
            images=5856,
            size=28,
            licence="CC BY 4.0",
            source="https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",
            read=_read_npz,
            files=("pneumoniamnist.npz",),
        ),
    )
}


def _name_classes(data: MedicalImages) -> MedicalImages:
    """Give an official file read from a path the class names of its registry entry."""
    info = DATASETS.get(data.name)
    if info is None or len(info.classes) != len(data.class_names):
        return data
    return replace(data, class_names=info.classes)


def dataset_names() -> tuple[str, ...]:
    """The names that :func:`load` knows."""
    return tuple(DATASETS)


def load(
    dataset: str | Path = "chest-phantoms",
    *,
    size: int | None = None,
    hospitals: int = 5,
    seed: int = 0,
) -> MedicalImages:
    """Load a data set by name, or whatever lies at a path.

    Parameters
    ----------
    dataset : a name of :func:`dataset_names`, an ``.npz`` file or a folder
        (see :func:`fedtutor.data.readers.read_path`).
    size : side of the square images in pixels; by default the set's own.
    hospitals, seed : of the phantoms, which are drawn on the spot; real sets do not use them.

    Raises
    ------
    DataError
        For an unknown name or files that are missing or broken.
    """
    if size is not None and size < 1:
        raise DataError(f"size must be at least 1 pixel; got {size}.")
    info = DATASETS.get(str(dataset))
    if info is None:
        # A name never has a separator or a suffix, so that a typing error is told from a path.
        path = Path(dataset).expanduser()
        if str(dataset) and (path.exists() or path.suffix or len(path.parts) > 1):
            return _name_classes(readers.read_path(path, size=size))
        raise DataError(
            f"unknown data set {str(dataset)!r}; known: {', '.join(DATASETS)}, "
            "or the path of an .npz file or a folder of images."
        )
    if not info.is_present():
        raise DataError(
            f"{info.name} is not here; put {', '.join(info.files)} from {info.source} "
            f"into {info.folder}, or give its path."
        )
    return info.read(info, size, hospitals, seed)
