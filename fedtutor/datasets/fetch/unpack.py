"""Unpack a zip or a tar without trusting it: all of its files appear, or none."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from filelock import FileLock
from rich.progress import Progress

from fedtutor.datasets.fetch.download import show_progress
from fedtutor.datasets.fetch.transfer import CHUNK, RESERVE, Report
from fedtutor.errors import DataError

MAX_HEADER = 2**20
"""Bytes between two files of a tar; tarfile reads a header whole, however long it claims to be."""

MAX_DEPTH = 64
"""Folders inside each other; Python's own walk through a thousand would fail."""

KINDS = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    stat.S_IFLNK: "symbolic link",
}
"""What a member may not be, by its type in a tar or in a zip."""

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
)
"""What the standard library raises for an archive that is cut off or scrambled."""


class _RefusedError(Exception):
    """Why an archive is not unpacked."""


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may hold, so that a small file cannot fill a disk.

    ``max_ratio`` is of unpacked to packed bytes, and counts from ``ratio_from`` unpacked bytes on,
    as a small table may well shrink more.
    """

    max_files: int = 200_000
    max_bytes: int = 100 * 2**30
    max_ratio: float = 200.0
    ratio_from: int = 2**26


@dataclass
class _Budget:
    """What has come out of an archive of ``packed`` bytes, counted and not believed."""

    limits: UnpackLimits
    packed: int
    members: int = 0
    unpacked: int = 0

    def admit(self, name: str) -> PurePosixPath | None:
        """The place of a member below the folder; None for what macOS adds to archives."""
        self.members += 1
        if self.members > self.limits.max_files:
            raise _RefusedError(f"it has more than {self.limits.max_files} members")
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or len(path.parts) > MAX_DEPTH
            or re.search(r"\\|^[A-Za-z]:|\0", name)
        ):
            raise _RefusedError(f"{name[:200]!r} is no plain path below the folder")
        if "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store":
            return None
        return path

    def check(self, unpacked: int) -> None:
        if unpacked > self.limits.max_bytes:
            raise _RefusedError(f"it unpacks to more than {self.limits.max_bytes} bytes")
        if unpacked > max(self.limits.ratio_from, self.limits.max_ratio * self.packed):
            raise _RefusedError(f"it unpacks to over {self.limits.max_ratio:g} times its size")

    def spend(self, num_bytes: int) -> None:
        self.unpacked += num_bytes
        self.check(self.unpacked)


@dataclass
class _Metered:
    """Unpacked bytes, counted as they come; more than ``allowed`` are more than headers told."""

    stream: BinaryIO
    budget: _Budget
    allowed: float
    may_end: bool

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if not data and not self.may_end:
            raise EOFError("it ends early")
        self.allowed -= len(data)
        if self.allowed < 0:
            raise _RefusedError("it holds more than its headers tell")
        self.budget.spend(len(data))
        return data


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: UnpackLimits = UnpackLimits(),  # noqa: B008
    progress: Report | Progress | None = None,
) -> int:
    """Unpack a .zip, .tar or .tar.gz, told by its content, and return the number of files.

    The files are written beside their places and moved there when all have come, replacing what
    was there; after that :func:`is_unpacked` says so. They get the permissions of new files.
    Folders without a file, and what macOS adds, are left out.

    Parameters
    ----------
    archive, folder : the file, and where to unpack it, made if need be.
    limits : how much may come out of it.
    progress : a function of the packed bytes read and in all, or a bar; by default one on a
        terminal.

    Raises
    ------
    DataError
        For an archive that is damaged, that holds a link, a device, an encrypted member or a path
        out of the folder, that is larger than its limits, or that has no room on the disk. Nothing
        of it is then in the folder.
    """
    archive, folder = Path(archive).absolute(), Path(folder).absolute()
    staging, marker = folder / f".{archive.name}.unpacking", _marker(archive, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(folder / f".{archive.name}.lock"),
            show_progress(progress, archive.name) as report,
            open(archive, "rb") as raw,
        ):
            shutil.rmtree(staging, ignore_errors=True)
            try:
                staging.mkdir()
                num_files = _write_all(raw, staging, limits, report)
                mark = {"archive": _identity(os.fstat(raw.fileno())), "files": num_files}
                _move(staging, folder, marker)
                unfinished = marker.with_name(f"{marker.name}.part")
                unfinished.write_text(json.dumps(mark))
                os.replace(unfinished, marker)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except _RefusedError as error:
        raise DataError(f"{archive} was not unpacked: {error}.") from error
    except DAMAGED as error:
        raise DataError(
            f"{archive} is damaged, or no zip or tar ({error}); delete it and fetch it again."
        ) from error
    except OSError as error:
        raise DataError(
            f"{archive} could not be unpacked: {error.filename or folder}: {error.strerror}."
        ) from error
    return num_files


def is_unpacked(archive: Path | str, folder: Path) -> bool:
    """Whether the archive, a path or a name in ``folder``, was unpacked into it to the end.

    The archive may have been deleted since; one that has changed since is not unpacked.
    """
    try:
        known = json.loads(_marker(Path(archive), Path(folder)).read_text())
    except (OSError, ValueError):
        return False
    path = Path(folder) / archive
    return not path.exists() or known["archive"] == _identity(path.stat())


def _marker(archive: Path, folder: Path) -> Path:
    return folder / f".{archive.name}.unpacked"


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]


def _write_all(raw: BinaryIO, staging: Path, limits: UnpackLimits, report: Report) -> int:
    budget = _Budget(limits, packed=os.fstat(raw.fileno()).st_size)
    magic = raw.read(4)
    raw.seek(0)
    if magic in (b"PK\3\4", b"PK\5\6"):
        files = _zip_files(raw, staging, budget)
    else:
        is_gzip = magic.startswith(b"\x1f\x8b")
        files = _tar_files(gzip.GzipFile(fileobj=raw) if is_gzip else raw, staging, budget)
    num_files = 0
    for path, source in files:
        num_files += 1
        try:
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            target = open(staging / path, "xb")  # noqa: SIM115
        except (FileExistsError, NotADirectoryError) as error:
            raise _RefusedError(f"two of its members want the place {str(path)!r}") from error
        with target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                report(raw.tell(), budget.packed)
    if not num_files:
        raise _RefusedError("it holds no file")
    return num_files


def _tar_files(
    unpacked: BinaryIO, staging: Path, budget: _Budget
) -> Iterator[tuple[PurePosixPath, BinaryIO]]:
    """The files of a tar as they come, as it has no index but a header before each."""
    _check_space(staging, budget.packed)
    stream = _Metered(unpacked, budget, allowed=MAX_HEADER, may_end=False)
    with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
        while member := tar.next():
            stream.allowed = member.size + MAX_HEADER
            tar.members.clear()  # it would keep all headers in memory
            path = budget.admit(member.name)
            is_file = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
            if member.issparse() or not (is_file or member.isdir()):
                kind = KINDS.get(member.type, "special file")
                raise _RefusedError(f"{member.name!r} is a {kind}")
            if is_file and path:
                yield path, tar.extractfile(member)
        # tarfile takes a scrambled header for the end; the true end is zeros and only zeros.
        stream.allowed, stream.may_end = float("inf"), True
        while block := tar.fileobj.read(CHUNK):
            if block.strip(b"\0"):
                raise EOFError("a header is scrambled")


def _zip_files(
    raw: BinaryIO, staging: Path, budget: _Budget
) -> Iterator[tuple[PurePosixPath, BinaryIO]]:
    """The files of a zip, once its whole index has been looked through."""
    with zipfile.ZipFile(raw) as archive:
        files = []
        for info in archive.infolist():
            path = budget.admit(info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedError(f"{info.filename!r} is a {KINDS.get(kind, 'special file')}")
            if info.flag_bits & 0x41:
                raise _RefusedError(f"{info.filename!r} is encrypted")
            # The other methods turn a few bytes into gigabytes at once, or are not known at all.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _RefusedError(f"{info.filename!r} is packed by method {info.compress_type}")
            if path and not info.is_dir():
                files.append((path, info))
        declared = sum(info.file_size for _, info in files)
        budget.check(declared)
        _check_space(staging, declared)
        for path, info in files:
            yield path, _Metered(archive.open(info), budget, info.file_size, may_end=True)


def _check_space(folder: Path, num_bytes: int) -> None:
    if (free := shutil.disk_usage(folder).free) < num_bytes + RESERVE:
        raise _RefusedError(
            f"{folder.parent} has {free / 1e6:,.0f} MB free and "
            f"{(num_bytes + RESERVE) / 1e6:,.0f} are needed"
        )


def _move(staging: Path, folder: Path, marker: Path) -> None:
    """Give the files their places, after a look at what is there."""
    tree = [
        (Path(root), folder / Path(root).relative_to(staging), names)
        for root, _, names in os.walk(staging)
    ]
    for _, there, names in tree:
        if there != folder and (there.is_symlink() or (there.exists() and not there.is_dir())):
            raise _RefusedError(f"{there} is in the way, as it is a link or a file")
        for name in names:
            if (there / name).is_dir():
                raise _RefusedError(f"{there / name} is in the way, as it is a folder")
    marker.unlink(missing_ok=True)
    for root, there, names in tree:
        there.mkdir(exist_ok=True)
        for name in names:
            os.replace(root / name, there / name)
