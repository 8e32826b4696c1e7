"""Where the course and the data lie: in a clone, or where an installed wheel has them."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

_PACKAGE = Path(__file__).resolve().parents[1]


def clone() -> Path | None:
    """Return the repository's root if the package is used from a clone."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def material() -> Path:
    """Return the folder with ``notebooks/`` and the cards in ``datasets/NAME/README.md``.

    A clone has it at its root; a wheel brings it along inside the package.
    """
    return clone() or _PACKAGE / "_material"


def data_folder() -> Path:
    """Return ``$FEDTUTOR_DATA``, or ``datasets/`` of the clone, or a folder of this user.

    The user's is the one that its system keeps for data, as platformdirs knows it, such as
    ``~/.local/share/fedtutor`` on Linux.
    """
    if folder := os.environ.get("FEDTUTOR_DATA"):
        return Path(folder).expanduser()
    root = clone()
    return root / "datasets" if root else user_data_path("fedtutor", appauthor=False)
