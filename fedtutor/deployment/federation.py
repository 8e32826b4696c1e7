"""A federation of real processes on this machine: one SuperLink, a SuperNode for each hospital.

The programs, certificates and keys are those that real hospitals would use; only the distances are
short. Each hospital has a folder and processes of its own, and nobody but Flower carries anything
between them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flwr.proto.control_pb2 import RegisterNodeRequest

from fedtutor.deployment.appfolder import to_toml
from fedtutor.deployment.certificates import node_key, write_key_pair
from fedtutor.deployment.hospital_file import write_hospital_file
from fedtutor.deployment.private import make_private_folder
from fedtutor.deployment.processes import Program
from fedtutor.deployment.proxy import RecordingProxy
from fedtutor.deployment.running import Running
from fedtutor.deployment.superlink import START_SECONDS, SuperLink
from fedtutor.errors import FederationError
from fedtutor.images import MedicalImages

APP = "fedtutor.deployment.halves:client_app"
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
        """The file of its images."""
        return self.folder / "images.npz"

    @property
    def key(self) -> Path:
        """The private half of its key."""
        return self.folder / "key"


class LocalFederation(SuperLink):
    """Starts and ends a federation on 127.0.0.1; use it in a ``with`` block.

    Parameters
    ----------
    hospitals : from each one's name to its images. With None in place of images it has no data
        and the app must do without. What is not UTF-8 in a name reaches the app as an escape.
    test : the central test set, which only the server has.
    listen : whether to put a :class:`~fedtutor.deployment.proxy.RecordingProxy` between the
        hospitals and the gate; it is then ``federation.wire``.
    options : as for :class:`~fedtutor.deployment.superlink.SuperLink`: tls, folder, options.
    """

    def __init__(
        self,
        hospitals: Mapping[str, MedicalImages | None],
        *,
        test: MedicalImages | None = None,
        listen: bool = False,
        **options: Any,
    ) -> None:
        if not hospitals:
            raise FederationError("a federation needs at least one hospital; got none.")
        super().__init__(**options)
        self._images, self._test = dict(hospitals), test
        here = self.folder
        sites = [Site(name, k, here / f"hospital-{k + 1}") for k, name in enumerate(hospitals)]
        self.sites = {site.name: site for site in sites}
        self.test_data = self.server_folder / "test.npz"
        self._listen = listen
        self.wire: RecordingProxy | None = None
        self._said_before: dict[str, int] = {}
        self._lost_power: set[str] = set()

    def _lay_out(self) -> None:
        """Write images and keys, as each hospital would prepare its own."""
        super()._lay_out()
        for site in self.sites.values():
            self._prepare(site, self._images[site.name])
        if self._test is not None:
            write_hospital_file(self._test, self.test_data)

    def _prepare(self, site: Site, images: MedicalImages | None) -> None:
        """Write what a hospital has: its images, its key, and what its app is told of them."""
        for folder in (site.folder, site.folder / "tmp"):
            make_private_folder(folder)
        config: dict = {
            "partition-id": site.number,
            "num-partitions": len(self.sites),
            "name": site.name.encode(errors="backslashreplace").decode(),
        }
        if images is not None:
            write_hospital_file(images, site.data)
            config["data"] = str(site.data)
        if self.tls_files:
            write_key_pair(site.key)
        (site.folder / "node.toml").write_text(to_toml(config), encoding="utf-8")

    def _start_others(self) -> None:
        self.wire = RecordingProxy(self.hospitals_port) if self._listen else None
        self.register()
        for site in self.sites.values():
            self._start_hospital(site)
        for site in self.sites.values():
            self._wait_for_hospital(site)

    def close(self) -> None:
        """Do what :meth:`SuperLink.close` does, and stop listening."""
        super().close()
        if self.wire:
            self.wire.close()

    def register(self) -> None:
        """Tell the SuperLink the hospitals' public keys; no other SuperNode is let in."""
        if not self.tls_files:
            return
        with self.operator() as operator:
            for site in self.sites.values():
                public = site.key.with_suffix(".pub").read_text(encoding="utf-8")
                operator.RegisterNode(RegisterNodeRequest(public_key=node_key(public)))

    def start_hospital(self, name: str) -> None:
        """Start a hospital's SuperNode again, with the same key.

        After a power cut Flower takes a hospital back only when it has missed the heartbeat of
        its former SuperNode, up to a minute later. Until then this tries again, as the service
        manager of a real machine would.
        """
        if self.is_running(name):
            raise FederationError(f"{name} is running already.")
        site = self.sites[name]
        self._start_hospital(site)
        self._wait_for_hospital(site)

    def _start_hospital(self, site: Site) -> None:
        self._said_before.pop(site.name, None)
        trust = ["--insecure"]
        if self.tls_files:
            trust = [
                f"--root-certificates={self.tls_files.authority}",
                f"--auth-supernode-private-key={site.key}",
            ]
        superlink = f"localhost:{self.wire.port if self.wire else self.hospitals_port}"
        app = APP if site.data.exists() else None
        self._start_supernode(site.name, site.folder, superlink, trust, app=app)

    def _wait_for_hospital(self, site: Site) -> None:
        """Wait until it is let in; start it anew while it is taken for connected still."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            program = self._programs[site.name]
            try:
                program.wait_until(partial(_is_let_in, program), START_SECONDS, "it was let in")
                return
            except FederationError:
                known = site.name in self._lost_power and REFUSED in program.said()
                if not known or time.monotonic() > deadline:
                    raise
            program.kill()
            time.sleep(5)  # as each start costs a second of a core
            self._start_hospital(site)

    def is_running(self, name: str) -> bool:
        """Return whether a hospital's SuperNode runs at this moment."""
        if name not in self.sites:
            raise FederationError(f"there is no {name!r} here; there are: {', '.join(self.sites)}.")
        return self._runs(name)

    def kill_hospital(self, name: str) -> None:
        """Cut a hospital's power: its SuperNode and whatever it was training are gone."""
        if name not in self._programs:
            raise FederationError(f"{name} is not running.")
        self._programs.pop(name).kill()
        self._lost_power.add(name)

    def wait_until_training(self, name: str, times: int) -> None:
        """Wait until a hospital has begun to train for the n-th time in the last run.

        Unless it was left out before, that is in round n.
        """
        program, before = self._programs[name], self._said_before.get(name, 0)
        program.wait_until(
            lambda: len(TRAINING.findall(program.said(), before)) >= times,
            10 * START_SECONDS,
            f"training for the {times}. time",
        )

    def run(self, app: Path, journal: Path | None = None, options: tuple[str, ...] = ()) -> Running:
        """Run an app as :class:`SuperLink` does."""
        here = self._programs.keys() & self.sites.keys()
        self._said_before = {name: len(self._programs[name].said()) for name in here}
        return super().run(app, journal, options)


def _is_let_in(supernode: Program) -> bool:
    return LET_IN in supernode.said()
