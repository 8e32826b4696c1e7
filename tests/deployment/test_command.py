"""``fedtutor deploy``, and the three engines beside each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

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

SMALL = ["--hospitals", "2", "--rounds", "1", "--size", "28", "--batch-size", "32"]
SETTINGS = RunSettings(
    hospitals=2, rounds=1, size=28, training=TrainingSettings(learning_rate=1e-3, batch_size=32)
)
LEFT = ("summary.json", "global-model.keras")

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """``fedtutor deploy``, in a home of its own so that nothing can be written to the user's.

    In a folder with a space and an umlaut, and told to an old terminal.
    """
    folder = tmp_path_factory.mktemp("deploy") / "Jürgen Müller"
    home = folder / "home"
    home.mkdir(parents=True)
    command = [sys.executable, "-m", "fedtutor", "deploy", *SMALL, "--out", str(folder / "out")]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"HOME": str(home), "TMPDIR": str(home), "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        encoding="cp1252",
    )
    assert done.returncode == 0, done.stderr
    return (
        folder,
        json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8")),
        done.stdout,
    )


def test_deploy_writes_a_summary_like_that_of_run(deployed):
    _, summary, said = deployed
    assert [row["round"] for row in summary["rounds"]] == [0, 1]
    assert [row["hospitals"] for row in summary["rounds"]] == [0, 2]
    assert summary["left_out"] == []
    assert summary["synthetic"] is True
    low, high = summary["auc_interval"]["federated"]
    assert 0 < low <= summary["auc"]["federated"] <= high <= 1
    assert summary["versions"]["flwr"].startswith("1.41")
    assert sum(row["num_examples"] for row in summary["hospitals"]) == summary["num_train"]
    assert "round 1 of 1: AUC" in said


def test_deploy_leaves_nothing_running_and_nothing_outside_its_folder(deployed):
    folder, _, _ = deployed
    assert ours(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["home", "out"]
    assert list((folder / "home").rglob("*")) == []
    assert {path.name for path in (folder / "out").iterdir()} == {
        *(*LEFT, "progress.jsonl", "federation")
    }
    assert secrets_in(folder) == []
    assert (folder / "out/federation/server/superlink.log").stat().st_size


def test_each_hospital_has_a_resident_that_trains(deployed):
    for k in (1, 2):
        hospital = deployed[0] / "out" / "federation" / f"hospital-{k}"
        said = (hospital / "supernode.log").read_text(encoding="utf-8")
        assert "Receiving: train message" in said
        assert "training without it" not in said
        assert (hospital / "resident.log").exists()


@needs_ray
def test_one_process_ray_and_tls_give_the_same_weights(deployed, tmp_path):
    """The same seed, the same hospitals, three engines."""
    summary = simulate(SETTINGS, tmp_path, cpus=os.cpu_count())
    assert [row["hospitals"] for row in summary["rounds"]] == [0, 2]
    assert summary["engine"] == "Flower's Ray simulation"
    assert {path.name for path in tmp_path.iterdir()} == {*LEFT, "progress.jsonl"}
    assert ours(tmp_path) == []
    here = run_experiment(SETTINGS).model.get_weights()
    load = load_keras().models.load_model
    for folder in (tmp_path, deployed[0] / "out"):
        there = load(folder / "global-model.keras").get_weights()
        for one, other in zip(here, there, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


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


def test_the_last_hospital_can_be_killed_while_it_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "LocalFederation", Rehearsal)
    said = []
    job.deploy(replace(SETTINGS, rounds=3), tmp_path, kill_one=True, tell=said.append)
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


def test_deploy_does_not_touch_a_folder_that_is_not_its_own(tmp_path, capsys):
    theirs = tmp_path / "federation" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    assert main(["deploy", *SMALL, "--out", str(tmp_path)]) == 1
    assert "not made by" in capsys.readouterr().err
    assert theirs.read_text() == "years of work"


# A shell starts what runs in its background with SIGINT ignored, and so may pytest be.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fedtutor.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("command", "last_words", "signal_number"),
    [
        ("deploy", "connected over TLS", signal.SIGINT),
        ("deploy", "connected over TLS", signal.SIGTERM),
        pytest.param("simulate", "starting Ray", signal.SIGTERM, marks=needs_ray),
    ],
)
def test_a_signal_ends_all_processes_and_removes_secrets(
    command, last_words, signal_number, tmp_path
):
    home = tmp_path / "home"
    home.mkdir()
    arguments = [sys.executable, "-c", PROGRAM, command, *SMALL, "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        arguments,
        env=os.environ | {"HOME": str(home), "TMPDIR": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout:
            if last_words in line:
                break
        while not (homes := flower_homes(tmp_path)):
            assert process.poll() is None
            time.sleep(0.1)
        if command == "deploy":
            assert len(ours(tmp_path)) > 3
            assert secrets_in(tmp_path)
        process.send_signal(signal_number)
        _, errors = process.communicate()  # until the watchdog has gone, too
    if signal_number == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped" in errors
    assert process.returncode != 0
    assert ours(tmp_path) == []
    assert secrets_in(tmp_path) == []
    assert list(home.rglob("*")) == []
    if command == "simulate":
        assert [folder for folder in homes if folder.parents[1].exists()] == []


def flower_homes(folder):
    """Where the programs keep their files that have anything to do with a folder."""
    environments = (process.info["environ"] for process in ours(folder))
    return {Path(found["FLWR_HOME"]) for found in environments if "FLWR_HOME" in found}


def test_without_ray_it_is_said_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(superlink, "find_spec", lambda name: None)
    assert main(["simulate", *SMALL, "--out", str(tmp_path / "out")]) == 2
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
