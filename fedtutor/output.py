"""Files that a run leaves: whole, or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fedtutor.errors import FedtutorError

if TYPE_CHECKING:
    import keras

LAST_GOOD = "last-good-model.keras"
"""The global model after the last whole round of a run that did not end."""


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


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def save_model(model: keras.Model, path: Path) -> None:
    """Save a Keras model."""
    temporary = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        model.save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
