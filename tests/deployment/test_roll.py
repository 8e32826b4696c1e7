"""Hospitals that are not there: how long a round waits, what it says, and who is left out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedtutor import federation
from fedtutor.deployment.network_guard import NetworkGuard
from fedtutor.deployment.roll import Roll
from fedtutor.errors import FederationError
from fedtutor.federation.records import to_record, to_weights

NAMES = ["North", "South", "West"]
START = [np.ones((2, 3), np.float32)]


def roll(expected=3, minimum=1, patience=0.05):
    said = []
    return Roll(expected, minimum=minimum, patience=patience, tell=said.append), said


def test_all_there_means_no_wait_and_no_words():
    calling, said = roll()
    assert calling.call(lambda: [7, 8, 9]) == [7, 8, 9]
    assert said == []


def test_it_waits_for_those_who_come_late():
    coming = iter([[], [7], [7], [7, 8], [7, 8, 9]])
    calling, said = roll(patience=60.0)
    assert calling.call(lambda: next(coming)) == [7, 8, 9]
    assert said == [f"waiting for hospitals: {k} of 3 are connected" for k in (0, 1, 2)]


def test_it_goes_on_with_enough_and_does_not_wait_again_for_the_missing():
    calling, said = roll(minimum=2)
    assert calling.call(lambda: [7, 8]) == [7, 8]
    assert said[-1] == "going on with 2 of 3 hospitals"
    said.clear()
    assert calling.call(lambda: [7, 8]) == [7, 8]
    assert said == []


def test_who_comes_back_is_expected_again():
    calling, said = roll(minimum=2)
    calling.call(lambda: [7, 8])
    assert calling.call(lambda: [7, 8, 9]) == [7, 8, 9]
    said.clear()
    calling.call(lambda: [7, 8])
    assert said[0] == "waiting for hospitals: 2 of 3 are connected"


def test_too_few_are_an_error_and_not_an_endless_wait():
    calling, _ = roll(minimum=2)
    with pytest.raises(FederationError, match=r"1 of 3 .* at least 2 .*flower-supernode.*ask for"):
        calling.call(lambda: [7])


class Leaving(federation.InProcessGrid):
    """A grid from which hospitals vanish: ``here(round)`` says who is connected."""

    def __init__(self, *args, here):
        super().__init__(*args)
        self._here, self._round = here, 1

    def get_node_ids(self):
        nodes = super().get_node_ids()
        return [nodes[k] for k in self._here(self._round)]

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        if messages and messages[0].metadata.message_type == "train":
            self._round += 1
        return super().send_and_receive(messages, timeout=timeout)


def adds(k, weights):
    return [array + np.float32(k + 1) for array in weights]


def client_app(update=adds):
    app = ClientApp()

    @app.train()
    def train(message, context):
        weights = update(context.node_config["partition-id"], to_weights(message.content["arrays"]))
        metrics = MetricRecord({"num-examples": 1})
        return Message(
            RecordDict({"arrays": to_record(weights), "metrics": metrics}), reply_to=message
        )

    @app.query()
    def who(message, context):
        name = ConfigRecord({"name": context.node_config["name"]})
        return Message(RecordDict({"hospital": name}), reply_to=message)

    return app


def run(here, *, rounds=4, minimum=1, strategy="fedavg"):
    """Rounds on a grid that hospitals leave; (global models, guarded grid, what was said)."""
    calling, said = roll(minimum=minimum)
    seen, grids = [], []

    def on_round(server_round, weights, grid):
        seen.append(weights)
        grids.append(grid)

    app = federation.make_server_app(
        START,
        federation.make_strategy(strategy, 3, min_train_nodes=minimum, min_available_nodes=minimum),
        num_rounds=rounds,
        config=ConfigRecord({"seed": 0}),
        min_hospitals=minimum,
        on_round=on_round,
        guard=partial(NetworkGuard, roll=calling),
    )
    run.seen = seen
    app(Leaving(client_app(), NAMES, here=here), grid_context())
    return seen, grids[-1], said


def grid_context():
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})


@pytest.mark.parametrize("strategy", ["fedavg", "fedmedian", "fedadam"])
def test_one_who_left_for_good_is_named_and_the_others_go_on(strategy):
    _, grid, said = run(lambda r: [0, 1, 2] if r == 1 else [0, 2], strategy=strategy)
    assert [(out.round, out.hospital, out.reason) for out in grid.left_out] == [
        (r, "South", "is not connected") for r in (2, 3, 4)
    ]
    assert [grid.traffic[r].hospitals for r in (1, 4)] == [NAMES, ["North", "West"]]
    assert said == ["waiting for hospitals: 2 of 3 are connected", "going on with 2 of 3 hospitals"]


def test_one_who_comes_back_trains_again():
    seen, grid, _ = run(lambda r: [0, 2] if r == 2 else [0, 1, 2])
    assert [out.round for out in grid.left_out] == [2]
    assert grid.traffic[3].hospitals == NAMES
    np.testing.assert_allclose(seen[-1][0], 1 + 2 + 2 + 2 + 2)


def test_with_fewer_than_the_minimum_the_run_ends_and_the_last_good_model_was_seen():
    with pytest.raises(FederationError, match="1 of 3 hospitals are connected"):
        run(lambda r: [0, 1, 2] if r < 3 else [1], minimum=2)
    np.testing.assert_allclose(run.seen[-1][0], 1 + 2 + 2)


def too_large(factor):
    def update(k, weights):
        step = np.float32((k + 1) * (factor if k == 1 else 1))
        return [array + step for array in weights]

    return update


def guarded(update, max_ratio, names=NAMES):
    grids = []
    app = federation.make_server_app(
        START,
        federation.make_strategy("fedavg", len(names)),
        num_rounds=1,
        config=ConfigRecord({"seed": 0}),
        on_round=lambda r, weights, grid: grids.append((weights, grid)),
        guard=partial(NetworkGuard, max_ratio=max_ratio),
    )
    federation.run_in_process(app, client_app(update), names)
    return grids[-1]


def test_an_update_a_hundred_times_too_large_is_left_out_by_name():
    weights, grid = guarded(too_large(100), 10)
    (out,) = grid.left_out
    assert out.hospital == "South"
    assert "66.7 times as long as the median" in out.reason  # the median is West's, of length 3
    np.testing.assert_allclose(weights[0], 1 + (1 + 3) / 2)
    assert grid.traffic[1].hospitals == ["North", "West"]


def test_one_that_is_only_large_is_let_in_and_by_default_all_are():
    assert guarded(too_large(4), 10)[1].left_out == []
    weights, grid = guarded(too_large(100), float("inf"))
    assert grid.left_out == []
    np.testing.assert_allclose(weights[0], 1 + (1 + 200 + 3) / 3)


def test_of_two_hospitals_the_longer_update_is_the_suspect():
    _, grid = guarded(too_large(100), 10, NAMES[:2])
    assert [out.hospital for out in grid.left_out] == ["South"]


def test_if_nobody_moves_nobody_is_left_out():
    _, grid = guarded(lambda k, weights: weights, 10)
    assert grid.left_out == []


def test_an_error_that_flower_signs_itself_is_put_down_to_the_hospital_that_was_asked():
    """As Flower's HTTP grid does when a reply cannot be read to its end."""

    class Lossy(federation.InProcessGrid):
        def push_messages(self, messages):
            asked.extend(messages := list(messages))
            return super().push_messages(messages)

        def pull_messages(self, message_ids):
            for reply in super().pull_messages(message_ids):
                node_id = reply.metadata.src_node_id
                if "arrays" in reply.content and node_id == self.get_node_ids()[1]:
                    sent = next(m for m in asked[-3:] if m.metadata.dst_node_id == node_id)
                    reply = Message(Error(7, "the upload broke off"), reply_to=sent)
                    reply.metadata.__dict__["_src_node_id"] = 1
                yield reply

    asked, grids = [], []
    app = federation.make_server_app(
        START,
        federation.make_strategy("fedavg", 3),
        num_rounds=1,
        config=ConfigRecord({"seed": 0}),
        on_round=lambda r, weights, grid: grids.append(grid),
    )
    app(Lossy(client_app(), NAMES), grid_context())
    (out,) = grids[-1].left_out
    assert (out.hospital, out.reason) == ("South", "the upload broke off")
