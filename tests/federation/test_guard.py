"""Hospitals that fail, send garbage or keep silent, on the in-process grid."""

from __future__ import annotations

from functools import partial
from itertools import islice

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedtutor import federation
from fedtutor.errors import FederationError
from fedtutor.federation.in_process import WrappedGrid
from fedtutor.federation.records import to_record, to_weights

START = [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)]
NAMES = ["North", "South", "West"]


def client_app(misbehave=None, name_them=True):
    """Hospital k adds k + 1 to every weight; ``misbehave(k, round, weights)`` may spoil it."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        k = context.node_config["partition-id"]
        weights = [array + (k + 1) for array in to_weights(message.content["arrays"])]
        metrics = {"num-examples": 10 * (k + 1), "loss": 0.5}
        if misbehave:
            server_round = message.content["config"]["server-round"]
            weights, metrics = misbehave(k, server_round, weights, metrics)
        content = RecordDict({"arrays": to_record(weights), "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    if name_them:

        @app.query()
        def who(message, context):
            name = ConfigRecord({"name": context.node_config["name"]})
            return Message(RecordDict({"hospital": name}), reply_to=message)

    return app


def run(misbehave=None, *, rounds=1, min_hospitals=1, strategy="fedavg", app=None, **further):
    seen, grids = [], []

    def on_round(server_round, weights, grid):
        seen.append(weights)
        grids.append(grid)

    server_app = federation.make_server_app(
        START,
        federation.make_strategy(strategy, 3),
        num_rounds=rounds,
        config=ConfigRecord({"seed": 0}),
        min_hospitals=min_hospitals,
        on_round=on_round,
        timeout=60.0,
        **further,
    )
    try:
        federation.run_in_process(server_app, app or client_app(misbehave), NAMES)
    finally:
        run.seen, run.grid = seen, grids[-1]
    return seen, grids[-1]


def spoil(change, hospital=1):
    def misbehave(k, server_round, weights, metrics):
        return change(weights, metrics) if k == hospital else (weights, metrics)

    return misbehave


def raises(weights, metrics):
    raise MemoryError("the scanner caught fire")


GARBAGE = {
    "NaN": lambda w, m: ([w[0] * np.nan, w[1]], m),
    "infinity": lambda w, m: ([w[0], w[1] + np.float32(np.inf)], m),
    "shape": lambda w, m: ([w[0].T.copy(), w[1]], m),
    "shape (1,)": lambda w, m: ([w[0], w[1][:1]], m),
    "dtype": lambda w, m: ([w[0].astype(np.float64), w[1]], m),
    "arrays": lambda w, m: (w[:1], m),
    "0 examples": lambda w, m: (w, m | {"num-examples": 0}),
    "-5 examples": lambda w, m: (w, m | {"num-examples": -5}),
    "inf examples": lambda w, m: (w, m | {"num-examples": float("inf")}),
    "nan examples": lambda w, m: (w, {"loss": 1.0}),
    "caught fire": raises,
}


@pytest.mark.parametrize("word", GARBAGE)
def test_garbage_is_named_and_left_out(word):
    seen, grid = run(spoil(GARBAGE[word]))
    (out,) = grid.left_out
    assert (out.round, out.hospital) == (1, "South")
    assert word in out.reason
    np.testing.assert_allclose(seen[-1][0], (10 * 1 + 30 * 3) / 40)
    assert grid.traffic[1].hospitals == ["North", "West"]


def registered(examples, **further):
    guard = partial(federation.GuardedGrid, registered=examples)
    return run(rounds=2, guard=guard, **further)


def test_who_claims_more_examples_than_it_registered_is_named_and_left_out():
    seen, grid = registered({"North": 10, "South": 19, "West": 1000})
    assert [(out.round, out.hospital) for out in grid.left_out] == [(1, "South"), (2, "South")]
    assert grid.left_out[0].reason == "South claims 20 examples; it has registered 19"
    np.testing.assert_allclose(seen[1][0], (10 * 1 + 30 * 3) / 40)


def test_who_is_not_registered_is_left_out():
    _, grid = registered({"North": 10, "South": 20})
    assert {(out.hospital, out.reason) for out in grid.left_out} == {
        ("West", "West claims 30 examples; it has registered 0")
    }
    with pytest.raises(FederationError, match="North claims 10 examples; it has registered 0"):
        registered({})


def test_without_a_register_any_claim_is_believed():
    seen, grid = run(spoil(lambda w, m: (w, m | {"num-examples": 2**53})))
    assert grid.left_out == []
    np.testing.assert_allclose(seen[-1][0], 2)


@pytest.mark.parametrize("strategy", ["fedmedian", "krum", "fedadam", "fedprox"])
def test_flower_s_own_strategies_are_guarded_as_well(strategy):
    seen, grid = run(spoil(GARBAGE["NaN"]), strategy=strategy)
    assert [out.hospital for out in grid.left_out] == ["South"]
    assert np.isfinite(seen[-1][0]).all()
    assert np.abs(seen[-1][0]).max() > 0


def test_too_few_hospitals_stop_the_run_and_the_last_good_model_was_seen():
    def misbehave(k, server_round, weights, metrics):
        if server_round == 2 and k != 0:
            raise MemoryError("power cut")
        return weights, metrics

    with pytest.raises(FederationError, match=r"round 2: 1 of 3 .* at least 2 .*South.*West"):
        run(misbehave, rounds=3, min_hospitals=2)
    assert len(run.seen) == 2
    np.testing.assert_allclose(run.seen[-1][0], (10 + 40 + 90) / 60)


def test_nobody_left_is_never_a_silent_success():
    with pytest.raises(FederationError, match="0 of 3"):
        run(lambda k, r, w, m: raises(w, m))


def test_a_round_out_of_time_leaves_out_who_did_not_reply():
    """The third of three hospitals would take 70 of the round's 60 seconds."""

    class Impatient(WrappedGrid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = self._grid.send_and_receive(messages, timeout=timeout)
            late = timeout < 70 and any(m.metadata.message_type == "train" for m in messages)
            return islice(replies, 2) if late else replies

    def guard(grid, like, **options):
        return federation.GuardedGrid(Impatient(grid), like, **options)

    _, grid = run(guard=guard)
    assert [out.hospital for out in grid.left_out] == ["West"]
    assert "did not reply within 60 s" in grid.left_out[0].reason


def test_an_app_that_knows_no_names_is_called_by_its_node():
    _, grid = run(app=client_app(spoil(GARBAGE["NaN"]), name_them=False))
    assert grid.left_out[0].hospital.startswith("node ")


def test_a_reply_without_arrays_is_left_out():
    app = client_app()
    honest = app._registered_funcs["train.default"]

    def empty(message, context):
        if context.node_config["partition-id"] == 2:
            return Message(RecordDict({"metrics": MetricRecord({"loss": 1.0})}), reply_to=message)
        return honest(message, context)

    app._registered_funcs["train.default"] = empty
    _, grid = run(app=app)
    assert [out.hospital for out in grid.left_out] == ["West"]


@pytest.mark.parametrize("names", [("0", "2"), ("kernel", "bias")])
def test_arrays_of_other_names_are_left_out(names):
    app = client_app()
    honest = app._registered_funcs["train.default"]

    def rename(message, context):
        reply = honest(message, context)
        if context.node_config["partition-id"] == 1:
            arrays = list(reply.content["arrays"].values())
            reply.content["arrays"] = ArrayRecord(dict(zip(names, arrays, strict=True)))
        return reply

    app._registered_funcs["train.default"] = rename
    _, grid = run(app=app)
    assert [out.hospital for out in grid.left_out] == ["South"]
    assert names[1] in grid.left_out[0].reason


def test_arrays_in_another_order_go_where_their_names_say():
    record = to_record(START)
    backwards = ArrayRecord(dict(reversed(list(record.items()))))
    assert [array.shape for array in to_weights(backwards)] == [(2, 3), (3,)]


def test_the_traffic_is_what_was_sent():
    _, grid = run(rounds=2)
    size = 4 * (6 + 3)
    for server_round in (1, 2):
        assert grid.traffic[server_round].bytes_down == 3 * size
        assert grid.traffic[server_round].bytes_up == 3 * size
