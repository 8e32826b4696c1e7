"""Programs that run beside this one, and that are certain to end with it.

What belongs together is known by a variable of the environment, which is passed on to all that a
program starts: ``FLWR_HOME``, a folder of its own in each hospital.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil

from fedtutor.deployment.private import remove_secrets
from fedtutor.errors import FederationError
from fedtutor.support.system import give_way, patiently, start_apart, when_told_to_end

HOME = "FLWR_HOME"
GONE_SECONDS = 60.0
"""How long the system may take to remove a process that was killed."""
Leave = Literal["all", "results", "nothing"]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def processes_in(folder: Path, variable: str = HOME) -> set[psutil.Process]:
    """Return the running processes whose ``variable`` is a path in ``folder``, and their children.

    The children by themselves, as some (Ray's workers) overwrite their environment.
    """
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # another user's, or gone meanwhile
            if Path(process.environ().get(variable, "")).is_relative_to(folder):
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if _lives(process)}


def end_all_in(folder: Path, variable: str = HOME) -> None:
    """Kill what :func:`processes_in` finds, and what it starts meanwhile."""
    deadline = time.monotonic() + GONE_SECONDS
    while (found := processes_in(folder, variable)) and time.monotonic() < deadline:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        while any(map(_lives, found)) and time.monotonic() < deadline:
            time.sleep(0.01)


def clear_away(folder: Path, *, leave: Leave) -> None:
    """End all that runs in a folder, and leave "all" of it, its "results" only, or "nothing"."""
    end_all_in(folder)
    if leave == "nothing":
        with contextlib.suppress(OSError):
            patiently(shutil.rmtree, folder)
        shutil.rmtree(folder, ignore_errors=True)  # or as much of it as can be
    elif leave == "results":
        remove_secrets(folder)


def _lives(process: psutil.Process) -> bool:
    # Not psutil.wait_procs: in a container nobody may come for the dead.
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Watchdog:
    """Clears a folder away when this process is gone, even if it was killed.

    A small program reads a pipe from us; when the pipe ends without a farewell, it calls
    :func:`clear_away` with what we were given. So a notebook's kernel that is restarted leaves no
    server behind.
    """

    def __init__(self, folder: Path, *, leave: Leave) -> None:
        command = [sys.executable, "-m", __name__, str(folder), leave]
        self._process = start_apart(command, stdin=subprocess.PIPE)

    def close(self) -> None:
        """Send it away; it then ends nothing."""
        if self._process.poll() is None:
            self._process.communicate(b"bye")


class Program:
    """A running program, see :func:`~fedtutor.support.system.start_apart`.

    Parameters
    ----------
    name : for messages.
    command : as for :class:`subprocess.Popen`.
    log : new file that gets all it says.
    environment : with a ``FLWR_HOME`` in ``folder``.
    folder : where it runs.
    behind : whether other programs come first.
    """

    def __init__(
        self,
        name: str,
        command: Sequence,
        log: Path,
        *,
        environment: dict[str, str],
        folder: Path,
        behind: bool = False,
    ) -> None:
        self.name, self.log, self.folder = name, log, folder
        with log.open("wb") as out:
            self.process = start_apart(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                cwd=folder,
            )
        if behind:
            give_way(self.process)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def said(self) -> str:
        """Return all it has said so far, without colours."""
        return COLOURS.sub("", self.log.read_text(encoding="utf-8", errors="replace"))

    def tail(self, lines: int = 12) -> str:
        """Return the last lines it said."""
        return "\n".join([line for line in self.said().splitlines() if line.strip()][-lines:])

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for ``ready``.

        If the program ends before, or after ``seconds``, raises :class:`FederationError` with the
        end of the log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                problem = f" ended with exit code {self.process.returncode} before {what}."
            elif time.monotonic() > deadline:
                problem = f": no sign of {what} after {seconds:g} s."
            else:
                time.sleep(0.1)
                continue
            raise FederationError(f"{self.name}{problem} Its log ends with:\n{self.tail()}")

    def kill(self) -> None:
        """End it and all that runs in its folder, as in a power cut."""
        end_all_in(self.folder)
        self.reap()

    def reap(self) -> None:
        """Take note that it was ended.

        A signal that comes while Popen asks for the exit code can leave its lock shut for ever
        (CPython 3.11), so this does not wait longer than a moment for what has ended already.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)


def without_proxy() -> dict[str, str]:
    """Return this process's environment, and in it that no proxy is asked for this machine."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    hosts = ",".join(filter(None, (known, "localhost", "127.0.0.1")))
    return os.environ | {"no_proxy": hosts, "NO_PROXY": hosts}


@contextlib.contextmanager
def asking_no_proxy() -> Iterator[None]:
    """Have a client that is made in this block ask no proxy for this machine."""
    before = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    os.environ.update(without_proxy())
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)  # on Windows the two are one
            os.environ.update({name: value} if value is not None else {})


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on at this moment.

    It is below those that systems give to whoever calls somebody, and so not taken a moment later.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise FederationError("no port is free on this machine, of a hundred between 20000 and 32000.")


if __name__ == "__main__":  # the watchdog's program
    when_told_to_end(signal.SIG_IGN)  # meant for us all when a service is stopped
    if not sys.stdin.read():
        clear_away(Path(sys.argv[1]), leave=sys.argv[2])  # type: ignore[arg-type]
