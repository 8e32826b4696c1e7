"""What defences are for, with a model that really trains: two of ten hospitals flip the sign."""

from __future__ import annotations

import pytest

from fedtutor import TrainingSettings, create_model, evaluate, federation, predict
from fedtutor.compiled_training import trainer_for
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.federation.records import to_weights
from fedtutor.images import split_by_patient
from fedtutor.partition import partition
from fedtutor.topics import robustness

ROUNDS = 6
SETTINGS = TrainingSettings(batch_size=16)
ATTACK = robustness.only_at({0, 1}, robustness.flip_sign(10))


@pytest.fixture(scope="module")
def world():
    train, test = split_by_patient(chest_phantoms(1200, size=20, seed=0), 0.4, seed=0)
    hospitals = partition(train, "iid", 10).hospitals(train)
    return hospitals, test, create_model(train.image_shape, 3).get_weights()


@pytest.fixture(scope="module")
def auc(world):
    hospitals, test, start = world
    known = {}

    def run(defence, *mods):
        if (defence, mods) in known:
            return known[defence, mods]
        app = federation.make_client_app(lambda c: hospitals[c.node_config["partition-id"]])
        server = federation.make_server_app(
            start,
            robustness.make_defence(defence, len(hospitals)),
            num_rounds=ROUNDS,
            config=federation.train_config(SETTINGS, num_rounds=ROUNDS),
        )
        names = [f"h{k}" for k in range(len(hospitals))]
        context = federation.run_in_process(server, robustness.with_mods(app, *mods), names)
        model = trainer_for(test.image_shape, 3, SETTINGS).model
        model.set_weights(to_weights(context.state["arrays"]))
        known[defence, mods] = evaluate(predict(model, test.images), test.labels).auc
        return known[defence, mods]

    return run


def test_ten_honest_hospitals_learn(auc):
    assert auc("plain average") > 0.75


def test_two_of_ten_ruin_the_plain_average(auc):
    assert auc("plain average", ATTACK) < 0.6


@pytest.mark.parametrize("defence", ["median", "trimmed mean", "Krum"])
def test_two_of_ten_cost_a_defence_less_than_a_tenth_of_auc(auc, defence):
    assert auc(defence, ATTACK) > auc("plain average") - 0.1
