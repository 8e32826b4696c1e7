"""A federation of real processes on this machine: one SuperLink, a SuperNode for each hospital.

The programs, certificates, keys and commands are those that real hospitals would use; only the
distances are short. Each hospital is a process group with a folder of its own, and nobody but
Flower carries anything between them.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedtutor.deployment.appfolder import to_toml
from fedtutor.deployment.certificates import write_key_pair
from fedtutor.deployment.hospital_file import write_images
from fedtutor.deployment.processes import Program, free_port
from fedtutor.deployment.proxy import RecordingProxy
from fedtutor.deployment.running import Running
from fedtutor.deployment.superlink import CONNECTION, START_SECONDS, SuperLink
from fedtutor.errors import FederationError
from fedtutor.images import MedicalImages

LET_IN, REFUSED = "SuperNode ID:", "Failed to activate SuperNode"
EXIT = re.compile(r"Exit Code: \d+\n([\s\S]*?)\nFor more information")
TRAINING = re.compile(r"Receiving: train message[\s\S]*?Start `flwr-clientapp`")


@dataclass(frozen=True)
class Site:
    """A hospital's place on this disk: its images, its key, its Flower folder, its log."""

    name: str
    number: int
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "images.npz"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def log(self) -> Path:
        return self.folder / "supernode.log"


class LocalFederation(SuperLink):
    """Starts and ends a federation on 127.0.0.1; use it in a ``with`` block.

    Parameters
    ----------
    hospitals : from each one's name to its images. With None in place of images it has no data
        and the app must do without.
    test : the central test set, which only the server has.
    listen : whether to put a :class:`~fedtutor.deployment.RecordingProxy` between the hospitals and
        the SuperLink; it is then ``federation.wire``.
    options : as for :class:`~fedtutor.deployment.SuperLink`: tls, folder, port, database, ...
    """

    def __init__(
        self,
        hospitals: Mapping[str, MedicalImages | None],
        *,
        test: MedicalImages | None = None,
        listen: bool = False,
        **options,
    ) -> None:
        if not hospitals:
            raise FederationError("a federation needs at least one hospital; got none.")
        super().__init__(**options)
        self._images, self._test = dict(hospitals), test
        self._listen = listen
        self.wire: RecordingProxy | None = None
        self._said_before: dict[str, int] = {}
        self._lost_power: set[str] = set()

    def _lay_out(self) -> None:
        """Images, keys and folders, as each hospital would prepare its own."""
        super()._lay_out()
        self.sites = {
            name: Site(name, k, self.folder / f"hospital-{k + 1}")
            for k, name in enumerate(self._images)
        }
        for name, site in self.sites.items():
            (site.folder / "tmp").mkdir(parents=True, exist_ok=True)
            if self._images[name] is not None:
                write_images(self._images[name], site.data)
            if self.tls:
                write_key_pair(site.key)
        if self._test is not None:
            write_images(self._test, self.test_data)

    def _go_on(self) -> None:
        if self._listen:
            self.wire = RecordingProxy(self.port)
        self.register()
        for name in self.sites:
            self.start_hospital(name, wait=False)
        for name in self.sites:
            self._wait_for_hospital(name)

    def close(self) -> None:
        super().close()
        if self.wire:
            self.wire.close()

    @property
    def test_data(self) -> Path:
        return self.server_folder / "test.npz"

    def register(self) -> None:
        """Tell the SuperLink the hospitals' public keys; nobody else is let in."""
        if not self.tls:
            return
        asked = [
            self.flwr("supernode", "register", site.key.with_suffix(".pub"), CONNECTION, name=name)
            for name, site in ((f"register-{s.number + 1}", s) for s in self.sites.values())
        ]
        for program in asked:
            if program.process.wait(START_SECONDS):
                raise FederationError(f"a key could not be registered:\n{program.tail()}")
            program.kill()

    def start_hospital(self, name: str, *, wait: bool = True) -> None:
        """Start a hospital's SuperNode, for the first time or again, with the same key.

        After a power cut Flower takes a hospital back only when it has missed the heartbeat of
        its former SuperNode, up to a minute later. Until then this tries again, as the service
        manager of a real machine would.
        """
        site = self._site(name)
        if self.is_running(name):
            raise FederationError(f"{name} is running already.")
        trust = ["--insecure"]
        if self.tls_files:
            trust = [
                *("--root-certificates", self.tls_files.authority),
                *("--auth-supernode-private-key", site.key),
            ]
        self._start_supernode(site, name, trust)
        if wait:
            self._wait_for_hospital(name)

    def _start_supernode(self, site: Site, name: str, trust: list, extra: tuple = ()) -> Program:
        config = {"partition-id": site.number, "num-partitions": len(self.sites), "name": name}
        if site.data.exists():
            config["data"] = str(site.data)
        (site.folder / "node.toml").write_text(to_toml(config))
        site.log.unlink(missing_ok=True)
        self._said_before.pop(name, None)
        port = self.wire.port if self.wire else self.port
        return self._start(
            name,
            [
                *("flower-supernode", "--superlink", f"localhost:{port}", *trust),
                *("--host", "127.0.0.1", "--port", free_port()),
                *("--node-config", site.folder / "node.toml", *extra),
            ],
            site.folder,
            site.log,
        )

    def _wait_for_hospital(self, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            program = self._programs[name]
            try:
                program.wait_until(
                    lambda said=program.said: LET_IN in said(),
                    START_SECONDS,
                    "the SuperLink let it in",
                )
                return
            except FederationError:
                again = name in self._lost_power and REFUSED in program.said()
                if not again or time.monotonic() > deadline:
                    raise
            self._programs.pop(name).kill()
            time.sleep(3)
            self.start_hospital(name, wait=False)

    def is_running(self, name: str) -> bool:
        """Whether a hospital's SuperNode runs at this moment."""
        return self._site(name).name in self._programs and self._programs[name].running

    def kill_hospital(self, name: str) -> None:
        """A power cut in a hospital: its SuperNode and whatever it was training are gone."""
        self._site(name)
        if name not in self._programs:
            raise FederationError(f"{name} is not running.")
        self._programs.pop(name).kill()
        self._lost_power.add(name)

    def wait_until_training(self, name: str, times: int, seconds: float = 300.0) -> None:
        """Wait until a hospital has begun to train for the n-th time in the last run.

        Unless it was left out before, that is in round n.
        """
        program, before = self._programs[name], self._said_before.get(name, 0)
        program.wait_until(
            lambda: len(TRAINING.findall(program.said(), before)) >= times,
            seconds,
            f"it trained for the {times}. time",
        )

    def _site(self, name: str) -> Site:
        if name not in self.sites:
            raise FederationError(f"there is no {name!r} here; there are: {', '.join(self.sites)}.")
        return self.sites[name]

    def try_to_join(self, name: str, *, tls: bool = True, seconds: float = 60.0) -> str:
        """What a SuperNode that nobody has invited is told: with a key of its own, or without TLS.

        Returns
        -------
        What its log gives as the reason, or "let in" if there is none.
        """
        site = Site(name, len(self.sites), self.folder / f"stranger-{len(self._programs)}")
        (site.folder / "tmp").mkdir(parents=True, exist_ok=True)
        trust = ["--insecure"]
        if tls and self.tls_files:
            write_key_pair(site.key)
            trust = [
                *("--root-certificates", self.tls_files.authority),
                *("--auth-supernode-private-key", site.key),
            ]
        program = self._start_supernode(site, name, trust, ("--max-retries", "1"))
        try:
            program.wait_until(
                lambda: not program.running or LET_IN in program.said(),
                seconds,
                "an answer",
            )
            if LET_IN in program.said():
                return "let in"
            reason = EXIT.search(program.said())
            return reason[1].strip() if reason else program.tail()
        except FederationError as error:
            return str(error)
        finally:
            self._programs.pop(name).kill()
            shutil.rmtree(site.folder)

    def run(self, app: Path, journal: Path | None = None, options: tuple[str, ...] = ()) -> Running:
        self._said_before = {
            name: len(self._programs[name].said()) for name in self.sites if name in self._programs
        }
        return super().run(app, journal, options)
