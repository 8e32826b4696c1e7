"""``fedtutor check``: can this machine run the course? Answers without loading TensorFlow."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("tensorflow", "flwr", "numpy", "pandas", "scikit-learn", "matplotlib", "seaborn")
COURSE_PACKAGES = ("jupyterlab", "ipywidgets", "ipykernel", "nbval")
WIDGET_EXTENSION = "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager"
PYTHON_RANGE = ((3, 11), (3, 13))
MIN_MEMORY_GB = 4
MIN_DISK_GB = 2


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
    return [
        _python(),
        *(_package(name) for name in (*PACKAGES, *COURSE_PACKAGES)),
        _widgets(),
        _memory(),
        _cores(),
        _disk(),
        _write_access(),
        *_data(),
    ]


def _python() -> Finding:
    low, high = PYTHON_RANGE
    return Finding(
        "Python",
        ".".join(map(str, sys.version_info[:3])),
        low <= sys.version_info[:2] <= high,
        f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1]}: conda env create -f environment.yml",
    )


def _package(name: str) -> Finding:
    fix = "make setup, or: pip install -r requirements.lock && pip install --no-deps -e ."
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", False, fix)
    wanted = _wanted_version(name)
    if wanted and found != wanted:
        return Finding(name, f"{found}, tested with {wanted}", False, fix, needed=False)
    return Finding(name, found, True)


def _wanted_version(name: str) -> str | None:
    """Return the version in ``requirements.lock``, if the course runs from its own folder."""
    lock = Path(__file__).parents[1] / "requirements.lock"
    if not lock.is_file():
        return None
    match = re.search(rf"^{re.escape(name)}==(\S+)$", lock.read_text(), re.MULTILINE)
    return match and match.group(1)


def _widgets() -> Finding:
    present = (Path(sys.prefix) / WIDGET_EXTENSION).is_dir()
    return Finding(
        "widgets in JupyterLab",
        "present" if present else "missing",
        present,
        "pip install --force-reinstall jupyterlab_widgets, then reload JupyterLab",
    )


def _memory() -> Finding:
    try:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return Finding("memory", "unknown on this system", True)
    return Finding(
        "memory",
        f"{gigabytes:.1f} GB",
        gigabytes >= MIN_MEMORY_GB,
        f"with less than {MIN_MEMORY_GB} GB close other programs and use --size 64",
        needed=False,
    )


def _cores() -> Finding:
    cores = os.cpu_count() or 1
    fix = "with one core allow twice the minutes"
    return Finding("cores", str(cores), cores >= 2, fix, needed=False)


def _disk() -> Finding:
    gigabytes = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding(
        "free disk here",
        f"{gigabytes:.0f} GB",
        gigabytes >= MIN_DISK_GB,
        f"free at least {MIN_DISK_GB} GB, or work in a folder on another disk",
    )


def _write_access() -> Finding:
    try:
        with tempfile.TemporaryFile(dir=Path.cwd()):
            return Finding("writing here", str(Path.cwd()), True)
    except OSError as error:
        return Finding(
            "writing here", f"{Path.cwd()}: {error.strerror}", False, "cd to a folder of your own"
        )


def _data() -> list[Finding]:
    from fedtutor.datasets import DATASETS

    return [
        Finding(
            info.name,
            "generated on the spot"
            if info.synthetic
            else "present"
            if info.is_present()
            else "absent",
            info.is_present(),
            f"optional: fedtutor fetch {info.name}",
            needed=False,
        )
        for info in DATASETS.values()
    ]
