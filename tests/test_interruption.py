"""What is left when a run is interrupted, its disk is full or nobody reads what it says."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedtutor import figures, gradcam
from fedtutor.cli import main
from fedtutor.compiled_training import Trainer
from fedtutor.experiment import Experiment
from fedtutor.model import load_keras
from fedtutor.support.system import LastingStream

DONE = {"model.keras", "report.html", "summary.json"}
STOPPED = {"checkpoint.npz", "last-good-model.keras"}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """``run`` with its options: two hospitals, four rounds, a few images with a bright corner."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n in {"train": 60, "val": 20, "test": 20}.items():
        images, labels = rng.integers(0, 160, (n, 16, 16), np.uint8), np.arange(n) % 2
        images[labels == 1, 2:8, 2:8] += 90
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    path = tmp_path_factory.mktemp("data") / "corners.npz"
    np.savez(path, **arrays)
    return ["run", "--dataset", str(path), "--hospitals", "2", "--rounds", "4"]


@pytest.fixture(scope="module")
def finished(job, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert main([*job, "--out", str(folder)]) == 0
    return folder


def names(folder):
    return {path.name for path in folder.iterdir()}


def assert_same_result(one, other):
    """The same summary but for times, and the same bits in the model."""
    load = load_keras().models.load_model
    weights = [load(folder / "model.keras").get_weights() for folder in (one, other)]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    read = [json.loads((folder / "summary.json").read_text("utf-8")) for folder in (one, other)]
    assert read[0] | {"seconds": 0} == read[1] | {"seconds": 0}


WAITS_IN_ROUND_3 = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from fedtutor.cli import main
from fedtutor.support.system import LastingStream
from fedtutor.compiled_training import Trainer
from fedtutor.cores import check_stopped

def train(self, weights, data, *, seed, **further):
    if seed[1] == 3:
        print("in round 3", flush=True)
        while True:
            check_stopped()
            time.sleep(0.1)
    return honest(self, weights, data, seed=seed, **further)

honest, Trainer.train = Trainer.train, train
sys.exit(main(sys.argv[1:]))
"""


@slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="there a signal from outside just ends it")
@pytest.mark.parametrize(
    ("strategy", "number"),
    [("fedavg", signal.SIGINT), ("fedadam", signal.SIGTERM), ("fedavgm", signal.SIGTERM)],
)
def test_a_run_that_is_interrupted_and_resumed_is_one_that_was_not(job, strategy, number, tmp_path):
    command = [*job, "--strategy", strategy, "--out"]
    program = [sys.executable, "-c", WAITS_IN_ROUND_3, *command, str(tmp_path / "stopped")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(program, **pipes) as process:
        for line in process.stdout:
            if "in round 3" in line:
                break
        process.send_signal(number)
        _, message = process.communicate()
    assert process.returncode == 130
    assert "fedtutor: stopped.\n" in message
    kept = (
        f"kept in {tmp_path / 'stopped'}: last-good-model.keras, checkpoint.npz; --resume goes on."
    )
    assert f"round 2 was the last whole one; {kept}\n" in message
    assert "Traceback" not in message
    assert names(tmp_path / "stopped") == STOPPED
    assert main([*command, str(tmp_path / "stopped"), "--resume"]) == 0
    assert names(tmp_path / "stopped") == DONE
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert_same_result(tmp_path / "stopped", tmp_path / "whole")


@slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="there a signal from outside just ends it")
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_training_that_takes_very_long_can_be_stopped(job, workers, tmp_path):
    """By Ctrl-C, in the middle of the first local training."""
    command = [*job, "--local-epochs", "100000", "--out", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", BEGINS, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"FEDTUTOR_WORKERS": workers},
    ) as process:
        for line in process.stdout:
            if "trains" in line:
                break
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert message.splitlines()[-1] == "fedtutor: stopped."


PATIENCE = 600
"""Seconds; only a test that fails waits for so long."""

BEGINS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fedtutor.cli import main
from fedtutor.support.system import LastingStream
from fedtutor.compiled_training import Trainer

def more(self, data, **further):
    print("trains", flush=True)
    return honest(self, data, **further)

honest, Trainer.more = Trainer.more, more
sys.exit(main(sys.argv[1:]))
"""


@slow
@pytest.mark.process
def test_a_run_goes_on_to_its_end_when_nobody_reads_what_it_says(job, finished, tmp_path):
    """As in ``fedtutor run | head -1``."""
    command = [sys.executable, "-m", "fedtutor", *job, "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"reading images")
        process.stdout.close()
        message = process.stderr.read()
    assert process.returncode == 0
    assert b"Traceback" not in message
    assert b"roken" not in message  # Python's own words at its end
    assert names(tmp_path) == DONE
    assert_same_result(tmp_path, finished)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EINVAL])
def test_a_stream_that_nobody_reads_turns_silent_on_every_system(number, tmp_path):
    with (tmp_path / "said").open("w", encoding="utf-8") as file:

        class Closed:
            fileno, flush, encoding = file.fileno, file.flush, "utf-8"

            def write(self, text):
                raise OSError(number, "nobody reads this")

        stream = LastingStream(Closed())
        stream.write("lost")
        assert stream.encoding == "utf-8"
        file.write("lost, too")
    assert (tmp_path / "said").read_text("utf-8") == ""


@pytest.fixture
def full_disk(monkeypatch):
    """Make a disk that has no room for files of some names."""
    honest = os.replace

    def fill(*forbidden):
        def replace(source, target):
            if Path(target).name in forbidden:
                raise OSError(errno.ENOSPC, "No space left on device")
            honest(source, target)

        monkeypatch.setattr(os, "replace", replace)

    return fill


@slow
@pytest.mark.parametrize(
    ("first_lost", "kept"),
    [
        ("report.html", "model.keras, summary.json, checkpoint.npz"),
        ("summary.json", "model.keras, checkpoint.npz"),
        ("model.keras", "checkpoint.npz"),
    ],
)
def test_on_a_full_disk_what_was_written_is_kept_named_and_gone_on_from(
    job, finished, first_lost, kept, full_disk, tmp_path, capsys, monkeypatch
):
    full_disk(first_lost, "last-good-model.keras")
    assert main([*job, "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert f"round 4 was the last whole one; kept in {tmp_path}: {kept}; --resume" in message
    assert names(tmp_path) == set(kept.split(", "))
    monkeypatch.undo()
    assert main([*job, "--out", str(tmp_path), "--resume"]) == 0
    assert names(tmp_path) == DONE
    assert_same_result(tmp_path, finished)


@slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_fails_after_the_rounds_does_not_lose_them(
    job, finished, error, tmp_path, monkeypatch
):
    def fail(*_):
        raise error

    monkeypatch.setattr(Experiment, "_train_alone", fail)
    if error is KeyboardInterrupt:
        assert main([*job, "--out", str(tmp_path)]) == 130
    else:  # a defect of ours: with its traceback, at whose end stands what is kept
        with pytest.raises(error) as caught:
            main([*job, "--out", str(tmp_path)])
        assert "checkpoint.npz; --resume goes on." in caught.value.__notes__[0]
    assert names(tmp_path) == STOPPED
    monkeypatch.undo()
    assert main([*job, "--out", str(tmp_path), "--resume"]) == 0
    assert_same_result(tmp_path, finished)


def _refuse(*_, **__):
    raise ValueError("the pen is <dry>")


def _draw_nothing(*arguments, honest=gradcam.grad_cam, **further):
    return honest(*arguments, **further) * np.nan


@slow
@pytest.mark.parametrize(
    ("where", "instead", "sentence"),
    [
        ((figures, "rounds"), _refuse, "could not be drawn: the pen is &lt;dry&gt;</p>"),
        ((gradcam, "grad_cam"), _draw_nothing, "could not be drawn: alpha must be between 0 and 1"),
    ],
    ids=["figure", "NaN heat map"],
)
def test_a_figure_that_fails_leaves_a_sentence_in_its_place(
    job, where, instead, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(*where, instead)
    assert main([*job, "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == DONE
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert sentence in page
    assert page.count("<img ") == 5
    assert "a figure could not be drawn: ValueError(" in capsys.readouterr().err


def _stop_in_round_three(monkeypatch):
    def train(self, weights, data, *, seed, **further):
        if seed[1] == 3:
            raise KeyboardInterrupt
        return honest(self, weights, data, seed=seed, **further)

    honest = Trainer.train
    monkeypatch.setattr(Trainer, "train", train)


@slow
def test_an_older_run_s_files_are_not_left_beside_another_s(job, finished, tmp_path, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "out")
    _stop_in_round_three(monkeypatch)
    assert main([*job, "--seed", "1", "--out", str(folder)]) == 130
    assert names(folder) == {*STOPPED, "previous"}
    assert names(folder / "previous") == DONE
    assert_same_result(folder / "previous", finished)
    assert main([*job, "--seed", "2", "--out", str(folder)]) == 130
    assert names(folder / "previous") == STOPPED
    monkeypatch.undo()
    assert main([*job, "--seed", "1", "--resume", "--out", str(folder / "previous")]) == 0
    assert names(folder / "previous") == DONE


@slow
@pytest.mark.parametrize("wrong", [["--partition", "fair"], ["--resume"]])
def test_bad_input_leaves_an_older_run_where_it_is(job, finished, wrong, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "out")
    assert main([*job, *wrong, "--out", str(folder)]) == 2
    assert names(folder) == DONE
    assert len(capsys.readouterr().err.splitlines()) == 1


@slow
def test_a_run_is_resumed_only_with_its_own_settings(job, tmp_path, monkeypatch, capsys):
    _stop_in_round_three(monkeypatch)
    assert main([*job, "--out", str(tmp_path)]) == 130
    capsys.readouterr()
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([*job, "--resume", "--seed", "1", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is of a run with seed=0; resume it with the same." in line
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept
