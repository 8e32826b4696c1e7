"""Fetch a data set from its source or from a class's mirror, and make such a mirror."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from fedtutor.datasets.download import RemoteFile
from fedtutor.datasets.download.archive import unpack
from fedtutor.datasets.download.file import download_file
from fedtutor.datasets.registry import Dataset, find_dataset
from fedtutor.errors import DataError


def fetch(
    name: str, *, parts: Sequence[str] = (), folder: Path | None = None, keep_archives: bool = False
) -> Path:
    """Fetch a data set, or parts of it, to where :func:`fedtutor.datasets.load` finds it.

    What is here already is left as it is, and a partial download is resumed.

    Parameters
    ----------
    name : one of :func:`fedtutor.datasets.dataset_names`.
    parts : which, by their names in the registry; by default the first.
    folder : the data folder in which the set gets a folder of its own, by default
        :func:`fedtutor.datasets.data_folder`.
    keep_archives : do not delete an archive once its files are unpacked.

    Returns
    -------
    The set's folder.

    Raises
    ------
    DataError
        For an unknown name or part, or what could not be fetched; it says how to do it by hand.
    """
    info = find_dataset(name)
    folder = (folder / name if folder else info.folder).expanduser().absolute()
    if info.synthetic:
        raise DataError(f"{name} is drawn on the spot; there is nothing to fetch.")
    if not info.parts:
        if parts:
            raise DataError(f"{name} comes whole and has no parts; leave out --part.")
        # Only whole folders count: the set's own card is here before it is fetched.
        if not any(path.is_dir() for path in folder.glob("[!.]*")):
            _fetch_whole(info, folder)
        return folder
    for file in _chosen_files(info, parts):
        if file.name.endswith(".npz"):
            download_file(file, folder)
        else:
            _fetch_archive(file, folder, keep_archives)
    return folder


def mirror(directory: Path, names: Sequence[str] = (), *, parts: Sequence[str] = ()) -> list[Path]:
    """Make or complete a folder that ``FEDTUTOR_MIRROR`` may name, or a web server serve.

    Parameters
    ----------
    directory : gets one folder a data set, with the files as their source has them.
    names : which sets; by default PneumoniaMNIST, the smallest real one.
    parts : as for :func:`fetch`; only with a single name.

    Returns
    -------
    The files, all of which are now there with the right hash.
    """
    if parts and len(names) != 1:
        raise DataError("parts belong to one data set; name exactly one.")
    files = []
    for info in [find_dataset(name) for name in names or ("pneumoniamnist",)]:
        if not info.parts:
            how = "it is drawn on the spot" if info.synthetic else f"get it from {info.source}"
            raise DataError(f"{info.name} has no file that a mirror could hold; {how}.")
        for file in _chosen_files(info, parts):
            files.append(download_file(file, Path(directory) / info.name, mirror=""))
    return files


def _chosen_files(info: Dataset, parts: Sequence[str]) -> list[RemoteFile]:
    """Return the files of these parts, or of the first."""
    if unknown := [part for part in parts if part not in info.parts]:
        raise DataError(
            f"{info.name} has no part {', '.join(unknown)}; it has: {', '.join(info.parts)}."
        )
    return [info.parts[part] for part in parts or list(info.parts)[:1]]


def _fetch_archive(file: RemoteFile, folder: Path, keep: bool) -> None:
    """Download and unpack an archive; ``.NAME.unpacked`` says that it was unpacked to the end."""
    unpacked = folder / f".{file.name}.unpacked"
    if unpacked.exists():
        return
    archive = download_file(file, folder)
    with FileLock(folder / f".{file.name}.unpacking.lock"):
        if not unpacked.exists():
            unpack(archive, folder)
            unpacked.touch()
    if not keep:
        archive.unlink(missing_ok=True)


def _fetch_whole(info: Dataset, folder: Path) -> None:
    """Bring a set that comes from git or from Kaggle, all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as temporary:
        staging = Path(temporary) / "set"
        (_clone if info.git else _copy_from_kaggle)(info, staging, folder)
        # Folders last, as they say that the set is here.
        for path in sorted(staging.iterdir(), key=Path.is_dir):
            if path.name not in (".git", "README.md"):  # the folder has a card of its own
                path.replace(folder / path.name)


def _clone(info: Dataset, staging: Path, folder: Path) -> None:
    """Clone the newest state of a git repository."""
    url = str(info.git)
    by_hand = f"By hand: git clone --depth 1 {url} {folder}"
    if shutil.which("git") is None:
        raise DataError(f"{info.name} needs git, which is not installed. {by_hand}")
    command = ["git", "clone", "--depth", "1", "--progress", url, str(staging)]
    if subprocess.run(command).returncode:
        raise DataError(f"git could not fetch {url}. {by_hand}")


def _copy_from_kaggle(info: Dataset, staging: Path, folder: Path) -> None:
    """Ask kagglehub, which is an optional package; public sets need no login."""
    by_hand = f"By hand: download {info.source}, unpack it and put its folders into {folder}"
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            f"{info.name} needs the package kagglehub: pip install 'fedtutor[kaggle]'. {by_hand}"
        ) from error
    try:
        shutil.copytree(kagglehub.dataset_download(info.kaggle), staging)
    except Exception as error:  # kagglehub raises whatever its HTTP library does
        raise DataError(f"kagglehub could not fetch {info.kaggle}: {error}. {by_hand}") from error
