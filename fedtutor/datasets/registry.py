"""The one list of data sets, and the door to them: :func:`load`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedtutor.datasets.download import sources
from fedtutor.datasets.download.sources import RemoteFile
from fedtutor.datasets.phantoms import CHEST_CLASSES, OCT_CLASSES, chest_phantoms, oct_phantoms
from fedtutor.datasets.readers import covid, medmnist, nih, oct
from fedtutor.datasets.readers.folders import read_path
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is loaded.

    Attributes
    ----------
    classes : of the default task.
    tasks : what else can be asked of it, the default first; empty if there is one task only.
    images, patients : how many; None where the source does not say.
    size : side of the images in pixels by default.
    source : where a person finds it.
    read : from (folder, size, task, strict) to its images.
    parts : what can be fetched, by the name that ``fetch --part`` takes.
    default_parts : what ``fetch`` takes when not told.
    git, kaggle : where else it comes from.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    size: int
    licence: str
    source: str
    read: Callable[..., MedicalImages]
    images: int | None = None
    patients: int | None = None
    tasks: tuple[str, ...] = ()
    parts: dict[str, RemoteFile] = field(default_factory=dict)
    default_parts: tuple[str, ...] = ()
    git: str | None = None
    kaggle: str | None = None
    synthetic: bool = False

    @property
    def folder(self) -> Path:
        """Where its files belong."""
        return data_folder() / self.name

    def is_present(self) -> bool:
        """Whether there are files of it in its folder, beside what a clone brings along."""
        if self.synthetic:
            return True
        if not self.folder.is_dir():
            return False
        archives = {file.name for file in self.parts.values() if not file.name.endswith(".npz")}
        ours = {"README.md"} | archives
        return any(
            path.name not in ours and not path.name.startswith(".")
            for path in self.folder.iterdir()
        )


def data_folder() -> Path:
    """Return ``$FEDTUTOR_DATA``, or ``datasets/`` of the clone, or a folder of the user."""
    if folder := os.environ.get("FEDTUTOR_DATA"):
        return Path(folder).expanduser()
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file():
        return clone / "datasets"
    return Path.home() / ".local" / "share" / "fedtutor"


def _phantoms(
    kind: str, title: str, classes: tuple[str, ...], read: Callable[..., MedicalImages]
) -> Dataset:
    """Describe a set that is drawn on the spot."""
    return Dataset(
        name=f"{kind}-phantoms",
        title=title,
        classes=classes,
        images=2000,
        size=64,
        licence="Apache-2.0, generated",
        source="fedtutor.datasets.phantoms",
        read=read,
        synthetic=True,
    )


def _medmnist(name: str, title: str, images: int) -> Dataset:
    """Describe a set of MedMNIST v2, which has a file for each size of its images."""
    parts = sources.medmnist_files(name)

    def read(
        folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
    ) -> MedicalImages:
        files = {int(side): folder / file.name for side, file in parts.items()}
        here = [side for side, file in files.items() if file.is_file()]
        if not here:
            raise DataError(f"{folder} has no {parts['28'].name}; run: fedtutor fetch {name}")
        # The smallest that need not be enlarged, or else the largest there is.
        fitting = [side for side in here if side >= (size or min(here))]
        return medmnist.read_medmnist(files[min(fitting, default=max(here))], size=size)

    return Dataset(
        name=name,
        title=title,
        classes=medmnist.MEDMNIST_CLASSES[name],
        images=images,
        size=28,
        licence="CC BY 4.0",
        source="https://zenodo.org/records/10519652",
        read=read,
        parts=parts,
        default_parts=("28",),
    )


DATASETS = {
    info.name: info
    for info in (
        _phantoms("chest", "Chest X-ray phantoms (synthetic)", CHEST_CLASSES, chest_phantoms),
        _phantoms("oct", "Retinal OCT phantoms (synthetic)", OCT_CLASSES, oct_phantoms),
        Dataset(
            name="nih-chestxray14",
            title="NIH ChestX-ray14: chest X-rays of one American hospital",
            classes=nih.TASKS["Pneumonia"],
            tasks=tuple(nih.TASKS),
            images=112_120,
            patients=30_805,
            size=128,
            licence="free to use, cite the NIH and the paper",
            source="https://nihcc.app.box.com/v/ChestXray-NIHCC",
            read=nih.read_nih,
            parts=sources.nih_archives(),
            default_parts=("1",),
        ),
        Dataset(
            name="covid19-radiography",
            title="COVID-19 Radiography Database: chest X-rays of many collections",
            classes=covid.RADIOGRAPHY_TASKS["three-class"],
            tasks=tuple(covid.RADIOGRAPHY_TASKS),
            images=21_165,
            size=128,
            licence="see its page at Kaggle",
            source="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
            read=covid.read_radiography,
            kaggle="tawsifurrahman/covid19-radiography-database",
        ),
        Dataset(
            name="covid-chestxray",
            title="ieee8023 covid-chestxray: X-rays from papers and websites",
            classes=covid.CHESTXRAY_TASKS["three-class"],
            tasks=tuple(covid.CHESTXRAY_TASKS),
            size=128,
            licence="one for each image, in metadata.csv",
            source="https://github.com/ieee8023/covid-chestxray-dataset",
            read=covid.read_covid_chestxray,
            git="https://github.com/ieee8023/covid-chestxray-dataset.git",
        ),
        Dataset(
            name="retinal-oct",
            title="OCT2017: retinal OCT of adults",
            classes=oct.OCT_CLASSES,
            tasks=tuple(oct.TASKS),
            size=128,
            licence="CC BY 4.0",
            source="https://data.mendeley.com/datasets/rscbjbr9sj",
            read=oct.read_oct2017,
            parts={"all": sources.OCT2017},
            default_parts=("all",),
        ),
        _medmnist("pneumoniamnist", "PneumoniaMNIST: paediatric chest X-rays", 5_856),
        _medmnist("octmnist", "OCTMNIST: retinal OCT", 109_309),
        _medmnist("chestmnist", "ChestMNIST: NIH chest X-rays, 14 findings", 112_120),
    )
}


def dataset_names() -> tuple[str, ...]:
    """Return the names that :func:`load` knows."""
    return tuple(DATASETS)


def find_dataset(name: str) -> Dataset:
    """Return the entry of that name.

    Raises
    ------
    DataError
        For an unknown name; lists the known ones.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}.")
    return DATASETS[name]


def load(
    dataset: str | Path = "chest-phantoms",
    *,
    size: int | None = None,
    task: str | None = None,
    strict: bool | None = None,
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
    hospitals, seed : of the phantoms, which are drawn on the spot; real sets do not use them.

    Raises
    ------
    DataError
        For an unknown name or task, or files that are missing or broken.
    """
    if size is not None and size < 1:
        raise DataError(f"size must be at least 1 pixel; got {size}.")
    info = DATASETS.get(str(dataset))
    if info is None:
        # A name never has a separator or a suffix, so that a typing error is told from a path.
        path = Path(dataset).expanduser()
        if str(dataset) and (path.exists() or path.suffix or len(path.parts) > 1):
            return read_path(path, size=size, task=task, strict=strict)
        raise DataError(
            f"unknown data set {str(dataset)!r}; known: {', '.join(DATASETS)}, "
            "or the path of an .npz file or a folder of images."
        )
    if task is not None and task not in info.tasks:
        raise DataError(
            f"{info.name} has no task {task!r}; it has: {', '.join(info.tasks) or 'one task only'}."
        )
    if info.synthetic:
        return info.read(info.images, size=size or info.size, hospitals=hospitals, seed=seed)
    if not info.is_present():
        raise DataError(
            f"{info.name} is not here. Fetch it (fedtutor fetch {info.name}), or put its files "
            f"from {info.source} into {info.folder}, or give their path."
        )
    return info.read(info.folder, size=size, task=task, strict=bool(strict))
