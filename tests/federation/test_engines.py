"""The app in one process, beside a round by hand and plain Keras; Ray is with the deployment."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from keras_fit import fit_keras

from fedtutor import federation
from fedtutor.aggregation import weighted_average
from fedtutor.compiled_training import Trainer
from fedtutor.federation.records import to_record, to_weights
from fedtutor.model import create_model, predict
from fedtutor.settings import TrainingSettings
from fedtutor.training import epoch_order

SETTINGS = TrainingSettings("sgd", 0.05, 8)
SHAPE = (12, 12, 1)

pytestmark = pytest.mark.slow


def initial():
    return create_model(SHAPE, 3, seed=4).get_weights()


def apps(hospitals, seen, *, rounds=2, strategy="fedavg"):
    def remember(server_round, weights, grid):
        if server_round:
            assert len(grid.traffic[server_round].hospitals) == len(hospitals)
        seen.append(weights)

    return (
        federation.make_server_app(
            initial(),
            federation.make_strategy(strategy, len(hospitals)),
            num_rounds=rounds,
            config=federation.train_config(SETTINGS, num_rounds=rounds, seed=7),
            on_round=remember,
        ),
        federation.make_client_app(lambda context: hospitals[context.node_config["partition-id"]]),
    )


def test_a_round_by_hand_is_a_round_in_process(make_images):
    hospitals = [make_images(20 + 9 * k, size=12, seed=k) for k in range(3)]
    seen = []
    server_app, client_app = apps(hospitals, seen, rounds=1)
    context = federation.run_in_process(server_app, client_app, ["a", "b", "c"])
    trainer = Trainer(create_model(SHAPE, 3), SETTINGS)
    updates = [
        trainer.train(initial(), images, seed=(7, 1, k), learning_rate=0.05)[0]
        for k, images in enumerate(hospitals)
    ]
    expected = weighted_average(updates, [len(images) for images in hospitals])
    for ours, theirs in zip(to_weights(context.state["arrays"]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_hospital_with_plain_sgd_is_plain_keras(make_images):
    images = make_images(30, size=12)
    seen = []
    server_app, client_app = apps([images], seen, rounds=1)
    federation.run_in_process(server_app, client_app, ["only"])
    model = create_model(SHAPE, 3, seed=4)
    fit_keras(model, images, epoch_order(30, 1, seed=(7, 1, 0)), SETTINGS)
    for ours, keras in zip(seen[-1], model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras, atol=1e-6)


def test_a_hospital_can_judge_the_global_model_on_its_own_images(make_images):
    images = make_images(30, size=12)
    _, client_app = apps([images], [])
    grid = federation.InProcessGrid(client_app, ["only"])
    config = federation.train_config(SETTINGS, num_rounds=1)
    content = RecordDict({"arrays": to_record(initial()), "config": config})
    (reply,) = grid.send_and_receive([Message(content, grid.get_node_ids()[0], "evaluate")])
    model = create_model(SHAPE, 3, seed=4)
    expected = (predict(model, images.images).argmax(axis=1) == images.labels).mean()
    assert reply.content["metrics"]["accuracy"] == pytest.approx(expected)
    assert reply.content["metrics"]["num-examples"] == 30
