"""Bringing a data set here: from its source, from a class's mirror, or into such a mirror."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedtutor.datasets.fetch.download import RemoteFile, download
from fedtutor.datasets.fetch.unpack import is_unpacked, unpack
from fedtutor.datasets.registry import Dataset, find_dataset
from fedtutor.errors import DataError


def fetch(
    name: str,
    *,
    parts: Sequence[str] = (),
    folder: Path | None = None,
    keep_archives: bool = False,
) -> Path:
    """Bring a data set, or parts of it, to where :func:`fedtutor.load` finds it.

    What is here already is left as it is, and what was begun is gone on with.

    Parameters
    ----------
    name : one of :func:`fedtutor.datasets.dataset_names`.
    parts : which, by their names in the registry; by default the set's ``default_parts``.
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
    if info.git or info.kaggle:
        if parts:
            raise DataError(f"{name} comes whole and has no parts; leave out --part.")
        return _clone(info, folder) if info.git else _from_kaggle(info, folder)
    for file in chosen_files(info, parts):
        if file.name.endswith(".npz"):
            download(file, folder)
        elif not is_unpacked(file.name, folder):
            archive = download(file, folder)
            unpack(archive, folder)
            if not keep_archives:
                archive.unlink()
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
        for file in chosen_files(info, parts):
            files.append(download(file, Path(directory) / info.name, mirror=""))
    return files


def chosen_files(info: Dataset, parts: Sequence[str]) -> list[RemoteFile]:
    """The files of these parts, or of the default ones."""
    if unknown := [part for part in parts if part not in info.parts]:
        raise DataError(
            f"{info.name} has no part {', '.join(unknown)}; it has: {', '.join(info.parts)}."
        )
    return [info.parts[part] for part in parts or info.default_parts]


def _clone(info: Dataset, folder: Path) -> Path:
    """The newest state of a git repository, as plain files."""
    if any(folder.glob("metadata.csv")):
        return folder
    by_hand = f"By hand: git clone --depth 1 {info.git} {folder}"
    if shutil.which("git") is None:
        raise DataError(f"{info.name} needs git, which is not installed. {by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cloning-", dir=folder) as temporary:
        clone = Path(temporary) / "clone"
        command = ["git", "clone", "--depth", "1", "--progress", info.git, str(clone)]
        if subprocess.run(command).returncode:
            raise DataError(f"git could not fetch {info.git}. {by_hand}")
        shutil.rmtree(clone / ".git")
        _move_in(clone, folder)
    return folder


def _from_kaggle(info: Dataset, folder: Path) -> Path:
    """By kagglehub, which is an optional package; public sets need no login."""
    by_hand = f"By hand: download {info.source}, unpack it and put its folders into {folder}"
    if folder.is_dir() and any(path.is_dir() for path in folder.glob("[!.]*")):
        return folder
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            f"{info.name} needs the package kagglehub: pip install 'fedtutor[kaggle]'. {by_hand}"
        ) from error
    try:
        fetched = Path(kagglehub.dataset_download(info.kaggle))
    except Exception as error:  # kagglehub raises whatever its HTTP library does
        raise DataError(f"kagglehub could not fetch {info.kaggle}: {error}. {by_hand}") from error
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".copying-", dir=folder) as temporary:
        copy = Path(shutil.copytree(fetched, Path(temporary) / "copy"))
        _move_in(copy, folder)
    return folder


def _move_in(source: Path, folder: Path) -> None:
    """Everything in ``source``, into ``folder``; the folder's own card stays."""
    for path in sorted(source.iterdir()):
        if path.name != "README.md" and not (folder / path.name).exists():
            path.rename(folder / path.name)
