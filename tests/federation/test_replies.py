"""Whatever one hospital sends, the others go on, and who was left out is named."""

from __future__ import annotations

import io
import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedtutor import federation
from fedtutor.deployment.network_guard import NetworkGuard
from fedtutor.federation.records import arrays_in, open_reply, to_record, to_weights
from fedtutor.topics.algorithms import Scaffold

LIKE = [np.zeros((4, 3), np.float32), np.zeros(3, np.float32)]
NAMES = [f"h{k}" for k in range(7)]  # as many as Bulyan needs to bear a liar
LIAR = 3


def client_app(lie=None, *, name=None, judge=None):
    """Hospital k adds k + 1 to every weight; ``lie(message)`` is what the liar replies instead."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        k = context.node_config["partition-id"]
        if lie and k == LIAR:
            return lie(message)
        return honest(message, k)

    @app.query()
    def who(message, context):
        said = context.node_config["name"]
        if name and context.node_config["partition-id"] == LIAR:
            return name(message)
        return Message(RecordDict({"hospital": ConfigRecord({"name": said})}), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        if judge and context.node_config["partition-id"] == LIAR:
            return judge(message)
        metrics = MetricRecord({"num-examples": 5, "accuracy": 0.5})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def honest(message, k=LIAR, **metrics):
    weights = [array + np.float32(k + 1) for array in to_weights(arrays_in(message))]
    return reply(message, to_record(weights), {"num-examples": 10, "loss": 0.5, **metrics})


def reply(message, arrays, metrics):
    content = {"arrays": arrays, "metrics": MetricRecord(metrics)}
    return Message(RecordDict(content), reply_to=message)


def run(app, strategy="fedavg", *, rounds=2, guard=federation.GuardedGrid, on_reply=None, **more):
    """Run to the end; (global models, guarded grid)."""
    noted = []
    if isinstance(strategy, str):
        strategy = federation.make_strategy(strategy, len(NAMES), **more)
    server_app = federation.make_server_app(
        LIKE,
        strategy,
        num_rounds=rounds,
        config=ConfigRecord({"seed": 0, "optimizer": "sgd"}),
        on_reply=on_reply,
        on_round=lambda r, weights, grid: noted.append((weights, grid)),
        guard=guard,
    )
    federation.run_in_process(server_app, app, NAMES)
    return [weights for weights, _ in noted], noted[-1][1]


def others_went_on(seen, grid, rounds=2):
    """Check that all but the liar took part in each round, once, and nobody else was left out."""
    for server_round in range(1, rounds + 1):
        trained = grid.traffic[server_round].hospitals
        assert [name for name in trained if name != NAMES[LIAR]] == [
            *NAMES[:LIAR],
            *NAMES[LIAR + 1 :],
        ]
        assert trained.count(NAMES[LIAR]) <= 1
    assert len(seen) == rounds + 1
    assert not any(np.array_equal(a, b) for a, b in zip(seen[0], seen[-1], strict=True))
    assert {out.hospital for out in grid.left_out} <= {NAMES[LIAR]}
    for out in grid.left_out:
        assert 0 < len(out.reason) <= 500
        assert out.reason.isprintable()


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(text, version=b"\x01\x00"):
    padded = text.encode() + b"\n"
    return b"\x93NUMPY" + version + len(padded).to_bytes(2, "little") + padded


def zipped(*arrays):
    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


GOOD = npy(LIKE[0])
HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
NO_ARRAYS = {
    "nothing": b"",
    "zip": zipped(LIKE[0]),
    "pickle": npy(np.array([{}], object), allow_pickle=True),
    "text": b"weights",
    "cut off": GOOD[:-1],
    "cut in the header": GOOD[:40],
    "one byte more": GOOD + b"\0",
    "another shape": npy(LIKE[0].T.copy()),
    "another dtype": npy(LIKE[0].astype(">f4")),
    "objects": header(HUGE.replace("<f4", "O")) + bytes(48),
    "huge": header(HUGE) + bytes(48),
    "negative": header(HUGE.replace("(1000000, 1000000)", "(-4, -3)")) + bytes(48),
    "no dictionary": header("[" * 300) + bytes(48),
    "code": header("__import__('os').abort()") + bytes(48),
    "long header": header(HUGE + " " * 5000) + bytes(48),
    "newer version": header(HUGE, b"\x03\x00") + bytes(48),
}


def array(data=GOOD, dtype="float32", shape=(4, 3), stype="numpy.ndarray"):
    return Array(dtype, shape, stype, data)


def record(items):
    found = ArrayRecord()
    for key, value in items.items():
        found[key] = value
    return found


ODD_ARRAYS = {
    **{f"bytes: {what}": array(data) for what, data in NO_ARRAYS.items()},
    "dtype nonsense": array(dtype="nonsense"),
    "dtype float64": array(npy(LIKE[0].astype(float)), "float64"),
    "shape huge": array(shape=(10**18, 10**18)),
    "shape negative": array(shape=(-4, -3)),
    "many dimensions": array(shape=(1,) * 10_000),
    "stype": array(stype="\x1b[2J"),
}


@pytest.mark.parametrize("what", ODD_ARRAYS)
def test_what_is_no_array_of_the_model_leaves_one_hospital_out(what):
    def lie(message):
        arrays = record({"0": ODD_ARRAYS[what], "1": Array(LIKE[1])})
        return reply(message, arrays, {"num-examples": 10})

    seen, grid = run(client_app(lie))
    if what == "stype":  # the bytes decide, and these are good
        assert grid.left_out == []
    else:
        assert [out.round for out in grid.left_out] == [1, 2]
    others_went_on(seen, grid)


def test_a_header_that_promises_terabytes_allocates_nothing():
    message = asked()
    lie = reply(message, record({"0": array(NO_ARRAYS["huge"]), "1": Array(LIKE[1])}), {"n": 1})
    lie.content["metrics"]["num-examples"] = 1
    tracemalloc.start()
    with pytest.raises(ValueError, match="1000000"):
        open_reply(lie, message, "South", LIKE, ())
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def asked(kind="train"):
    """A message as a grid has sent it."""
    grid = federation.InProcessGrid(client_app(), NAMES)
    content = RecordDict({"arrays": to_record(LIKE), "config": ConfigRecord({"server-round": 1})})
    message = Message(content, grid.get_node_ids()[0], kind)
    grid.push_messages([message])
    return message


@pytest.mark.parametrize("columns", [False, True])
def test_arrays_of_the_wire_are_read_whatever_their_order_and_not_copied(columns):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=a.shape).astype(np.float32) for a in LIKE]
    if columns:
        weights[0] = np.asfortranarray(weights[0])
    message = asked()
    sent = reply(message, ArrayRecord(weights), {"num-examples": 3})
    got = to_weights(arrays_in(open_reply(sent, message, "South", LIKE, ())))
    for ours, theirs, record_ in zip(got, weights, sent.content["arrays"].values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.shares_memory(ours, np.frombuffer(record_.data, np.uint8))


def test_weights_of_one_process_are_passed_on_as_they_are():
    message = asked()
    weights = [array + 1 for array in LIKE]
    clean = open_reply(
        reply(message, to_record(weights), {"num-examples": 3}), message, "", LIKE, ()
    )
    for ours, theirs in zip(to_weights(arrays_in(clean)), weights, strict=True):
        assert np.shares_memory(ours, theirs)


def without(key):
    def lie(message):
        content = honest(message).content
        del content[key]
        return Message(content, reply_to=message)

    return lie


def exits(message):
    raise SystemExit(3)


def error(reason):
    return lambda message: Message(Error(1, reason), reply_to=message)


ODD_REPLIES = {
    "no arrays": without("arrays"),
    "no metrics": without("metrics"),
    "nothing": lambda m: Message(RecordDict(), reply_to=m),
    "records of other types": lambda m: Message(
        RecordDict({"arrays": MetricRecord({"0": 1}), "metrics": ArrayRecord(LIKE)}), reply_to=m
    ),
    "a list of examples": lambda m: honest(m, **{"num-examples": [10, 10]}),
    "an integer too long": lambda m: honest(m, **{"num-examples": 10**5000}),
    "a blank reason": error("  \n "),
    "no reason": error(None),
    "a reason that is none": error(5),
    "a long reason": error("x" * 10**6),
    "a reason for a terminal": error("\x1b[2J\x1b]0;owned\x07\u202egnorw"),
    "an exit": exits,
    "no message": lambda m: None,
    "another's message": lambda m: Message(honest(m).content, reply_to=asked()),
}


@pytest.mark.parametrize("what", ODD_REPLIES)
def test_a_reply_of_any_other_kind_leaves_one_hospital_out(what):
    seen, grid = run(client_app(ODD_REPLIES[what]))
    assert {out.round for out in grid.left_out} == {1, 2}
    others_went_on(seen, grid)


def test_a_reason_is_one_line_that_can_be_seen():
    (first, _) = run(client_app(error("\x1b[2J\u202egnorw")))[1].left_out
    assert first.reason == r"\x1b[2J\u202egnorw"
    assert run(client_app(error(" ")))[1].left_out[0].reason == "gave no reason"
    assert run(client_app(error(None)))[1].left_out[0].reason == "error 1"


def test_records_that_nobody_asked_for_are_dropped():
    def lie(message):
        found = honest(message)
        found.content["more"] = MetricRecord({"moved": 6.0})
        found.content["again"] = ArrayRecord(LIKE)
        return found

    seen, grid = run(client_app(lie), "fedmedian")
    assert grid.left_out == []
    others_went_on(seen, grid)


@pytest.mark.parametrize("metrics", [{"more": 1.0}, {"loss": [0.5, 0.5]}, {"loss": float("nan")}])
@pytest.mark.parametrize("name", federation.STRATEGIES)
def test_a_metric_more_or_less_or_a_list_of_them_does_not_end_the_run(name, metrics):
    told = []
    app = client_app(lambda message: honest(message, **metrics))
    seen, grid = run(app, name, on_reply=lambda *said: told.append(said))
    assert grid.left_out == []
    others_went_on(seen, grid)
    assert all("loss" in said for _, hospital, said in told if hospital != NAMES[LIAR])
    if "more" in metrics:
        assert {said["more"] for _, hospital, said in told if hospital == NAMES[LIAR]} == {1.0}


def test_who_does_not_send_what_the_strategy_needs_is_left_out():
    def app(value):
        outer, inner = ClientApp(), client_app()
        outer.query()(inner)

        @outer.train()
        def train(message, context):
            k = context.node_config["partition-id"]
            return honest(message, k, **{"step-sum": value if k == LIAR else 1.0})

        return outer

    for value in ([1.0], float("nan"), 0.0):  # the last is in good form, and a bad divisor
        strategy = Scaffold(fraction_evaluate=0.0, min_available_nodes=len(NAMES))
        seen, grid = run(app(value), strategy)
        if value != 0.0:
            assert ["step-sum" in out.reason for out in grid.left_out] == [True, True]
        assert np.isfinite(seen[-1][0]).all()
        others_went_on(seen, grid)


def judged_badly(message):
    return Message(RecordDict({"metrics": MetricRecord({"accuracy": [1.0]})}), reply_to=message)


JUDGES = {
    "metrics that are lists": (judged_badly, 2),
    "an exit": (exits, 2),
    "an error": (error(""), 2),
    "more than was asked": (lambda message: honest(message, more=1.0), 0),
}


@pytest.mark.parametrize("what", JUDGES)
def test_who_judges_the_model_passes_the_same_wall(what):
    judge, times = JUDGES[what]
    evaluation = {"fraction_evaluate": 1.0, "min_evaluate_nodes": len(NAMES)}
    seen, grid = run(client_app(judge=judge), **evaluation)
    others_went_on(seen, grid)
    assert len(grid.left_out) == times


NO_NAMES = {
    "no name": ConfigRecord({}),
    "bytes": ConfigRecord({"name": b"h9"}),
    "a list": ConfigRecord({"name": ["h9"]}),
    "blank": ConfigRecord({"name": " \n\t"}),
    "metrics": MetricRecord({"name": 1}),
}


@pytest.mark.parametrize("what", NO_NAMES)
def test_who_does_not_say_its_name_is_called_by_its_node(what):
    content = RecordDict({"hospital": NO_NAMES[what]})
    called = names_if_the_liar_says(content)
    assert called.pop(LIAR).startswith("node ")
    assert called == NAMES[:LIAR] + NAMES[LIAR + 1 :]


def names_if_the_liar_says(content):
    """What the hospitals are called, in the order of their nodes."""
    _, grid = run(client_app(name=lambda message: Message(content, reply_to=message)))
    return [grid.names[node_id] for node_id in sorted(grid.names)]


def names_if_the_liar_is_called(name):
    return names_if_the_liar_says(RecordDict({"hospital": ConfigRecord({"name": name})}))


def test_two_that_claim_one_name_are_told_apart():
    names = names_if_the_liar_is_called("h0")
    assert names[0] != names[LIAR]
    assert all(name.startswith("h0 (node ") for name in (names[0], names[LIAR]))
    assert len(set(names_if_the_liar_is_called(names[0]))) == len(NAMES)


def test_a_name_is_short_and_can_be_seen():
    assert names_if_the_liar_is_called("\x1b[2Jh0")[LIAR] == r"\x1b[2Jh0"
    assert len(names_if_the_liar_is_called("x" * 10**6)[LIAR]) == 200


class Forging(federation.InProcessGrid):
    """A grid whose replies ``forge(replies)`` changes, as a network's may be."""

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        replies = super().send_and_receive(messages, timeout=timeout)
        training = messages and messages[0].metadata.message_type == "train"
        return self.forge(replies) if training else replies


def forged(forge):
    """One round on such a grid: (global model, guarded grid)."""
    grid, noted = Forging(client_app(), NAMES), []
    grid.forge = forge
    server_app = federation.make_server_app(
        LIKE,
        federation.make_strategy("fedavg", len(NAMES)),
        num_rounds=1,
        config=ConfigRecord({"seed": 0}),
        on_round=lambda r, weights, grid: noted.append((weights, grid)),
    )
    server_app(grid, Context(1, 1, {}, RecordDict(), {}))
    return noted[-1]


def test_a_second_reply_is_dropped_and_noted():
    def twice(replies):
        for one in replies:
            yield one
            if one.metadata.src_node_id == LIAR + 2:
                yield one

    weights, grid = forged(twice)
    np.testing.assert_allclose(weights[0], np.mean(range(1, 8)))
    assert [(out.hospital, "twice" in out.reason) for out in grid.left_out] == [("h3", True)]


def test_a_reply_counts_for_the_hospital_whose_message_it_answers_whatever_it_says():
    def as_another(replies):
        for one in replies:
            if one.metadata.src_node_id == LIAR + 2:
                one.metadata.__dict__["_src_node_id"] = 2
            yield one

    _, grid = forged(as_another)
    assert grid.traffic[1].hospitals == NAMES
    assert grid.left_out == []


def test_a_reply_to_no_message_of_the_round_is_dropped_and_noted():
    def to_nobody(replies):
        for one in replies:
            if one.metadata.src_node_id == LIAR + 2:
                one.metadata.__dict__["_reply_to_message_id"] = "none"
            yield one

    _, grid = forged(to_nobody)
    assert grid.traffic[1].hospitals == NAMES[:LIAR] + NAMES[LIAR + 1 :]
    dropped, silent = grid.left_out
    assert dropped.hospital == silent.hospital == NAMES[LIAR]
    assert "dropped" in dropped.reason
    assert "did not reply" in silent.reason


# Anything at all

KEYS = st.sampled_from(["arrays", "metrics", "0", "1", "2", "num-examples", "loss", ""]) | st.text(
    max_size=5
)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.just(2**53)
METRICS = st.dictionaries(
    KEYS, NUMBERS | st.lists(st.floats(), max_size=3) | st.lists(st.integers(0, 9), max_size=3)
)
DATA = st.binary(max_size=300) | st.sampled_from([GOOD, npy(LIKE[1]), *NO_ARRAYS.values()])
ARRAYS = st.builds(
    Array,
    dtype=st.sampled_from(["float32", "float64", "object", "nonsense", ">f4", ""]),
    shape=st.lists(st.integers(-2, 2**70), max_size=3).map(tuple) | st.sampled_from([(4, 3), (3,)]),
    stype=st.sampled_from(["numpy.ndarray", "torch", ""]),
    data=DATA,
) | st.sampled_from([Array(LIKE[0]), Array(LIKE[1])])
RECORDS = (
    METRICS.map(MetricRecord)
    | st.dictionaries(KEYS, ARRAYS, max_size=4).map(record)
    | st.dictionaries(KEYS, st.text() | st.binary() | st.booleans()).map(ConfigRecord)
)
CONTENTS = st.dictionaries(KEYS, RECORDS, max_size=4) | st.fixed_dictionaries(
    {
        "arrays": st.fixed_dictionaries({"0": ARRAYS, "1": ARRAYS}).map(record),
        "metrics": METRICS.map(lambda m: MetricRecord({"num-examples": 10} | m)),
    }
)
ERRORS = st.builds(Error, st.integers(-5, 10), st.none() | st.text())
ANYTHING = CONTENTS.map(RecordDict) | ERRORS


@pytest.mark.parametrize("name", federation.STRATEGIES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(said=ANYTHING, called=ANYTHING, judged=ANYTHING)
def test_whatever_a_hospital_sends_every_strategy_goes_on(name, said, called, judged):
    answer = partial(lambda what, message: Message(what, reply_to=message))
    app = client_app(
        partial(answer, said), name=partial(answer, called), judge=partial(answer, judged)
    )
    evaluation = {"fraction_evaluate": 1.0, "min_evaluate_nodes": len(NAMES)}
    guard = partial(NetworkGuard, max_ratio=10.0)  # a huge number in good form is no fault of form
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen, grid = run(app, name, guard=guard, **evaluation)
    names = [grid.names[node_id] for node_id in sorted(grid.names)]
    liar = names.pop(LIAR)
    for out in grid.left_out:
        assert out.hospital == liar
        assert out.reason.isprintable()
    for server_round in (1, 2):
        assert set(grid.traffic[server_round].hospitals) - {liar} == set(names)
    assert np.isfinite(seen[-1][0]).all()
    assert not np.array_equal(seen[0][0], seen[-1][0])


@given(data=DATA, places=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255))))
def test_whatever_the_bytes_only_an_array_of_the_model_comes_out(data, places):
    broken = bytearray(GOOD)
    for place, value in places:
        broken[place] = value
    message = asked()
    for one in (data, bytes(broken)):
        arrays = record({"0": array(one), "1": Array(LIKE[1])})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                clean = open_reply(
                    reply(message, arrays, {"num-examples": 1}), message, "", LIKE, ()
                )
            except Exception:
                continue
        first = to_weights(arrays_in(clean))[0]
        assert (first.shape, first.dtype) == ((4, 3), np.float32)
        assert np.isfinite(first).all()
