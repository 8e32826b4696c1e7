from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from toys import START

from fedtutor.errors import DataError, UpdateError
from fedtutor.federation.records import to_record
from fedtutor.topics import robustness
from fedtutor.topics.robustness import EIGHT_BIT, FLOAT16, FLOAT32, compress, top_k
from fedtutor.topics.robustness.compression import message_bytes, with_feedback

CODECS = [FLOAT32, FLOAT16, EIGHT_BIT, top_k(0.1), top_k(0.1, memory=False)]


def some_update(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = [(3, 3, 1, 4), (4,), (60, 7), (7,)]
    return [(scale * rng.normal(size=shape)).astype(np.float32) for shape in shapes]


def round_trip(codec, update):
    return codec.decode(codec.encode(update), update)


def num_bytes(arrays):
    return sum(array.nbytes for array in arrays)


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_shapes_and_dtypes_come_back(codec):
    update = some_update(0)
    back = round_trip(codec, update)
    assert [a.shape for a in back] == [a.shape for a in update]
    assert all(a.dtype == np.float32 for a in back)


@given(st.integers(0, 10**6), st.floats(1e-6, 1e3))
def test_float16_is_off_by_at_most_a_2048th(seed, scale):
    update = some_update(seed, scale)
    for a, b in zip(update, round_trip(FLOAT16, update), strict=True):
        assert (np.abs(a - b) <= np.maximum(np.abs(a) * 2**-11, 2**-25)).all()


def test_float16_does_not_make_infinities():
    update = [np.array([1e6, -1e30, 2.0], np.float32)]
    (back,) = round_trip(FLOAT16, update)
    assert back.tolist() == [65504, -65504, 2]


@given(st.integers(0, 10**6), st.floats(1e-6, 1e3), st.floats(-2, 2))
def test_eight_bits_are_off_by_at_most_half_a_step(seed, scale, shift):
    update = [array + np.float32(scale * shift) for array in some_update(seed, scale)]
    for a, b in zip(update, round_trip(EIGHT_BIT, update), strict=True):
        step = (max(a.max(), 0) - min(a.min(), 0)) / 255
        assert np.abs(a - b).max() <= 0.5001 * step + 1e-6 * np.abs(a).max()


def test_eight_bits_bear_an_array_that_does_not_vary():
    update = [np.zeros(5, np.float32), np.full(4, 2.5, np.float32), np.zeros(0, np.float32)]
    back = round_trip(EIGHT_BIT, update)
    np.testing.assert_array_equal(back[0], 0)
    np.testing.assert_allclose(back[1], 2.5, rtol=1e-6)
    assert back[2].shape == (0,)


@given(st.integers(0, 10**6), st.floats(0.001, 1))
def test_top_k_keeps_the_largest_by_size_exactly(seed, share):
    update = some_update(seed)
    before, after = flat(update), flat(round_trip(top_k(share), update))
    count = max(1, int(np.ceil(share * before.size)))
    kept = np.flatnonzero(after)
    assert len(kept) == count
    np.testing.assert_array_equal(after[kept], before[kept])
    rest = np.delete(np.abs(before), kept)
    assert rest.size == 0 or np.abs(before[kept]).min() >= rest.max()


def test_the_wire_is_as_short_as_promised():
    update = some_update(0)
    count = flat(update).size
    assert num_bytes(FLOAT32.encode(update)) == 4 * count
    assert num_bytes(FLOAT16.encode(update)) == 2 * count
    assert num_bytes(EIGHT_BIT.encode(update)) == count + 8 * len(update)
    assert num_bytes(top_k(0.1).encode(update)) == 8 * int(np.ceil(0.1 * count))


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(DataError, match="share"):
        top_k(share)


@pytest.mark.parametrize("codec", [EIGHT_BIT, top_k(0.05)], ids=lambda codec: codec.name)
def test_error_feedback_what_was_sent_and_what_is_remembered_sum_to_the_truth(codec):
    updates = [some_update(seed) for seed in range(20)]
    memory = [np.zeros_like(array) for array in updates[0]]
    said = [np.zeros_like(array) for array in updates[0]]
    for update in updates:
        wire, memory = with_feedback(codec, update, memory)
        said = [s + d for s, d in zip(said, codec.decode(wire, update), strict=True)]
    truth = flat([sum(arrays) for arrays in zip(*updates, strict=True)])
    np.testing.assert_allclose(flat(said) + flat(memory), truth, atol=1e-4)


def test_with_feedback_the_mean_of_what_is_said_becomes_right_and_without_it_never():
    update, rounds = some_update(3), 200
    truth, remaining = flat(update), {}
    for memory in (True, False):
        codec = top_k(0.05, memory=memory)
        said, kept = np.zeros_like(truth), [np.zeros_like(a) for a in update]
        for _ in range(rounds):
            if memory:
                wire, kept = with_feedback(codec, update, kept)
            else:
                wire = codec.encode(update)
            said += flat(codec.decode(wire, update))
        remaining[memory] = np.linalg.norm(said / rounds - truth) / np.linalg.norm(truth)
    assert remaining[True] < 0.15
    assert remaining[False] > 0.7


@pytest.mark.parametrize(
    ("codec", "wire"),
    [
        (FLOAT16, [np.zeros(3, np.float16)]),
        (EIGHT_BIT, [np.zeros((5, 4), np.uint8), np.zeros(4, np.uint8)]),
        (EIGHT_BIT, [np.zeros((5, 4), np.uint8), np.zeros(4, np.uint8), np.zeros(2, np.float32)]),
        (top_k(0.1), [np.zeros(3, np.uint32)]),
        (top_k(0.1), [np.array([99], np.uint32), np.ones(1, np.float32)]),
        (top_k(0.1), [np.array([-1]), np.ones(1, np.float32)]),
    ],
)
def test_a_wire_that_is_none_is_refused(codec, wire):
    with pytest.raises(UpdateError, match="a packed update must have"):
        codec.decode(wire, START)


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_a_packed_federation_learns_what_a_plain_one_does(federate, codec):
    plain, _ = federate(3, rounds=30)
    packed, grid = federate(3, rounds=30, mods=[compress(codec)], codec=codec)
    assert grid.left_out == []
    off, way = flat(packed[-1]) - flat(plain[-1]), flat(plain[-1]) - flat(START)
    lost = np.linalg.norm(off) / np.linalg.norm(way)
    if codec.name.endswith("no memory"):
        assert lost > 0.5
    else:
        assert lost < 0.2


def test_the_meter_counts_what_flower_would_send(federate):
    federate(3, rounds=2, mods=[compress(FLOAT32)], codec=FLOAT32)
    plain = federate.meter
    federate(3, rounds=2, mods=[compress(EIGHT_BIT)], codec=EIGHT_BIT)
    packed = federate.meter
    assert sorted(plain) == sorted(packed) == [1, 2]
    weights = 3 * num_bytes(START)
    assert weights < plain[1].bytes_up < weights + 3 * 500  # headers and metrics
    assert plain[1].bytes_down == packed[1].bytes_down
    numbers = sum(array.size for array in START)
    header = 128  # of one .npy array; the packed update has one more, for the scales
    gained = plain[1].bytes_up - packed[1].bytes_up
    assert gained == 3 * (3 * numbers - 8 * len(START) - header - 1)


@pytest.mark.parametrize("codec", [FLOAT16, top_k(0.2)], ids=lambda codec: codec.name)
def test_the_global_model_can_go_down_as_float16(federate, codec):
    federate(3, rounds=1, mods=[compress(codec)], codec=codec)
    whole = federate.meter[1].bytes_down
    after, grid = federate(3, rounds=30, mods=[compress(codec)], codec=codec, half_down=True)
    assert whole - federate.meter[1].bytes_down == 3 * 2 * sum(a.size for a in START)
    plain, _ = federate(3, rounds=30)
    assert grid.left_out == []
    assert np.linalg.norm(flat(after[-1]) - flat(plain[-1])) < 0.2 * np.linalg.norm(flat(plain[-1]))


def test_the_meter_s_arrays_are_as_long_as_flower_s_serialisation():
    record = to_record(START)
    content = RecordDict({"arrays": record})
    flowers = sum(len(array.data) + len(name) for name, array in record.items())
    assert message_bytes(content) == flowers


def test_an_update_that_cannot_be_unpacked_leaves_its_hospital_out(federate):
    def garble(message, context, call_next):
        reply = call_next(message, context)
        reply.content["arrays"] = to_record([np.zeros(1, np.uint8)])
        return reply

    mods = [robustness.only_at({1}, garble), compress(EIGHT_BIT)]
    _, grid = federate(3, mods=mods, codec=EIGHT_BIT)
    assert [out.hospital for out in grid.left_out] == ["h1"]
    assert "cannot be unpacked (8 bits)" in grid.left_out[0].reason
    assert grid.traffic[1].hospitals == ["h0", "h2"]


def test_the_memory_stays_in_the_hospital(federate):
    states = []

    def look(message, context, call_next):
        reply = call_next(message, context)
        states.append("memory" in context.state)
        assert isinstance(reply, Message)
        assert set(reply.content) == {"arrays", "metrics"}
        return reply

    codec = top_k(0.2)
    federate(2, rounds=2, mods=[look, compress(codec)], codec=codec)
    assert states == [True] * 4


def test_a_megabyte_takes_eight_tenths_of_a_second_on_ten_megabits():
    assert robustness.line_seconds(1e6) == pytest.approx(0.8)
    assert robustness.line_seconds(1e6, megabits=100) == pytest.approx(0.08)
