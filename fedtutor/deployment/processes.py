"""Programs that run beside this one, and that are certain to end with it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from fedtutor.errors import FederationError

GRACE = 3.0
"""Seconds that a program is given to end by itself."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")

WATCHDOG = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
groups, folder = set(), None
for line in sys.stdin:
    word, _, rest = line.rstrip("\\n").partition(" ")
    if word == "bye":
        sys.exit()
    if word == "folder":
        folder = rest
    else:
        (groups.add if word == "watch" else groups.discard)(int(rest))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        continue
if folder:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Watchdog:
    """Ends process groups when this process is gone, even if it was killed.

    A small program reads a pipe from us; when the pipe ends without a farewell, it kills what it
    was told to watch. A notebook's kernel that is restarted so leaves no server behind.

    Parameters
    ----------
    folder : a temporary folder to remove in that case; None for none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHDOG],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if folder is not None:
            self._say(f"folder {folder}")

    def watch(self, group: int) -> None:
        self._say(f"watch {group}")

    def forget(self, group: int) -> None:
        self._say(f"forget {group}")

    def close(self) -> None:
        if self._process.stdin.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            self._say("bye")
            self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


class Program:
    """A running program, with all that it starts, in a process group of its own.

    Parameters
    ----------
    name : for messages.
    command : as for :class:`subprocess.Popen`.
    log : file that gets all it says.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        watchdog: Watchdog,
        *,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name, self.log, self._watchdog = name, log, watchdog
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        self._family: set[psutil.Process] = set()
        watchdog.watch(self.process.pid)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        """All it has said so far, without colours."""
        return COLOURS.sub("", self.log.read_text(errors="replace"))

    def tail(self, lines: int = 12) -> str:
        """The last lines it said."""
        return "\n".join([line for line in self.said().splitlines() if line.strip()][-lines:])

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for ``ready``; raise with the end of the log if the program ends before, or never.

        Raises
        ------
        FederationError
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise FederationError(
                    f"{self.name} ended with exit code {self.process.returncode} before {what}. "
                    f"Its log ends with:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise FederationError(
                    f"{self.name}: no sign of {what} after {seconds:g} s. Its log ends with:\n"
                    f"{self.tail()}"
                )
            time.sleep(0.1)

    def ask_to_end(self) -> None:
        """Ask it and all that it has started to end; :meth:`kill` makes sure of it."""
        self._note_family()
        self._signal(signal.SIGTERM)

    def kill(self, grace: float = 0.0) -> None:
        """End it and all that it has started, with a power cut after ``grace`` seconds."""
        self._note_family()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if grace:
                self.process.wait(grace)
        self._signal(signal.SIGKILL)  # also what outlived its parent
        for relative in self._family:
            with contextlib.suppress(psutil.NoSuchProcess):
                relative.kill()
        self.process.wait()
        psutil.wait_procs(self._family, timeout=GRACE)
        self._watchdog.forget(self.process.pid)

    def _note_family(self) -> None:
        """Who descends from it, while that can still be seen: some found groups of their own."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def end_all(programs: Sequence[Program], grace: float = GRACE) -> None:
    """End them together, so that one's slowness is not added to another's."""
    for program in programs:
        program.ask_to_end()
    deadline = time.monotonic() + grace
    for program in programs:
        program.kill(max(0.01, deadline - time.monotonic()))


def end_strays(variable: str, folder: Path) -> None:
    """End what has lost its parent, such as Ray's actors: known by a variable of our making.

    ``variable`` is one of the environment whose value is a path in ``folder``.
    """
    strays = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # another user's, or gone meanwhile
            if Path(process.environ().get(variable, "")).is_relative_to(folder):
                process.kill()
                strays.append(process)
    psutil.wait_procs(strays, timeout=GRACE)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def refuse_if_taken(port: int, what: str) -> None:
    """Raise :class:`FederationError` if somebody listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise FederationError(
                f"{what} cannot listen on port {port} of 127.0.0.1 ({error.strerror}); end the "
                "program that does, or give another port, or none to have a free one found."
            ) from error
