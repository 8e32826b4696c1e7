"""What is left when a run is interrupted, its disk is full or nobody reads what it says."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedtutor import figures, gradcam
from fedtutor.cli import main
from fedtutor.compiled_training import Trainer
from fedtutor.experiment import Experiment
from fedtutor.figures.picture import to_html
from fedtutor.model import load_keras
from fedtutor.support.system import LastingStream

DONE = {"model.keras", "report.html", "summary.json"}
STOPPED = {"checkpoint.npz", "last-good-model.keras"}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def job(corners):
    """``run`` with its options: two hospitals, four rounds, a few images with a bright corner.

    FedAdam, as its server has a memory of its own to go on with.
    """
    options = "--hospitals 2 --rounds 4 --strategy fedadam"
    return ["run", "--dataset", str(corners), *options.split()]


@pytest.fixture(scope="module", autouse=True)
def nothing_drawn():
    """Leave the reports' figures out; where they are the matter, ``to_html`` is put back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "to_html", lambda draw: "")
        yield


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
def test_a_run_that_is_interrupted_and_resumed_is_one_that_was_not(job, finished, tmp_path):
    """By Ctrl-C; that every strategy resumes so is in ``tests/federation/test_resume.py``."""
    with begun(WAITS_IN_ROUND_3, *job, "--out", str(tmp_path)) as process:
        read_until("in round 3", process)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate()
    assert process.returncode == 130
    assert "fedtutor: stopped.\n" in message
    kept = f"kept in {tmp_path}: last-good-model.keras, checkpoint.npz; --resume goes on."
    assert f"round 2 was the last whole one; {kept}\n" in message
    assert "Traceback" not in message
    assert names(tmp_path) == STOPPED
    assert main([*job, "--out", str(tmp_path), "--resume"]) == 0
    assert names(tmp_path) == DONE
    assert_same_result(tmp_path, finished)


@contextmanager
def begun(program, *arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen([sys.executable, "-c", program, *arguments], **pipes) as process:
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        try:
            yield process
        finally:
            killer.cancel()


def read_until(words, process):
    for line in process.stdout:
        if words in line:
            return


PATIENCE = 600
"""Seconds, after which a process that cannot be stopped is killed."""

TRAINS_FOR_LONG = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fedtutor.cli import main
from fedtutor.compiled_training import Trainer

def more(self, data, **further):
    print("trains", flush=True)
    return honest(self, data, **further)

honest, Trainer.more = Trainer.more, more
for workers in ("1", "3"):
    os.environ["FEDTUTOR_WORKERS"] = workers
    code = main(sys.argv[1:])
    print("ended with", code, "and", workers, flush=True)
sys.exit(code)
"""


@slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="there a signal from outside just ends it")
def test_a_training_that_takes_very_long_can_be_stopped(job, tmp_path):
    """In the middle of the first local training, alone and beside others, by either signal."""
    command = [*job, "--local-epochs", "100000", "--out", str(tmp_path)]
    with begun(TRAINS_FOR_LONG, *command) as process:
        for number in (signal.SIGINT, signal.SIGTERM):
            read_until("trains", process)
            process.send_signal(number)
            if number == signal.SIGINT:
                read_until("ended with 130 and 1", process)
        _, message = process.communicate()
    assert process.returncode == 130
    assert message.splitlines().count("fedtutor: stopped.") == 2
    assert "Traceback" not in message


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
    """Make a disk that has no room for files of some names (of none: it has room again)."""
    honest = os.replace

    def fill(*forbidden):
        def replace(source, target):
            if Path(target).name in forbidden:
                raise OSError(errno.ENOSPC, "No space left on device")
            honest(source, target)

        monkeypatch.setattr(os, "replace", replace)

    return fill


@slow
def test_on_a_full_disk_what_was_written_is_kept_named_and_gone_on_from(
    job, finished, full_disk, tmp_path, capsys
):
    command = [*job, "--out", str(tmp_path)]
    for first_lost, kept in {
        "model.keras": "checkpoint.npz",
        "summary.json": "model.keras, checkpoint.npz",
        "report.html": "model.keras, summary.json, checkpoint.npz",
    }.items():
        full_disk(first_lost, "last-good-model.keras")
        assert main(command) == 1
        message = capsys.readouterr().err
        assert "No space left on device" in message
        assert f"round 4 was the last whole one; kept in {tmp_path}: {kept}; --resume" in message
        assert names(tmp_path) == set(kept.split(", "))
        command = [*job, "--out", str(tmp_path), "--resume"]
    full_disk()
    assert main(command) == 0
    assert names(tmp_path) == DONE
    assert_same_result(tmp_path, finished)


@slow
def test_what_fails_after_the_rounds_does_not_lose_them(job, finished, tmp_path, monkeypatch):
    def fail_with(error):
        def fail(*_):
            raise error

        monkeypatch.setattr(Experiment, "_train_alone", fail)

    fail_with(ZeroDivisionError)  # a defect of ours: its traceback ends with what is kept
    with pytest.raises(ZeroDivisionError) as caught:
        main([*job, "--out", str(tmp_path)])
    assert "checkpoint.npz; --resume goes on." in caught.value.__notes__[0]
    assert names(tmp_path) == STOPPED
    fail_with(KeyboardInterrupt)
    assert main([*job, "--resume", "--out", str(tmp_path)]) == 130
    assert names(tmp_path) == STOPPED
    monkeypatch.undo()
    assert main([*job, "--resume", "--out", str(tmp_path)]) == 0
    assert_same_result(tmp_path, finished)


def _refuse(*_, **__):
    raise ValueError("the pen is <dry>")


def _draw_nothing(*arguments, honest=gradcam.grad_cam, **further):
    return honest(*arguments, **further) * np.nan


@slow
def test_a_figure_that_fails_leaves_a_sentence_in_its_place(job, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "to_html", to_html)
    monkeypatch.setattr(figures, "rounds", _refuse)
    monkeypatch.setattr(gradcam, "grad_cam", _draw_nothing)
    assert main([*job, "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == DONE
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn: the pen is &lt;dry&gt;</p>" in page
    assert "could not be drawn: alpha must be between 0 and 1" in page
    assert page.count("<img ") == 4
    assert capsys.readouterr().err.count("a figure could not be drawn: ValueError(") == 2


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
