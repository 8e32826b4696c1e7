from __future__ import annotations

import numpy as np
import pytest
from flwr.serverapp.strategy.bulyan import aggregate_n_closest_weights
from hypothesis import given
from hypothesis import strategies as st
from toys import START, step

from fedtutor import federation
from fedtutor.aggregation import update_norm
from fedtutor.errors import FederationError
from fedtutor.federation.strategies import mean_around_median
from fedtutor.topics import clip_update, robustness
from fedtutor.topics.robustness import Chosen

NUM = 10


def update_of(run):
    (_, after), _ = run
    return [w - s for w, s in zip(after, START, strict=True)]


def mean_update(hospitals):
    updates = [step(k) for k in hospitals]
    return [np.mean(arrays, axis=0) for arrays in zip(*updates, strict=True)]


def distance(one, other):
    return update_norm([a - b for a, b in zip(one, other, strict=True)])


@pytest.mark.parametrize("name", robustness.DEFENCES)
def test_every_defence_learns_where_nobody_lies(federate, name):
    update = update_of(federate(NUM, strategy=robustness.make_defence(name, NUM)))
    assert distance(update, mean_update(range(NUM))) < 0.3 * update_norm(update)


@pytest.mark.parametrize("name", robustness.DEFENCES)
def test_one_liar_of_ten_is_borne_by_all_but_the_plain_average(federate, name):
    mods = [robustness.only_at({4}, robustness.flip_sign(100))]
    update = update_of(federate(NUM, strategy=robustness.make_defence(name, NUM), mods=mods))
    off = distance(update, mean_update(k for k in range(NUM) if k != 4))
    assert (off > 1) == (name == "plain average")


def test_an_unknown_defence_lists_the_known_ones():
    with pytest.raises(FederationError, match="plain average, clipping, median"):
        robustness.make_defence("prayer", 5)


def test_clipping_shortens_and_keeps_the_direction():
    update = [np.array([3.0, 0.0], np.float32), np.array([[4.0]], np.float32)]
    assert update_norm(update) == 5
    short = clip_update(update, 2.5)
    assert update_norm(short) == pytest.approx(2.5)
    np.testing.assert_allclose(short[0], [1.5, 0])
    assert short[0].dtype == np.float32
    assert clip_update(update, 5.0) is update


def test_clipping_is_to_the_median_length(federate):
    lengths = [update_norm(step(k)) for k in range(3)]
    shares = np.arange(1, 4) / 6
    clipped = [clip_update(step(k), float(np.median(lengths))) for k in range(3)]
    update = update_of(federate(3, strategy=robustness.make_defence("clipping", 3)))
    for position, array in enumerate(update):
        expected = sum(s * c[position] for s, c in zip(shares, clipped, strict=True))
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)


def test_a_failed_hospital_is_no_trouble_for_clipping(federate):
    mods = [robustness.only_at({1}, robustness.leave_after(0))]
    update = update_of(federate(3, strategy=robustness.make_defence("clipping", 3), mods=mods))
    assert update_norm(update) > 1


@pytest.mark.parametrize(("name", "how_many"), [("Krum", 1), ("Multi-Krum", 7), ("Bulyan", 8)])
def test_whom_a_rule_chose_is_noted_and_is_not_the_liar(federate, name, how_many):
    chosen = Chosen()
    strategy = robustness.make_defence(name, NUM, train_metrics_aggr_fn=chosen)
    mods = [robustness.sign_reply, robustness.only_at({4}, robustness.flip_sign(100))]
    federate(NUM, strategy=strategy, mods=mods, rounds=3)
    assert [len(one) for one in chosen.rounds] == [how_many] * 3
    assert chosen.times(4) == 0
    assert sum(chosen.times(k) for k in range(NUM)) == 3 * how_many


def test_the_plain_average_chooses_everybody(federate):
    chosen = Chosen()
    strategy = robustness.make_defence("plain average", 4, train_metrics_aggr_fn=chosen)
    federate(4, strategy=strategy, mods=[robustness.sign_reply])
    assert chosen.rounds == [[0, 1, 2, 3]]


def test_the_quick_bulyan_is_flower_s(federate):
    mods = [robustness.only_at({0}, robustness.flip_sign(3))]
    models = [
        federate(NUM, strategy=strategy, mods=mods)[0][-1]
        for strategy in (
            robustness.make_defence("Bulyan", NUM),
            federation.make_strategy("bulyan", NUM),
        )
    ]
    for ours, flowers in zip(*models, strict=True):
        np.testing.assert_allclose(ours, flowers, atol=1e-6)
        assert ours.dtype == np.float32


@given(st.integers(0, 10**6), st.integers(3, 9), st.integers(0, 3))
def test_the_mean_around_the_median_is_flower_s(seed, hospitals, fewer):
    stack = np.random.default_rng(seed).normal(size=(hospitals, 4, 5))
    keep = max(1, hospitals - fewer)
    (flowers,) = aggregate_n_closest_weights(
        [np.median(stack, axis=0)], [[array] for array in stack], keep
    )
    np.testing.assert_allclose(mean_around_median(stack, keep), flowers, atol=1e-12)


def test_bulyan_without_enough_hospitals_gives_no_model():
    strategy = robustness.make_defence("Bulyan", 10)
    assert strategy.aggregate_train(1, []) == (None, None)
