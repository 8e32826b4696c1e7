"""``fedtutor deploy``, and the three engines beside each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from toy import ours

from fedtutor.cli import main
from fedtutor.deployment import LocalSimulation, write_app

pytestmark = [pytest.mark.slow, pytest.mark.process]

SMALL = ["--hospitals", "2", "--rounds", "2", "--size", "28", "--batch-size", "32"]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """``fedtutor deploy``, in a home of its own so that nothing can be written to the user's."""
    folder = tmp_path_factory.mktemp("deploy")
    home = folder / "home"
    home.mkdir()
    command = [sys.executable, "-m", "fedtutor", "deploy", *SMALL, "--out", str(folder / "out")]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"HOME": str(home), "TMPDIR": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "out" / "summary.json").read_text()), done.stdout


def test_deploy_writes_a_summary_like_that_of_run(deployed):
    _, summary, said = deployed
    assert [row["round"] for row in summary["rounds"]] == [0, 1, 2]
    assert [row["hospitals"] for row in summary["rounds"]] == [0, 2, 2]
    assert summary["left_out"] == []
    assert summary["synthetic"] is True
    low, high = summary["auc_interval"]["federated"]
    assert 0 < low <= summary["auc"]["federated"] <= high <= 1
    assert summary["versions"]["flwr"].startswith("1.41")
    assert sum(row["num_examples"] for row in summary["hospitals"]) == summary["num_train"]
    assert "round 2 of 2: AUC" in said


def test_deploy_leaves_nothing_running_and_nothing_outside_its_folder(deployed):
    folder, _, _ = deployed
    assert ours(folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["home", "out"]
    assert list((folder / "home").rglob("*")) == []
    assert {path.name for path in (folder / "out").iterdir()} == {
        *("summary.json", "global-model.keras", "progress.jsonl", "federation"),
    }


def test_one_process_ray_and_tls_give_the_same_weights(deployed, tmp_path):
    """The same seed, the same hospitals, three engines."""
    from fedtutor.deployment import app
    from fedtutor.experiment import run_experiment
    from fedtutor.model import load_keras
    from fedtutor.settings import RunSettings, TrainingSettings

    settings = RunSettings(
        hospitals=2, rounds=2, size=28, training=TrainingSettings(learning_rate=1e-3, batch_size=32)
    )
    here = run_experiment(settings).model.get_weights()
    config = app.run_config(settings, app.ServerSettings(out=str(tmp_path)))
    with LocalSimulation(2) as simulation:
        running = simulation.run(write_app(tmp_path / "app", config), tmp_path / app.PROGRESS)
        running.wait()
    assert ours(simulation.folder) == []
    load = load_keras().models.load_model
    for path in (tmp_path / app.LAST_GOOD, deployed[0] / "out" / "global-model.keras"):
        for one, other in zip(here, load(path).get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_deploy_does_not_touch_a_folder_that_is_not_its_own(tmp_path, capsys):
    theirs = tmp_path / "federation" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    assert main(["deploy", *SMALL, "--out", str(tmp_path)]) == 1
    assert "not made by" in capsys.readouterr().err
    assert theirs.read_text() == "years of work"


def test_ctrl_c_ends_all_processes(tmp_path):
    command = [sys.executable, "-m", "fedtutor", "deploy", *SMALL, "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout:
            if "connected over TLS" in line:
                break
        assert len(ours(tmp_path)) > 3
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "stopped" in process.stderr.read()
    assert ours(tmp_path) == []


@pytest.mark.parametrize("option", [["--hospitals", "0"], ["--rounds", "1", "--kill-one"]])
def test_what_cannot_be_deployed_is_refused_in_one_line(option, tmp_path, capsys):
    assert main(["deploy", *option, "--out", str(tmp_path)]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedtutor: ")
