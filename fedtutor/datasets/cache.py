"""Keep decoded images on disk, so that a large data set is decoded once and not at every start."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import AcquireReturnProxy, FileLock, Timeout

from fedtutor.datasets import decode
from fedtutor.datasets.decode import Decoded
from fedtutor.datasets.disk import require_memory, require_space
from fedtutor.datasets.progress import reporting
from fedtutor.support.system import patiently

KEEP = 4
"""Caches, of other files or sizes, that a folder may hold; the least recently used one goes."""

PIXELS, FACTS = "pixels.raw", "facts.json"
ENTRY, UNFINISHED = "cache-", ".unfinished-"
Shape = tuple[int, int, int]
"""(size, size, channels) of an image."""

logger = logging.getLogger(__name__)


def cached_images(
    files: Sequence[Path], *, size: int, folder: Path, colour: bool = False
) -> Decoded:
    """Do as :func:`fedtutor.datasets.decode.read_images`, but decode the same files only once.

    The cache is a sub-folder of ``folder`` with the pixels, which are read-only, and mapped and not
    read into memory. It is used as long as the files have the same paths, sizes and times of
    change, the decoding code is the same, and the pixels have the checksum they had. It appears
    whole or not at all; of several processes that want it one builds it and the others wait. Where
    it cannot be written, a warning is logged and the images are decoded into memory. Raises
    :class:`DataError` if no file is good, or they fit neither on the disk nor into memory.

    Parameters
    ----------
    size : side of the images in pixels.
    folder : keeps the ``KEEP`` caches last used, and nothing else; it is made if need be. Paths
        are compared relative to the folder that it is in, so that a data set can be moved.
    """
    shape = size, size, 3 if colour else 1
    entry = folder / _entry_name(files, shape, folder.parent)
    try:
        return _load(entry, len(files), shape) or _build(entry, files, shape)
    except OSError as error:
        reason, count = error.strerror or error, len(files)
        kept = f"{count} images of {size}x{size} pixels cannot be kept in {folder} ({reason}); they"
        require_memory(kept, count * math.prod(shape))
        logger.warning("%s are decoded into memory this time.", kept)
        found = decode.read_images(files, size=size, colour=colour)
        found.images.flags.writeable = False
        return found


def _entry_name(files: Sequence[Path], shape: Shape, root: Path) -> str:
    """Name a cache after all that it depends on: the code, the shape, the files and their state."""
    digest = hashlib.blake2b(f"{decode.version()} {shape}".encode(), digest_size=16)
    prefix = os.path.join(root, "")
    for file in files:
        name = os.fspath(file)
        try:
            found = os.stat(name)
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(os.fsencode(f"\0{name.removeprefix(prefix)}\0{state}"))
    return ENTRY + digest.hexdigest()


def _load(entry: Path, count: int, shape: Shape) -> Decoded | None:
    """Return the cache of ``count`` files at ``entry``, or None if there is none that is whole."""
    try:
        bad, checksum = json.loads((entry / FACTS).read_bytes())
        bad = {int(k): str(v) for k, v in bad.items()}
        images = np.memmap(entry / PIXELS, np.uint8, "r", shape=(count - len(bad), *shape))
        if checksum != _checksum(entry / PIXELS):
            return None
    except (OSError, ValueError, TypeError, AttributeError):  # it was damaged
        return None
    with suppress(OSError):
        os.utime(entry)  # it was used; a read-only disk will do
    return Decoded(images, bad)


def _checksum(file: Path) -> int:
    """Return the CRC-32 of a file, as fast as a disk gives it."""
    checksum = 0
    with open(file, "rb") as stream:
        while block := stream.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _build(entry: Path, files: Sequence[Path], shape: Shape) -> Decoded:
    """Build the cache, or wait until the process that is building it has done so."""
    folder = entry.parent
    folder.mkdir(parents=True, exist_ok=True)
    with _hold(FileLock(folder / "lock")):
        if found := _load(entry, len(files), shape):
            return found
        _make_room(entry, len(files) * math.prod(shape))
        # The temporary folder is for its owner's eyes only; the one that stays need not be.
        with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as temporary:
            staged = Path(temporary) / entry.name
            staged.mkdir()
            # Written and not mapped: a full disk refuses a write, and kills who maps its pages.
            with (
                open(staged / PIXELS, "wb") as stream,
                reporting("decoding images", in_bytes=False) as report,
            ):
                bad = decode.decode_each(
                    files, stream.write, shape[0], report, colour=shape[2] == 3
                )
                stream.flush()
                os.fsync(stream.fileno())  # or a power cut could leave zeros
            facts = json.dumps([bad, _checksum(staged / PIXELS)])
            (staged / FACTS).write_text(facts, encoding="utf-8")
            patiently(staged.rename, entry)
        if found := _load(entry, len(files), shape):
            return found
        raise OSError(errno.EIO, "what was written cannot be read back")


def _hold(lock: FileLock) -> AcquireReturnProxy:
    """Acquire a lock, and say so if that takes a while."""
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.warning("another process is decoding images; waiting for it (%s).", lock.lock_file)
        return lock.acquire()


def _make_room(entry: Path, num_bytes: int) -> None:
    """Remove what was left unfinished or damaged, and the caches not used for longest."""
    folder = entry.parent
    shutil.rmtree(entry, ignore_errors=True)
    # Whoever holds the lock is alone: what is unfinished was left by a process that was killed.
    by_age = sorted(folder.glob(ENTRY + "*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*folder.glob(UNFINISHED + "*"), *by_age[KEEP - 1 :]):
        shutil.rmtree(path, ignore_errors=True)
    require_space(folder, num_bytes)
