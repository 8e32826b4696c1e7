"""A stranger with ``ca.crt`` and nothing else, before a real SuperLink: what he tries, and is told.

The hospitals train all the while.
"""

from __future__ import annotations

import datetime
import shutil
import socket
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from gates import connect, request, say, until_the_end
from toy import ours, start

from fedtutor.course.lessons.deployment import stranger_runs
from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.gate import COME_AGAIN, HOSPITALS_ONLY
from fedtutor.deployment.private import make_private_folder

pytestmark = [pytest.mark.slow, pytest.mark.process]


class Stranger:
    """Somebody with a home of his own, the certificate, and an app."""

    def __init__(self, federation):
        self.federation, self.files = federation, federation.tls_files
        self.home = make_private_folder(federation.folder / "stranger")
        make_private_folder(self.home / "tmp")
        shutil.copy(self.files.authority, self.home / "ca.crt")

    def runs_his_app(self, port):
        """Return what he learns with ``flwr run``, or is told, at a port."""
        return stranger_runs(self.federation, port)

    def client(self, kind, port, *interceptors):
        """Return one of Flower's clients, as its own programs make them."""
        return kind.from_server_address(
            f"localhost:{port}",
            False,
            (self.home / "ca.crt").read_bytes(),
            [RuntimeVersionHttpInterceptor("SuperNode"), *interceptors],
        )

    def is_told(self, call):
        """Return the status and the sentence with which a call is refused."""
        with pytest.raises(httpx.HTTPStatusError) as error:
            call()
        said = error.value.response
        known = FlowerError.from_json(said.text)
        return said.status_code, known.message if known else said.json()["detail"]

    def activates(self, private, public=None, interceptor=None):
        """Say that a key's hospital is here, at the gate; ``public`` is whose he says he is."""
        public = public or private.public_key()
        proof = interceptor or NodeAuthHttpInterceptor(private, public)
        with self.client(FleetHttpClient, self.federation.hospitals_port, proof) as client:
            asked = ActivateNodeRequest(public_key=public_key_to_bytes(public))
            asked.heartbeat_interval = 30
            return client.ActivateNode(asked)


def a_key():
    return ec.generate_private_key(ec.SECP384R1())


def signed(key, when):
    """What a hospital signed at another time, heard by somebody."""

    class Old:
        def intercept(self, context, call_next):
            time = when.isoformat()
            context.request.headers["flwr-public-key"] = in_base64(
                public_key_to_bytes(key.public_key())
            )
            context.request.headers["flwr-timestamp"] = time
            context.request.headers["flwr-signature"] = in_base64(sign_message(key, time.encode()))
            return call_next(context)

    return Old()


def in_base64(content):
    return b64encode(content).decode("ascii")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """All that a stranger tries, while two hospitals train; the tests look at it."""
    told = SimpleNamespace(folder=tmp_path_factory.mktemp("stranger"))
    with LocalFederation(dict.fromkeys(["North", "South"]), folder=told.folder) as federation:
        stranger = Stranger(federation)
        files, port = federation.tls_files, federation.hospitals_port
        running = start(federation, {"North 1": "hangs", "South 0": "no name"}, expected=2)
        federation.wait_until_training("North", 1)

        slow = [connect(port, files) for _ in range(20)]
        for k, connection in enumerate(slow):
            connection.sendall(request(body=b"1234")[: -3 * (k % 2) - 1])
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"\x16\x03\x01\x02\x00garbage" * 1000)
        told.garbage = say(port, files, b"\x00\xff" * 5000)
        long = "Content-Length: 1000000000000"
        told.too_long = say(port, files, request("/v1/fleet/push-object", b"", long))

        told.through_the_gate = stranger.runs_his_app(port)
        north = load_ssh_private_key(federation.sites["North"].key.read_bytes(), None)
        his = a_key()
        with (
            stranger.client(ControlHttpClient, port) as operator,
            stranger.client(
                FleetHttpClient, port, NodeAuthHttpInterceptor(his, his.public_key())
            ) as node,
        ):
            public = public_key_to_bytes(his.public_key())
            told.registers = stranger.is_told(
                lambda: operator.RegisterNode(RegisterNodeRequest(public_key=public))
            )
            told.without_key = stranger.is_told(
                lambda: node.RegisterNode(RegisterNodeFleetRequest(public_key=public))
            )
        told.rogue_key = stranger.is_told(lambda: stranger.activates(his))
        told.replayed = stranger.is_told(lambda: stranger.activates(his, north.public_key()))
        now = datetime.datetime.now(datetime.UTC)
        told.old = stranger.is_told(
            lambda: stranger.activates(
                north, interceptor=signed(north, now - datetime.timedelta(minutes=6))
            )
        )

        (told.folder / "out" / "go on").touch()
        told.last = running.wait()
        told.rounds = [event for event in running.events() if event["event"] == "round"]
        told.slow = [until_the_end(connection) for connection in slow]
        for connection in slow:
            connection.close()

        told.past_the_gate = stranger.runs_his_app(federation.port)
        keys = [a_key() for _ in range(30)]
        with stranger.client(ControlHttpClient, federation.port) as operator:
            for key in keys:
                public = public_key_to_bytes(key.public_key())
                operator.RegisterNode(RegisterNodeRequest(public_key=public))
        with ThreadPoolExecutor(30) as pool:
            told.nodes = {reply.node_id for reply in pool.map(stranger.activates, keys)}
        told.log = (federation.server_folder / "gate.log").read_text(encoding="utf-8")
    told.running = ours(told.folder)
    return told


def test_past_the_gate_a_stranger_runs_his_own_app_in_every_hospital(story):
    """Why there is a gate: Flower 1.41 asks no key of who starts an app."""
    assert story.past_the_gate == ["the stranger reads: North", "the stranger reads: South"]


def test_through_the_gate_he_runs_nothing_and_is_told_why(story):
    assert story.through_the_gate == ["This port is for hospitals only"]
    assert story.registers == (403, HOSPITALS_ONLY)


def test_a_supernode_without_a_registered_key_is_turned_away(story):
    assert story.without_key == (403, HOSPITALS_ONLY)
    assert story.rogue_key[1] == "Failed to activate SuperNode."


def test_who_says_he_is_a_hospital_must_have_its_key_and_sign_now(story):
    assert story.replayed == (401, "Invalid SuperNode authentication")
    assert story.old == (401, "Invalid SuperNode authentication")


def test_what_is_too_long_or_garbage_is_told_so(story):
    assert story.too_long.startswith(b"HTTP/1.1 413 ")
    assert b"at most 8388608 bytes" in story.too_long
    assert story.garbage.startswith(b"HTTP/1.1 400 ")


def test_the_hospitals_train_while_others_trickle(story):
    assert story.last["event"] == "end"
    north, south = story.rounds[1]["names"]
    assert north == "North"
    assert south.startswith("node ")  # it has not said its name
    assert story.rounds[1]["left_out"] == []
    assert story.slow == [b""] * 20
    assert "hung up: TimeoutError" in story.log
    assert COME_AGAIN not in story.log


def test_thirty_hospitals_join_at_once(story):
    assert len(story.nodes) == 30


def test_the_gate_s_log_holds_no_key_and_nothing_runs_afterwards(story):
    assert "/v1/control/" in story.log
    assert "Traceback" not in story.log
    assert "flwr-" not in story.log
    assert len(story.log.splitlines()) < 40
    assert story.running == []
    assert not (story.folder / "stranger" / "flwr").exists()
