from __future__ import annotations

import json

import numpy as np
import pytest
from extras import needs_ray
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedtutor import federation
from fedtutor.course import small_federation as small
from fedtutor.course.lessons import deployment
from fedtutor.deployment.running import Running
from fedtutor.federation.records import to_record, to_weights

ROUNDS = [
    {"round": 0, "auc": 0.5, "hospitals": 0, "names": [], "left_out": []},
    {"round": 1, "auc": 0.7, "hospitals": 2, "names": ["North", "South"], "left_out": []},
    {
        "round": 2,
        "auc": 0.804,
        "hospitals": 1,
        "names": ["North"],
        "left_out": [{"round": 2, "hospital": "South", "reason": "is not connected"}],
    },
]


def test_the_picture_says_in_words_who_calls_whom():
    picture = deployment.who_talks(["North", "South", "West"])
    for word in ("North", "SuperLink", "SuperNode", "ClientApp", "the server calls nobody"):
        assert word in picture.alt
    assert "text: West" in repr(picture)
    assert deployment.who_talks(["Only"]).alt


def test_a_round_is_told_in_a_line_without_anything_that_changes():
    assert deployment.say(ROUNDS[1]) == "round 1: 2 hospitals trained; AUC ≈0.70"
    assert deployment.say(ROUNDS[2]) == "round 2: 1 hospitals trained, left out: South; AUC ≈0.80"


def test_who_trained_is_read_from_the_journal(tmp_path):
    lines = [json.dumps({"event": "round", **event}) for event in ROUNDS]
    (tmp_path / "progress.jsonl").write_text("\n".join(lines) + "\n{half a li")
    picture = deployment.who_trained(["North", "South"], Running(None, tmp_path / "progress.jsonl"))
    assert "round 2: 1 trained, South left out" in picture.alt


def test_a_power_cut_takes_one_hospital_out_of_one_round():
    app = ClientApp(mods=[deployment.power_cut("South", 2)])

    @app.train()
    def train(message, context):
        weights = [array + np.float32(1) for array in to_weights(message.content["arrays"])]
        metrics = MetricRecord({"num-examples": 1})
        return Message(
            RecordDict({"arrays": to_record(weights), "metrics": metrics}), reply_to=message
        )

    @app.query()
    def who(message, context):
        name = ConfigRecord({"name": context.node_config["name"]})
        return Message(RecordDict({"hospital": name}), reply_to=message)

    grids = []
    server = federation.make_server_app(
        [np.zeros(3, np.float32)],
        federation.make_strategy("fedavg", 2),
        num_rounds=3,
        config=ConfigRecord({"seed": 0}),
        on_round=lambda r, weights, grid: grids.append(grid),
    )
    federation.run_in_process(server, app, ["North", "South"])
    assert [(out.round, out.hospital) for out in grids[-1].left_out] == [(2, "South")]
    assert grids[-1].traffic[3].hospitals == ["North", "South"]


def count_letters(message, context, call_next):
    """A mod: how long the hospital's name is."""
    reply = call_next(message, context)
    if message.metadata.message_type == "train":
        reply.content["metrics"]["letters"] = len(small.hospitals()[0][_number(context)])
    return reply


def _number(context):
    return context.node_config["partition-id"]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("engine", ["one process", pytest.param("Ray", marks=needs_ray)])
def test_a_metric_of_one_s_own_comes_back_from_every_engine(engine, monkeypatch):
    """From TLS, too: notebook 13 shows it."""
    # As a notebook's functions are: not to be found by their module's name in another process.
    for function in (count_letters, _number):
        monkeypatch.setattr(function, "__module__", "__main__")
    letters = deployment.in_engine(engine, count_letters, "letters")
    assert dict(letters) == {name: len(name) for name in small.hospitals()[0]}
    assert letters.name == engine


def test_the_small_trainer_goes_downhill():
    images = small.hospitals()[1][0]
    start = [np.zeros((256, 3), np.float32), np.zeros(3, np.float32)]
    trainer = small.LinearTrainer()
    weights, first = trainer.train(start, images, epochs=1, seed=0, learning_rate=0.05)
    _, later = trainer.train(weights, images, epochs=20, seed=0, learning_rate=0.05)
    assert first == pytest.approx(np.log(3), abs=1e-3)
    assert later < first
    assert not start[0].any()
