"""The server's side: a SuperLink, the ``flwr`` command beside it, and one folder for everything."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from fedtutor.deployment.appfolder import to_toml
from fedtutor.deployment.certificates import TlsFiles, write_tls_files
from fedtutor.deployment.processes import (
    Program,
    Watchdog,
    end_all,
    end_strays,
    free_port,
    refuse_if_taken,
)
from fedtutor.deployment.running import Running
from fedtutor.errors import FederationError

START_SECONDS = 90.0
"""How long a program may take to be ready, on a machine that is busy."""

CONNECTION = "hospitals"


class SuperLink:
    """A SuperLink of our own on 127.0.0.1; use it in a ``with`` block, which ends it.

    Parameters
    ----------
    tls : whether it speaks TLS and asks every hospital for its key.
    folder : where everything is kept, logs included; by default a temporary folder that is removed
        in the end.
    port : to listen on; by default a free one.
    database : keep its state in a file, so that it survives a restart.
    valid_days : of its certificate; negative for an expired one.
    options : further ones of ``flower-superlink``.
    """

    def __init__(
        self,
        *,
        tls: bool = True,
        folder: Path | None = None,
        port: int | None = None,
        database: bool = False,
        valid_days: float = 2.0,
        options: tuple[str, ...] = (),
    ) -> None:
        self.tls = tls
        self.port = port or free_port()
        self._folder, self._temporary = folder, folder is None
        self._database, self._valid_days, self._options = database, valid_days, options
        self.tls_files: TlsFiles | None = None
        self._programs: dict[str, Program] = {}

    def __enter__(self) -> Self:
        refuse_if_taken(self.port, "the SuperLink")
        if self._temporary:
            self._folder = Path(tempfile.mkdtemp(prefix="fedtutor-"))
        self.folder = self._folder.absolute()
        self.server_folder = self.folder / "server"
        self._watchdog = Watchdog(self.folder if self._temporary else None)
        try:
            self._lay_out()
            self.start_server()
            self._go_on()
        except BaseException:
            self.close()
            raise
        return self

    def start(self) -> Self:
        """What the ``with`` block does at its beginning, for a notebook with its many cells."""
        return self.__enter__()

    def _go_on(self) -> None:
        """What is to be started once the SuperLink answers."""

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """End all programs and whatever they have started; remove a temporary folder."""
        end_all(list(self._programs.values()))
        self._programs.clear()
        end_strays("FLWR_HOME", self.folder)
        self._watchdog.close()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _lay_out(self) -> None:
        """The server's folder, its certificate, and what ``flwr`` is told of it."""
        home = self.server_folder / "flwr"
        for folder in (home, self.server_folder / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        trust: dict = {"insecure": True}
        if self.tls:
            self.tls_files = write_tls_files(
                self.server_folder / "tls", valid_days=self._valid_days
            )
            trust = {"root-certificates": str(self.tls_files.authority)}
        text = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        values = {"address": f"localhost:{self.port}", **trust}
        (home / "config.toml").write_text(text + to_toml(values))

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment of a program that keeps everything in ``folder``."""
        return os.environ | {
            # SuperLink and SuperNode start further programs by their bare names.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(folder / "flwr"),
            "TMPDIR": str(folder / "tmp"),
            "KERAS_HOME": str(folder / "keras"),
            "MPLCONFIGDIR": str(folder / "tmp"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
            "FLWR_LOG_LEVEL": "INFO",
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }

    def _start(self, name: str, command: list, folder: Path, log: Path) -> Program:
        program = Program(
            name,
            [Path(sys.executable).parent / command[0], *command[1:]],
            log,
            self._watchdog,
            environment=self.environment(folder),
            folder=folder,
        )
        self._programs[name] = program
        return program

    def start_server(self) -> None:
        """Start the SuperLink and wait until it answers."""
        trust: list = ["--insecure"]
        if self.tls_files:
            trust = [
                *("--ssl-ca-certfile", self.tls_files.authority),
                *("--ssl-certfile", self.tls_files.certificate),
                *("--ssl-keyfile", self.tls_files.key, "--enable-supernode-auth"),
            ]
        state = ["--database", self.server_folder / "state.db"] if self._database else []
        program = self._start(
            "SuperLink",
            [
                *("flower-superlink", "--host", "127.0.0.1", "--port", self.port, *trust, *state),
                *("--disable-runtime-dependency-installation", *self._options),
            ],
            self.server_folder,
            self.server_folder / "superlink.log",
        )
        program.wait_until(self._answers, START_SECONDS, "it answered")

    def kill_server(self) -> None:
        """A power cut at the server; the hospitals stay as they are."""
        self._programs.pop("SuperLink").kill()

    def _answers(self) -> bool:
        scheme, context = "http", None
        if self.tls_files:
            scheme = "https"
            context = ssl.create_default_context(cafile=self.tls_files.authority)
        url = f"{scheme}://localhost:{self.port}/health"
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                return answer.status == 200
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise FederationError(
                    f"the SuperLink's certificate is not accepted: {error.reason.verify_message}. "
                    "Make a new one, and give it to the SuperLink."
                ) from error
            return False
        except OSError:
            return False

    def flwr(self, *arguments: str | Path, name: str = "flwr") -> Program:
        """Start the ``flwr`` command, as at the desk of whoever runs the consortium."""
        return self._start(
            name, ["flwr", *arguments], self.server_folder, self.server_folder / f"{name}.log"
        )

    def run(self, app: Path, journal: Path | None = None, options: tuple[str, ...] = ()) -> Running:
        """Send an app to the SuperLink and have it run (``flwr run``).

        Parameters
        ----------
        app : its folder.
        journal : the server's progress file, see :class:`fedtutor.deployment.app.Journal`.
        options : further ones of ``flwr run``.
        """
        command = ("run", app.absolute(), CONNECTION, "--stream", *options)
        return Running(self.flwr(*command, name="flwr-run"), journal)


class LocalSimulation(SuperLink):
    """Flower's Ray simulation with a SuperLink of its own, which ends with the ``with`` block.

    ``flwr run .`` by itself starts such a SuperLink in the background and leaves it there.

    Parameters
    ----------
    hospitals : how many nodes are simulated.
    cpus : of the machine, for each hospital that trains; so many hospitals fit in at a time.
    """

    def __init__(self, hospitals: int, *, cpus: int = 1, folder: Path | None = None) -> None:
        super().__init__(tls=False, folder=folder, options=("--simulation",))
        self._nodes = f"num-supernodes={hospitals} client-resources-num-cpus={cpus}"

    def environment(self, folder: Path) -> dict[str, str]:
        # Ray makes sockets below this folder, and their whole path may have 107 letters.
        short = self.folder if len(str(self.folder)) < 32 else Path("/tmp")
        return super().environment(folder) | {"RAY_TMPDIR": str(short), "TMPDIR": str(short)}

    def run(self, app: Path, journal: Path | None = None, options: tuple[str, ...] = ()) -> Running:
        return super().run(app, journal, ("--federation-config", self._nodes, *options))
