"""Three hospitals over TLS: who is let in, what is on the wire, what happens when one fails."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
from toy import PATTERN, ours, start

from fedtutor.deployment import LocalFederation
from fedtutor.errors import FederationError


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """Three hospitals over TLS, with somebody listening; shared by the tests, as it takes time."""
    folder = tmp_path_factory.mktemp("secure")
    names = ["North", "South", "West"]
    with LocalFederation(dict.fromkeys(names), folder=folder, listen=True) as federation:
        yield federation


def test_bad_updates_and_failing_hospitals_are_left_out_by_name(secure):
    plan = {"South 1": "raises", "West 1": "NaN", "North 2": "huge", "South 2": "shape"}
    running = start(secure, plan, rounds=2)
    first, second = (running.wait_for_round(r) for r in (1, 2))
    assert first["names"] == ["North"]
    reasons = {out["hospital"]: out["reason"] for out in first["left_out"]}
    assert set(reasons) == {"South", "West"}
    assert "the scanner caught fire" in reasons["South"]
    assert "NaN" in reasons["West"]
    assert second["names"] == ["West"]
    reasons = {out["hospital"]: out["reason"] for out in second["left_out"]}
    assert "100 times as long" in reasons["North"]
    assert "shape (16, 4)" in reasons["South"]
    running.wait()
    model = np.load(secure.folder / "out" / "model.npy")
    np.testing.assert_allclose(model, PATTERN + 2, atol=1e-6)


def test_a_power_cut_in_training_leaves_one_out_and_the_same_one_comes_back(secure):
    running = start(secure, {"West 1": "hangs"}, rounds=2, timeout=600.0, patience=120.0)
    secure.wait_until_training("West", 1)
    group = secure._programs["West"].process.pid
    secure.kill_hospital("West")
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    first = running.wait_for_round(1)
    assert first["names"] == ["North", "South"]
    ((name, reason),) = [(out["hospital"], out["reason"]) for out in first["left_out"]]
    assert name == "West"
    assert "Node Unavailable" in reason
    secure.start_hospital("West")
    assert running.wait_for_round(2)["names"] == ["North", "South", "West"]
    running.wait()


def test_too_few_hospitals_end_the_run_with_a_reason_after_the_patience(secure):
    running = start(secure, expected=4, minimum=4, patience=1.0)
    with pytest.raises(FederationError, match="3 of 4 hospitals are connected after 1 s"):
        running.wait()
    waiting = [event["text"] for event in running.events() if event["event"] == "waiting"]
    assert waiting == ["waiting for hospitals: 3 of 4 are connected"]


def test_who_is_not_invited_is_turned_away(secure):
    assert "Failed to activate SuperNode" in secure.try_to_join("Stranger")
    assert "disconnected without sending a response" in secure.try_to_join("Naked", tls=False)
    left = {path.name for path in secure.folder.iterdir()}
    assert left == {"server", "app", "out", *(f"hospital-{k}" for k in (1, 2, 3))}


def test_each_hospital_keeps_its_key_to_itself(secure):
    for site in secure.sites.values():
        assert site.key.stat().st_mode & 0o077 == 0
        assert b"PRIVATE" in site.key.read_bytes()
    secrets = [path for path in secure.server_folder.rglob("*") if path.is_file()]
    assert not any(b"OPENSSH PRIVATE KEY" in path.read_bytes() for path in secrets)


def test_with_tls_no_weight_can_be_read_on_the_wire(secure):
    enough = 20 * PATTERN.nbytes  # the tests above have sent more
    if secure.wire.num_bytes < enough:
        start(secure).wait()
    assert secure.wire.num_bytes > enough
    assert not secure.wire.heard(PATTERN.tobytes()[:64])
    assert not secure.wire.heard(b"num-examples")


def test_a_superlink_that_comes_back_without_its_state_knows_nobody(secure):
    """Flower keeps runs and nodes in memory unless told otherwise; keys must be registered anew."""
    secure.kill_server()
    secure.start_server()
    assert "Failed to activate SuperNode" in secure.try_to_join("Stranger")
    secure.register()
    for name in secure.sites:
        secure.kill_hospital(name)
        secure.start_hospital(name)
    assert start(secure).wait()["event"] == "end"


def test_afterwards_nothing_runs_and_no_port_is_open(secure):
    """The last one to use it: what it has started is gone, and its logs are still there."""
    assert ours(secure.folder)
    secure.close()
    assert ours(secure.folder) == []
    for port in (secure.port, secure.wire.port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    assert "Starting Flower SuperLink" in (secure.server_folder / "superlink.log").read_text()
