from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord

from fedtutor import federation
from fedtutor.course import practices
from fedtutor.federation.records import to_weights
from fedtutor.topics.privacy.differential import private_strategy


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = np.hstack([rng.normal(size=(120, 5)) + 2 * np.eye(5)[labels], np.ones((120, 1))])
    order = rng.permutation(120)
    return features[order], labels[order]


@pytest.mark.parametrize("hospitals", [4, 40])
def test_the_arithmetic_in_numpy_is_that_of_flowers_strategy(world, hospitals):
    features, labels = world
    server = federation.make_server_app(
        [np.zeros((6, 3), np.float32)],
        private_strategy(hospitals, 0.0, 0.5),
        num_rounds=3,
        config=ConfigRecord({}),
    )
    app = practices.linear_app(features, labels, hospitals)
    context = federation.run_in_process(server, app, [f"h{k}" for k in range(hospitals)])
    (weights,) = to_weights(context.state["arrays"])
    expected = practices.linear_federation(
        features, labels, hospitals, noise_multiplier=0, rounds=3, norm=0.5
    )
    assert np.abs(weights - expected).max() < 1e-5
    assert np.abs(expected).max() > 0.05


def test_an_update_is_the_clipped_gradient_of_the_hospitals_own_images(world):
    features, labels = world
    weights = np.random.default_rng(1).normal(size=(6, 3))
    updates = practices.linear_updates(weights, features, labels, 10, 0.5)
    mine = slice(24, 36)
    errors = practices.softmax(features[mine] @ weights) - np.eye(3)[labels[mine]]
    gradient = features[mine].T @ errors
    assert np.allclose(updates[2], -0.5 * gradient / np.linalg.norm(gradient))


def test_noise_drowns_few_hospitals_and_not_many(world):
    features, labels = world

    def right(hospitals):
        weights = practices.linear_federation(
            features, labels, hospitals, noise_multiplier=5, rounds=10
        )
        return ((features @ weights).argmax(axis=1) == labels).mean()

    assert right(120) > right(2) + 0.1


def test_thumbnails_are_means_of_squares():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    rows = practices.thumbnails(images, 4)
    assert rows.shape == (2, 5)
    assert (rows[:, -1] == 1).all()
    flat = images[0, ..., 0].astype(float)
    standard = (flat - flat.mean()) / flat.std()
    assert rows[0, 1] == pytest.approx(standard[:4, 4:].mean() / 2, rel=1e-5)
