"""Three hospitals over TLS: who is let in, what is on the wire, what happens when one fails."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import numpy as np
import pytest
from toy import PATTERN, ours, start

from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.processes import processes_in
from fedtutor.errors import FederationError

pytestmark = [pytest.mark.slow, pytest.mark.process]

PLAN = {
    **{"South 1": "raises", "West 1": "NaN"},
    **{"North 2": "huge", "West 2": "hangs"},
    "South 3": "shape",
}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Everything that can go wrong in three rounds, and then at the server; the tests look at it.

    West's power fails in round 2, and comes back; meanwhile two strangers want to join.
    """
    told = SimpleNamespace(folder=tmp_path_factory.mktemp("secure"))
    hospitals = dict.fromkeys(["North", "South", "West"])
    with LocalFederation(hospitals, folder=told.folder, listen=True) as federation:
        told.federation = federation
        running = start(federation, PLAN, rounds=3)
        federation.wait_until_training("West", 2)
        federation.kill_hospital("West")
        told.west = processes_in(federation.sites["West"].folder)
        told.stranger = federation.try_to_join("Stranger")
        told.naked = federation.try_to_join("Naked", tls=False)
        running.wait_for_round(2)
        federation.start_hospital("West")
        running.wait()
        told.rounds = [event for event in running.events() if event["event"] == "round"]
        told.model = np.load(told.folder / "out" / "model.npy")
        told.files = {path.name for path in told.folder.iterdir()}
        told.at_the_server = [
            path.read_bytes() for path in federation.server_folder.rglob("*") if path.is_file()
        ]
        told.keys = {
            name: (site.key.stat().st_mode & 0o077, site.key.read_bytes())
            for name, site in federation.sites.items()
        }

        federation.kill_server()  # Flower keeps runs and nodes in memory unless told otherwise
        federation.start_server()
        told.stranger_again = federation.try_to_join("Stranger")
        federation.register()
        federation.kill_hospital("North")
        federation.start_hospital("North")
        running = start(federation, expected=2, minimum=2, patience=1.0)
        with pytest.raises(FederationError) as too_few:
            running.wait()
        told.too_few, told.waiting = str(too_few.value), running.events()
        told.running = ours(told.folder)
    return told


def reasons(event):
    return {out["hospital"]: out["reason"] for out in event["left_out"]}


def test_bad_updates_are_left_out_by_name(story):
    first, second, third = story.rounds[1:]
    assert first["names"] == ["North"]
    assert set(reasons(first)) == {"South", "West"}
    assert "the scanner caught fire" in reasons(first)["South"]
    assert "NaN" in reasons(first)["West"]
    assert "100 times as long" in reasons(second)["North"]
    assert set(reasons(third)) == {"South"}
    assert "shape (16, 4)" in reasons(third)["South"]
    np.testing.assert_allclose(story.model, PATTERN + 3, atol=1e-6)


def test_a_power_cut_in_training_leaves_one_out_and_the_same_one_comes_back(story):
    assert story.west == set()
    _, _, second, third = story.rounds
    assert second["names"] == ["South"]
    assert "Node Unavailable" in reasons(second)["West"]
    assert third["names"] == ["North", "West"]


def test_who_is_not_invited_is_turned_away(story):
    assert "Failed to activate SuperNode" in story.stranger
    assert "disconnected without sending a response" in story.naked
    assert story.files == {"server", "app", "out", *(f"hospital-{k}" for k in (1, 2, 3))}


def test_each_hospital_keeps_its_key_to_itself(story):
    for mode, key in story.keys.values():
        assert mode == 0
        assert b"PRIVATE" in key
    assert not any(b"OPENSSH PRIVATE KEY" in content for content in story.at_the_server)


def test_with_tls_no_weight_can_be_read_on_the_wire(story):
    wire = story.federation.wire
    assert wire.num_bytes > 20 * PATTERN.nbytes
    assert not wire.heard(PATTERN.tobytes()[:64])
    assert not wire.heard(b"num-examples")


def test_a_superlink_that_comes_back_without_its_state_lets_in_whose_key_is_registered_anew(story):
    assert "Failed to activate SuperNode" in story.stranger_again
    assert "1 of 2 hospitals are connected after 1 s" in story.too_few
    waiting = [event["text"] for event in story.waiting if event["event"] == "waiting"]
    assert waiting == ["waiting for hospitals: 1 of 2 are connected"]


def test_afterwards_nothing_runs_and_no_port_is_open(story):
    assert story.running
    assert ours(story.folder) == []
    federation = story.federation
    for port in (federation.port, federation.hospitals_port, federation.wire.port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    log = federation.server_folder / "superlink.log"
    assert "Starting Flower SuperLink" in log.read_text(encoding="utf-8")
