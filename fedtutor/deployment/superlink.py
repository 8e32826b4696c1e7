"""The server's side: a SuperLink, the ``flwr`` command beside it, and one folder for everything."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

from fedtutor.deployment.appfolder import to_toml
from fedtutor.deployment.certificates import TlsFiles, write_tls_files
from fedtutor.deployment.gate import READY as GATE_READY
from fedtutor.deployment.private import make_private_folder
from fedtutor.deployment.processes import Leave, Program, asking_no_proxy, free_port
from fedtutor.deployment.programs import Programs
from fedtutor.deployment.running import Running
from fedtutor.errors import FedtutorError
from fedtutor.support.system import short_temporary_folder

START_SECONDS = 300.0
"""How long a program may take to be ready, on a machine that is busy."""

READY = "Uvicorn running on"
"""The SuperLink's words when it listens."""

RAY_TOO_SLOW = "The current node timed out during startup"
"""Ray's words if it has not started within 30 s, which cannot be changed."""
RAY_TRIES = 10

CONNECTION = "hospitals"


class SuperLink(Programs):
    """A SuperLink of our own on 127.0.0.1; use it in a ``with`` block, which ends it.

    A SuperNode needs a registered key. Who starts an app needs none, and Flower 1.41 has one port
    for both. So hospitals get a port of their own, that of the :mod:`~fedtutor.deployment.gate`;
    without ``tls`` there is none.

    Parameters
    ----------
    tls : whether it speaks TLS and asks every SuperNode for its key.
    folder : where everything is kept; in the end all that is secret is removed from it, and logs
        and certificates stay. By default a temporary folder, which is removed as a whole.
    options : further ones of ``flower-superlink``, such as ``("--database", "state.db")`` to keep
        its state in a file, so that it survives a restart of the server.
    leave : as for :class:`~fedtutor.deployment.programs.Programs`.
    gate_options : further ones of the :mod:`~fedtutor.deployment.gate`.

    Attributes
    ----------
    port : the SuperLink's own, for ``flwr``.
    hospitals_port : the gate's.
    """

    def __init__(
        self,
        *,
        tls: bool = True,
        folder: Path | None = None,
        options: tuple[str, ...] = (),
        leave: Leave = "results",
        gate_options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(folder, leave=leave)
        self.server_folder = self.folder / "server"
        self.port = free_port()
        self.hospitals_port = free_port() if tls else self.port
        self.tls_files: TlsFiles | None = None
        self._tls, self._options, self._gate_options = tls, options, gate_options

    def _begin(self) -> None:
        self._lay_out()
        self.start_server()
        self._start_others()

    def _start_others(self) -> None:
        """Start what needs a SuperLink that answers."""

    def _lay_out(self) -> None:
        """Write the server's folder, its certificate, and what ``flwr`` is told of it."""
        home = self.server_folder / "flwr"
        for folder in (self.server_folder, home, self.server_folder / "tmp"):
            make_private_folder(folder)
        for option, value in pairwise(self._options):
            if option == "--database":
                (self.server_folder / value).touch(mode=0o600)
        trust: dict = {"insecure": True}
        if self._tls:
            self.tls_files = self._make_tls_files(self.server_folder / "tls")
            trust = {"root-certificates": str(self.tls_files.authority)}
        connection = {"address": f"localhost:{self.port}", **trust}
        text = to_toml({"superlink": {"default": CONNECTION, CONNECTION: connection}})
        (home / "config.toml").write_text(text, encoding="utf-8")

    def _make_tls_files(self, folder: Path) -> TlsFiles:
        return write_tls_files(folder)

    def start_server(self) -> None:
        """Start the SuperLink and wait until it answers."""
        trust = ["--insecure"]
        if self.tls_files:
            trust = [
                f"--ssl-ca-certfile={self.tls_files.authority}",
                f"--ssl-certfile={self.tls_files.certificate}",
                f"--ssl-keyfile={self.tls_files.key}",
                "--enable-supernode-auth",
            ]
        program = self._start(
            "SuperLink",
            "flower-superlink",
            "--host=127.0.0.1",
            f"--port={self.port}",
            "--disable-runtime-dependency-installation",
            *trust,
            *self._options,
            folder=self.server_folder,
            log="superlink.log",
        )
        program.wait_until(lambda: READY in program.said(), START_SECONDS, "it answered")
        if self.tls_files:
            self._open_gate(self.tls_files)

    def _open_gate(self, files: TlsFiles) -> None:
        ports = (self.hospitals_port, self.port)
        arguments = map(str, (*ports, *vars(files).values(), *self._gate_options))
        command = ("-m", "fedtutor.deployment.gate", *arguments)
        folder = self.server_folder
        gate = self._start("gate", sys.executable, *command, folder=folder, log="gate.log")
        gate.wait_until(lambda: GATE_READY in gate.said(), START_SECONDS, "it was open")

    def operator(self) -> ControlHttpClient:
        """Return Flower's client for whoever runs the consortium; with TLS only."""
        assert self.tls_files is not None
        trusted = self.tls_files.authority.read_bytes()
        version = RuntimeVersionHttpInterceptor("fedtutor")
        address = f"localhost:{self.port}"
        with asking_no_proxy():
            return ControlHttpClient.from_server_address(address, False, trusted, [version])

    def flwr(self, *arguments: str, name: str = "flwr") -> Program:
        """Start the ``flwr`` command, as at the desk of whoever runs the consortium."""
        folder = self.server_folder
        return self._start(name, "flwr", *arguments, folder=folder, log=f"{name}.log")

    def run(self, app: Path, journal: Path | None = None, options: tuple[str, ...] = ()) -> Running:
        """Send an app to the SuperLink and have it run (``flwr run``).

        Parameters
        ----------
        app : its folder.
        journal : the server's progress file, see :class:`fedtutor.deployment.halves.Journal`.
        options : further ones of ``flwr run``.
        """
        command = ("run", str(app.absolute()), CONNECTION, "--stream", *options)
        program = self.flwr(*command, name="flwr-run")
        return Running(program, journal)


def need_ray() -> None:
    """Raise a :class:`FedtutorError` that says how to get Ray if it is not installed."""
    if find_spec("ray") is None:
        raise FedtutorError(
            'Ray is missing, an extra: pip install "fedtutor[ray]" (on Windows: Python 3.11, 3.12).'
        )


class LocalSimulation(SuperLink):
    """Flower's Ray simulation with a SuperLink of its own, which ends with the ``with`` block.

    ``flwr run .`` by itself starts such a SuperLink in the background and leaves it there.

    Parameters
    ----------
    hospitals : how many nodes are simulated.
    cpus : of the machine, for each hospital that trains; so many hospitals fit in at a time.
    """

    def __init__(self, hospitals: int, *, cpus: int = 1) -> None:
        need_ray()
        super().__init__(tls=False, folder=short_temporary_folder(), options=("--simulation",))
        self._leave = "nothing"
        self._nodes = f"num-supernodes={hospitals} client-resources-num-cpus={cpus}"

    def run(self, app: Path, journal: Path | None = None, options: tuple[str, ...] = ()) -> Running:
        """Run an app as :class:`SuperLink` does; again if Ray is too slow to start."""
        options = ("--federation-config", self._nodes, *options)
        program = super().run(app, journal, options).program
        tries = iter(range(1, RAY_TRIES))

        def start_again() -> Program | None:
            if RAY_TOO_SLOW not in program.said() or next(tries, None) is None:
                return None
            if journal:
                journal.unlink(missing_ok=True)
            return super(LocalSimulation, self).run(app, journal, options).program

        return Running(program, journal, start_again)
