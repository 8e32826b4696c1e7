"""Unpack a .tar.gz without trusting it: all of its files appear, or none."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from fedtutor.datasets.disk import require_space
from fedtutor.datasets.progress import Report, reporting
from fedtutor.datasets.readers.files import HIDDEN, IMAGE_SUFFIXES, image_files, visible_files
from fedtutor.errors import DataError
from fedtutor.support.system import patiently

CHUNK = 2**16

MAX_MEMBERS, MAX_DEPTH, MAX_BYTES = 200_000, 64, 100 * 2**30
"""Files and folders in an archive, folders inside each other, and bytes unpacked."""

MAX_RATIO, RATIO_FROM = 4, 2**26
"""Unpacked bytes for each packed one, counted from ``RATIO_FROM`` on: images hardly shrink."""

MAX_HEADER = 2**20
"""Bytes between two files of a tar; tarfile reads a header whole, however long it claims to be."""

DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RuntimeError)
"""What the standard library raises for an archive that is cut off or scrambled."""


class _Metered:
    """A stream that refuses to give more than ``left`` bytes; ``reason`` says what that means."""

    def __init__(self, stream: gzip.GzipFile | _Metered, left: int, reason: str) -> None:
        self.stream, self.left, self.reason = stream, left, reason

    def read(self, size: int, /) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise DataError(self.reason)
        return data


def unpack(archive: Path, folder: Path, also: tuple[str, ...] = ()) -> list[str]:
    """Unpack the images of a .tar.gz, whatever its name, and return their paths in ``folder``.

    They are written beside their places and moved there when all have come, replacing what was
    there, with the permissions of new files. Those with a suffix of ``also`` come, too. All else is
    left out: hidden files, which could be programs' settings such as ``.git/config``, and what
    would take the place of a set's card.

    Raises :class:`DataError` for an archive that is damaged, that holds a link, a device or a path
    out of the folder, that is larger than its limits, or that has no room on the disk. Nothing of
    it is then in the folder.
    """
    staging = folder / f".{archive.name}.unpacking"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
        with open(archive, "rb") as raw, reporting(archive.name, in_bytes=True) as report:
            staging.mkdir()
            _write_all(raw, staging, (*IMAGE_SUFFIXES, *also), report)
            if not image_files(staging):
                raise DataError("it holds no image")
            _move(found := visible_files(staging), staging, folder)
    except DataError as error:
        raise DataError(f"{archive} was not unpacked: {error}.") from error
    except DAMAGED as error:
        raise DataError(
            f"{archive} is damaged, or no .tar.gz ({error}); delete it and fetch it again."
        ) from error
    except OSError as error:
        raise DataError(
            f"{archive} could not be unpacked: {error.filename or folder}: {error.strerror}."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return found


def _write_all(raw: BinaryIO, staging: Path, suffixes: tuple[str, ...], report: Report) -> None:
    """Write the files of an archive that have one of the suffixes below ``staging``."""
    packed = os.fstat(raw.fileno()).st_size
    require_space(staging, packed)
    members = _members(raw, limit=min(MAX_BYTES, max(RATIO_FROM, MAX_RATIO * packed)))
    for number, (name, source) in enumerate(members, start=1):
        if number > MAX_MEMBERS:
            raise DataError(f"it has more than {MAX_MEMBERS} members")
        path = _safe_path(name)
        wanted = path.suffix.lower() in suffixes
        if source is None or not wanted or any(part.startswith(HIDDEN) for part in path.parts):
            continue
        target = staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as stream:  # refused if two members have one name
            while chunk := source.read(CHUNK):
                require_space(staging, len(chunk))
                stream.write(chunk)
                report(raw.tell(), packed)


def _safe_path(name: str) -> PurePosixPath:
    """Return the place of a member below the folder, on Windows too, where NUL.png is a device."""
    path = PurePosixPath(name)
    is_plain = not path.is_absolute() and ".." not in path.parts and name.isprintable()
    if not is_plain or re.search(r"[\\:]|(?i:(^|/)(con|prn|aux|nul|(com|lpt)\d)(\.|/|$))", name):
        raise DataError(f"{name[:200]!r} is no plain path below the folder")
    if len(path.parts) > MAX_DEPTH:
        raise DataError(f"{name[:200]!r} is more than {MAX_DEPTH} folders deep")
    return path


def _members(raw: BinaryIO, limit: int) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the name and the content, or None for a folder, of each member of a .tar.gz."""
    too_large = f"it unpacks to more than {limit:,} bytes"
    unpacked = _Metered(gzip.GzipFile(fileobj=raw), limit, too_large)
    stream = _Metered(unpacked, MAX_HEADER, "it holds more than its headers tell")
    with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", bufsize=CHUNK) as tar:
        while member := tar.next():
            stream.left = member.size + MAX_HEADER
            tar.members.clear()  # type: ignore[attr-defined]  # all headers, kept in memory
            if member.issparse() or not (member.isreg() or member.isdir()):
                raise DataError(f"{member.name[:200]!r} is a link or a device")
            yield member.name, tar.extractfile(member)
    while unpacked.read(CHUNK):  # gzip compares its checksum at the end
        pass


def _move(names: list[str], staging: Path, folder: Path) -> None:
    """Give the files their places, after a look at what is there."""
    below = [folder / Path(root).relative_to(staging) for root, _, _ in os.walk(staging)]
    for there in below[1:]:
        if there.is_symlink() or (there.exists() and not there.is_dir()):
            raise DataError(f"{there} is in the way, as it is a link or a file")
    for name in names:
        if os.path.isdir(place := os.path.join(folder, name)):
            raise DataError(f"{place} is in the way, as it is a folder")
    for there in below:
        there.mkdir(exist_ok=True)
    for name in names:
        patiently(os.replace, os.path.join(staging, name), os.path.join(folder, name))
