"""A run that ends early and is resumed from its checkpoint, on the in-process grid."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedtutor import federation
from fedtutor.errors import DataError, FedtutorError
from fedtutor.evaluation import Evaluation
from fedtutor.federation.records import to_record, to_weights
from fedtutor.settings import RunSettings, TrainingSettings
from fedtutor.support.output import CHECKPOINT

START = [np.zeros((5, 4), np.float32), np.zeros(4, np.float32)]
NAMES = [f"h{k}" for k in range(7)]


def client_app(stop_in):
    """Hospitals pull the model to places of their own, in other directions in every round."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        k, r = context.node_config["partition-id"], message.content["config"]["server-round"]
        if (k, r) == (3, stop_in):
            raise KeyboardInterrupt
        if (k, r) == (1, 2):
            raise RuntimeError("no power")
        rng = np.random.default_rng((k, r))
        weights = [
            a + np.float32(0.3) * (rng.normal(size=a.shape).astype(np.float32) - a)
            for a in to_weights(message.content["arrays"])
        ]
        metrics = MetricRecord({"num-examples": k + 1, "loss": 1.0})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


def score(weights):
    value = float(np.abs(weights[0]).mean())
    few = (np.empty(0), np.nan, 0, (value,), (np.nan, np.nan))
    return Evaluation(value, *few, accuracy=value / 3, loss=value / 7, num_examples=1)


def run(settings, folder=None, *, resume=False, stop_in=0):
    """Return the log of a run, and its final weights."""
    log = federation.RoundLog(score, settings, folder)
    strategy = federation.strategy_for(settings, len(NAMES))
    if resume:
        log.read(strategy)
    server_app = federation.make_server_app(
        START,
        strategy,
        num_rounds=settings.rounds,
        config=federation.train_config(settings.training, num_rounds=settings.rounds),
        on_round=log.on_round,
        log=log,
    )
    context = federation.run_in_process(server_app, client_app(stop_in), NAMES)
    return log, to_weights(context.state["arrays"])


def stopped(settings, folder, stop_in):
    with pytest.raises(KeyboardInterrupt):
        run(settings, folder, stop_in=stop_in)


def assert_same(one, other):
    assert (one[0].rounds, one[0].left_out) == (other[0].rounds, other[0].left_out)
    for ours, theirs in zip(one[1], other[1], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", federation.STRATEGIES)
def test_every_strategy_resumes_to_the_same_bits(name, tmp_path):
    settings = RunSettings(strategy=name, rounds=6)
    stopped(settings, tmp_path, stop_in=4)
    assert_same(run(settings, tmp_path, resume=True), run(settings))


def test_a_run_is_resumed_as_often_as_it_is_interrupted(tmp_path):
    settings = RunSettings(strategy="fedyogi", rounds=6)
    stopped(settings, tmp_path, stop_in=3)
    with pytest.raises(KeyboardInterrupt):
        run(settings, tmp_path, resume=True, stop_in=5)
    assert_same(run(settings, tmp_path, resume=True), run(settings))


def test_who_was_left_out_before_the_interruption_is_still_named(tmp_path):
    stopped(RunSettings(rounds=4), tmp_path, stop_in=3)
    log, _ = run(RunSettings(rounds=4), tmp_path, resume=True)
    assert [(out["round"], "no power" in out["reason"]) for out in log.left_out] == [(2, True)]
    assert [row["hospitals"] for row in log.rounds] == [0, 7, 6, 7, 7]


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_nothing_is_trained_again_if_only_what_follows_the_rounds_was_interrupted(name, tmp_path):
    settings = RunSettings(strategy=name, rounds=3)
    whole = run(settings, tmp_path)
    assert_same(run(settings, tmp_path, resume=True, stop_in=1), whole)


def test_a_finished_federation_goes_on_for_more_rounds(tmp_path):
    run(RunSettings(rounds=3), tmp_path)
    longer = RunSettings(rounds=5)
    assert_same(run(longer, tmp_path, resume=True), run(longer))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"strategy": "fedadam", "alpha": 0.1}, "alpha=0.5, strategy='fedavg'"),
        ({"training": TrainingSettings("sgd", 0.5)}, "optimizer='adam', learning-rate=0.001"),
        ({"rounds": 2}, "rounds=3"),
    ],
)
def test_other_settings_are_named_and_nothing_is_resumed(other, words, tmp_path):
    stopped(RunSettings(rounds=9), tmp_path, stop_in=4)
    with pytest.raises(DataError, match=f"is of a run with {words};"):
        run(RunSettings(**{"rounds": 9} | other), tmp_path, resume=True)


def test_with_a_schedule_the_number_of_rounds_must_be_the_same(tmp_path):
    cosine = TrainingSettings(schedule="cosine")
    stopped(RunSettings(rounds=5, training=cosine), tmp_path, stop_in=4)
    with pytest.raises(DataError, match="is of a run with rounds=5;"):
        run(RunSettings(rounds=6, training=cosine), tmp_path, resume=True)
    assert len(run(RunSettings(rounds=5, training=cosine), tmp_path, resume=True)[0].rounds) == 6


def damage(path, how):
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "objects":  # which only unpickling could read, and that runs whatever they say
        np.savez(path, text=np.array([print], dtype=object))
    else:
        path.write_bytes({"half": content[: len(content) // 2], "text": b"{}", "empty": b""}[how])


@pytest.mark.parametrize("how", ["gone", "half", "text", "empty", "objects"])
def test_a_checkpoint_that_cannot_be_read_is_refused_in_one_line(how, tmp_path):
    stopped(RunSettings(rounds=4), tmp_path, stop_in=3)
    damage(tmp_path / CHECKPOINT, how)
    with pytest.raises(DataError, match="no run to resume: cannot read") as refusal:
        run(RunSettings(rounds=4), tmp_path, resume=True)
    assert "\n" not in str(refusal.value)


def test_on_a_full_disk_the_checkpoint_of_the_round_before_stays(tmp_path, monkeypatch):
    settings = RunSettings(rounds=5)
    honest, written = np.savez, []

    def savez(path, *arrays, **named):
        written.append(path)
        if len(written) == 3:
            path.write_bytes(b"half a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(path, *arrays, **named)

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(FedtutorError, match=r"No space left on device\); make room"):
        run(settings, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    with np.load(tmp_path / CHECKPOINT) as file:
        assert json.loads(str(file["text"]))[1][-1]["round"] == 2
    assert_same(run(settings, tmp_path, resume=True), run(settings))
