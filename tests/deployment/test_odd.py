"""A round over TLS on an odd machine: odd names, folder and encoding, a proxy out of order."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from toy import ours, secrets_in, start

from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.processes import free_port
from fedtutor.errors import visible

pytestmark = [pytest.mark.slow, pytest.mark.process]

NAMES = ['\x1b[31m"[red]"\r\n$\\frac{1}{2}$ \U0001f3e5', "Universit\udce4t"]  # the last in Latin-1
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One round; the tests look at it."""
    told = SimpleNamespace(folder=tmp_path_factory.mktemp("odd") / "Übung 1 = (α)")
    with pytest.MonkeyPatch.context() as patch:
        for name in PROXIES:
            for written in (name, name.lower()):
                patch.setenv(written, f"http://127.0.0.1:{free_port()}")
        patch.setenv("PYTHONIOENCODING", "cp1252")  # as on Windows, of what is written to a file
        for name in ("NO_PROXY", "no_proxy"):
            patch.delenv(name, raising=False)
        with LocalFederation(
            dict.fromkeys(NAMES), folder=told.folder, options=("--database", "state.db")
        ) as federation:
            running = start(federation, expected=2)
            running.wait()
            told.round = next(event for event in running.events() if event.get("round") == 1)
            told.modes = {path: path.stat().st_mode & 0o777 for path in secrets_in(told.folder)}
    return told


def test_a_proxy_that_is_out_of_order_is_not_asked_for_this_machine(story):
    assert len(story.round["names"]) == 2
    assert story.round["left_out"] == []


def test_names_reach_the_hospitals_apps_and_come_back(story):
    assert set(story.round["names"]) == {visible(NAMES[0]), "Universit\\udce4t"}


def test_afterwards_neither_processes_nor_secrets_are_left_and_logs_are(story):
    assert ours(story.folder) == []
    names = sorted(path.name for path in story.modes)
    assert names == ["key", "key", "server.key", "state.db"]
    if sys.platform != "win32":
        assert set(story.modes.values()) == {0o600}
    assert secrets_in(story.folder) == []
    for log in ("server/superlink.log", "hospital-1/supernode.log", "hospital-2/supernode.log"):
        assert (story.folder / log).stat().st_size
