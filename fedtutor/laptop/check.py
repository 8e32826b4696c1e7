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
    other_python = "use Python 3.11 to 3.13, for example: conda create -n fedtutor python=3.12"
    free = f"free at least {MIN_DISK_GB} GB, or work in a folder on another disk"
    return [
        Finding("Python", ".".join(map(str, version)), fits, other_python),
        *map(_package, PACKAGES),
        *_libraries(),
        _widgets(),
        _memory(),
        Finding("cores", str(cores), cores >= 2, "with one allow twice the time", needed=False),
        Finding("free disk here", f"{disk:.0f} GB", disk >= MIN_DISK_GB, free),
        _write_access(),
        _data(),
    ]


def _package(name: str) -> Finding:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = "missing"
    wanted = _wanted_version(name)
    differs = wanted and found not in (wanted, "missing")
    words = f"{found}, tested with {wanted}" if differs else found
    fix = "make setup; or pip install -r requirements.lock, then pip install --no-deps -e ."
    fix = fix if clone() else "pip install fedtutor, which brings what is missing"
    return Finding(name, words, words == found != "missing", fix, needed=found == "missing")


def _wanted_version(name: str) -> str | None:
    """Return the version in ``requirements.lock``, which only a clone has."""
    root = clone()
    text = (root / "requirements.lock").read_text(encoding="utf-8") if root else ""
    match = re.search(rf"^{re.escape(name)}==(\S+)", text, re.MULTILINE)
    return match and match.group(1)


def _libraries() -> Iterator[Finding]:
    """Yield a finding if TensorFlow could not be loaded: some Windows lack its C++ libraries."""
    if missing := missing_libraries():
        fix = "install Microsoft's Visual C++ Redistributable for x64, free, from " + CPP_RUNTIME
        yield Finding("C++ libraries", f"no {', '.join(missing)}", False, fix)


def _widgets() -> Finding:
    try:
        from jupyter_core.paths import jupyter_path
    except ImportError:
        return Finding("widgets in JupyterLab", "unknown without JupyterLab", True)
    folders = jupyter_path("labextensions", "@jupyter-widgets", "jupyterlab-manager")
    here = any(Path(folder).is_dir() for folder in folders)
    fix = "pip install --force-reinstall jupyterlab_widgets, then reload JupyterLab"
    return Finding("widgets in JupyterLab", "present" if here else "missing", here, fix)


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


def _data() -> Finding:
    from fedtutor.datasets import DATASETS

    here = sum(info.is_present() and not info.synthetic for info in DATASETS.values())
    return Finding("real data sets", f"{here} here; 'fedtutor datasets' lists them all", True)
