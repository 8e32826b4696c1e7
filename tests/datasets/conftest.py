from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest


@pytest.fixture
def watch_progress(monkeypatch):
    """Call a function with the steps that a module reports, in place of drawing a bar."""

    def watch(module, report):
        monkeypatch.setattr(module, "reporting", lambda *_, **__: contextlib.nullcontext(report))

    return watch


@pytest.fixture
def link():
    """Make a link, which Windows allows developers and administrators only."""

    def make(place, target):
        try:
            place.symlink_to(target)
        except OSError:
            if sys.platform != "win32":
                raise
            pytest.skip("this user may make no links")

    return make


@pytest.fixture
def mounted():
    """Mount a small disk on a folder, for the time of a with block."""

    @contextlib.contextmanager
    def mount(folder, options):
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        is_root = hasattr(os, "geteuid") and os.geteuid() == 0
        if not is_root or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root can mount a disk, and not in every container")
        try:
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    return mount


MEASURE = """
import sys, tracemalloc
from pathlib import Path
first, second = map(Path, sys.argv[1:])
def work():
    {code}
work()  # once before, as the first call imports
tracemalloc.start()
work()
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.fixture
def peak_memory():
    """Measure the bytes that a line of code takes at its peak, in a process of its own.

    In this one the threads of other tests count, too. The line knows two paths as ``first`` and
    ``second``.
    """

    def measure(code, first, second):
        command = [sys.executable, "-c", MEASURE.format(code=code), str(first), str(second)]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    return measure
