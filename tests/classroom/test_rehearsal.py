"""``fedtutor check --class`` and a port that is taken."""

from __future__ import annotations

import socket

import pytest

from fedtutor.classroom.host import Classroom
from fedtutor.classroom.rehearsal import rehearse
from fedtutor.deployment.processes import free_port
from fedtutor.errors import FederationError
from fedtutor.settings import RunSettings


@pytest.mark.slow
@pytest.mark.process
def test_a_machine_that_can_host_a_class_is_shown_to():
    port = free_port()
    steps = dict(rehearse(port))
    assert list(steps) == ["addresses of this machine", "a class, opened", "a hospital, joined"]
    assert steps["a hospital, joined"].startswith(
        f"at {steps['addresses of this machine']}".split(",")[0]
    )


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        room = Classroom(RunSettings(hospitals=1, size=16), tmp_path, desk_port=1, port=port)
        with pytest.raises(FederationError, match=rf"port {port} cannot be used.*--port"), room:
            pass
