"""Toy hospitals, which train nothing, and a server for them."""

from __future__ import annotations

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedtutor import federation
from fedtutor.federation.records import to_record, to_weights

START = [np.zeros((5, 4), np.float32), np.ones(4, np.float32)]


def step(k):
    """The update of hospital k, the same in every round: near to all others'."""
    rng = np.random.default_rng(k)
    return [
        np.float32(0.5) + rng.normal(scale=0.1, size=array.shape).astype(np.float32)
        for array in START
    ]


def toy_app(move=step, *, num_examples=lambda k: k + 1, loss=lambda k: 1.0, mods=()):
    """Hospitals that add ``move(k)``, an array or number for each array, to what they are sent."""
    app = ClientApp()

    @app.train(mods=list(mods))
    def train(message, context):
        k = context.node_config["partition-id"]
        sent = to_weights(message.content["arrays"])
        weights = [w + u for w, u in zip(sent, move(k), strict=True)]
        metrics = MetricRecord({"num-examples": num_examples(k), "loss": loss(k)})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.query()
    def who(message, context):
        name = {"name": context.node_config["name"]}
        return Message(RecordDict({"hospital": ConfigRecord(name)}), reply_to=message)

    return app


def toy_server(strategy, start=START, *, rounds=1, config=None):
    """A server, and a list of (global weights, grid), filled round by round from round 0 on."""
    seen = []
    server = federation.make_server_app(
        start,
        strategy,
        num_rounds=rounds,
        config=config or ConfigRecord({}),
        on_round=lambda r, weights, grid: seen.append(([a.copy() for a in weights], grid)),
    )
    return server, seen


def run(app, strategy, start=START, *, hospitals, rounds=1, config=None):
    """The global weights of each round, from round 0 on."""
    server, seen = toy_server(strategy, start, rounds=rounds, config=config)
    federation.run_in_process(server, app, [f"h{k}" for k in range(hospitals)])
    return [weights for weights, _ in seen]
