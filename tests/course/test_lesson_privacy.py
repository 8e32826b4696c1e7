from __future__ import annotations

import math

import numpy as np
import pytest

from fedtutor.course.lessons import differential_privacy, secure_aggregation
from fedtutor.course.privacy_dial import Dial
from fedtutor.topics.privacy import secure_sum
from fedtutor.topics.privacy.models import dense_model


@pytest.fixture(scope="module")
def dial(make_images):
    data = make_images(60, size=12)
    model = dense_model(data.image_shape, 3, hidden=8)
    return Dial(model, data.take(np.arange(30)), data.take(np.arange(30, 60)), steps=3)


@pytest.mark.slow
def test_the_dial_has_every_setting_and_shows_it(dial):
    assert len(dial.settings) == len(dial.NOISE) * len(dial.CLIP) * len(dial.BATCH)
    for setting, (_, score, auc, attack) in dial.settings.items():
        picture, sentence = dial.show(*setting)
        assert f"SSIM ≈{score:.1f}" in sentence
        assert f"AUC is ≈{auc:.1f}" in sentence
        assert f"attack's ≈{attack:.1f}" in sentence
        assert picture.alt == sentence


@pytest.mark.slow
def test_the_dial_tells_epsilon_by_noise_and_batch_and_not_by_clipping(dial):
    def said(noise, clip, batch):
        return dial.show(noise, clip, batch)[1].split(": ")[1].split(" for one")[0]

    assert said(0, 1, 5) == "no noise, so no ε"
    assert said(1, 0.3, 5) == said(1, 3, 5)
    values = [float(said(noise, 1, 25).removeprefix("ε = ")) for noise in (1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert float(said(2, 1, 1).removeprefix("ε = ")) < values[1]


def test_without_noise_a_single_image_is_rebuilt_whatever_the_clipping(dial):
    for clip in dial.CLIP:
        assert dial.settings[0, clip, 1][1] > 0.9
        assert dial.settings[4, clip, 1][1] < 0.5


def test_two_looks_at_the_same_setting_are_the_same(dial):
    assert repr(dial.show(2, 1, 5)[0]) == repr(dial.show(2, 1, 5)[0])


def test_the_axis_of_three_names_every_budget():
    picture = differential_privacy.three_on_one_axis([0, 1], [math.inf, 2.34], [0.9, 0.7], [0.8, 0.5])
    assert "at ε ∞ the model has 0.90 and the attack 0.80" in picture.alt
    assert "at ε 2.3 the model has 0.70 and the attack 0.50" in picture.alt


def test_the_masked_update_looks_like_the_noise_beside_it():
    update = [np.repeat(np.linspace(-1, 1, 64), 64)]
    vector = secure_sum.encode(update)
    masked = vector + secure_sum.mask(bytes(32), vector.size)
    squares = [
        np.asarray(axes.images[0].get_array())
        for axes in secure_aggregation.update_and_noise(vector, masked).figure.axes
    ]
    neighbours = [
        np.corrcoef(square[:, 1:].ravel(), square[:, :-1].ravel())[0, 1] for square in squares
    ]
    assert neighbours[0] > 0.9
    assert max(map(abs, neighbours[1:])) < 0.1
