"""What notebook 11 is built on; its exercises are tested in tests/test_exercises.py."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedtutor import federation
from fedtutor.course.lessons import trouble_and_cost
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.errors import DataError
from fedtutor.federation.records import to_record, to_weights
from fedtutor.topics import robustness

START = [np.zeros((3, 2), np.float32)]


@pytest.fixture(scope="module")
def phantoms():
    return chest_phantoms(300, size=16, seed=5)


def test_one_class_is_in_the_first_hospital_only_and_no_patient_in_two(phantoms):
    hospitals = trouble_and_cost.rare_disease(phantoms, 2, 4, most=500)
    assert len(hospitals) == 4
    assert sum(map(len, hospitals)) == len(phantoms)
    counts = np.array([images.class_counts() for images in hospitals])
    assert counts[0, 2] == phantoms.class_counts()[2]
    assert (counts[1:, 2] == 0).all()
    assert (counts[:, :2] > 0).all()
    seen = [set(images.column("patient")) for images in hospitals]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_at_most_so_many_images_of_the_rare_patients_are_kept(phantoms):
    first, *_ = trouble_and_cost.rare_disease(phantoms, 2, 4, most=10)
    assert first.class_counts()[2] == 10


def test_a_class_of_nobody_is_not_rare(phantoms):
    healthy = phantoms.take(np.flatnonzero(phantoms.labels == 0))
    for rare in (0, 2):
        with pytest.raises(DataError, match="some patients"):
            trouble_and_cost.rare_disease(healthy, rare, 2, most=5)


def test_copies(phantoms):
    twice = trouble_and_cost.copies(phantoms.take(np.arange(3)), 2)
    assert twice.labels.tolist() == 2 * phantoms.labels[:3].tolist()


def test_the_onlooker_sees_length_and_direction_of_the_first_round():
    app = ClientApp()

    @app.train()
    def train(message, context):
        k = context.node_config["partition-id"]
        weights = [w + np.float32(1 + 0.1 * k) for w in to_weights(message.content["arrays"])]
        metrics = MetricRecord({"num-examples": 1, "loss": 1.0})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    onlooker = trouble_and_cost.Onlooker()
    liar = robustness.only_at({0}, robustness.flip_sign(10))
    server = federation.make_server_app(
        START, robustness.make_defence("median", 5), num_rounds=2, config=ConfigRecord({})
    )
    app = robustness.with_mods(app, onlooker, liar)
    federation.run_in_process(server, app, [f"h{k}" for k in range(5)])
    lengths, cosines = onlooker.seen().T
    assert lengths[0] == pytest.approx(10 * np.sqrt(6))
    np.testing.assert_allclose(lengths[1:], np.sqrt(6) * np.arange(1.1, 1.41, 0.1), rtol=1e-5)
    np.testing.assert_allclose(cosines, [-1, 1, 1, 1, 1], rtol=1e-5)


def test_a_table_of_aucs_says_every_number():
    picture = trouble_and_cost.grid_of_auc(
        np.array([[0.51, 0.92]]), ["median"], (0, 2), x="liars of ten", what="AUC"
    )
    assert picture.alt == "AUC for liars of ten 0, 2. median: 0.5, 0.9."
    assert "text: ≈0.9" in repr(picture)


@pytest.mark.parametrize("success", [None, 0.75])
def test_the_game_tells_liars_from_honest_hospitals(success):
    scores = {"nobody lies": 0.9, "plain average": 0.5}
    seen = np.array([[20.0, -1.0], [2.0, 0.9], [2.1, 0.8]])
    picture = trouble_and_cost.game(scores, seen, [0], success)
    assert "nobody lies 0.9, plain average 0.5" in picture.alt
    assert "3 updates, of which 1 are the liars'" in picture.alt
    assert ("share of patches obeyed: ≈0.8" in repr(picture)) == (success is not None)
    assert "dots 'honest': 2 points" in repr(picture)


def test_pairs_of_images_stand_side_by_side(phantoms):
    images = phantoms.images[:2]
    picture = trouble_and_cost.side_by_side(images, robustness.stamp(images), "plain", "patched")
    assert len(picture.figure.axes) == 4
    assert "2 images, each plain and patched" in picture.alt
