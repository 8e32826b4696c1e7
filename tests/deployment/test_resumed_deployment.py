"""A deployment that is interrupted and resumed from what its server has kept."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from extras import needs_ray
from flwr.app import Context, RecordDict

from fedtutor.cli import main
from fedtutor.cohort import build_cohort
from fedtutor.compiled_training import Trainer
from fedtutor.deployment import halves as app
from fedtutor.deployment import job
from fedtutor.deployment.server_settings import ServerSettings, run_config
from fedtutor.errors import DataError
from fedtutor.federation.in_process import SUPERLINK_NODE_ID, InProcessGrid
from fedtutor.federation.records import to_weights
from fedtutor.settings import RunSettings


@pytest.fixture
def settings(corners):
    return RunSettings(dataset=str(corners), hospitals=2, rounds=3, size=16, strategy="fedadam")


@pytest.fixture
def options(corners):
    return ["--dataset", str(corners), "--hospitals", "2", "--rounds", "3", "--size", "16"]


def assert_same(one, other):
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def run_here(out, settings, *, resume=False):
    """The app's two halves in this process: the weights, and the journal's lines."""
    config = run_config(settings, ServerSettings(out=str(out), resume=resume))
    context = Context(
        run_id=1, node_id=SUPERLINK_NODE_ID, node_config={}, state=RecordDict(), run_config=config
    )
    app.lead(InProcessGrid(app.client_app, build_cohort(settings).names, config), context)
    lines = (out / app.PROGRESS).read_text(encoding="utf-8").splitlines()
    return to_weights(context.state["arrays"]), [json.loads(line) for line in lines]


@pytest.mark.slow
def test_the_server_goes_on_after_the_last_whole_round_to_the_same_result(
    settings, tmp_path, monkeypatch
):
    honest = Trainer.train

    def train(self, weights, data, *, seed, **further):
        if seed[1] == 3:
            raise KeyboardInterrupt
        return honest(self, weights, data, seed=seed, **further)

    weights, journal = run_here(tmp_path / "whole", settings)
    monkeypatch.setattr(Trainer, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run_here(tmp_path / "stopped", settings)
    monkeypatch.undo()
    (tmp_path / "stopped" / app.PROGRESS).unlink()
    again, rest = run_here(tmp_path / "stopped", settings, resume=True)
    assert_same(again, weights)
    assert [line["event"] for line in rest] == ["reply", "reply", "round", "end"]
    assert rest[-1] | {"seconds": 0} == journal[-1] | {"seconds": 0}
    once_more, rest = run_here(tmp_path / "stopped", settings, resume=True)
    assert_same(once_more, weights)
    unlike = {"seconds": 0, "claims": {}}  # nothing was left to do, and nobody replied
    assert rest[-1] | unlike == journal[-1] | unlike


@pytest.mark.slow
def test_the_server_says_in_its_journal_why_it_does_not_resume(settings, tmp_path):
    with pytest.raises(DataError, match="no run to resume"):
        run_here(tmp_path, settings, resume=True)
    (line,) = (tmp_path / app.PROGRESS).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["event"] == "stopped"
    assert "no run to resume" in json.loads(line)["reason"]


@pytest.mark.parametrize("command", ["deploy", pytest.param("simulate", marks=needs_ray)])
def test_without_a_checkpoint_an_older_run_s_files_stay(command, options, tmp_path, capsys):
    for name in ("summary.json", app.PROGRESS):
        (tmp_path / name).write_text("older", encoding="utf-8")
    assert main([command, *options, "--resume", "--out", str(tmp_path)]) == 1
    assert "no run to resume: there is no" in capsys.readouterr().err
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == {
        "summary.json": "older",
        app.PROGRESS: "older",
    }


def test_nobody_is_killed_in_the_middle_of_a_run_that_is_resumed(options, tmp_path, capsys):
    assert main(["deploy", *options, "--resume", "--kill-one", "--out", str(tmp_path)]) == 1
    assert "at least 2 rounds, all new" in capsys.readouterr().err


class Rehearsal:
    """In place of a federation: its server leaves what a run of three rounds leaves."""

    hospitals_port, folder = 1, None

    def __init__(self, hospitals, *, test, folder):
        self.folder, self.test_data = folder, folder / "test.npz"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def run(self, app, journal):
        for name in ("last-good-model.keras", "checkpoint.npz"):
            journal.with_name(name).write_text("kept", encoding="utf-8")
        return self

    def follow(self):
        return []

    def wait(self):
        scores = ("auc", "accuracy", "class_auc", "auc_interval", "rounds", "left_out")
        return dict.fromkeys(scores)


def test_on_a_full_disk_the_server_s_model_and_checkpoint_stay(
    options, tmp_path, monkeypatch, capsys
):
    def replace(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job, "LocalFederation", Rehearsal)
    monkeypatch.setattr("fedtutor.deployment.job.check_writable", lambda folder: folder)
    monkeypatch.setattr(os, "replace", replace)
    assert main(["deploy", *options, "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert f"is {tmp_path / 'last-good-model.keras'}; --resume goes on." in message
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"last-good-model.keras", "checkpoint.npz", "federation"}
