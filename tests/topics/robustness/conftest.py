from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from toys import START, step

from fedtutor import federation
from fedtutor.federation.records import to_record, to_weights
from fedtutor.topics import robustness


@pytest.fixture
def toy_app():
    """Hospitals that add ``toys.step`` to what they are sent; hospital k claims k + 1 examples."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        k = context.node_config["partition-id"]
        sent = to_weights(message.content["arrays"])
        weights = [w + u for w, u in zip(sent, step(k), strict=True)]
        metrics = MetricRecord({"num-examples": k + 1, "loss": 1.0})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.query()
    def who(message, context):
        name = {"name": context.node_config["name"]}
        return Message(RecordDict({"hospital": ConfigRecord(name)}), reply_to=message)

    return app


@pytest.fixture
def federate(toy_app):
    """Run a federation of ``num`` toy hospitals: (global weights after each round, grid)."""

    def run(num=7, *, strategy=None, mods=(), rounds=1, app=None, codec=None, **packing):
        seen = []

        def on_round(server_round, weights, grid):
            seen.append((weights, grid))

        strategy = strategy or robustness.make_defence("plain average", num)
        server = federation.make_server_app(
            START, strategy, num_rounds=rounds, config=ConfigRecord({}), on_round=on_round
        )
        meter = None
        if codec:
            server, meter = robustness.unpacking(server, codec, **packing)
        app = robustness.with_mods(app or toy_app, *mods)
        federation.run_in_process(server, app, [f"h{k}" for k in range(num)])
        run.meter = meter
        return [weights for weights, _ in seen], seen[-1][1]

    return run
