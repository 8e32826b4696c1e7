from __future__ import annotations

import numpy as np
import pytest
from toys import START, step

from fedtutor.errors import DataError
from fedtutor.topics import robustness


def moved(weights):
    """How far each weight has moved on average from the first model."""
    return float(np.mean([np.mean(w - s) for w, s in zip(weights, START, strict=True)]))


def test_a_flipped_label_is_always_wrong_and_nothing_else_changes(make_images):
    data = make_images(30)
    flipped = robustness.flip_labels(data)
    assert (flipped.labels != data.labels).all()
    assert sorted(flipped.labels) == sorted(data.labels)
    assert flipped.images is data.images


def test_several_findings_are_turned_round(make_images):
    data = make_images(4, classes=2, labels=[[0, 1], [1, 1], [0, 0], [1, 0]])
    flipped = robustness.flip_labels(data)
    assert flipped.labels.tolist() == [[1, 0], [0, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize("size", [10, 28, 32, 128])
def test_a_stamp_is_a_white_square_in_a_corner_of_a_copy(make_images, size):
    images = make_images(5, size=size).images // 2
    before = images.copy()
    stamped = robustness.stamp(images)
    np.testing.assert_array_equal(images, before)
    changed = (stamped != images).any(axis=(0, 3))
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert len(rows) == len(columns) == max(3, round(0.16 * size))
    assert changed[np.ix_(rows, columns)].all()
    assert min(rows.min(), columns.min()) > size / 2
    assert (stamped[:, rows[0], columns[0]] == 255).all()


def test_a_backdoor_stamps_a_share_and_calls_it_the_target(make_images):
    data = make_images(40)
    poisoned = robustness.plant_backdoor(data, 2, share=0.25, seed=1)
    changed = (poisoned.images != data.images).any(axis=(1, 2, 3))
    assert changed.sum() == 10
    assert (poisoned.labels[changed] == 2).all()
    np.testing.assert_array_equal(poisoned.labels[~changed], data.labels[~changed])


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"target": 3}, "0 to 2"), ({"target": 0, "share": 1.5}, r"0\.\.1"), ({"target": -1}, "0 to")],
)
def test_a_backdoor_that_cannot_be_is_refused(make_images, change, problem):
    with pytest.raises(DataError, match=problem):
        robustness.plant_backdoor(make_images(6), **change)


def test_a_backdoor_for_several_findings_is_refused(make_images):
    data = make_images(2, classes=2, labels=[[0, 1], [1, 1]])
    with pytest.raises(DataError, match="one class an image"):
        robustness.plant_backdoor(data, 0)


def test_success_is_counted_on_the_other_classes_only():
    labels = np.array([0, 0, 1, 1, 2, 2])
    called = np.eye(3)[[2, 0, 2, 2, 2, 2]]
    assert robustness.attack_success(called, labels, 2) == 0.75
    with pytest.raises(DataError, match="nothing to turn"):
        robustness.attack_success(called, np.full(6, 2), 2)


def test_a_scaled_update_moves_the_average_so_much_further(federate):
    (_, honest), _ = federate(4)
    everyone = robustness.scale_update(3)
    (_, scaled), _ = federate(4, mods=[everyone])
    for w, h, s in zip(scaled, honest, START, strict=True):
        np.testing.assert_allclose(w - s, 3 * (h - s), rtol=1e-5)


def test_a_mod_can_wait_for_its_round(federate):
    mods = [robustness.from_round(2, robustness.flip_sign(1))]
    weights, _ = federate(3, mods=mods, rounds=2)
    assert moved(weights[1]) > 0.3
    np.testing.assert_allclose(weights[2][0], START[0], atol=1e-5)


def test_a_flipped_sign_goes_the_other_way_at_the_chosen_hospital_only(federate):
    mod = robustness.only_at({6}, robustness.flip_sign(10))
    (_, attacked), _ = federate(7, mods=[mod])
    shares = np.arange(1, 8) / 28
    factors = np.where(np.arange(7) == 6, -10, 1)
    for position, w in enumerate(attacked):
        expected = sum(shares[k] * factors[k] * step(k)[position] for k in range(7))
        np.testing.assert_allclose(w - START[position], expected, rtol=1e-4, atol=1e-5)


def test_a_free_rider_never_trains_and_claims_what_it_likes(federate):
    (_, honest), _ = federate(3)
    riding = robustness.only_at({0}, robustness.free_ride(num_examples=10**6))
    (_, ridden), grid = federate(3, mods=[riding])
    assert grid.left_out == []
    assert abs(moved(ridden)) < 1e-4 < moved(honest)


def test_a_free_rider_s_noise_differs_by_round_and_comes_again(federate):
    riding = robustness.free_ride(num_examples=1, noise=0.01)
    one, other = (federate(1, mods=[riding], rounds=2)[0] for _ in range(2))
    for a, b in zip(one[-1], other[-1], strict=True):
        np.testing.assert_array_equal(a, b)
    first, second = (one[r + 1][0] - one[r][0] for r in range(2))
    assert 0.003 < first.std() < 0.03
    assert np.abs(first - second).max() > 1e-3


def test_who_leaves_is_named_and_the_others_go_on(federate):
    leaving = robustness.only_at({2}, robustness.leave_after(1))
    _, grid = federate(4, mods=[leaving], rounds=3)
    assert [(out.round, out.hospital) for out in grid.left_out] == [(2, "h2"), (3, "h2")]
    assert "has left the federation" in grid.left_out[0].reason
    assert grid.traffic[1].hospitals == ["h0", "h1", "h2", "h3"]


def test_mods_pass_an_error_on(federate):
    mods = [robustness.sign_reply, robustness.flip_sign(2), robustness.leave_after(0)]
    with pytest.raises(Exception, match="has left the federation"):
        federate(2, mods=mods)
