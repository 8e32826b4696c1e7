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

from fedtutor.support.language import say
from fedtutor.support.places import clone
from fedtutor.support.system import missing_libraries

PACKAGES = (
    *("tensorflow", "flwr", "numpy", "pandas", "scikit-learn", "matplotlib", "seaborn"),
    *("jupyterlab", "ipywidgets", "ipykernel"),
)
CPP_RUNTIME = "https://support.microsoft.com/help/2977003"
"""Where TensorFlow's own error sends those who lack it."""
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
    version, cores = sys.version_info[:3], os.cpu_count() or 1
    fits, disk = (3, 11) <= version[:2] <= (3, 13), shutil.disk_usage(Path.cwd()).free / 1e9
    other_python = say("use Python 3.11 to 3.13, for example: conda create -n fedtutor python=3.12")
    free = say("free at least {n} GB, or work in a folder on another disk", n=MIN_DISK_GB)
    twice = say("with one allow twice the time")
    return [
        Finding("Python", ".".join(map(str, version)), fits, other_python),
        *map(_package, PACKAGES),
        *_libraries(),
        _widgets(),
        _memory(),
        Finding(say("cores"), str(cores), cores >= 2, twice, needed=False),
        Finding(say("free disk here"), f"{disk:.0f} GB", disk >= MIN_DISK_GB, free),
        _write_access(),
        _data(),
    ]


def _package(name: str) -> Finding:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    wanted = _wanted_version(name)
    differs = bool(found and wanted and found != wanted)
    words = say("{found}, tested with {wanted}", found=found, wanted=wanted) if differs else found
    fix = say("make setup; or pip install -r requirements.lock, then pip install --no-deps .")
    fix = fix if clone() else say("pip install fedtutor, which brings what is missing")
    return Finding(name, words or say("missing"), bool(found) and not differs, fix, not found)


def _wanted_version(name: str) -> str | None:
    """Return the version in ``requirements.lock``, which only a clone has."""
    root = clone()
    text = (root / "requirements.lock").read_text(encoding="utf-8") if root else ""
    match = re.search(rf"^{re.escape(name)}==(\S+)", text, re.MULTILINE)
    return match and match.group(1)


def _libraries() -> Iterator[Finding]:
    """Yield a finding if TensorFlow could not be loaded: some Windows lack its C++ libraries."""
    if missing := missing_libraries():
        fix = say(
            "install Microsoft's Visual C++ Redistributable for x64, free, from {place}",
            place=CPP_RUNTIME,
        )
        found = say("no {libraries}", libraries=", ".join(missing))
        yield Finding(say("C++ libraries"), found, False, fix)


def _widgets() -> Finding:
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Finding(say("widgets in JupyterLab"), say("unknown without JupyterLab"), True)
    folders = jupyter_path("labextensions", "@jupyter-widgets", "jupyterlab-manager")
    here = any(Path(folder).is_dir() for folder in folders)
    fix = say("pip install --force-reinstall jupyterlab_widgets, then reload JupyterLab")
    found = say("present") if here else say("missing")
    return Finding(say("widgets in JupyterLab"), found, here, fix)


def _memory() -> Finding:
    import psutil

    gigabytes = psutil.virtual_memory().total / 1e9
    enough, found = gigabytes >= MIN_MEMORY_GB, f"{gigabytes:.1f} GB"
    fix = say("with less than {n} GB close other programs and use --size 64", n=MIN_MEMORY_GB)
    return Finding(say("memory"), found, enough, fix, needed=False)


def _write_access() -> Finding:
    what, here = say("writing here"), str(Path.cwd())
    try:
        with tempfile.TemporaryFile(dir=here):
            return Finding(what, here, True)
    except OSError as error:
        found = f"{here}: {error.strerror}"
        return Finding(what, found, False, say("cd to a folder of your own"))


def _data() -> Finding:
    from fedtutor.datasets import DATASETS

    here = sum(info.is_present() and not info.synthetic for info in DATASETS.values())
    found = say("{count} here; 'fedtutor datasets' lists them all", count=here)
    return Finding(say("real data sets"), found, True)
