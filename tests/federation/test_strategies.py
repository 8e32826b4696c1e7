from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Bulyan
from flwr.serverapp.strategy.bulyan import aggregate_n_closest_weights
from hypothesis import given
from hypothesis import strategies as st

from fedtutor import federation
from fedtutor.aggregation import weighted_average
from fedtutor.errors import FederationError
from fedtutor.federation.records import to_record, to_weights
from fedtutor.federation.strategies import mean_around_median

NUM_HOSPITALS = 7


def update(k):
    rng = np.random.default_rng(k)
    return [rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)]


def client_app(outlier=None):
    app = ClientApp()

    @app.train()
    def train(message, context):
        k = context.node_config["partition-id"]
        weights = [array * (1000 if k == outlier else 1) for array in update(k)]
        metrics = MetricRecord({"num-examples": k + 1, "loss": 1.0})
        return Message(
            RecordDict({"arrays": to_record(weights), "metrics": metrics}), reply_to=message
        )

    return app


def global_model(name, *, outlier=None, rounds=1, made_by=None):
    server_app = federation.make_server_app(
        [np.zeros((5, 4), np.float32), np.zeros(4, np.float32)],
        federation.make_strategy(name, NUM_HOSPITALS, made_by=made_by),
        num_rounds=rounds,
        config=ConfigRecord({}),
    )
    names = [f"h{k}" for k in range(NUM_HOSPITALS)]
    context = federation.run_in_process(server_app, client_app(outlier), names)
    return to_weights(context.state["arrays"])


@pytest.mark.parametrize("name", federation.STRATEGIES)
def test_every_strategy_runs_for_two_rounds_on_the_in_process_grid(name):
    model = global_model(name, rounds=2)
    assert [array.shape for array in model] == [(5, 4), (4,)]
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in model)
    assert np.abs(model[0]).max() > 0


def test_fedavg_is_the_weighted_average():
    expected = weighted_average(
        [update(k) for k in range(NUM_HOSPITALS)], list(range(1, NUM_HOSPITALS + 1))
    )
    for ours, theirs in zip(global_model("fedavg"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_streaming_fedavg_and_flower_s_agree():
    from flwr.serverapp.strategy import FedAvg

    server_app = federation.make_server_app(
        [np.zeros((5, 4), np.float32), np.zeros(4, np.float32)],
        FedAvg(fraction_evaluate=0.0),
        num_rounds=1,
        config=ConfigRecord({}),
    )
    names = [f"h{k}" for k in range(NUM_HOSPITALS)]
    context = federation.run_in_process(server_app, client_app(), names)
    for ours, flowers in zip(
        global_model("fedavg"), to_weights(context.state["arrays"]), strict=True
    ):
        np.testing.assert_allclose(ours, flowers, atol=1e-6)


@pytest.mark.parametrize("name", ["fedmedian", "krum", "multikrum", "bulyan"])
def test_robust_strategies_bear_one_liar_where_fedavg_does_not(name):
    assert np.abs(global_model(name, outlier=3)[0]).max() < 5
    assert np.abs(global_model("fedavg", outlier=3)[0]).max() > 50


def test_an_unknown_strategy_lists_the_known_ones():
    with pytest.raises(FederationError, match="fedavg, fedprox"):
        federation.make_strategy("fedup", 3)


@pytest.mark.parametrize(("num", "chosen"), [(3, 1), (5, 2), (10, 5), (13, 6)])
def test_multi_krum_averages_no_more_than_its_theorem_allows(num, chosen):
    # m <= n - f - 2 (Blanchard et al. 2017) with the most liars f that n >= 2 f + 3 allows.
    assert federation.make_strategy("multikrum", num).num_nodes_to_select == chosen


def test_the_quick_bulyan_is_flower_s():
    theirs = global_model("bulyan", made_by=Bulyan, outlier=3)
    for ours, flowers in zip(global_model("bulyan", outlier=3), theirs, strict=True):
        np.testing.assert_allclose(ours, flowers, atol=1e-6)
        assert ours.dtype == np.float32


@given(st.integers(0, 10**6), st.integers(3, 9), st.integers(0, 3))
def test_the_mean_around_the_median_is_flower_s(seed, hospitals, fewer):
    stack = np.random.default_rng(seed).normal(size=(hospitals, 4, 5))
    keep = max(1, hospitals - fewer)
    (flowers,) = aggregate_n_closest_weights(
        [np.median(stack, axis=0)], [[array] for array in stack], keep
    )
    np.testing.assert_allclose(mean_around_median(stack, keep), flowers, atol=1e-12)


def test_bulyan_without_enough_hospitals_gives_no_model():
    assert federation.make_strategy("bulyan", 10).aggregate_train(1, []) == (None, None)
