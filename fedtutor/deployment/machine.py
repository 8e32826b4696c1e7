"""``fedtutor check``: can this machine run the course? Answers without loading TensorFlow."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    *("tensorflow", "flwr", "numpy", "pandas", "scikit-learn", "matplotlib", "seaborn"),
    *("jupyterlab", "ipywidgets", "ipykernel"),
)
WIDGET_EXTENSION = "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager"
MIN_MEMORY_GB, MIN_DISK_GB = 4, 2


@dataclass(frozen=True)
class Finding:
    """One thing looked at; ``fix`` says what to do if it is not ``ok``.

    A finding that is not ``needed`` does not make the check fail.
    """

    what: str
    found: str
    ok: bool
    fix: str = ""
    needed: bool = True


def check_machine() -> list[Finding]:
    """Look at Python, packages, the widgets' extension, memory, cores, disk, folders and data."""
    python = sys.version_info
    widgets = (Path(sys.prefix) / WIDGET_EXTENSION).is_dir()
    disk, cores = shutil.disk_usage(Path.cwd()).free / 1e9, os.cpu_count() or 1
    return [
        Finding(
            "Python",
            ".".join(map(str, python[:3])),
            (3, 11) <= python[:2] <= (3, 13),
            "use Python 3.11 to 3.13: conda env create -f environment.yml",
        ),
        *map(_package, PACKAGES),
        Finding(
            "widgets in JupyterLab",
            "present" if widgets else "missing",
            widgets,
            "pip install --force-reinstall jupyterlab_widgets, then reload JupyterLab",
        ),
        _memory(),
        Finding("cores", str(cores), cores >= 2, "with one allow twice the time", needed=False),
        Finding(
            "free disk here",
            f"{disk:.0f} GB",
            disk >= MIN_DISK_GB,
            f"free at least {MIN_DISK_GB} GB, or work in a folder on another disk",
        ),
        _write_access(),
        *_data(),
    ]


def _package(name: str) -> Finding:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = "missing"
    wanted = _wanted_version(name)
    differs = wanted and found not in (wanted, "missing")
    words = f"{found}, tested with {wanted}" if differs else found
    fix = "make setup, or: pip install -r requirements.lock && pip install --no-deps -e ."
    return Finding(name, words, words == found != "missing", fix, needed=found == "missing")


def _wanted_version(name: str) -> str | None:
    """Return the version in ``requirements.lock``, if the course runs from its own folder."""
    lock = Path(__file__).parents[2] / "requirements.lock"
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    match = re.search(rf"^{re.escape(name)}==(\S+)", text, re.MULTILINE)
    return match and match.group(1)


def _memory() -> Finding:
    import psutil

    gigabytes = psutil.virtual_memory().total / 1e9
    fix = f"with less than {MIN_MEMORY_GB} GB close other programs and use --size 64"
    return Finding("memory", f"{gigabytes:.1f} GB", gigabytes >= MIN_MEMORY_GB, fix, needed=False)


def _write_access() -> Finding:
    what, here = "writing here", str(Path.cwd())
    try:
        with tempfile.TemporaryFile(dir=here):
            return Finding(what, here, True)
    except OSError as error:
        found = f"{here}: {error.strerror}"
        return Finding(what, found, False, "cd to a folder of your own")


def _data() -> Iterator[Finding]:
    from fedtutor.datasets import DATASETS

    for name, info in DATASETS.items():
        here = info.is_present()
        fix = f"optional: fedtutor fetch {name}"
        found = "generated on the spot" if info.synthetic else "present" if here else "absent"
        yield Finding(name, found, here, fix, needed=False)
