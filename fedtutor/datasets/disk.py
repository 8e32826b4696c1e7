"""Room on the disk and in memory, asked for before a long step and not when it fails half-way."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import psutil

from fedtutor.errors import DataError

RESERVE = 2**27
"""Bytes that are left free."""


def require_space(folder: Path, num_bytes: int) -> None:
    """Raise :class:`OSError` (``ENOSPC``) unless ``folder`` has room for ``num_bytes`` more."""
    needed, free = num_bytes + RESERVE, shutil.disk_usage(folder).free
    if free < needed:
        reason = f"{free / 1e6:,.0f} MB are free and {needed / 1e6:,.0f} MB are needed"
        raise OSError(errno.ENOSPC, reason, os.fspath(folder))


def require_memory(what: str, num_bytes: int) -> None:
    """Raise :class:`DataError` unless ``num_bytes`` fit into four fifths of the free memory."""
    available = psutil.virtual_memory().available
    if num_bytes > 0.8 * available:
        raise DataError(
            f"{what} take {num_bytes / 1e6:,.0f} MB and do not fit into the "
            f"{available / 1e6:,.0f} MB of free memory; give a smaller size or set."
        )
