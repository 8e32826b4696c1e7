"""tools/run_and_end.py: what a command leaves behind is ended."""

from __future__ import annotations

import sys

import psutil
from run_and_end import main

LEAVES_A_CHILD = """
import pathlib, subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
sys.exit(3)
"""


def test_a_child_that_outlives_its_parent_is_ended_and_the_exit_code_is_kept(tmp_path):
    assert main([sys.executable, "-c", LEAVES_A_CHILD, str(tmp_path / "pid")]) == 3
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    status = psutil.Process(pid).status() if psutil.pid_exists(pid) else "gone"
    assert status in ("gone", psutil.STATUS_ZOMBIE)
