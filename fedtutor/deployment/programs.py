"""Flower's programs and ours, kept in one folder, which end when the ``with`` block does."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fedtutor.deployment.processes import (
    Leave,
    Program,
    Watchdog,
    clear_away,
    free_port,
    without_proxy,
)
from fedtutor.deployment.resident import RESIDENT

SCRIPTS = Path(sysconfig.get_path("scripts"))


class Programs:
    """Programs that are started together; use it in a ``with`` block, which ends them.

    Parameters
    ----------
    folder : where everything is kept; by default a temporary folder, which is removed as a whole.
    leave : what stays in the folder in the end, see
        :func:`~fedtutor.deployment.processes.clear_away`.
    """

    poll = 0.25
    """Seconds between two looks of Flower's programs whether there is work for them."""
    behind: frozenset[str] = frozenset()
    """Names of the programs that let all others on this machine come first."""

    def __init__(self, folder: Path | None = None, *, leave: Leave = "results") -> None:
        self._leave: Leave = "nothing" if folder is None else leave
        self.folder = (folder or Path(tempfile.mkdtemp(prefix="fedtutor-"))).absolute()
        self._programs: dict[str, Program] = {}

    def __enter__(self) -> Self:
        self._watchdog = Watchdog(self.folder, leave=self._leave)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def start(self) -> Self:
        """Do what the ``with`` block does at its beginning, for a notebook with its many cells."""
        return self.__enter__()

    def _begin(self) -> None:
        """Start what there is to start."""
        raise NotImplementedError

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all programs and whatever they have started; leave what is to stay."""
        clear_away(self.folder, leave=self._leave)
        for program in self._programs.values():
            program.reap()
        self._programs.clear()
        self._watchdog.close()

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the environment of a program that keeps everything in ``folder``."""
        return without_proxy() | {
            # SuperLink and SuperNode start further programs by their bare names.
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(folder / "flwr"),
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR"), str(folder / "tmp")),
            "KERAS_HOME": str(folder / "keras"),
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(self.poll),
            "FLWR_LOG_LEVEL": "INFO",
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8:backslashreplace",  # their logs, whatever the system's is
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }

    def _start(
        self, name: str, command: str, *options: str, folder: Path, log: str, **variables: str
    ) -> Program:
        """Start one of the environment's commands, or a program by its whole path."""
        program = self._programs[name] = Program(
            name,
            [shutil.which(command, path=str(SCRIPTS)) or command, *options],
            folder / log,
            environment=self.environment(folder) | variables,
            folder=folder,
            behind=name in self.behind,
        )
        return program

    def _runs(self, name: str) -> bool:
        return name in self._programs and self._programs[name].running

    def _start_supernode(
        self, name: str, home: Path, superlink: str, trust: Sequence[str], app: str | None = None
    ) -> Program:
        """Start a hospital's SuperNode and, for an ``app`` that trains, its resident.

        ``home`` has ``node.toml``; ``superlink`` is an address; ``trust`` are options about TLS.
        """
        return self._start(
            name,
            "flower-supernode",
            f"--superlink={superlink}",
            "--host=127.0.0.1",
            f"--port={free_port()}",
            f"--node-config={home / 'node.toml'}",
            *trust,
            folder=home,
            log="supernode.log",
            **(self._start_resident(name, home, app) if app else {}),
        )

    def _start_resident(self, name: str, home: Path, app: str) -> dict[str, str]:
        """Start what keeps TensorFlow loaded for a hospital, unless it runs still.

        Returns how the hospital's SuperNode finds it.
        """
        file, resident = home / "resident.json", f"resident of {name}"
        if not self._runs(resident):
            command = ("-m", "fedtutor.deployment.resident", str(file), app)
            self._start(resident, sys.executable, *command, folder=home, log="resident.log")
        return {RESIDENT: str(file)}
