"""``fedtutor deploy``, and the three engines beside each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from extras import needs_ray
from toy import ours, secrets_in

from fedtutor.cli import main
from fedtutor.deployment import job, superlink
from fedtutor.deployment.job import simulate
from fedtutor.errors import FedtutorError
from fedtutor.experiment import run_experiment
from fedtutor.model import load_keras
from fedtutor.settings import RunSettings, TrainingSettings

OPTIONS = ["--hospitals", "2", "--rounds", "3", "--size", "16", "--batch-size", "32"]
OPTIONS += ["--strategy", "fedadam"]
LEFT = ("summary.json", "global-model.keras")

pytestmark = [pytest.mark.slow, pytest.mark.process]

# A shell starts what runs in its background with SIGINT ignored, and so may pytest be.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fedtutor.cli import main
sys.exit(main())
"""


def settings(corners):
    return RunSettings(
        dataset=str(corners),
        hospitals=2,
        rounds=3,
        size=16,
        strategy="fedadam",
        training=TrainingSettings(learning_rate=1e-3, batch_size=32),
    )


def begin(home, *arguments):
    """Start a command in a home of its own, so that nothing can be written to the user's.

    It is told to an old terminal.
    """
    home.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=home.parent,
        env=os.environ | {"HOME": str(home), "TMPDIR": str(home), "PYTHONIOENCODING": "cp1252"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="cp1252",
        start_new_session=True,
    )


def until(process, ready):
    while not (found := ready()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    return found


def assert_nothing_is_left_of(folder):
    assert ours(folder) == []
    assert secrets_in(folder) == []
    assert list((folder / "home").rglob("*")) == []


@pytest.fixture(scope="module")
def story(tmp_path_factory, corners):
    """``fedtutor deploy``, interrupted after a round and resumed; the tests look at it.

    In a folder with a space and an umlaut.
    """
    told = SimpleNamespace(folder=tmp_path_factory.mktemp("deploy") / "Jürgen Müller")
    home, out = told.folder / "home", told.folder / "out"
    command = ["deploy", "--dataset", str(corners), *OPTIONS, "--out", str(out)]
    if sys.platform != "win32":  # there a signal from outside just ends it
        with begin(home, *command) as process:
            until(process, (out / "checkpoint.npz").exists)
            told.while_it_ran = ours(told.folder), secrets_in(told.folder)
            process.send_signal(signal.SIGTERM)
            _, told.message = process.communicate()  # until the watchdog has gone, too
        told.stopped = process.returncode
        assert_nothing_is_left_of(told.folder)
        command.append("--resume")
    with begin(home, *command) as process:
        told.said, errors = process.communicate()
    assert process.returncode == 0, errors
    told.summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return told


@pytest.mark.skipif(sys.platform == "win32", reason="there a signal from outside just ends it")
def test_a_deployment_that_is_interrupted_keeps_what_its_rounds_have_given(story):
    processes, secrets = story.while_it_ran
    assert len(processes) > 3
    assert secrets
    assert story.stopped == 130
    assert "last-good-model.keras; --resume goes on." in story.message
    assert "round 1 of 3" not in story.said


def test_deploy_writes_a_summary_like_that_of_run(story):
    summary = story.summary
    assert [row["round"] for row in summary["rounds"]] == [0, 1, 2, 3]
    assert [row["hospitals"] for row in summary["rounds"]] == [0, 2, 2, 2]
    assert summary["left_out"] == []
    assert summary["synthetic"] is False
    low, high = summary["auc_interval"]["federated"]
    assert 0 < low <= summary["auc"]["federated"] <= high <= 1
    assert summary["versions"]["flwr"].startswith("1.41")
    assert sum(row["num_examples"] for row in summary["hospitals"]) == summary["num_train"]
    assert "round 3 of 3: AUC" in story.said


def test_deploy_leaves_nothing_running_and_nothing_outside_its_folder(story):
    assert_nothing_is_left_of(story.folder)
    assert sorted(path.name for path in story.folder.iterdir()) == ["home", "out"]
    assert {path.name for path in (story.folder / "out").iterdir()} == {
        *(*LEFT, "progress.jsonl", "federation")
    }
    assert (story.folder / "out/federation/server/superlink.log").stat().st_size


def test_each_hospital_has_a_resident_that_trains(story):
    for k in (1, 2):
        hospital = story.folder / "out" / "federation" / f"hospital-{k}"
        said = (hospital / "supernode.log").read_text(encoding="utf-8")
        assert "Receiving: train message" in said
        assert "training without it" not in said
        assert (hospital / "resident.log").exists()


def assert_like_one_process(corners, folder):
    here = run_experiment(settings(corners)).model.get_weights()
    there = load_keras().models.load_model(folder / "global-model.keras").get_weights()
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_interrupted_and_resumed_it_has_the_weights_of_one_process(story, corners):
    assert_like_one_process(corners, story.folder / "out")


@needs_ray
def test_ray_gives_the_weights_of_one_process(corners, tmp_path):
    summary = simulate(settings(corners), tmp_path, cpus=os.cpu_count())
    assert [row["hospitals"] for row in summary["rounds"]] == [0, 2, 2, 2]
    assert summary["engine"] == "Flower's Ray simulation"
    assert {path.name for path in tmp_path.iterdir()} == {*LEFT, "progress.jsonl"}
    assert ours(tmp_path) == []
    assert_like_one_process(corners, tmp_path)


class Rehearsal:
    """In place of a federation: it plays two rounds, and remembers what is done to it."""

    hospitals_port, folder = 1, None

    def __init__(self, hospitals, *, test, folder):
        self.folder, self.test_data, self.names = folder, folder / "test.npz", list(hospitals)
        self.done = []
        Rehearsal.last = self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.done.append("closed")

    def run(self, app, journal):
        journal.with_name("last-good-model.keras").touch()
        return self

    def follow(self):
        for k in range(3):
            self.done.append(f"round {k}")
            yield {"event": "round", "round": k, "auc": 0.5, "hospitals": 2, "left_out": []}

    def wait(self):
        scores = ("auc", "accuracy", "class_auc", "auc_interval", "rounds", "left_out")
        return dict.fromkeys(scores)

    def wait_until_training(self, name, times):
        self.done.append(f"{name} trains for the {times}. time")

    def kill_hospital(self, name):
        self.done.append(f"{name} is killed")


def test_the_last_hospital_can_be_killed_while_it_trains(corners, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "LocalFederation", Rehearsal)
    said = []
    job.deploy(settings(corners), tmp_path, kill_one=True, tell=said.append)
    *_, victim = Rehearsal.last.names
    assert Rehearsal.last.done == [
        "round 0",
        "round 1",
        f"{victim} trains for the 2. time",
        f"{victim} is killed",
        "round 2",
        "closed",
    ]
    assert f"{victim} was killed while it trained in round 2" in said


def test_deploy_does_not_touch_a_folder_that_is_not_its_own(corners, tmp_path, capsys):
    theirs = tmp_path / "federation" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    assert main(["deploy", "--dataset", str(corners), *OPTIONS, "--out", str(tmp_path)]) == 1
    assert "not made by" in capsys.readouterr().err
    assert theirs.read_text() == "years of work"


@pytest.mark.parametrize(
    ("command", "signal_number"),
    [("deploy", signal.SIGINT), pytest.param("simulate", signal.SIGTERM, marks=needs_ray)],
)
def test_a_signal_at_the_start_ends_all_processes_and_removes_secrets(
    command, signal_number, corners, tmp_path
):
    arguments = (command, "--dataset", str(corners), *OPTIONS, "--out", str(tmp_path / "out"))
    with begin(tmp_path / "home", *arguments) as process:
        homes = until(process, lambda: flower_homes(tmp_path))
        if command == "deploy":  # until hospitals start, and their keys and images are there
            until(process, lambda: len(ours(tmp_path)) > 3)
            assert secrets_in(tmp_path)
        process.send_signal(signal_number)
        _, errors = process.communicate()
    if signal_number == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped" in errors
    assert process.returncode != 0
    assert_nothing_is_left_of(tmp_path)
    if command == "simulate":
        assert [folder for folder in homes if folder.parents[1].exists()] == []


def flower_homes(folder):
    """Where the programs keep their files that have anything to do with a folder."""
    environments = (process.info["environ"] for process in ours(folder))
    return {Path(found["FLWR_HOME"]) for found in environments if "FLWR_HOME" in found}


def test_without_ray_it_is_said_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(superlink, "find_spec", lambda name: None)
    assert main(["simulate", *OPTIONS, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'pip install "fedtutor[ray]"' in line
    assert not (tmp_path / "out").exists()
    with pytest.raises(FedtutorError, match="Ray is missing"):
        superlink.LocalSimulation(2)


@pytest.mark.parametrize("option", [["--hospitals", "0"], ["--rounds", "1", "--kill-one"]])
def test_what_cannot_be_deployed_is_refused_in_one_line(option, tmp_path, capsys):
    assert main(["deploy", *option, "--out", str(tmp_path)]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedtutor: ")
