"""A learner's laptop: it makes its key, enrols with the code, and runs Flower's SuperNode.

The key is made here and never leaves. Nothing is believed of the host before it has shown that it
knows the code, and the code itself is never sent; see :mod:`fedtutor.classroom.code`.
"""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from filelock import FileLock, Timeout

from fedtutor.classroom import versions
from fedtutor.classroom.code import is_proof, key_of, proof, read_code
from fedtutor.classroom.network import SECONDS, reach, split_address
from fedtutor.datasets import DATASETS
from fedtutor.deployment.appfolder import to_toml
from fedtutor.deployment.certificates import write_key_pair
from fedtutor.deployment.federation import EXIT, LET_IN, REFUSED, TRAINING
from fedtutor.deployment.hospital_file import read_hospital_file
from fedtutor.deployment.private import make_private_folder
from fedtutor.deployment.programs import Programs
from fedtutor.deployment.superlink import START_SECONDS
from fedtutor.errors import DataError, FederationError
from fedtutor.support.system import ask_to_end

APP = "fedtutor.classroom.play:client_app"
CLOCK_SECONDS = 120.0
"""How far two clocks may differ; Flower takes a signature for five minutes."""
PAUSE, LONG_PAUSE = 3.0, 10.0
"""Seconds before a SuperNode that has ended is started again, and while the host refuses it."""
Tell = Callable[[str], None]


class Laptop(Programs):
    """One hospital of a class; use it in a ``with`` block, which leaves the class.

    Parameters
    ----------
    address : the host's, such as "192.168.1.20" or "192.168.1.20:8765".
    code : of the class, as on the board.
    name : of the hospital; by default the host gives one.
    images : own images, as :func:`fedtutor.datasets.load` reads them; by default this hospital's
        share of the class's data set.
    folder : for its key and logs; by default one in the user's own folder for programs' state, and
        a second one if a laptop of this class is running here already.
    tell : called with a line of text when something has happened.

    Raises
    ------
    FedtutorError
        That says what is wrong, before anything is started.
    """

    # At 0.1 a SuperNode that waits takes 4 % of a core: of thirty on one machine more than one. A
    # process that Flower starts for a message and that is not at work after 30 s is started again,
    # beside the first, and a machine that was late gets later still.
    poll = 0.5

    def __init__(
        self,
        address: str,
        code: str,
        *,
        name: str = "",
        images: Path | None = None,
        folder: Path | None = None,
        tell: Tell = print,
    ) -> None:
        self._code, (self._host, self._port) = read_code(code), split_address(address)
        self._wish, self._images, self._tell = name, images and images.absolute(), tell
        super().__init__(self._own_folder(folder), leave="all")
        self._authority, self._left = self.folder / "ca.crt", threading.Event()
        self._turn = threading.Lock()  # to start or end programs, from whichever thread
        self._said, self._told = 0, ""
        self.name, self.number = "", -1

    def _own_folder(self, folder: Path | None) -> Path:
        """Return a folder that no other running laptop uses, and lock it."""
        state = platformdirs.user_state_path("fedtutor", appauthor=False) / "classes"
        places = (
            [folder]
            if folder
            else [state / f"{self._host}-{self._port}-{k}" for k in range(1, 100)]
        )
        for place in places:
            self._lock = FileLock(make_private_folder(place) / "lock", thread_local=False)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                continue
            return place
        raise FederationError(f"a hospital runs in {folder} already; choose another --folder.")

    def _begin(self) -> None:
        home = self.folder
        for folder in (home, home / "tmp"):
            make_private_folder(folder)
        seat = self._enrol()
        self.name, self.number = seat["name"], seat["number"]
        config: dict[str, Any] = {
            "partition-id": seat["number"],
            "num-partitions": seat["hospitals"],
            "name": seat["name"],
        }
        if self._images:
            config["data"] = str(self._images)
        (home / "node.toml").write_text(to_toml(config), encoding="utf-8")
        self._start_node()
        self._tell(f"you are {self.name}, hospital {self.number + 1} of {seat['hospitals']}")

    def _start_node(self) -> None:
        self._told = ""
        if not self._runs("resident of SuperNode"):
            self._said = 0
        trust = [
            f"--root-certificates={self._authority}",
            f"--auth-supernode-private-key={self.folder / 'key'}",
        ]
        where = f"{self._host}:{self._port}"
        self._start_supernode("SuperNode", self.folder, where, trust, app=APP)

    def _enrol(self) -> dict:
        """Have the host prove itself, then enrol; return number, name and how many hospitals."""
        reach(self._host, self._port)
        nonce = secrets.token_hex(16)
        stranger = ssl.create_default_context()
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE  # for now
        hello = self._ask("hello", {"nonce": nonce}, stranger)
        authority, facts = str(hello["authority"]), str(hello["facts"])
        certificate = x509.load_pem_x509_certificate(authority.encode())
        key = key_of(self._code, certificate.public_bytes(Encoding.DER))
        parts = (nonce, str(hello["nonce"]), authority, facts)
        if not is_proof(str(hello["proof"]), key, "desk", *parts):
            raise FederationError(
                f"the machine at {self._host} does not know the code {self._code}: it is another "
                "class's, or not the teacher's at all. Compare address and code with the board."
            )
        told = json.loads(facts)
        self._check(told)
        self._authority.write_text(authority, encoding="utf-8", newline="\n")
        private = self.folder / "key"
        public = private.with_suffix(".pub") if private.exists() else write_key_pair(private)
        said = (str(hello["nonce"]), public.read_text(encoding="utf-8").strip(), self._wish)
        images = json.dumps(self._count_images(told["classes"]))
        asked = dict(zip(("nonce", "public_key", "name"), said, strict=True))
        asked |= {"images": images, "proof": proof(key, "laptop", *said, images)}
        return self._ask("enrol", asked, ssl.create_default_context(cadata=authority))

    def _ask(self, what: str, asked: dict, trust: ssl.SSLContext) -> dict:
        url = f"https://{self._host}:{self._port}/class/{what}"
        try:
            reply = httpx.post(url, json=asked, verify=trust, trust_env=False, timeout=5 * SECONDS)
            said = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise FederationError(
                f"{self._host}:{self._port} does not answer as a class's host does ({error}). Is "
                "the port the one on the board?"
            ) from error
        if reply.status_code != 200:
            raise FederationError(str(said.get("detail", reply.status_code)))
        return said

    def _check(self, told: dict) -> None:
        """Raise a :class:`FederationError` for what would fail later, with less to say."""
        ours = versions()
        for name, version in ours.items():
            if told.get(name) != version:
                raise FederationError(
                    f"the host has {name} {told.get(name)} and this laptop {version}; install the "
                    f"host's: pip install {name}=={told.get(name)}"
                )
        late = told["time"] - time.time()
        if abs(late) > CLOCK_SECONDS:
            raise FederationError(
                f"this laptop's clock is {abs(late) / 60:.0f} minutes "
                f"{'late' if late > 0 else 'early'}; set it, as certificates and signatures are "
                "only good at their time."
            )
        known = DATASETS.get(told["dataset"])
        if not self._images and not (known and known.is_present()):
            how = known.fetching if known else "bring images of your own (--images)."
            raise FederationError(f"the class uses {told['dataset']}, which is not here: {how}")

    def _count_images(self, classes: list[str]) -> list[int] | None:
        """Return how many own images there are of each class, for the board; None without any."""
        if self._images is None:
            return None
        images = read_hospital_file(self._images)
        if list(images.class_names) != classes:
            raise DataError(
                f"the class learns {', '.join(classes)}, and {self._images} has "
                f"{', '.join(images.class_names)}; the names and their order must be the same."
            )
        if images.multi_label:
            return images.labels.sum(axis=0).tolist()
        return np.bincount(images.labels, minlength=len(classes)).tolist()

    def wait_until_training(self, times: int) -> None:
        """Wait until it has begun to train for the n-th time since it joined."""
        node = self._programs["SuperNode"]
        node.wait_until(
            lambda: len(TRAINING.findall(node.said())) >= times,
            START_SECONDS,
            f"training for the {times}. time",
        )

    def watch(self) -> None:
        """Tell what comes and goes, and bring a SuperNode that has ended back, till we leave."""
        while not self._left.wait(0.5):
            with self._turn:
                if not self._left.is_set():
                    self._look_after()

    def _look_after(self) -> None:
        for line in self.news():
            self._tell(line)
        node = self._programs["SuperNode"]
        if not node.running:
            self._tell(self._why_ended(node.said()))
            if not self._left.wait(LONG_PAUSE if REFUSED in node.said() else PAUSE):
                self._start_again()

    def _why_ended(self, said: str) -> str:
        if REFUSED in said:
            return (
                "the host takes this laptop for connected still, for up to a minute; trying again"
            )
        reason = EXIT.search(said)
        words = " ".join(reason[1].split()) if reason else "it says nothing of it"
        return f"the SuperNode has ended ({words}); trying again"

    def _start_again(self) -> None:
        """Start the SuperNode anew, and its resident if that may be at work for the old one."""
        if LET_IN in self._programs["SuperNode"].said():
            resident = self._programs["resident of SuperNode"]
            resident.process.kill()
            resident.reap()
        try:
            self._enrol()
        except FederationError as error:
            self._tell(str(error))
        self._start_node()

    def news(self) -> Iterator[str]:
        """Yield a line for everything that has happened since the last call."""
        now = "connected" if LET_IN in self._programs["SuperNode"].said() else "connecting"
        if now != self._told:
            self._told = now
            yield f"{now} to {self._host}:{self._port}"
        lines = [
            line
            for line in self._programs["resident of SuperNode"].said().splitlines(keepends=True)
            if line.startswith("{") and line.endswith("\n")
        ]
        new, self._said = lines[self._said :], len(lines)
        yield from filter(None, map(say_message, map(json.loads, new)))

    def close(self) -> None:
        """Leave the class: tell the host, then end what runs here."""
        self._left.set()
        with self._turn:
            node = self._programs.get("SuperNode")
            if node and node.running and ask_to_end(node.process):
                with suppress(subprocess.TimeoutExpired):  # it says goodbye
                    node.process.wait(5)
            super().close()
        self._lock.release()


def say_message(told: dict) -> str:
    """Say a line on a message that was answered; "" if it was not about training."""
    if not told["round"]:
        return ""
    metrics = told["metrics"]
    return (
        f"round {told['round']}: received {told['received'] / 1e6:.2f} MB of weights; trained on "
        f"{metrics.get('num-examples', 0):g} images, loss {metrics.get('loss', 0):.3f}; sent "
        f"{told['sent'] / 1e6:.2f} MB back. No image has left."
    )
