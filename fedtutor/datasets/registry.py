"""The one list of data sets, and the door to them: :func:`load`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedtutor.datasets.download import sources
from fedtutor.datasets.download.sources import RemoteFile
from fedtutor.datasets.phantoms import chest as phantoms
from fedtutor.datasets.phantoms import oct as oct_phantoms
from fedtutor.datasets.readers import covid, medmnist, nih, oct
from fedtutor.datasets.readers import folders as readers
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

MEDMNIST_SIZES = (28, 64, 128, 224)


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is loaded.

    Attributes
    ----------
    classes : of the default task.
    tasks : what else can be asked of it, the default first; empty if there is one task only.
    images, patients : how many; None where the source does not say.
    size : side of the images in pixels by default.
    download : roughly how much a complete download is, in bytes.
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
    download: int = 0
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
    """Where data sets lie: ``$FEDTUTOR_DATA``, or ``datasets/`` of the clone, or a user folder."""
    if folder := os.environ.get("FEDTUTOR_DATA"):
        return Path(folder).expanduser()
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file():
        return clone / "datasets"
    return Path.home() / ".local" / "share" / "fedtutor"


def _medmnist(name: str, title: str, classes: tuple[str, ...], images: int, size: int) -> Dataset:
    """A set of MedMNIST v2; ``size`` is that of the smallest file, in bytes."""

    def read(
        folder: Path, *, size: int | None = None, task: str | None = None, strict: bool = False
    ) -> MedicalImages:
        files = {side: folder / sources.medmnist_file_name(name, side) for side in MEDMNIST_SIZES}
        here = [side for side, file in files.items() if file.is_file()]
        if not here:
            raise DataError(f"{folder} has no {files[28].name}; run: fedtutor fetch {name}")
        # The smallest that need not be enlarged, or else the largest there is.
        fitting = [side for side in here if side >= (size or min(here))]
        return medmnist.read_medmnist(files[min(fitting, default=max(here))], size=size)

    return Dataset(
        name=name,
        title=title,
        classes=classes,
        images=images,
        size=28,
        licence="CC BY 4.0",
        source="https://zenodo.org/records/10519652",
        read=read,
        download=size,
        parts=sources.medmnist_files(name),
        default_parts=("28",),
    )


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
            source="fedtutor.datasets.phantoms.chest",
            read=phantoms.chest_phantoms,
            synthetic=True,
        ),
        Dataset(
            name="oct-phantoms",
            title="Retinal OCT phantoms (synthetic)",
            classes=oct_phantoms.OCT_CLASSES,
            images=2000,
            size=64,
            licence="Apache-2.0, generated",
            source="fedtutor.datasets.phantoms.oct",
            read=oct_phantoms.oct_phantoms,
            synthetic=True,
        ),
        Dataset(
            name="nih-chestxray14",
            title="NIH ChestX-ray14: chest X-rays of one American hospital",
            classes=("No Finding", "Pneumonia"),
            tasks=nih.TASKS,
            images=112_120,
            patients=30_805,
            size=128,
            licence="free to use, cite the NIH and the paper",
            source="https://nihcc.app.box.com/v/ChestXray-NIHCC",
            read=nih.read_nih,
            download=sum(file.num_bytes or 0 for file in sources.nih_archives().values()),
            parts=sources.nih_archives(),
            default_parts=("1",),
        ),
        Dataset(
            name="covid19-radiography",
            title="COVID-19 Radiography Database: chest X-rays of many collections",
            classes=covid.RADIOGRAPHY_CLASSES,
            tasks=covid.RADIOGRAPHY_TASKS,
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
            classes=covid.CHESTXRAY_CLASSES,
            tasks=covid.CHESTXRAY_TASKS,
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
            tasks=oct.OCT_TASKS,
            size=128,
            licence="CC BY 4.0",
            source="https://data.mendeley.com/datasets/rscbjbr9sj",
            read=oct.read_oct2017,
            parts={"all": sources.OCT2017},
            default_parts=("all",),
        ),
        _medmnist(
            "pneumoniamnist",
            "PneumoniaMNIST: paediatric chest X-rays",
            medmnist.MEDMNIST_CLASSES["pneumoniamnist"],
            5_856,
            4_170_669,
        ),
        _medmnist(
            "octmnist",
            "OCTMNIST: retinal OCT",
            medmnist.MEDMNIST_CLASSES["octmnist"],
            109_309,
            54_900_000,
        ),
        _medmnist(
            "chestmnist",
            "ChestMNIST: NIH chest X-rays, 14 findings",
            nih.FINDINGS,
            112_120,
            82_800_000,
        ),
    )
}


def dataset_names() -> tuple[str, ...]:
    """The names that :func:`load` knows."""
    return tuple(DATASETS)


def find(name: str) -> Dataset:
    """The entry of that name.

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
            return readers.read_path(path, size=size, task=task, strict=strict)
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
