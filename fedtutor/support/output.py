"""Files that a run leaves: each whole or not there, and all of one run."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fedtutor.errors import FederationError
from fedtutor.support.system import patiently

MODEL, SUMMARY, PROGRESS = "model.keras", "summary.json", "progress.jsonl"
LAST_GOOD = "last-good-model.keras"
"""The global model after the last whole round of a run that did not end."""
CHECKPOINT = "checkpoint.npz"
"""What such a run is resumed from, see :class:`fedtutor.federation.RoundLog`."""
RESULTS = (MODEL, "global-model.keras", SUMMARY, "report.html", PROGRESS, LAST_GOOD, CHECKPOINT)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; what is there in the end is moved to ``path``.

    Raises
    ------
    FederationError
        If nothing can be written, as on a full disk; an older file is then left as it was.
    """
    temporary = path.with_name(f".unfinished-{path.name}")
    try:
        with writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            patiently(os.replace, temporary, path)
    finally:
        if os.path.exists(temporary):
            temporary.unlink()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise :class:`FederationError` for what the system refuses to write, move or remove there."""
    try:
        yield
    except OSError as error:
        raise FederationError(
            f"cannot write to {folder} ({error.strerror or error}); make room, close what has a "
            "file there open, or choose another folder."
        ) from error


def check_writable(folder: Path) -> Path:
    """Make ``folder``, see that it can be written to, and return its absolute path."""
    write_text(folder / ".writable", "")
    (folder / ".writable").unlink()
    return folder.absolute()


def set_aside(folder: Path) -> None:
    """Move an older run's files into ``previous/``, in place of those of the run before it."""
    if any((folder / name).exists() for name in RESULTS):
        with writing_to(folder):
            (folder / "previous").mkdir(exist_ok=True)
            for name in RESULTS:
                (folder / "previous" / name).unlink(missing_ok=True)
                if (folder / name).exists():
                    patiently(os.replace, folder / name, folder / "previous" / name)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, the same bytes on every system."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write a value of :func:`plain` as JSON that people can read, too."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Return the value in JSON's types: arrays as lists, NaN as None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
