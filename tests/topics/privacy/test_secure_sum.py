from __future__ import annotations

import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from fedtutor.aggregation import plain_mean
from fedtutor.errors import FederationError, UpdateError
from fedtutor.topics.privacy import secure_sum as ss

SIZE = 1000


def updates(count, *, seed=0):
    rng = np.random.default_rng(seed)
    return {k + 1: [rng.normal(size=(SIZE,)).astype(np.float32)] for k in range(count)}


def encoded(count, **kwargs):
    return {k: ss.encode(u, parties=count) for k, u in updates(count, **kwargs).items()}


def plain(vectors):
    return sum(vectors, np.zeros(SIZE, np.uint64))


def open_round(numbers, threshold, **functions):
    """Parties by number that have exchanged keys and shares and are ready to mask."""
    parties = {number: ss.Party(number, threshold, **functions) for number in numbers}
    keys = {number: party.public_keys() for number, party in parties.items()}
    letters = {number: party.shares(keys) for number, party in parties.items()}
    for number, party in parties.items():
        party.receive({sender: letters[sender][number] for sender in parties})
    return parties, keys


def unmask(masked, keys, revealed):
    """What the server does at the end, as notebook 10 spells it out."""
    total = plain(masked.values())
    for number in keys:
        secret = ss.open_secret({k: shares[number] for k, shares in revealed.items()})
        if number in masked:
            total = total - ss.mask(secret, total.size)
        else:
            private = X25519PrivateKey.from_private_bytes(secret)
            present = {k: keys[k] for k in masked}
            total = ss.add_masks(total, number, ss.mask_seeds(number, private, present))
    return total


def secure_sum(vectors, *, threshold, missing=(), **functions):
    """All four steps; the missing fail after they have shared their secrets."""
    parties, keys = open_round(list(vectors), threshold, **functions)
    masked = {k: p.masked(vectors[k]) for k, p in parties.items() if k not in missing}
    return unmask(masked, keys, {k: parties[k].reveal(set(masked)) for k in masked})


def test_the_masked_sum_is_exactly_the_plain_fixed_point_sum():
    vectors = encoded(10)
    assert np.array_equal(secure_sum(vectors, threshold=6), plain(vectors.values()))


@pytest.mark.parametrize("missing", [{1}, {4}, {10}, {1, 2, 9}, {3, 5, 7, 8}])
def test_with_hospitals_gone_the_sum_over_the_others_is_exact(missing):
    vectors = encoded(10)
    total = secure_sum(vectors, threshold=6, missing=missing)
    assert np.array_equal(total, plain(v for k, v in vectors.items() if k not in missing))


def test_the_mean_over_nine_of_ten_is_that_of_fedavg_within_the_fixed_point():
    raw = updates(10)
    total = secure_sum(encoded(10), threshold=6, missing={3})
    mean = ss.decode(total, raw[1])[0] / 9
    expected = plain_mean([u for k, u in raw.items() if k != 3])[0]
    assert np.abs(mean - expected).max() <= 2.0**-ss.FRACTION_BITS


def test_shares_of_just_enough_survivors_open_the_sum():
    vectors = encoded(7)
    parties, keys = open_round(list(vectors), 4)
    masked = {k: p.masked(vectors[k]) for k, p in parties.items() if k != 2}
    revealed = {k: parties[k].reveal(set(masked)) for k in (1, 4, 6, 7)}
    assert np.array_equal(unmask(masked, keys, revealed), plain(vectors[k] for k in masked))


def test_shares_of_too_few_open_nothing():
    vectors = encoded(7)
    parties, keys = open_round(list(vectors), 4)
    masked = {k: p.masked(vectors[k]) for k, p in parties.items()}
    revealed = {k: parties[k].reveal(set(masked)) for k in (1, 4, 6)}
    with pytest.raises(FederationError, match="3 shares give no secret"):
        unmask(masked, keys, revealed)


def test_with_fewer_survivors_than_the_threshold_nobody_reveals():
    with pytest.raises(FederationError, match=r"5 parties have sent .* 6 are needed"):
        secure_sum(encoded(10), threshold=6, missing={1, 2, 3, 4, 5})


def test_a_party_reveals_once_only():
    parties, _ = open_round([1, 2, 3], 2)
    parties[1].reveal({1, 2, 3})
    with pytest.raises(FederationError, match="party 1 has revealed"):
        parties[1].reveal({1, 2})


def test_a_party_masks_once_only_as_the_difference_of_two_would_be_that_of_its_vectors():
    vectors = encoded(3)
    party = open_round([1, 2, 3], 2)[0][1]
    party.masked(vectors[1])
    with pytest.raises(FederationError, match="party 1 has masked a vector already"):
        party.masked(vectors[2])


def test_of_each_party_only_one_of_the_two_secrets_is_revealed():
    parties, _ = open_round([1, 2, 3, 4], 3)
    shown = [party.reveal({1, 2, 4}) for party in parties.values()]
    assert all(set(shares) == {1, 2, 3, 4} for shares in shown)
    for number, party in parties.items():
        opened = ss.open_secret({k + 1: shares[number] for k, shares in enumerate(shown)})
        key = party._masking_key.private_bytes_raw()
        assert opened == (key if number == 3 else party._self_seed)


@pytest.mark.parametrize("threshold", [0, 2, 5])
def test_a_threshold_that_would_let_a_server_ask_two_halves_is_refused(threshold):
    with pytest.raises(FederationError, match="more than half"):
        open_round([1, 2, 3, 4], threshold)


def test_two_parties_make_the_same_mask_and_a_third_cannot():
    one, two, three = (X25519PrivateKey.generate() for _ in range(3))

    def seed(private, other):
        return ss.shared_seed(private, other.public_key().public_bytes_raw(), b"mask")

    assert seed(one, two) == seed(two, one)
    assert len({seed(one, two), seed(one, three), seed(two, three)}) == 3
    assert ss.shared_seed(one, two.public_key().public_bytes_raw(), b"letters") != seed(one, two)


def uniformity(vector):
    """The p-value of the bytes being uniform, by chi-squared over 256 values."""
    counts = np.bincount(vector.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    return chi2.sf(((counts - expected) ** 2 / expected).sum(), 255)


def test_one_masked_update_cannot_be_told_from_noise(monkeypatch):
    update = [np.random.default_rng(0).normal(0, 0.05, 100_000).astype(np.float32)]
    vector = ss.encode(update, parties=10)
    # So that the p-values are the same in every run.
    monkeypatch.setattr(ss, "urandom", np.random.default_rng(1).bytes)
    parties, _ = open_round(range(1, 11), 6)
    masked = parties[3].masked(vector)
    assert uniformity(vector) < 1e-300
    assert uniformity(masked) > 0.001
    values = masked.view(np.int64).astype(float)
    assert abs(np.corrcoef(values, update[0])[0, 1]) < 4 / np.sqrt(len(values))
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 4 / np.sqrt(len(values))


def test_an_update_that_comes_after_its_hospital_was_given_up_is_still_hidden():
    """By its self-mask, which is why there is one (Bonawitz et al. 2017, section 4)."""
    vectors = encoded(5)
    parties, keys = open_round(list(vectors), 3)
    masked = {k: p.masked(vectors[k]) for k, p in parties.items()}
    revealed = {k: parties[k].reveal({1, 2, 3, 4}) for k in (1, 2, 3, 4)}
    key = ss.open_secret({k: shares[5] for k, shares in revealed.items()})
    private = X25519PrivateKey.from_private_bytes(key)
    pairwise = ss.add_masks(np.zeros(SIZE, np.uint64), 5, ss.mask_seeds(5, private, keys))
    without_pairs = masked[5] - pairwise
    assert not np.array_equal(without_pairs, vectors[5])
    assert (without_pairs == vectors[5]).sum() <= 1


def test_any_threshold_of_the_shares_gives_the_secret_and_fewer_do_not():
    secret = 2**256 - 1
    shares = ss.split(secret, [1, 2, 3, 4, 5], 3)
    for count in (3, 4, 5):
        for some in itertools.combinations(shares, count):
            assert ss.recover({k: shares[k] for k in some}) == secret
    for some in itertools.combinations(shares, 2):
        with pytest.raises(FederationError, match="2 shares give no secret"):
            ss.open_secret({k: shares[k].to_bytes(ss.FIELD_BYTES, "big") for k in some})


@given(st.integers(0, 2**256 - 1), st.integers(1, 6), st.integers(0, 3))
def test_every_secret_comes_back(secret, threshold, more):
    holders = list(range(2, 2 + threshold + more))
    assert ss.recover(ss.split(secret, holders, threshold)) == secret


def test_the_functions_that_a_party_is_given_are_those_it_uses():
    asked = []

    def add_masks(vector, number, seeds):
        asked.append(f"masks of {number}")
        return ss.add_masks(vector, number, seeds)

    def split(secret, holders, threshold):
        asked.append(f"{threshold} of {holders}")
        return ss.split(secret, holders, threshold)

    vectors = encoded(3)
    total = secure_sum(vectors, threshold=2, missing={2}, add_masks=add_masks, split=split)
    assert np.array_equal(total, vectors[1] + vectors[3])
    assert asked == ["2 of [1, 2, 3]"] * 6 + ["masks of 1", "masks of 3"]


@pytest.mark.parametrize(
    ("holders", "threshold"), [([1, 2], 3), ([1, 1, 2], 2), ([0, 1, 2], 2), ([1, 2], 0)]
)
def test_shares_that_could_not_work_are_refused(holders, threshold):
    with pytest.raises(FederationError, match="different numbers from 1 on"):
        ss.split(1, holders, threshold)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20))
def test_fixed_point_is_off_by_at_most_half_a_unit(numbers):
    weights = [np.array(numbers, np.float32)]
    back = ss.decode(ss.encode(weights), weights)[0]
    assert np.abs(back - weights[0]).max() <= 2.0 ** -(ss.FRACTION_BITS + 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**36])
def test_what_does_not_fit_into_fixed_point_is_refused(bad):
    with pytest.raises(UpdateError, match="Clip the update"):
        ss.encode([np.array([0.0, bad])], parties=10)
