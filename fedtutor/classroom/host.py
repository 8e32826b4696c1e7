"""The teacher's machine: a SuperLink behind the gate, who has which seat, and the runs."""

from __future__ import annotations

import datetime
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StopRunRequest
from flwr.supercore.control import ControlHttpClient

from fedtutor import federation
from fedtutor.classroom import PORT
from fedtutor.classroom.app import CODE, SCENARIOS
from fedtutor.classroom.code import new_code
from fedtutor.classroom.network import own_addresses
from fedtutor.classroom.runs import RUN_ID, Run, doing
from fedtutor.cohort import Cohort, build_cohort
from fedtutor.deployment.appfolder import write_app
from fedtutor.deployment.certificates import TlsFiles, node_key, write_tls_files
from fedtutor.deployment.private import make_private_folder
from fedtutor.deployment.server_settings import ServerSettings, run_config
from fedtutor.deployment.superlink import SuperLink
from fedtutor.errors import FederationError, visible
from fedtutor.settings import Config, RunSettings
from fedtutor.support.output import PROGRESS, write_text

CLASS_FILE = "class.json"
LONGEST_NAME = 40
HALF_A_DAY = datetime.timedelta(hours=12)


@dataclass(frozen=True)
class Seat:
    """Who sits where: a laptop's public key (OpenSSH), its hospital's name, images a class.

    ``images`` is None if the hospital's data are dealt out; else the laptop has said so itself.
    """

    key: str
    name: str
    images: list[int] | None = None

    @property
    def node_key(self) -> bytes:
        """The key as the SuperLink lists it."""
        return node_key(self.key)


class Classroom(SuperLink):
    """A class's host; use it in a ``with`` block, which ends it and keeps its state.

    Parameters
    ----------
    settings : of the runs, as far as the board does not change them; ``hospitals`` is how many
        seats there are, and into how many shares the data are dealt.
    folder : of the class. If a class was here, it goes on: same code, seats, keys, certificate.
    port : where laptops come in; by default that of the class before, or :data:`PORT`.
    address : of this machine, for the laptops; by default that which it would go out with.
    desk_port : where the class's desk listens on 127.0.0.1, see
        :class:`~fedtutor.classroom.desk.Desk`.

    Raises
    ------
    FedtutorError
        If the data cannot be dealt out so, or the folder has another class's settings.
    """

    behind = frozenset({"references"})  # they train, and the SuperLink must answer in time

    def __init__(
        self,
        settings: RunSettings,
        folder: Path,
        *,
        port: int | None = None,
        address: str | None = None,
        desk_port: int,
    ) -> None:
        self.cohort: Cohort = build_cohort(settings)
        self.address = address or own_addresses()[0]
        self._file = make_private_folder(folder) / CLASS_FILE
        kept = self._read(settings)
        self.settings, self.code = settings, kept.get("code") or new_code()
        self.seats = [Seat(**seat) for seat in kept.get("seats", [])]
        self.runs: list[Run] = []
        self._next_run = kept.get("next_run", 1)
        super().__init__(
            folder=folder,
            leave="all",
            options=("--database", "state.db"),
            gate_options=("0.0.0.0", str(desk_port)),
        )
        self.hospitals_port = port or kept.get("port") or PORT
        self._lock = threading.RLock()
        self._operator: ControlHttpClient | None = None
        self._listed: tuple[float, dict[bytes, Any]] = (0.0, {})

    def _read(self, settings: RunSettings) -> dict:
        """Return what an earlier class has left; {} for none."""
        if not self._file.exists():
            return {}
        kept = json.loads(self._file.read_text(encoding="utf-8"))
        deal = _deal(settings)
        if kept["deal"] != deal:
            raise FederationError(
                f"{self._file.parent} has a class of other data: {kept['deal']}, and now {deal}. "
                "Take the same options, or another folder for a new class."
            )
        return kept

    def _save(self) -> None:
        kept = {
            "code": self.code,
            "port": self.hospitals_port,
            "deal": _deal(self.settings),
            "next_run": self._next_run,
            "seats": [asdict(seat) for seat in self.seats],
        }
        write_text(self._file, json.dumps(kept, indent=1))

    def _lay_out(self) -> None:
        port = self.hospitals_port
        try:
            socket.create_server(("0.0.0.0", port)).close()
        except OSError as error:
            raise FederationError(
                f"port {port} cannot be used here ({os.strerror(error.errno or 0)}). Does a class "
                "run already? Choose another one with --port."
            ) from error
        super()._lay_out()
        self._save()

    def _make_tls_files(self, folder: Path) -> TlsFiles:
        """Take the certificate that is there, if it is for this machine and lasts; or a new one."""
        files = TlsFiles(folder / "ca.crt", folder / "server.pem", folder / "server.key")
        addresses = own_addresses()
        if all(path.exists() for path in vars(files).values()):
            old = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            known = set(map(str, names.get_values_for_type(x509.IPAddress)))
            lasts = old.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > HALF_A_DAY
            if lasts and known >= {self.address, *addresses}:
                return files
        return write_tls_files(folder, [self.address, *addresses])

    def _start_others(self) -> None:
        self._operator = self.operator()

    def close(self) -> None:
        """End the runs and all programs; what is in the folder stays, for the next time."""
        if self._operator:
            self._operator.close()
        super().close()

    def nodes(self) -> dict[bytes, Any]:
        """Return Flower's list of SuperNodes by public key, at most a second old."""
        with self._lock:
            when, known = self._listed
            if time.monotonic() - when > 1 and self._operator:
                listed = self._operator.ListNodes(ListNodesRequest()).nodes_info
                known = {node.public_key: node for node in listed}
                self._listed = time.monotonic(), known
            return known

    def enrol(self, key: str, name: str = "", images: list[int] | None = None) -> int:
        """Give a laptop a seat, the one it had before if it had one; return its number, from 0.

        Raises :class:`FederationError` if the class is full, or the key or the name cannot be used.
        """
        public = node_key(key)
        with self._lock:
            for number, seat in enumerate(self.seats):
                if seat.node_key == public:
                    return number
            count = self.settings.hospitals or 0
            if len(self.seats) >= count:
                raise FederationError(
                    f"the class is full: all {count} hospitals are taken. The teacher can host "
                    "a larger one (--hospitals)."
                )
            seat = Seat(key, self._free_name(name), images)
            if public not in self.nodes():
                assert self._operator is not None
                self._operator.RegisterNode(RegisterNodeRequest(public_key=public))
            self.seats.append(seat)
            self._save()
            return len(self.seats) - 1

    def _free_name(self, wish: str) -> str:
        """Return the name that is wished for, or the one of the seat's share."""
        taken = {seat.name.casefold() for seat in self.seats}
        name = visible(" ".join(wish.split())) or self.cohort.names[len(self.seats)]
        if len(name) > LONGEST_NAME or "," in name:
            most = f"a name has at most {LONGEST_NAME} signs, and no comma"
            raise FederationError(f"{most}; got {name!r}.")
        if name.casefold() in taken:
            raise FederationError(f"there is a {name} in the class already; choose another --name.")
        return name

    def start_run(
        self,
        options: Mapping[str, Any],
        scenario: str = "none",
        seat: int | None = None,
        *,
        patience: float = 20.0,
    ) -> Run:
        """Start a run.

        Parameters
        ----------
        options : changes to the settings, such as ``{"rounds": 5, "strategy": "fedprox"}``.
        scenario : one of :data:`~fedtutor.classroom.app.SCENARIOS`.
        seat : who leaves or lies, from 0; by default whoever came last.
        patience : seconds that a round waits for hospitals that have gone.

        Raises
        ------
        FedtutorError
            If a run is under way, nobody is there, or the options cannot be used.
        """
        with self._lock:
            if self.runs and self.runs[-1].going:
                raise FederationError("a run is under way; stop it first, or wait for its end.")
            here = [k for k in range(len(self.seats)) if self.is_here(k)]
            if not here:
                raise FederationError("no hospital is connected yet; the board shows who joins.")
            if scenario not in SCENARIOS:
                raise FederationError(f"no scenario {scenario!r}; known: {', '.join(SCENARIOS)}.")
            settings = replace(self.settings, **options)
            federation.strategy_for(settings, len(here))  # or its reason why not
            cohort = build_cohort(settings)
            seat = here[-1] if seat is None else seat
            folder = make_private_folder(self.folder / "runs" / f"{self._next_run:03d}")
            self._next_run += 1
            self._save()
            self.cohort = cohort
            server = ServerSettings(
                out=str(folder),
                expected=len(here),
                patience=patience,
                registered="" if cohort.test.multi_label else self._register(),
            )
            played: Config = {"scenario": scenario, "scenario-hospital": seat}
            config = run_config(settings, server)
            write_text(folder / "settings.json", json.dumps(config))
            app = write_app(folder / "app", config | played, CODE)
            running = self.run(app, folder / PROGRESS)
            self.runs.append(Run(self._next_run - 1, settings, scenario, seat, folder, running))
            self._train_references(folder)
            return self.runs[-1]

    def _register(self) -> str:
        """Return how many images each seat has, as the server's guard holds the claims to it."""
        sizes = (sum(self.images_of(number)) for number in range(len(self.seats)))
        return ",".join(f"{seat.name}={n}" for seat, n in zip(self.seats, sizes, strict=True))

    def _train_references(self, folder: Path) -> None:
        """Train what the run is compared with, unless laptops have data of their own."""
        if any(seat.images for seat in self.seats):
            return
        if old := self._programs.pop("references", None):
            old.process.kill()
        files = (str(folder / "settings.json"), str(folder / "references.json"))
        command = ("-m", "fedtutor.classroom.references", *files, str(len(self.seats)))
        home, log = self.server_folder, "references.log"
        self._start("references", sys.executable, *command, folder=home, log=log)

    def stop_run(self) -> None:
        """Stop the run that is under way."""
        with self._lock:
            run = self.runs[-1] if self.runs else None
            found = run and RUN_ID.search(run.running.program.said())
            if run and run.going and found and self._operator:
                run.stopped = True
                self._operator.StopRun(StopRunRequest(run_id=int(found[1])))

    def is_here(self, number: int) -> bool:
        """Return whether a seat's laptop is connected."""
        node = self.nodes().get(self.seats[number].node_key)
        return node is not None and node.status == "online"

    def images_of(self, number: int) -> list[int]:
        """Return how many images of each class a seat's hospital has."""
        if (own := self.seats[number].images) is not None:
            return own
        return self.cohort.partition.class_counts(self.cohort.train)[number].tolist()

    def state(self) -> dict:
        """Return all that the board shows, as JSON."""
        with self._lock:
            run = self.runs[-1] if self.runs else None
            events = run.running.events() if run and run.going else []
            seats = [
                {
                    "name": seat.name,
                    "here": self.is_here(number),
                    "images": self.images_of(number),
                    "doing": doing(seat.name, events),
                }
                for number, seat in enumerate(self.seats)
            ]
            return {
                "classes": list(self.cohort.test.class_names),
                "hospitals": self.settings.hospitals,
                "seats": seats,
                "run": run and run.state(self.cohort.scheme),
            }


def _deal(settings: RunSettings) -> list:
    """Return what decides who has which data, whatever the board chooses."""
    names = "dataset", "task", "hospitals", "size", "colour", "seed"
    return [getattr(settings, name) for name in names]
