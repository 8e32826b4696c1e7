"""One hospital without TLS: what can be read, and what a hang and a server's restart do."""

from __future__ import annotations

import sys

import pytest
from toy import PATTERN, kill_server, ours, secrets_in, start

from fedtutor.deployment.federation import LocalFederation
from fedtutor.errors import FederationError

pytestmark = [pytest.mark.slow, pytest.mark.process]


def test_without_tls_all_can_be_read_and_what_a_hang_and_a_server_s_restart_do(tmp_path):
    with LocalFederation(
        {"North": None}, tls=False, listen=True, folder=tmp_path, options=("--database", "state.db")
    ) as federation:
        running = start(federation, {"North 1": "hangs"}, expected=1)
        federation.wait_until_training("North", 1)
        kill_server(federation)
        with pytest.raises(FederationError, match="the run ended before its result"):
            running.wait()
        federation.start_server()
        with pytest.raises(FederationError, match=r"0 of 1 .* did not reply within 2 s"):
            start(federation, expected=1, timeout=2.0).wait()  # it hangs still
        (tmp_path / "out" / "go on").touch()
        assert start(federation, expected=1).wait()["event"] == "end"
        (state,) = secrets_in(tmp_path)
        assert state.name == "state.db"
        assert sys.platform == "win32" or state.stat().st_mode & 0o777 == 0o600
        assert federation.wire.heard(PATTERN.tobytes()[:64])
        assert federation.wire.heard(b"num-examples")
    assert ours(tmp_path) == []
    assert secrets_in(tmp_path) == []
