from __future__ import annotations

import contextlib
import os
import subprocess

import pytest


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
