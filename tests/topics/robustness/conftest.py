from __future__ import annotations

import pytest
from toys import toy_app, toy_server

from fedtutor import federation
from fedtutor.topics import robustness


@pytest.fixture
def federate():
    """Run a federation of ``num`` toy hospitals: (global weights after each round, grid)."""

    def run(num=7, *, strategy=None, mods=(), rounds=1, app=None, codec=None, **packing):
        strategy = strategy or robustness.make_defence("plain average", num)
        server, seen = toy_server(strategy, rounds=rounds)
        if codec:
            server, run.meter = robustness.unpacking(server, codec, **packing)
        app = robustness.with_mods(app or toy_app(), *mods)
        federation.run_in_process(server, app, [f"h{k}" for k in range(num)])
        return [weights for weights, _ in seen], seen[-1][1]

    return run
