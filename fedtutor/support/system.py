"""What differs between Windows, macOS and Linux; nothing else in the package knows of it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8) if sys.platform == "win32" else ()
"""Seconds between attempts at a file that somebody has open: only Windows then keeps it."""


def start_apart(command: Sequence[str], **options: Any) -> subprocess.Popen:
    """Start a program that neither Ctrl-C nor the closing of the terminal reaches."""
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return subprocess.Popen(command, start_new_session=True, **options)


def give_way(process: subprocess.Popen) -> None:
    """Let other programs come first: this one, started apart, and all that it will start."""
    below = psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 5
    with suppress(psutil.NoSuchProcess):
        psutil.Process(process.pid).nice(below)
    # On Linux programs started apart have equal shares, whatever their nice values, but for this.
    if sys.platform == "linux":
        with suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(str(below), encoding="utf-8")


def ask_to_end(process: subprocess.Popen) -> bool:
    """Send SIGTERM and return True; on Windows, where that would kill, do nothing."""
    if sys.platform == "win32":
        return False
    process.terminate()
    return True


def when_told_to_end(handler: Any) -> None:
    """Set what is done when this process is told to end: SIGTERM, and on Windows Ctrl-Break."""
    signal.signal(signal.SIGTERM, handler)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, handler)


def short_temporary_folder() -> Path:
    """Make a temporary folder for Ray's sockets, whose path may have 107 bytes, on macOS 103."""
    long = len(os.fsencode(tempfile.gettempdir())) > 12 and sys.platform != "win32"
    return Path(tempfile.mkdtemp(prefix="fedtutor-", dir="/tmp" if long else None))


def patiently(work: Callable, *arguments: object) -> Any:
    """Replace, move or remove something; on Windows try again while somebody has it open."""
    for pause in PAUSES:
        try:
            return work(*arguments)
        except PermissionError:
            time.sleep(pause)
    return work(*arguments)


def missing_libraries() -> list[str]:
    """Return what TensorFlow asks of Windows' C++ runtime and is not here; elsewhere nothing."""
    missing: list[str] = []
    if sys.platform == "win32":
        for name in ("msvcp140.dll", "msvcp140_1.dll"):
            try:
                ctypes.WinDLL(name)
            except OSError:
                missing.append(name)
    return missing


@dataclass
class LastingStream:
    """A text stream that turns silent when nobody reads on, so that the work is finished."""

    stream: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> None:
        """Write at once, and after ``| head -1`` nowhere."""
        try:
            print(text, end="", file=self.stream, flush=True)
        except OSError:  # a broken pipe, which Windows calls an invalid argument
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
