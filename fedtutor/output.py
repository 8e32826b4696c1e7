"""Files that a run leaves: each whole or not there, and all of one run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fedtutor.errors import FedtutorError

if TYPE_CHECKING:
    import keras

MODEL, SUMMARY, REPORT = "model.keras", "summary.json", "report.html"
LAST_GOOD = "last-good-model.keras"
"""The global model after the last whole round of a run that did not end."""
CHECKPOINT = "checkpoint.npz"
"""What such a run is resumed from, see :class:`fedtutor.federation.RoundLog`."""
DEPLOYED, PROGRESS = "global-model.keras", "progress.jsonl"
ALL = (MODEL, SUMMARY, REPORT, LAST_GOOD, CHECKPOINT, DEPLOYED, PROGRESS)


def check_writable(folder: Path) -> Path:
    """Make ``folder`` and return its absolute path.

    Raises
    ------
    FedtutorError
        If nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.absolute()
    except OSError as error:
        raise FedtutorError(
            f"cannot write to {folder} ({error.strerror}); choose another folder with --out."
        ) from error


def set_aside(folder: Path, names: Sequence[str] = ALL) -> None:
    """Move an older run's files into ``previous/``, in place of those of the run before it."""
    previous, found = folder / "previous", [name for name in names if (folder / name).exists()]
    for name in names if found else ():
        (previous / name).unlink(missing_ok=True)
    for name in found:
        previous.mkdir(exist_ok=True)
        os.replace(folder / name, previous / name)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give another path to write to; what is there at the end is moved to ``path``.

    Raises
    ------
    FedtutorError
        If it cannot be written, as on a full disk; an older file is then left as it was.
    """
    temporary = path.with_name(f".unfinished-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise FedtutorError(f"cannot write {path} ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_model(model: keras.Model, path: Path) -> None:
    """Save a Keras model."""
    with whole(path) as temporary:
        model.save(temporary)
