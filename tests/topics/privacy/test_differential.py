from __future__ import annotations

import math

import dp_accounting as dp
import numpy as np
import pytest
import toys
from flwr import serverapp as flower
from flwr.clientapp.mod import LocalDpMod
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fedtutor.aggregation import update_norm
from fedtutor.errors import FederationError
from fedtutor.model import create_model, predict
from fedtutor.topics.privacy import differential as d
from fedtutor.topics.privacy.models import dense_model
from fedtutor.topics.privacy.reconstruction import gradient


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (4.0, 20)])
def test_epsilon_with_everybody_is_that_of_dp_accountings_two_accountants(noise, steps):
    """One is above it by its grid, one by its looseness."""
    ours = d.epsilon(noise, steps, delta=1e-5)
    event = dp.SelfComposedDpEvent(dp.GaussianDpEvent(noise), steps)
    assert ours == pytest.approx(dp.pld.PLDAccountant().compose(event).get_epsilon(1e-5), abs=2e-3)
    assert ours < dp.rdp.RdpAccountant().compose(event).get_epsilon(1e-5) < 1.35 * ours


@pytest.mark.parametrize(("noise", "steps"), [(1, 1), (1, 20), (4, 20), (10, 100), (0.5, 3)])
def test_epsilon_with_everybody_solves_the_equation_of_the_paper(noise, steps):
    """Balle & Wang 2018, theorem 8, for T releases as one: delta as a function of epsilon."""
    ours, mu = d.epsilon(noise, steps, delta=1e-5), math.sqrt(steps) / noise
    delta = norm.cdf(mu / 2 - ours / mu) - math.exp(ours) * norm.cdf(-mu / 2 - ours / mu)
    assert delta == pytest.approx(1e-5, rel=1e-4)


def test_epsilon_of_a_poisson_lottery_is_below_that_of_renyi_dp():
    ours = d.epsilon(1.5, 500, delta=1e-5, sampled=100, population=5000, sampling="poisson")
    event = dp.PoissonSampledDpEvent(0.02, dp.GaussianDpEvent(1.5))
    loose = dp.rdp.RdpAccountant().compose(event, 500).get_epsilon(1e-5)
    assert 0.8 * loose < ours < loose


@pytest.mark.slow
def test_epsilon_of_a_fixed_sample_is_dp_accountings():
    """Replacing a hospital changes the sum by twice the clipping norm: half the multiplier."""
    ours = d.epsilon(8.0, 20, delta=1e-5, sampled=200, population=2000, sampling="fixed")
    accountant = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    event = dp.SampledWithoutReplacementDpEvent(2000, 200, dp.GaussianDpEvent(8.0 / 2))
    theirs = accountant.compose(dp.SelfComposedDpEvent(event, 20)).get_epsilon(1e-5)
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("sampled", "population"), [(4, 5), (5, 5), (1, 2)])
@pytest.mark.parametrize("steps", [1, 20])
def test_a_lottery_of_fixed_size_never_costs_more_than_having_none(sampled, population, steps):
    """Without one, replacing somebody is at most twice the clipping norm: half the multiplier."""
    who = {"sampled": sampled, "population": population, "sampling": "fixed"}
    assert d.epsilon(1, steps, delta=1e-5, **who) <= d.epsilon(0.5, steps, delta=1e-5)


def test_epsilon_is_flowers_own_accountants_where_that_is_used():
    """Flower's RDP accountant without amplification is looser than the exact value, not other."""
    neighbours = flower.NeighboringRelation.ADD_OR_REMOVE_ONE
    config = flower.PrivacyConfig(1e-5, 10, neighbours, flower.SamplingMethod.NO_AMPLIFICATION)
    accountant = flower.RdpAccountant(config)
    accountant.compose(flower.GaussianPrivacyEvent(4.0, 10, 10), 20)
    exact = d.epsilon(4.0, 20, delta=1e-5)
    assert exact < accountant.get_epsilon(1e-5) < 1.2 * exact


def test_a_published_value():
    """Abadi et al. 2016, section 4: q = 0.01, sigma = 4, T = 10000, delta = 1e-5: 1.26 by moments.

    The moments accountant is an upper bound, so that a tight one must be below it.
    """
    ours = d.epsilon(4, 10_000, delta=1e-5, sampled=1, population=100, sampling="poisson")
    assert 0.8 < ours < 1.26


noises = st.floats(0.5, 20)
steps = st.integers(1, 300)
deltas = st.floats(1e-8, 1e-2)


@given(noises, steps, st.floats(1.01, 4), deltas)
def test_epsilon_falls_with_noise_and_grows_with_rounds(noise, rounds, factor, delta):
    now = d.epsilon(noise, rounds, delta=delta)
    assert d.epsilon(noise * factor, rounds, delta=delta) < now
    assert d.epsilon(noise, math.ceil(rounds * factor) + 1, delta=delta) > now
    assert d.epsilon(noise, rounds, delta=delta / factor) > now


@given(noises, steps, deltas, st.integers(2, 5))
def test_four_times_the_rounds_need_twice_the_noise(noise, rounds, delta, k):
    expected = d.epsilon(noise, rounds, delta=delta)
    again = d.epsilon(noise * k, rounds * k * k, delta=delta)
    assert again == pytest.approx(expected, rel=1e-6, abs=1e-8)


@given(st.floats(0.1, 20), steps, deltas)
def test_the_noise_for_an_epsilon_has_that_epsilon(target, rounds, delta):
    noise = d.noise_for(target, rounds, delta=delta)
    assert d.epsilon(noise, rounds, delta=delta) == pytest.approx(target, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_a_lottery_amplifies_privacy_the_more_the_fewer_are_drawn(sampling):
    drawn = [
        d.epsilon(4, 20, delta=1e-5, sampled=s, population=1000, sampling=sampling)
        for s in (10, 50, 250)
    ]
    assert drawn[0] < drawn[1] < drawn[2]
    assert drawn[0] < d.epsilon(4, 20, delta=1e-5)


def test_no_noise_no_privacy_and_no_release_no_loss():
    for sampling in d.SAMPLINGS:
        asked = {"delta": 1e-5, "sampled": 2, "population": 10, "sampling": sampling}
        assert d.epsilon(0, 1, **asked) == math.inf
        assert d.epsilon(0, 0, **asked) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"noise_multiplier": -1}, "0 or more"),
        ({"noise_multiplier": math.nan}, "0 or more"),
        ({"steps": -1}, "steps 0 or more"),
        ({"steps": 1.5}, "steps 0 or more and whole"),
        ({"steps": math.inf}, "steps 0 or more and whole"),
        ({"delta": 0}, "delta between 0 and 1"),
        ({"sampled": 0}, "sampled must lie above 0"),
        ({"sampled": 6}, "sampled must lie above 0"),
        ({"sampling": "fair"}, "known: everybody, poisson, fixed"),
        ({"sampling": "fixed", "sampled": 1.5}, "whole number"),
        ({"sampling": "fixed", "population": 5.5}, "whole number"),
    ],
)
def test_a_number_out_of_range_is_refused(change, said):
    asked = {"noise_multiplier": 1, "steps": 5, "delta": 1e-5, "sampled": 1, "population": 5}
    asked |= change
    with pytest.raises(FederationError, match=said):
        d.epsilon(asked.pop("noise_multiplier"), asked.pop("steps"), **asked)


def test_clipping_shortens_the_whole_update_and_keeps_its_direction():
    update = [np.array([[3.0, 0.0]], np.float32), np.array([4.0], np.float32)]
    assert update_norm(update) == 5
    clipped = d.clip(update, 2.5)
    assert np.allclose(clipped[0], [[1.5, 0]])
    assert np.allclose(clipped[1], [2.0])
    assert all(a.dtype == np.float32 for a in clipped)
    assert all((a == b).all() for a, b in zip(d.clip(update, 10), update, strict=True))
    assert update_norm(d.clip([np.zeros(3)], 1)) == 0
    with pytest.raises(FederationError, match="above 0"):
        d.clip(update, 0)


SHAPES = ((50, 40), (40,))
START = [np.zeros(shape, np.float32) for shape in SHAPES]


def pushing_app(lengths, counts=None, mods=()):
    """Hospital k sends an update of Euclidean length ``lengths[k]``, all numbers alike."""
    numbers = sum(math.prod(shape) for shape in SHAPES)
    return toys.toy_app(
        lambda k: [np.float32(lengths[k] / math.sqrt(numbers))] * 2,
        num_examples=lambda k: counts[k] if counts else 10,
        mods=mods,
    )


def run(strategy, app, num_hospitals, rounds=1):
    return toys.run(app, strategy, START, hospitals=num_hospitals, rounds=rounds)[-1]


@pytest.fixture
def flowers_noise():
    """Flower draws its noise from NumPy's global generator."""
    np.random.seed(0)  # noqa: NPY002


def test_flowers_strategy_clips_every_hospital_on_the_guarded_grid():
    final = run(d.private_strategy(4, 0.0, 1.0), pushing_app([0.5, 1.0, 100.0, 1000.0]), 4)
    assert update_norm(final) == pytest.approx((0.5 + 1 + 1 + 1) / 4, rel=1e-5)


@pytest.mark.usefixtures("flowers_noise")
@pytest.mark.parametrize("rounds", [1, 9])
def test_the_noise_of_each_round_has_the_deviation_that_the_accounting_assumes(rounds):
    final = run(d.private_strategy(4, 2.0, 1.0), pushing_app([0.0001] * 4), 4, rounds)
    numbers = np.concatenate([a.ravel() for a in final])
    assert numbers.std() == pytest.approx(math.sqrt(rounds) * 2.0 * 1.0 / 4, rel=0.05)
    assert all(a.dtype == np.float32 for a in final)


def test_no_hospital_moves_the_mean_by_more_than_its_share_however_many_images_it_claims():
    lengths, counts = [1.0, 1.0, 1.0], [1, 1, 10_000]
    final = run(d.private_strategy(3, 0.0, 0.3), pushing_app(lengths, counts), 3)
    without = run(d.private_strategy(3, 0.0, 0.3), pushing_app([1, 1, 1e-9], counts), 3)
    gap = update_norm([a - b for a, b in zip(final, without, strict=True)])
    assert gap == pytest.approx(0.3 / 3, rel=1e-4)


def test_weighted_by_images_a_large_hospital_moves_the_mean_by_more():
    """Why EqualFedAvg is needed: Flower's wrapper takes any strategy and assumes equal shares."""

    def weighted():
        inner = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
        return DifferentialPrivacyServerSideFixedClipping(inner, 0.0, 0.3, 3)

    counts = [1, 1, 10_000]
    final = run(weighted(), pushing_app([1.0, 1.0, 1.0], counts), 3)
    without = run(weighted(), pushing_app([1.0, 1.0, 1e-9], counts), 3)
    gap = update_norm([a - b for a, b in zip(final, without, strict=True)])
    assert gap > 2.9 * 0.3 / 3


@pytest.mark.usefixtures("flowers_noise")
def test_local_noise_is_added_before_the_update_leaves():
    mod = LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=2.0, delta=1e-5)
    app = pushing_app([0.0001] * 4, mods=[mod])
    final = run(d.private_strategy(4, 0.0, 1e9), app, 4)
    numbers = np.concatenate([a.ravel() for a in final])
    deviation = math.sqrt(2 * math.log(1.25e5)) / 2.0
    assert numbers.std() == pytest.approx(deviation / math.sqrt(4), rel=0.05)


def test_a_hospital_that_returns_what_it_got_does_not_end_the_run():
    final = run(d.private_strategy(3, 0.0, 1.0), pushing_app([0.0, 0.5, 0.5]), 3)
    assert update_norm(final) == pytest.approx(1 / 3, rel=1e-5)


def test_with_flowers_strategy_alone_it_does():
    """If this fails, Flower has mended it and ServerSideClipping can go."""
    inner = d.private_strategy(3, 0.0, 1.0).strategy
    flowers = DifferentialPrivacyServerSideFixedClipping(inner, 0.0, 1.0, 3)
    with pytest.raises(ZeroDivisionError):
        run(flowers, pushing_app([0.0, 0.5, 0.5]), 3)


@pytest.fixture(scope="module")
def small():
    images = np.random.default_rng(0).normal(size=(12, 11, 11, 1)).astype(np.float32)
    return images, np.arange(12) % 3


@pytest.mark.parametrize("make", [dense_model, create_model])
def test_per_example_gradients_are_those_of_one_image_at_a_time(small, make):
    images, labels = (array[:5] for array in small)
    model = make((11, 11, 1), 3)
    found = d.PrivateTrainer(model, 1.0).gradients(images, labels)
    for k in range(len(images)):
        alone = gradient(model, images[k : k + 1], labels[k : k + 1])
        for many, one in zip(found, alone, strict=True):
            assert np.allclose(many[k], one, atol=1e-5)


def test_each_image_is_clipped_by_itself(small):
    images, labels = small
    trainer = d.PrivateTrainer(dense_model((11, 11, 1), 3, hidden=6), 0.5)
    many = trainer.gradients(images, labels)
    expected = [np.zeros(g.shape[1:]) for g in many]
    for k in range(len(images)):
        for total, g in zip(expected, d.clip([g[k] for g in many], 0.5), strict=True):
            total += g
    for ours, theirs in zip(trainer.clipped_sum(images, labels), expected, strict=True):
        assert np.allclose(ours, theirs, atol=1e-5)
    for n in (1, 4):
        assert update_norm(trainer.clipped_sum(images[:n], labels[:n])) <= 0.5 * n * (1 + 1e-5)
    assert update_norm(trainer.clipped_sum(images[:0], labels[:0])) == 0


@pytest.mark.slow
def test_dp_sgd_without_noise_learns_and_with_a_flood_of_it_does_not(make_images):
    data = make_images(60, size=11)
    bright = data.images.copy()
    for k in range(3):  # the class is which third of the image is bright
        bright[data.labels == k, 3 * k : 3 * k + 4] //= 2
    data = type(data)(bright, data.labels, data.class_names, data.table, "toy")
    right = {}
    for noise in (0.0, 50.0):
        model = dense_model(data.image_shape, 3, hidden=16)
        trainer = d.PrivateTrainer(model, 1.0)
        trainer.train(
            data, noise_multiplier=noise, batch_size=20, steps=60, learning_rate=0.5, seed=0
        )
        right[noise] = (predict(model, data.images).argmax(axis=1) == data.labels).mean()
    assert right[0.0] > 0.9
    assert right[50.0] < 0.7
