"""A class from its opening to its end, by the commands that people type; on loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from fedtutor import federation
from fedtutor.classroom.code import new_code, show
from fedtutor.cohort import build_cohort
from fedtutor.deployment.processes import free_port, processes_in
from fedtutor.federation.records import to_weights
from fedtutor.model import create_model
from fedtutor.settings import RunSettings

pytestmark = [pytest.mark.slow, pytest.mark.process]
SETTINGS = RunSettings(hospitals=3, size=16, rounds=2)
# A shell that ignores SIGINT hands that on; the command is to hear it all the same.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fedtutor.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Command:
    """A running ``fedtutor`` command, and all it has said."""

    def __init__(self, folder, *arguments):
        self.log = folder.with_suffix(".log")
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with self.log.open("w") as out:
            command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    @property
    def said(self):
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, pattern):
        while not (found := re.search(pattern, self.said)):
            assert self.process.poll() is None, self.said
            time.sleep(0.1)
        return found

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait()


class Host(Command):
    def __init__(self, folder, port):
        given = {"--hospitals": 3, "--size": 16, "--rounds": 2, "--port": port}
        options = [word for pair in given.items() for word in pair]
        options += ["--address", "127.0.0.1", "--folder", folder, "--no-browser"]
        super().__init__(folder, "host", *options)
        self.address, self.code = self.wait_for(r"fedtutor join (\S+) (\S+)").groups()
        url, key = self.wait_for(r"yours: (\S+)#(\S+)").groups()
        self.board = httpx.Client(base_url=url, headers={"x-key": key}, trust_env=False)

    def state(self):
        return self.board.get("/state", timeout=60).json()

    def wait_until(self, ready):
        while not ready(state := self.state()):
            assert self.process.poll() is None, self.said
            time.sleep(0.5)
        return state


def here(*seats):
    return lambda state: [seat["here"] for seat in state["seats"]] == list(seats)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """All that happens in a class; the tests look at it."""
    told = SimpleNamespace(folder=tmp_path_factory.mktemp("class"))
    folder, port = told.folder, free_port()
    with ExitStack() as programs:

        def join(home, *arguments):
            command = Command(folder / home, "join", *arguments, "--folder", folder / home)
            programs.callback(command.end)
            return command

        host = Host(folder / "host", port)
        programs.callback(host.end)
        told.code, where = host.code, (host.address, host.code)
        first = join("first", *where)
        first.wait_for("you are")
        second = join("second", *where, "--name", "Villa Vögel")
        told.stranger = join("stranger", host.address, show(new_code()))
        told.strangers_code = told.stranger.process.wait()
        told.state_before = host.wait_until(here(True, True))
        asked = {"rounds": 2, "strategy": "fedavg", "partition": "by:hospital", "alpha": 0.5}
        started = host.board.post("/start", json=asked | {"scenario": "none"}, timeout=60)
        assert started.status_code == 200, started.text
        told.during = host.wait_until(lambda state: len(state["run"]["rounds"]) > 1)
        told.after = host.wait_until(lambda state: not state["run"]["going"])

        second.process.kill()
        second.process.wait()
        told.killed = second.said
        told.again = join("second", *where)
        told.again.wait_for("you are")

        told.exit = host.end(signal.SIGINT)  # while Flower takes the second for connected still
        told.left = processes_in(folder / "host")
        told.host = Host(folder / "host", port)
        programs.callback(told.host.end)
        told.again.wait_for("connected to")
        told.reconnected = told.host.wait_until(here(True, True))
        told.said = first.said
        told.exits = [first.end(signal.SIGINT), told.again.end(), told.host.end()]
    told.left |= processes_in(folder)
    return told


def test_the_board_shows_who_is_here_and_what_each_has(story):
    seats = story.state_before["seats"]
    assert [seat["name"] for seat in seats][1] == "Villa Vögel"
    hospitals = build_cohort(SETTINGS).hospitals
    for seat, images in zip(seats, hospitals, strict=False):
        assert seat["images"] == np.bincount(images.labels, minlength=3).tolist()


def test_who_types_another_class_s_code_is_told_so(story):
    assert story.strangers_code == 2
    assert "does not know the code" in story.stranger.said
    assert len(story.state_before["seats"]) == 2


def test_the_run_is_seen_round_by_round_and_ends(story):
    assert len(story.during["run"]["rounds"]) < 4
    run = story.after["run"]
    assert [event["round"] for event in run["rounds"]] == [0, 1, 2]
    assert [event["hospitals"] for event in run["rounds"][1:]] == [2, 2]
    assert (run["problem"], run["rounds"][-1]["left_out"]) == ("", [])


def test_a_laptop_says_what_came_and_what_went(story):
    assert len(re.findall(r"round 2: received \d\.\d\d MB of weights; trained on", story.said)) == 1
    assert "loss 0." in story.said


def test_the_weights_are_those_of_the_grid_in_one_process(story):
    from fedtutor.support.keras_import import load_keras

    file = story.folder / "host" / "runs" / "001" / "last-good-model.keras"
    there = load_keras().models.load_model(file).get_weights()
    cohort = build_cohort(SETTINGS)
    hospitals = cohort.hospitals[:2]
    client_app = federation.make_client_app(
        lambda context: hospitals[int(context.node_config["partition-id"])]
    )
    server_app = federation.make_server_app(
        create_model(seed=0, **cohort.train.form).get_weights(),
        federation.strategy_for(SETTINGS, 2),
        num_rounds=2,
        config=federation.train_config(SETTINGS.training, num_rounds=2, local_epochs=1, seed=0),
    )
    state = federation.run_in_process(server_app, client_app, cohort.names[:2]).state
    for one, other in zip(there, to_weights(state.array_records["arrays"]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_laptop_that_lost_its_power_comes_back_to_its_seat(story):
    assert "you are Villa Vögel, hospital 2 of 3" in story.killed
    assert "you are Villa Vögel, hospital 2 of 3" in story.again.said


def test_the_class_goes_on_after_the_host_was_ended(story):
    assert story.exit == 130
    assert story.host.code == story.code
    assert [seat["name"] for seat in story.reconnected["seats"]][1] == "Villa Vögel"


def test_nothing_is_left_running_and_no_key_is_for_others(story):
    assert story.exits == [130, 130, 130]
    assert not story.left
    for key in story.folder.glob("**/key"):
        assert sys.platform == "win32" or key.stat().st_mode & 0o077 == 0
