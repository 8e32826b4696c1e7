"""Decoded images kept on disk, so that a large data set is decoded once and not at every start."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import math
import os
import re
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import numpy as np
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fedtutor.datasets import decode
from fedtutor.datasets.decode import BadFile, BadImageError, Decoded
from fedtutor.errors import DataError

KEEP = 4
"""Caches of other files or sizes that may lie in a folder beside the one in use."""

IMAGES, BAD_FILES = "images.npy", "bad_files.json"
ENTRY = re.compile(r"\d+px-[0-9a-f]{16}-[0-9a-f]{32}")
UNFINISHED = ".unfinished-"

logger = logging.getLogger(__name__)


def cached_images(
    files: Iterable[Path],
    *,
    size: int,
    folder: Path,
    strict: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Decoded:
    """As :func:`fedtutor.datasets.decode.read_images`, but decodes the same files only once.

    The cache is a sub-folder of ``folder`` with an ``.npy`` file, which is mapped and not read
    into memory. It is used as long as the files have the same relative paths, sizes and times of
    change, and the decoding code is the same; otherwise it is replaced. It appears whole or not
    at all; of several processes that want it one builds it and the others wait. Where it cannot
    be written, a warning is logged and the images are decoded into memory.

    Parameters
    ----------
    size : side of the images in pixels.
    folder : where the caches of this data set are kept, and nothing else; it is made if need be.
        Of other lists of files and other sizes the last ``KEEP`` used are kept.
    strict : refuse the first bad file; by default bad files are left out and listed.
    progress : called after each file with the number of files done since the last call; by
        default a terminal shows a bar. Not called where nothing has to be decoded.

    Returns
    -------
    Decoded
        Its images are read-only.

    Raises
    ------
    BadImageError
        If ``strict``, for the first bad file.
    DataError
        If no file is good, or the images fit neither on the disk nor into memory.
    """
    files, folder = list(files), Path(folder)
    entry = folder / _entry_name(files, size)
    found = _load(entry, files, size)
    if found is None:
        with _bar(len(files), progress) as advance:
            try:
                found = _build_once(entry, files, size, strict, advance)
            except OSError as error:
                found = _in_memory(folder, error, files, size, strict, advance)
    if strict and len(found.bad):
        first = found.bad.iloc[0]
        raise BadImageError(files[first["position"]], first["reason"])
    return found


def _entry_name(files: Sequence[Path], size: int) -> str:
    """What the cache is called: the size, the list of files, and the state they are in."""
    names = [os.fspath(file) for file in files]
    root = os.path.commonprefix(names)
    # Paths are taken from the folder the files share, so that a data set can be moved.
    start = len(root) - len(os.path.basename(root))
    listed = os.fsencode("\0".join([name[start:] for name in names]))
    states = []
    for name in names:
        try:
            found = os.stat(name)
        except OSError:
            states.append(-1)
        else:
            states.append(found.st_size)
            states.append(found.st_mtime_ns)
    state = array("q", states).tobytes() + decode.version().encode()
    return f"{size}px-{_digest(listed, 8)}-{_digest(state, 16)}"


def _digest(content: bytes, length: int) -> str:
    return hashlib.blake2b(content, digest_size=length).hexdigest()


def _load(
    entry: Path, files: Sequence[Path], size: int, *, just_built: bool = False
) -> Decoded | None:
    """The cache at ``entry``, or None if there is none, it is damaged or it can be bettered."""
    try:
        bad = [BadFile(*row) for row in json.loads((entry / BAD_FILES).read_bytes())]
        shape = (len(files) - len(bad), size, size, 1)
        header = _npy_header(shape)
        with open(entry / IMAGES, "rb") as stream:
            length = os.fstat(stream.fileno()).st_size
            if stream.read(len(header)) != header or length != len(header) + math.prod(shape):
                return None
            images = np.memmap(stream, np.uint8, "r", len(header), shape)
    except (OSError, ValueError, TypeError):
        return None
    # What the disk would not give may be there now, and neither size nor time would tell.
    if not just_built and any(row.passing and _can_be_read(files[row.position]) for row in bad):
        return None
    with suppress(OSError):
        os.utime(entry)  # for _make_room: this one is in use
    return decode.decoded(files, images, bad)


def _can_be_read(file: Path) -> bool:
    try:
        Path(file).read_bytes()
    except OSError:
        return False
    return True


def _build_once(
    entry: Path,
    files: Sequence[Path],
    size: int,
    strict: bool,
    progress: Callable[[int], object],
) -> Decoded:
    """Build the cache, or wait until the process that is building it has done so."""
    folder = entry.parent
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.warning("another process is decoding images into %s; waiting for it.", folder)
        lock.acquire()
    try:
        if found := _load(entry, files, size):
            return found
        _make_room(entry, len(files) * size**2)
        # The temporary folder is for its owner's eyes only; the one that stays need not be.
        with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as temporary:
            staged = Path(temporary) / entry.name
            staged.mkdir()
            _write(staged, files, size, strict, progress)
            os.rename(staged, entry)
        if found := _load(entry, files, size, just_built=True):
            return found
        raise OSError(errno.EIO, "what was written cannot be read back")
    finally:
        lock.release()


def _make_room(entry: Path, needed: int) -> None:
    """Remove what is of no more use in the folder of caches; check that ``needed`` bytes fit.

    Whoever holds the lock is alone in the folder, so all that is unfinished was left by a
    process that was killed.
    """
    folder, same_list = entry.parent, entry.name.rpartition("-")[0]
    outdated = [*folder.glob(UNFINISHED + "*"), *folder.glob(same_list + "-*")]
    others = [
        path for path in folder.iterdir() if ENTRY.fullmatch(path.name) and path not in outdated
    ]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*outdated, *others[KEEP:]):
        shutil.rmtree(path, ignore_errors=True)
    if shutil.disk_usage(folder).free < needed + 2**20:
        raise OSError(errno.ENOSPC, f"{needed / 1e6:.0f} MB of free disk space are needed")


def _write(
    staged: Path,
    files: Sequence[Path],
    size: int,
    strict: bool,
    progress: Callable[[int], object],
) -> None:
    """Decode the files into the two files of a cache."""
    # Written and not mapped: on a full disk a write is refused, a mapped page kills the process.
    with open(staged / IMAGES, "wb") as stream:
        stream.write(_npy_header((len(files), size, size, 1)))
        bad = decode.decode_each(
            files,
            lambda image: stream.write(image.tobytes()),
            size=size,
            strict=strict,
            progress=progress,
        )
        # NumPy pads its header so that another number of rows takes the same place.
        stream.seek(0)
        stream.write(_npy_header((len(files) - len(bad), size, size, 1)))
        stream.flush()
        # Without it, a power cut could leave a file of the right length that holds zeros.
        os.fsync(stream.fileno())
    (staged / BAD_FILES).write_text(json.dumps(bad), encoding="utf-8")


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """How an ``.npy`` file of uint8 begins."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def _in_memory(
    folder: Path,
    error: OSError,
    files: Sequence[Path],
    size: int,
    strict: bool,
    progress: Callable[[int], object],
) -> Decoded:
    """Decode without a cache, which ``error`` forbids, if the images fit into memory."""
    needed, available = len(files) * size**2, psutil.virtual_memory().available
    if needed > 0.8 * available:
        raise DataError(
            f"{len(files)} images of {size}x{size} pixels cannot be kept in {folder} "
            f"({error.strerror or error}), and their {needed / 1e6:.0f} MB do not fit into the "
            f"{available / 1e6:.0f} MB of free memory; give another folder or a smaller size."
        ) from error
    logger.warning(
        "decoded images cannot be kept in %s (%s); they are decoded into memory this time.",
        folder,
        error.strerror or error,
    )
    found = decode.read_images(files, size=size, strict=strict, progress=progress)
    found.images.flags.writeable = False
    return found


@contextmanager
def _bar(total: int, progress: Callable[[int], object] | None) -> Iterator[Callable[[int], object]]:
    """``progress`` itself or, if there is none, a bar on a terminal."""
    if progress is not None:
        yield progress
        return
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}, left:"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("decoding images", total=total)
        yield lambda done: bar.advance(task, done)
