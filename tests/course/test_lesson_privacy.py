from __future__ import annotations

import re

import numpy as np
import pytest

from fedtutor.course.lessons import differential_privacy
from fedtutor.course.privacy_dial import Dial
from fedtutor.topics.privacy.differential import PrivateTrainer, add_noise, epsilon
from fedtutor.topics.privacy.models import dense_model


class Small(Dial):
    PATIENTS = (20, 30)
    BATCH = (1, 5, 10)


@pytest.fixture(scope="module")
def dial(make_images):
    data = make_images(60, size=12)
    model = dense_model(data.image_shape, 3, hidden=8)
    return Small(model, data.take(np.arange(30)), data.take(np.arange(30, 60)), steps=3)


@pytest.mark.slow
def test_the_dial_has_every_setting_and_shows_it(dial):
    assert len(dial.settings) == len(dial.NOISE) * len(dial.PATIENTS) * len(dial.BATCH)
    for setting, (_, auc, attack) in dial.settings.items():
        picture, sentence = dial.show(*setting)
        noise, patients, batch = setting
        assert f"SSIM ≈{dial.looks[noise, batch][1]:.1f}" in sentence
        assert f"AUC is ≈{auc:.1f}" in sentence
        assert f"attack's ≈{attack:.1f}" in sentence
        assert f"(without noise ≈{dial.settings[0, patients, batch][1]:.1f})" in sentence
        assert picture.alt == sentence


@pytest.mark.slow
def test_the_dials_epsilon_is_that_of_the_coins_that_were_thrown(dial):
    for (noise, patients, batch), (budget, *_) in dial.settings.items():
        who = {"sampled": batch, "population": patients, "sampling": "poisson"}
        assert budget == epsilon(noise, 3, delta=1e-5, **who)
    assert "no noise, so no ε" in dial.show(0, 20, 5)[1]
    assert dial.settings[2, 20, 10][0] > dial.settings[2, 30, 10][0]


@pytest.mark.slow
def test_without_noise_a_single_image_is_rebuilt(dial):
    assert dial.looks[0, 1][1] > 0.9
    assert dial.looks[4, 1][1] < 0.5


def test_two_looks_at_the_same_setting_are_the_same(dial):
    assert repr(dial.show(2, 20, 5)[0]) == repr(dial.show(2, 20, 5)[0])


@pytest.mark.parametrize(("noise", "rounds"), [(0.5, 1), (2, 10), (16, 4)])
def test_the_best_attackers_curve_touches_the_limit_and_never_passes_it(noise, rounds):
    picture, sentence = differential_privacy.best_attacker(noise, rounds, delta=1e-5)
    best, limit, _ = (line.get_ydata() for line in picture.figure.axes[1].lines)
    assert (best <= limit + 1e-9).all()
    (rate, *_) = (line.get_xdata() for line in picture.figure.axes[1].lines)
    assert (best >= rate).all()
    area = -np.trapezoid(best, rate)
    assert float(re.search(r"AUC (\S+);", sentence)[1]) == pytest.approx(area, abs=0.01)
    assert f"ε = {epsilon(noise, rounds, delta=1e-5):.2f}" in sentence


@pytest.mark.slow
def test_the_noisy_mean_is_a_step_of_the_packages_dp_sgd():
    model, rng = dense_model((8, 8, 1), 3, hidden=4), np.random.default_rng(0)
    images, labels = rng.normal(size=(6, 8, 8, 1)).astype(np.float32), np.arange(6) % 3
    trainer = PrivateTrainer(model, clipping_norm=0.5)
    many = trainer.gradients(images, labels)
    each = [[g[k] for g in many] for k in range(6)]
    found = differential_privacy.noisy_mean(each, 0.5, 2.0, 5, np.random.default_rng(1))
    theirs = add_noise(trainer.clipped_sum(images, labels), 2.0 * 0.5, np.random.default_rng(1))
    for ours, total in zip(found, theirs, strict=True):
        assert np.allclose(ours, total / 5, atol=1e-5)
