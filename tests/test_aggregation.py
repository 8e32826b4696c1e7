from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedtutor import aggregation
from fedtutor.aggregation import (
    GROUP,
    RunningAverage,
    check_finite,
    fedavg_formula,
    plain_mean,
    weighted_average,
)
from fedtutor.errors import UpdateError

VALUES = st.integers(-(2**24), 2**24).map(lambda k: k / 2**18)
"""Fixed-point numbers: exact in float32, and no sum of a few depends on the order in float64."""
ANY_SIZE = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@st.composite
def updates(draw, values=VALUES):
    """A few hospitals' updates, and their numbers of examples."""
    hospitals = draw(st.integers(1, 6))
    shapes = draw(st.lists(hnp.array_shapes(max_dims=3, max_side=3), min_size=1, max_size=3))
    arrays = st.tuples(*(hnp.arrays(np.float32, shape, elements=values) for shape in shapes))
    counts = st.lists(st.integers(1, 10**5), min_size=hospitals, max_size=hospitals)
    return [list(draw(arrays)) for _ in range(hospitals)], draw(counts)


def bits(weights):
    return [(array.dtype, array.shape, array.tobytes()) for array in weights]


def model(*values):
    return [np.array(values, np.float32), np.ones((2, 2), np.float32)]


def test_the_average_is_the_one_worked_by_hand():
    average = weighted_average([model(1, 2), model(3, 6)], [1, 3])
    assert average[0].tolist() == [2.5, 5.0]
    assert average[1].tolist() == [[1, 1], [1, 1]]


def test_the_plain_mean_counts_every_hospital_the_same():
    assert plain_mean([model(1, 2), model(3, 6)])[0].tolist() == [2.0, 4.0]


@given(drawn=updates())
def test_the_order_of_the_hospitals_does_not_change_a_bit(drawn):
    weights, counts = drawn
    expected = bits(weighted_average(weights, counts))
    for order in list(permutations(range(len(counts))))[:24]:
        shuffled = weighted_average([weights[k] for k in order], [counts[k] for k in order])
        assert bits(shuffled) == expected


def test_the_order_does_not_change_a_bit_of_a_models_worth_of_weights():
    rng = np.random.default_rng(0)
    weights = [[rng.normal(0, 0.1, 100_000).astype(np.float32)] for _ in range(5)]
    counts = [7, 130, 911, 23, 4000]
    expected = bits(weighted_average(weights, counts))
    for _ in range(10):
        order = rng.permutation(5)
        shuffled = weighted_average([weights[k] for k in order], [counts[k] for k in order])
        assert bits(shuffled) == expected


@given(drawn=updates(ANY_SIZE))
def test_the_average_agrees_with_numpy_in_double_precision(drawn):
    weights, counts = drawn
    for position, array in enumerate(weighted_average(weights, counts)):
        stacked = np.stack([update[position] for update in weights]).astype(np.float64)
        expected = np.average(stacked, axis=0, weights=counts)
        largest = np.abs(stacked).max()
        np.testing.assert_allclose(array, expected, rtol=1e-7, atol=1e-14 * largest)


@given(drawn=updates(ANY_SIZE))
def test_the_average_lies_between_the_hospitals(drawn):
    weights, counts = drawn
    for position, array in enumerate(weighted_average(weights, counts)):
        stacked = np.stack([update[position] for update in weights])
        assert (stacked.min(axis=0) <= array).all()
        assert (array <= stacked.max(axis=0)).all()


@given(drawn=updates(), factor=st.integers(2, 1000))
def test_only_the_ratio_of_the_numbers_of_examples_counts(drawn, factor):
    weights, counts = drawn
    scaled = weighted_average(weights, [factor * count for count in counts])
    for array, expected in zip(scaled, weighted_average(weights, counts), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-6)


@given(drawn=updates(ANY_SIZE))
def test_one_hospital_alone_is_its_own_average(drawn):
    weights, counts = drawn
    assert all(map(np.array_equal, weighted_average(weights[:1], counts[:1]), weights[0]))


def test_honest_weights_near_the_limit_of_float32_are_averaged():
    huge = np.full(4, 3e38, np.float32)
    assert np.array_equal(weighted_average([[huge], [huge]], [5, 9])[0], huge)


def test_the_average_has_the_dtypes_of_the_model():
    update = [np.ones(2, np.float32), np.ones(2, np.float16), np.full(2, 7, np.int64)]
    average = weighted_average([update, update], [1, 2])
    assert [array.dtype for array in average] == [np.float32, np.float16, np.int64]
    assert average[2].tolist() == [7, 7]


def test_averaging_leaves_the_updates_as_they_were():
    weights = [model(1, 2), model(3, 6)]
    before = [bits(update) for update in weights]
    weighted_average(weights, [1, 3])
    assert [bits(update) for update in weights] == before


def test_one_at_a_time_or_all_at_once_gives_the_same_bits():
    rng = np.random.default_rng(3)
    updates = [  # more than one block, and an array that does not lie in order
        [rng.normal(size=(300, 501)).astype(np.float32).T, rng.normal(size=7).astype(np.float32)]
        for _ in range(5)
    ]
    counts = [3, 1, 4, 1, 5]
    running = RunningAverage(updates[0])
    for update, count in zip(updates, counts, strict=True):
        running.add(update, count)
    expected = [np.average(arrays, axis=0, weights=counts) for arrays in zip(*updates, strict=True)]
    for one, all_, numpy in zip(
        running.result(), weighted_average(updates, counts), expected, strict=True
    ):
        np.testing.assert_array_equal(one, all_)
        np.testing.assert_allclose(all_, numpy, rtol=1e-6)


def one_at_a_time(weights, counts):
    running = RunningAverage(weights[0])
    for update, count in zip(weights, counts, strict=True):
        running.add(update, count)
    return running.result()


@given(updates())
def test_the_fast_averages_are_the_formula_bit_for_bit(drawn):
    weights, counts = drawn
    formula = bits(fedavg_formula(weights, counts))
    assert bits(weighted_average(weights, counts)) == formula
    assert bits(one_at_a_time(weights, counts)) == formula


@pytest.mark.parametrize("hospitals", [1, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 3 * GROUP + 2])
def test_any_number_of_hospitals_in_any_order_is_averaged_to_the_same_bits(hospitals, monkeypatch):
    monkeypatch.setattr(aggregation, "BLOCK", 64)  # several to each thread, and a short last one
    rng = np.random.default_rng(hospitals)
    weights = [
        [rng.normal(0, 0.1, (9, 111)).astype(np.float32), np.float32(rng.normal(size=3))]
        for _ in range(hospitals)
    ]
    counts = rng.integers(1, 10_000, hospitals).tolist()
    expected = bits(fedavg_formula(weights, counts))
    for _ in range(5):
        order = rng.permutation(hospitals)
        shuffled = [weights[k] for k in order], [counts[k] for k in order]
        assert bits(weighted_average(*shuffled)) == expected
        assert bits(one_at_a_time(*shuffled)) == expected


@pytest.mark.parametrize("cores", [1, 2, 3, 16])
def test_the_number_of_cores_does_not_change_a_bit_even_where_sums_are_not_exact(
    cores, monkeypatch
):
    monkeypatch.setattr(aggregation, "BLOCK", 64)
    rng = np.random.default_rng(0)
    weights = [[(10.0 ** rng.integers(-30, 30, 999)).astype(np.float32)] for _ in range(13)]
    counts = rng.integers(1, 10_000, 13).tolist()
    expected = bits(fedavg_formula(weights, counts))
    monkeypatch.setattr(aggregation, "num_cores", lambda: cores)
    aggregation._threads.cache_clear()
    assert bits(weighted_average(weights, counts)) == expected
    assert bits(one_at_a_time(weights, counts)) == expected
    aggregation._threads.cache_clear()


def test_a_running_average_can_be_asked_at_any_time():
    weights = [model(k, 2 * k) for k in range(2 * GROUP + 2)]
    running = RunningAverage(weights[0])
    for k, update in enumerate(weights):
        running.add(update, k + 1)
        expected = bits(fedavg_formula(weights[: k + 1], range(1, k + 2)))
        assert bits(running.result()) == bits(running.result()) == expected


@pytest.mark.parametrize("position", [0, 63, 64, 500, 998])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_one_bad_number_anywhere_is_found(position, poison, monkeypatch):
    monkeypatch.setattr(aggregation, "BLOCK", 64)
    update = [np.full(999, 3e38, np.float32)]  # whose sum overflows, though each is finite
    check_finite(update, hospital="Aachen")
    update[0][position] = poison
    with pytest.raises(UpdateError, match="Aachen sent NaN or infinity in array 0"):
        check_finite(update, hospital="Aachen")


def test_updates_may_come_from_a_generator():
    assert weighted_average((model(k, k) for k in (1, 3)), [1, 1])[0].tolist() == [2, 2]


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("hospital", [0, 1, 2])
def test_nan_and_infinity_are_refused_by_the_name_of_the_hospital(poison, hospital):
    weights = [model(1, 2), model(3, 4), model(5, 6)]
    weights[hospital][1][1, 0] = poison
    names = ["Aachen", "Bonn", "Celle"]
    with pytest.raises(UpdateError, match=f"{names[hospital]} sent NaN or infinity in array 1"):
        weighted_average(weights, [1, 1, 1], hospitals=names)


def test_infinities_that_cancel_are_refused():
    with pytest.raises(UpdateError, match="hospital 2 sent NaN or infinity in array 0"):
        plain_mean([model(1, 2), model(np.inf, -np.inf)])


@pytest.mark.parametrize(
    ("update", "words"),
    [
        (model(1, 2, 3), r"Bonn sent an array 0 of shape \(3,\); the model's has \(2,\)"),
        (model(1), r"Bonn sent an array 0 of shape \(1,\)"),
        ([np.float32(1), np.ones((2, 2), np.float32)], r"Bonn sent an array 0 of shape \(\)"),
        ([model(1, 2)[0].astype(np.float64), model(1, 2)[1]], "Bonn sent .* float64; .* float32"),
        (model(1, 2)[:1], "Bonn sent 1 arrays; the model has 2"),
        ([], "Bonn sent 0 arrays; the model has 2"),
    ],
    ids=["longer", "would broadcast", "scalar", "dtype", "an array too few", "nothing"],
)
def test_an_update_of_another_form_is_refused_by_the_name_of_the_hospital(update, words):
    with pytest.raises(UpdateError, match=words):
        weighted_average([model(1, 2), update], [1, 1], hospitals=["Aachen", "Bonn"])


@pytest.mark.parametrize("count", [0, -3, float("nan"), float("inf"), -float("inf")])
def test_an_impossible_number_of_examples_is_refused_by_the_name_of_the_hospital(count):
    with pytest.raises(UpdateError, match=f"Bonn claims {count} examples"):
        weighted_average([model(1, 2), model(3, 4)], [1, count], hospitals=["Aachen", "Bonn"])


def test_numbers_of_examples_whose_sum_overflows_never_give_a_silent_result():
    with pytest.raises(UpdateError, match="examples"):
        weighted_average([model(1, 1), model(0, 1)], [1e308, 1e308])


def test_no_hospital_at_all_is_refused():
    with pytest.raises(UpdateError, match="no update to average"):
        weighted_average([], [])


def test_a_number_of_examples_too_few_is_refused():
    with pytest.raises(UpdateError, match="2 updates, 1 numbers of examples"):
        weighted_average([model(1, 2), model(3, 4)], [1])
