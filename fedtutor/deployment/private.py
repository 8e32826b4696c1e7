"""What nobody else may read: files and folders of this user alone, and how they go in the end.

On Windows a file has the rights of its folder, and those in a user's home and the temporary folder
are closed to other users, administrators apart. (Python 3.11.10 and 3.12.4 learnt 0700 there, too.)
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fedtutor.support.system import patiently

HOMES = ("server", "hospital-*", "stranger")
SECRETS = (
    *("key", "tls/server.key", "resident.json", "images.npz", "test.npz", "*.db*"),
    *("flwr", "keras", "tmp"),
)
"""In each of ``HOMES``: keys, images, the SuperLink's state, and what programs left lying about."""


def make_private_folder(folder: Path) -> Path:
    """Make a folder (mode 0700) if it is not there, shut it to others, and return it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def open_private(path: Path) -> BinaryIO:
    """Open a new file for writing, with mode 0600 from the start; an older one is removed.

    Its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return open(path, "xb", opener=partial(os.open, mode=0o600))


def remove_secrets(folder: Path) -> None:
    """Remove what is secret in a federation's folder; logs, certificates and results stay."""
    for home in (home for pattern in HOMES for home in folder.glob(pattern)):
        for path in (path for pattern in SECRETS for path in home.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                patiently(shutil.rmtree, path)
            else:
                patiently(path.unlink)
