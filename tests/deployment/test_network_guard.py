"""Replies that come over a wire: each unpacked by itself, and no claim believed too far."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtutor import federation
from fedtutor.deployment.network_guard import NetworkGuard, OneByOne
from fedtutor.deployment.server_settings import ServerSettings
from fedtutor.federation.records import arrays_in, to_record, to_weights

NAMES = ["North", "South", "West"]
START = [np.ones((2, 3), np.float32)]


def client_app(claims=lambda k, server_round: 10):
    app = ClientApp()

    @app.train()
    def train(message, context):
        k = context.node_config["partition-id"]
        weights = [array + np.float32(k + 1) for array in to_weights(arrays_in(message))]
        count = claims(k, message.content["config"]["server-round"])
        metrics = MetricRecord({"num-examples": count, "loss": 0.5})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.query()
    def who(message, context):
        name = ConfigRecord({"name": context.node_config["name"]})
        return Message(RecordDict({"hospital": name}), reply_to=message)

    return app


class Wire(federation.InProcessGrid):
    """A grid whose replies are packed and unpacked as Flower does it; ``spoil`` packs South's."""

    names_too = False

    def pull_messages(self, message_ids):
        for reply in super().pull_messages(message_ids):
            objects = get_all_nested_objects(reply)
            contents = {key: one.deflate() for key, one in objects.items()}
            spoilt = reply.metadata.message_type == "train" or self.names_too
            if spoilt and reply.metadata.src_node_id == self.get_node_ids()[1]:
                contents = {
                    key: self.spoil(type(objects[key]).__name__, content)
                    for key, content in contents.items()
                }
            yield inflate_object_from_contents(reply.object_id, contents)


def run(grid, *, rounds=2, timeout=3600.0, **options):
    noted = []
    server_app = federation.make_server_app(
        START,
        federation.make_strategy("fedavg", len(NAMES)),
        num_rounds=rounds,
        config=ConfigRecord({"seed": 0}),
        on_round=lambda r, weights, grid: noted.append((weights, grid)),
        guard=partial(NetworkGuard, **options),
        timeout=timeout,
    )
    server_app(grid, Context(1, 1, {}, RecordDict(), {}))
    return noted[-1]


def spoilt(spoil, names_too=False):
    grid = Wire(client_app(), NAMES)
    grid.spoil, grid.names_too = spoil, names_too
    weights, grid = run(OneByOne(grid))
    for server_round in (1, 2):
        assert {"North", "West"} <= set(grid.traffic[server_round].hospitals)
    return weights, grid


def body(kind, new):
    """Put other bytes in place of what is packed as one kind of record."""

    def spoil(what, content):
        head, divider, old = content.partition(b"\0")
        return head + divider + (new(old) if what == kind else old)

    return spoil


def with_value(key, value):
    def changed(old):
        return json.dumps(json.loads(old) | {key: value}).encode()

    return changed


UNREADABLE = {
    "no JSON": body("ArrayView", lambda old: b"{"),
    "no text": body("ArrayRecord", lambda old: b"\xff\xfe"),
    "a number as dtype": body("ArrayView", with_value("dtype", 5)),
    "a text as shape": body("ArrayView", with_value("shape", ["a"])),
    "bytes that are not there": body("ArrayView", with_value("arraychunk_ids", [7])),
    "no metrics": body("MetricRecord", lambda old: b"\xff" * 9),
    "other records": body("RecordDict", lambda old: b'{"arrays": "' + b"0" * 64 + b'"}'),
    "a list of records": body("RecordDict", lambda old: b"[]"),
    "no message": body("Message", lambda old: b"\xff" * 9),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_flower_cannot_unpack_leaves_out_who_sent_it(what):
    _, grid = spoilt(UNREADABLE[what])
    assert [(out.round, out.hospital) for out in grid.left_out] == [(1, "South"), (2, "South")]
    assert all("cannot be unpacked" in out.reason for out in grid.left_out)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(
        ["ArrayView", "ArrayRecord", "MetricRecord", "RecordDict", "Message", "ArrayChunk"]
    ),
    new=st.binary(max_size=80),
    share=st.floats(0, 1),
)
def test_whatever_bytes_are_packed_the_others_go_on(kind, new, share):
    def mixed(old):
        return old[: int(share * len(old))] + new

    weights, grid = spoilt(body(kind, mixed), names_too=True)
    assert {out.round for out in grid.left_out} <= {1, 2}
    assert np.isfinite(weights[0]).all()


def test_a_reply_says_nothing_of_whose_it_is():
    class Forged(federation.InProcessGrid):
        def pull_messages(self, message_ids):
            for reply in super().pull_messages(message_ids):
                if reply.metadata.src_node_id == self.get_node_ids()[1]:
                    reply.metadata.__dict__["_src_node_id"] = self.get_node_ids()[0]
                yield reply

    _, grid = run(OneByOne(Forged(client_app(), NAMES)))
    assert grid.traffic[1].hospitals == NAMES
    assert grid.left_out == []


def test_replies_come_when_they_are_there_and_who_has_none_in_time_is_left_out(monkeypatch):
    """By a clock of our own: North and West need two looks, South never has done."""
    seconds, looks = [0.0], Counter()

    def sleep(for_so_long):
        seconds[0] += for_so_long

    clock = SimpleNamespace(monotonic=lambda: seconds[0], sleep=sleep)
    monkeypatch.setattr("fedtutor.deployment.network_guard.time", clock)

    class Slow(federation.InProcessGrid):
        def pull_messages(self, message_ids):
            (message_id,) = message_ids
            said, south = self._waiting[message_id].metadata, self.get_node_ids()[1]
            looks[message_id] += 1
            if said.message_type == "train" and (
                said.dst_node_id == south or looks[message_id] < 3
            ):
                return []
            return super().pull_messages(message_ids)

    _, grid = run(OneByOne(Slow(client_app(), NAMES)), rounds=1, timeout=5.0)
    assert grid.traffic[1].hospitals == ["North", "West"]
    assert [(out.hospital, out.reason) for out in grid.left_out] == [
        ("South", "did not reply within 5 s")
    ]
    assert seconds[0] == pytest.approx(5.0, abs=0.11)


def test_a_look_at_which_the_superlink_fails_is_taken_again():
    looks = Counter()

    class Failing(federation.InProcessGrid):
        def pull_messages(self, message_ids):
            (message_id,) = message_ids
            looks[message_id] += 1
            if looks[message_id] == 1:
                response = httpx.Response(500, request=httpx.Request("POST", "http://superlink"))
                response.raise_for_status()
            return super().pull_messages(message_ids)

    _, grid = run(OneByOne(Failing(client_app(), NAMES)))
    assert grid.traffic[2].hospitals == NAMES
    assert grid.left_out == []
    assert set(looks.values()) == {2}


def claimed(claims, rounds=2, max_ratio=10.0):
    app = client_app(claims)
    return run(OneByOne(federation.InProcessGrid(app, NAMES)), rounds=rounds, max_ratio=max_ratio)


def test_who_claims_more_examples_than_a_hundred_times_the_median_is_left_out():
    weights, grid = claimed(lambda k, server_round: 2**53 if k == 1 else 10)
    assert [(out.round, out.hospital) for out in grid.left_out] == [(1, "South"), (2, "South")]
    assert "claims 9.0072e+15 examples; at most 1000 are believed" in grid.left_out[0].reason
    np.testing.assert_allclose(weights[0], 1 + 2 + 2)
    assert list(grid.examples.values()) == [10, 10]


def test_what_a_hospital_claims_must_not_grow_and_may_shrink():
    _, grid = claimed(lambda k, r: {0: 10, 1: 10 * r, 2: 30 - r}[k], rounds=3)
    assert [(out.round, out.hospital) for out in grid.left_out] == [(2, "South"), (3, "South")]
    assert "at most 10 are believed" in grid.left_out[0].reason


def test_who_claims_more_than_it_registered_is_left_out():
    register = ServerSettings(registered="North=10,South=9,West=10").register()
    grid = OneByOne(federation.InProcessGrid(client_app(), NAMES))
    _, guarded = run(grid, rounds=1, registered=register)
    assert [(out.hospital, out.reason) for out in guarded.left_out] == [
        ("South", "South claims 10 examples; it has registered 9")
    ]


def test_a_large_hospital_is_believed():
    assert claimed(lambda k, server_round: [10, 900, 20][k])[1].left_out == []
    _, grid = claimed(lambda k, server_round: [10, 900, 20][k], max_ratio=5.0)
    assert {out.hospital for out in grid.left_out} == {"South"}
    assert claimed(lambda k, r: 2**53 if k == 1 else 10, max_ratio=np.inf)[1].left_out == []
