"""Three hospitals over TLS: who is let in, what is on the wire, what if one fails or lies.

On an odd machine: odd names, folder and encoding, and a proxy that is out of order.
"""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from toy import PATTERN, kill_server, ours, secrets_in, start, try_to_join

from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.processes import free_port, processes_in
from fedtutor.deployment.superlink import CONNECTION
from fedtutor.errors import FederationError, visible

pytestmark = [pytest.mark.slow, pytest.mark.process]

NORTH = "North"
SOUTH = "Universit\udce4t"  # in Latin-1
WEST = '\x1b[31m"[red]"\r\n$\\frac{1}{2}$ \U0001f3e5'
SOUTH_SEEN, WEST_SEEN = "Universit\\udce4t", visible(WEST)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

PLAN = {
    **{f"{SOUTH_SEEN} 1": "raises", f"{WEST} 1": "NaN"},
    **{f"{NORTH} 2": "huge", f"{WEST} 2": "hangs"},
    f"{SOUTH_SEEN} 3": "shape",
    **{f"{SOUTH_SEEN} 4": "terabytes", f"{WEST} 4": "packed wrongly"},
    **{f"{SOUTH_SEEN} 5": "of another", f"{WEST} 5": "blank"},
}
LIES = """
from flwr.app import Array, Error
from flwr.supercore.inflatable.inflatable_object import add_header_to_object_body


def terabytes(reply, message):
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }\\n"
    data = b"\\x93NUMPY\\x01\\x00" + len(text).to_bytes(2, "little") + text + bytes(256)
    reply.content["arrays"]["0"] = Array("float32", (4, 16), "numpy.ndarray", data)
    return reply


def packed_wrongly(reply, message):
    class Garbled(Array):
        def deflate(self):
            return add_header_to_object_body(b"no JSON", self)

    Garbled.__qualname__ = "Array"
    reply.content["arrays"]["0"] = Garbled("float32", (4, 16), "numpy.ndarray", b"")
    return reply


def of_another(reply, message):
    class Forged(Message):
        def deflate(self):
            said, true = self.metadata.__dict__, dict(self.metadata.__dict__)
            said.update(_src_node_id=12345, _reply_to_message_id="0" * 64)
            try:
                return super().deflate()
            finally:
                said.update(true)

    Forged.__qualname__ = "Message"
    return Forged(reply.content, reply_to=message)


LIES |= {
    "terabytes": terabytes,
    "packed wrongly": packed_wrongly,
    "of another": of_another,
    "blank": lambda reply, message: Message(Error(7, "  "), reply_to=message),
}
"""


@pytest.fixture(scope="module")
def odd_machine():
    """All proxies are out of order, and what is written to a file is encoded as on Windows."""
    with pytest.MonkeyPatch.context() as patch:
        for name in PROXIES:
            for written in (name, name.lower()):
                patch.setenv(written, f"http://127.0.0.1:{free_port()}")
        patch.setenv("PYTHONIOENCODING", "cp1252")
        for name in ("NO_PROXY", "no_proxy"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def story(tmp_path_factory, odd_machine):
    """Everything that can go wrong in five rounds, and then at the server; the tests look at it.

    West's power fails in round 2, and comes back; meanwhile two strangers want to join.
    """
    told = SimpleNamespace(folder=tmp_path_factory.mktemp("secure") / "Übung 1 = (α)")
    hospitals, strangers = dict.fromkeys([NORTH, SOUTH, WEST]), tmp_path_factory.mktemp("strangers")
    with LocalFederation(hospitals, folder=told.folder, listen=True) as federation:
        told.federation = federation
        running = start(federation, PLAN, rounds=5, lies=LIES)
        federation.wait_until_training(WEST, 2)
        federation.kill_hospital(WEST)
        told.west = processes_in(federation.sites[WEST].folder)
        told.stranger = try_to_join(federation, strangers / "Stranger")
        told.naked = try_to_join(federation, strangers / "Naked", tls=False)
        running.wait_for_round(2)
        federation.start_hospital(WEST)
        running.wait()
        told.rounds = [event for event in running.events() if event["event"] == "round"]
        told.model = np.load(told.folder / "out" / "model.npy")
        told.files = {path.name for path in told.folder.iterdir()}
        told.at_the_server = [
            path.read_bytes() for path in federation.server_folder.rglob("*") if path.is_file()
        ]
        told.modes = {path: path.stat().st_mode & 0o777 for path in secrets_in(told.folder)}

        kill_server(federation)  # Flower keeps runs and nodes in memory unless told otherwise
        federation.start_server()
        told.stranger_again = try_to_join(federation, strangers / "Stranger")
        public = str(federation.sites[NORTH].key.with_suffix(".pub"))
        command = federation.flwr("supernode", "register", public, CONNECTION, name="register")
        told.registered = command.process.wait()
        federation.kill_hospital(NORTH)
        federation.start_hospital(NORTH)
        running = start(federation, expected=2, minimum=2, patience=1.0)
        with pytest.raises(FederationError) as too_few:
            running.wait()
        told.too_few, told.waiting = str(too_few.value), running.events()
        told.running = ours(told.folder)
    return told


def reasons(event):
    return {out["hospital"]: out["reason"] for out in event["left_out"]}


def test_bad_updates_are_left_out_by_name(story):
    first, second, third = story.rounds[1:4]
    assert first["names"] == [NORTH]
    assert set(reasons(first)) == {SOUTH_SEEN, WEST_SEEN}
    assert "the scanner caught fire" in reasons(first)[SOUTH_SEEN]
    assert "NaN" in reasons(first)[WEST_SEEN]
    assert "100 times as long" in reasons(second)[NORTH]
    assert set(reasons(third)) == {SOUTH_SEEN}
    assert "shape (16, 4)" in reasons(third)[SOUTH_SEEN]
    np.testing.assert_allclose(story.model, PATTERN + 5, atol=1e-6)


def test_the_run_goes_on_without_those_who_send_what_no_honest_one_would(story):
    """Whatever else there is of this kind is in test_replies and test_network_guard."""
    for event in story.rounds[4:]:
        assert event["names"] == [NORTH]
        assert set(reasons(event)) == {SOUTH_SEEN, WEST_SEEN}
    fourth, fifth = map(reasons, story.rounds[4:])
    assert "1000000" in fourth[SOUTH_SEEN]
    assert "cannot be unpacked" in fourth[WEST_SEEN]
    assert fifth[WEST_SEEN] == "gave no reason"
    said = [reason for event in story.rounds for reason in reasons(event).values()]
    assert all(0 < len(line) <= 500 and line.isprintable() for line in said)


def test_a_power_cut_in_training_leaves_one_out_and_the_same_one_comes_back(story):
    assert story.west == set()
    _, _, second, third, *_ = story.rounds
    assert second["names"] == [SOUTH_SEEN]
    assert "Node Unavailable" in reasons(second)[WEST_SEEN]
    assert set(third["names"]) == {NORTH, WEST_SEEN}


def test_who_is_not_invited_is_turned_away(story):
    assert "Failed to activate SuperNode" in story.stranger
    assert "disconnected without sending a response" in story.naked
    assert story.files == {"server", "app", "out", *(f"hospital-{k}" for k in (1, 2, 3))}


def test_each_hospital_keeps_its_key_to_itself(story):
    assert sorted(path.name for path in story.modes) == ["key", "key", "key", "server.key"]
    if sys.platform != "win32":
        assert set(story.modes.values()) == {0o600}
    assert not any(b"OPENSSH PRIVATE KEY" in content for content in story.at_the_server)


def test_with_tls_no_weight_can_be_read_on_the_wire(story):
    wire = story.federation.wire
    assert wire.num_bytes > 20 * PATTERN.nbytes
    assert not wire.heard(PATTERN.tobytes()[:64])
    assert not wire.heard(b"num-examples")


def test_a_superlink_that_comes_back_without_its_state_lets_in_whose_key_is_registered_anew(story):
    assert "Failed to activate SuperNode" in story.stranger_again
    assert story.registered == 0
    assert "1 of 2 hospitals are connected after 1 s" in story.too_few
    waiting = [event["text"] for event in story.waiting if event["event"] == "waiting"]
    assert waiting == ["waiting for hospitals: 1 of 2 are connected"]


def test_afterwards_neither_processes_nor_secrets_are_left_and_logs_are(story):
    assert story.running
    assert ours(story.folder) == []
    assert secrets_in(story.folder) == []
    federation = story.federation
    for port in (federation.port, federation.hospitals_port, federation.wire.port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    log = federation.server_folder / "superlink.log"
    assert "Starting Flower SuperLink" in log.read_text(encoding="utf-8")
    for k in (1, 2, 3):
        assert (story.folder / f"hospital-{k}" / "supernode.log").stat().st_size
