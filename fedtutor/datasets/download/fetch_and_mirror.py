"""Fetch a data set from its source or from a class's mirror, and make such a mirror."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from fedtutor.datasets.download import RemoteFile
from fedtutor.datasets.download.archive import unpack
from fedtutor.datasets.download.file import download_file, hash_of
from fedtutor.datasets.readers.files import visible_files
from fedtutor.datasets.registry import Dataset, find_dataset
from fedtutor.errors import DataError
from fedtutor.support.system import patiently

FETCHED = ".fetched"
"""Lists the files of a set that came from git or from Kaggle."""

logger = logging.getLogger(__name__)


def fetch(
    name: str, *, parts: Sequence[str] = (), folder: Path | None = None, unverified: bool = False
) -> Path:
    """Fetch a data set, or parts of it, to where :func:`fedtutor.datasets.load` finds it.

    Returns the set's folder. What is here already is left as it is, and a partial download is
    resumed. A list is kept of what was fetched, so that it is fetched again if some is deleted.

    Parameters
    ----------
    name : one of :func:`fedtutor.datasets.dataset_names`.
    parts : which, by their names in the registry; by default the first. A set's tables come with
        each, unless they are here already, gzipped or not, and alone as the part "tables".
    folder : the data folder in which the set gets a folder of its own, by default
        :func:`fedtutor.datasets.data_folder`.
    unverified : fetch also a file of which no hash is known; what came is logged.

    Raises
    ------
    DataError
        For an unknown name or part, or what could not be fetched; it says how to do it by hand.
    """
    info = find_dataset(name)
    folder = (folder / name if folder else info.folder).expanduser().absolute()
    if info.synthetic:
        raise DataError(f"{name} is drawn on the spot; there is nothing to fetch.")
    if not info.parts and not info.tables:
        if parts:
            raise DataError(f"{name} comes whole and has no parts; leave out --part.")
        # Of what was put here by hand only whole folders count: the set's own card is here before.
        by_hand = any(path.is_dir() for path in folder.glob("[!.]*"))
        if not _is_whole(folder / FETCHED, otherwise=by_hand):
            _fetch_whole(info, folder)
        return folder
    for file in _chosen_files(info, parts):
        names = (file.name, file.name.removesuffix(".gz")) if file in info.tables else ()
        if file.name.endswith(".tar.gz"):
            _fetch_archive(file, folder, unverified)
        elif not any((folder / name).exists() for name in names):  # a table put here by hand stays
            _download(file, folder, unverified)
    return folder


def mirror(
    directory: Path,
    names: Sequence[str] = (),
    *,
    parts: Sequence[str] = (),
    unverified: bool = False,
) -> list[Path]:
    """Make or complete a folder that ``FEDTUTOR_MIRROR`` may name, or a web server serve.

    Returns the files, all of which are now there, with the right hash where one is known.

    Parameters
    ----------
    directory : gets one folder a data set, with the files as their source has them.
    names : which sets; by default PneumoniaMNIST, the smallest real one.
    parts, unverified : as for :func:`fetch`; parts only with a single name.
    """
    if parts and len(names) != 1:
        raise DataError("parts belong to one data set; name exactly one.")
    files = []
    for info in [find_dataset(name) for name in names or ("pneumoniamnist",)]:
        if not info.parts and not info.tables:
            how = "it is drawn on the spot" if info.synthetic else f"get it from {info.source}"
            raise DataError(f"{info.name} has no file that a mirror could hold; {how}.")
        for file in _chosen_files(info, parts):
            files.append(_download(file, Path(directory) / info.name, unverified, mirror=""))
    return files


def _chosen_files(info: Dataset, parts: Sequence[str]) -> list[RemoteFile]:
    """Return the tables, and the files of these parts, or of those that come by default."""
    known = [*info.parts, *(["tables"] if info.tables else [])]
    if unknown := [part for part in parts if part not in known]:
        raise DataError(
            f"{info.name} has no part {', '.join(unknown)}; it has: {', '.join(known)}."
        )
    wanted = parts or (info.parts if info.all_parts else known[:1])
    chosen = [info.parts[part] for part in wanted if part != "tables"]
    return [*info.tables, *chosen]


def _download(file: RemoteFile, folder: Path, unverified: bool, mirror: str | None = None) -> Path:
    """Download a file and say its size; without a known hash only if wanted, and say what came."""
    if file.hash is None and not unverified and not (folder / file.name).exists():
        raise DataError(
            f"{file.name} was not fetched: no hash of it is published, so nobody can tell whether "
            "the source, a mirror or somebody on the way has changed it. To fetch it all the same, "
            "add --unverified, and compare the hash that it says with what others have got; or "
            f"save {file.url} as {folder / file.name}."
        )
    if not (folder / file.name).exists():
        print(f"{file.name}: {file.size}", file=sys.stderr)
    try:
        path = download_file(file, folder, mirror=mirror)
    except KeyboardInterrupt as stop:
        stop.add_note("What has come is kept; the same command goes on from there.")
        raise
    if file.hash is None:
        found = hash_of(path, "sha256")
        logger.warning("%s is unverified; its hash is %s. Compare it.", file.name, found)
    return path


def _is_whole(marker: Path, otherwise: bool) -> bool:
    """Tell whether all files that a marker lists are here; without a marker it is ``otherwise``."""
    if not marker.is_file():
        return otherwise
    names = marker.read_text(encoding="utf-8").splitlines()
    gone = [name for name in names if not (marker.parent / name).is_file()]
    if gone:
        what = "%s: %d of %d files are gone, such as %s; they are fetched again."
        logger.warning(what, marker.parent, len(gone), len(names), gone[0])
    return not gone


def _fetch_archive(file: RemoteFile, folder: Path, unverified: bool) -> None:
    """Download and unpack an archive; ``.NAME.unpacked`` lists what came of it."""
    unpacked = folder / f".{file.name}.unpacked"
    if _is_whole(unpacked, otherwise=False):
        return
    archive = _download(file, folder, unverified)
    with FileLock(folder / f".{file.name}.unpacking.lock"):
        if not _is_whole(unpacked, otherwise=False):
            unpacked.write_text("\n".join(unpack(archive, folder)), encoding="utf-8")
    archive.unlink(missing_ok=True)


def _fetch_whole(info: Dataset, folder: Path) -> None:
    """Bring a set that comes from git or from Kaggle."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as temporary:
        staging = Path(temporary) / "set"
        (_clone if info.git else _copy_from_kaggle)(info, staging, folder)
        # The folder has a card of its own.
        names = [name for name in visible_files(staging) if name != "README.md"]
        # Listed before they come, so that a set of which some is missing is not taken for whole.
        (folder / FETCHED).write_text("\n".join(names), encoding="utf-8")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            patiently((staging / name).replace, folder / name)


def _clone(info: Dataset, staging: Path, folder: Path) -> None:
    """Clone the newest state of a git repository; without git take GitHub's archive of it."""
    if shutil.which("git"):
        command = ["git", "clone", "--depth", "1", "--progress", str(info.git), str(staging)]
        if subprocess.run(command).returncode:
            by_hand = f"git clone --depth 1 {info.git}, then put what it has into {folder}"
            raise DataError(f"git could not fetch {info.git}. By hand: {by_hand}")
        return
    url, unpacked = f"{info.source}/archive/HEAD.tar.gz", staging.with_name("unpacked")
    file = RemoteFile(f"{info.name}.tar.gz", url, max_bytes=2**30)
    archive = _download(file, folder, unverified=True, mirror="")
    unpack(archive, unpacked, also=(".csv",))
    patiently(next(unpacked.iterdir()).replace, staging)  # the one folder that GitHub packs
    archive.unlink()


def _copy_from_kaggle(info: Dataset, staging: Path, folder: Path) -> None:
    """Ask kagglehub, which nothing else needs; public sets need no login."""
    by_hand = f"By hand: download {info.source}, unpack it and put its folders into {folder}"
    try:
        import kagglehub
    except ImportError as error:
        raise DataError(
            f"{info.name} needs one package more: pip install kagglehub. {by_hand}"
        ) from error
    try:
        shutil.copytree(kagglehub.dataset_download(info.kaggle), staging)
    except Exception as error:  # kagglehub raises whatever its HTTP library does
        raise DataError(f"kagglehub could not fetch {info.kaggle}: {error}. {by_hand}") from error
