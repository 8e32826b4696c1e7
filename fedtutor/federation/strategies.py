"""Strategies: how the server turns updates into the next global model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid, strategy
from flwr.serverapp.strategy.multikrum import select_multikrum

from fedtutor.aggregation import RunningAverage
from fedtutor.errors import DataError, FederationError
from fedtutor.federation.records import arrays_in, to_record, to_weights
from fedtutor.settings import FEDPROX_MU, RunSettings

Averaged = tuple[ArrayRecord | None, MetricRecord | None]
"""The next model and the mean of the hospitals' metrics; None where nobody replied."""


class StreamingFedAvg(strategy.FedAvg):
    """Flower's FedAvg (McMahan et al. 2017), adding up while it iterates.

    The same average, accumulated in float64, so that the order of the replies does not matter;
    with :class:`~fedtutor.federation.InProcessGrid` its memory does not grow with the number of
    hospitals. That every update is sound is left to :class:`~fedtutor.federation.GuardedGrid`.
    """

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember the model that is sent, and send it."""
        self._like = to_weights(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Averaged:
        """Average the updates as they come in; (None, None) if none did."""
        average, metrics = RunningAverage(self._like), []
        for reply in replies:
            if reply.has_error():
                continue
            weight: Any = reply.content["metrics"][self.weighted_by_key]
            average.add(to_weights(arrays_in(reply)), weight)
            # The numbers are kept; the model that came with them may go once it is added up.
            del reply.content["arrays"]
            metrics.append(reply.content)
        if not average.count:
            return None, None
        return to_record(average.result()), self.train_metrics_aggr_fn(
            metrics, self.weighted_by_key
        )


class SteadyBulyan(strategy.Bulyan):
    """Flower's Bulyan (El Mhamdi et al. 2018), its second half in whole arrays.

    Flower partitions the hospitals' values of each weight one weight at a time, ten times as slow
    as all else in a small federation's round, and skips a round in which a hospital was left out.
    """

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Averaged:
        """Choose by Multi-Krum, bearing as many liars as can be; average around the median."""
        contents = [reply.content for reply in replies if reply.has_content()]
        if len(contents) < 3:
            return None, None
        bad = min(self.num_malicious_nodes, (len(contents) - 3) // LIARS["bulyan"])
        chosen = select_multikrum(contents, bad, len(contents) - 2 * bad)
        updates = [to_weights(content.array_records["arrays"]) for content in chosen]
        keep = len(updates) - 2 * bad
        arrays = [mean_around_median(np.stack(stack), keep) for stack in zip(*updates, strict=True)]
        return to_record(arrays), self.train_metrics_aggr_fn(chosen, self.weighted_by_key)


def mean_around_median(stack: np.ndarray, keep: int) -> np.ndarray:
    """Return for each number the mean of the ``keep`` values nearest to the hospitals' median.

    ``stack`` is float (hospitals, ...); the result is of shape (...).
    """
    ordered = np.sort(stack, axis=0)
    middle = np.median(ordered, axis=0)
    # Sorted, the nearest values stand side by side: find where their row begins.
    begins = range(len(ordered) - keep + 1)
    reach = [np.maximum(middle - ordered[b], ordered[b + keep - 1] - middle) for b in begins]
    means = [ordered[b : b + keep].mean(axis=0) for b in begins]
    best = np.argmin(np.stack(reach), axis=0)
    return np.take_along_axis(np.stack(means), best[None], axis=0)[0].astype(stack.dtype)


STRATEGIES: dict[str, tuple[type[strategy.Strategy], dict[str, float]]] = {
    "fedavg": (StreamingFedAvg, {}),
    "fedprox": (strategy.FedProx, {"proximal_mu": FEDPROX_MU}),
    "fedavgm": (strategy.FedAvgM, {"server_learning_rate": 1.0, "server_momentum": 0.5}),
    "fedadam": (strategy.FedAdam, {"eta": 3e-3, "tau": 1e-3}),
    "fedyogi": (strategy.FedYogi, {"eta": 3e-3, "tau": 1e-3}),
    "fedadagrad": (strategy.FedAdagrad, {"eta": 1e-2, "tau": 1e-3}),
    "fedmedian": (strategy.FedMedian, {}),
    "fedtrimmedavg": (strategy.FedTrimmedAvg, {"beta": 0.2}),
    "krum": (strategy.Krum, {}),
    "multikrum": (strategy.MultiKrum, {}),
    "bulyan": (SteadyBulyan, {}),
}
"""By name, with its settings; all but the first and the last are Flower's own, unchanged."""

LIARS = {"krum": 2, "multikrum": 2, "bulyan": 4}
"""For the most liars f that n hospitals bear, n >= LIARS[name] * f + 3, the papers' bound."""


def make_strategy(
    name: str, num_hospitals: int, *, made_by: Callable[..., Any] | None = None, **kwargs: Any
) -> strategy.Strategy:
    """Return a strategy by name; every hospital trains in every round.

    Parameters
    ----------
    name : one of :data:`STRATEGIES`.
    num_hospitals : how many take part; the robust ones derive from it how many liars they bear.
    made_by : a subclass to take in place of the strategy's own class.
    kwargs : passed on to the Flower strategy, over the defaults.

    Raises
    ------
    FederationError
        For an unknown name; lists the known ones.
    """
    if name not in STRATEGIES:
        raise FederationError(f"unknown strategy {name!r}; known: {', '.join(STRATEGIES)}.")
    defaults = {
        "fraction_evaluate": 0.0,  # the global model is judged once, on the central test set
        "min_evaluate_nodes": 0,
        # Nodes of a real network or of Ray come in one by one. Flower takes its fraction of those
        # it sees at that moment, so that all must be asked for by number.
        "min_train_nodes": num_hospitals,
        "min_available_nodes": num_hospitals,
    }
    cls, settings = STRATEGIES[name]
    if name in LIARS:
        liars = max(0, (num_hospitals - 3) // LIARS[name])
        settings = settings | {"num_malicious_nodes": liars}
        if name == "multikrum":
            settings["num_nodes_to_select"] = max(1, num_hospitals - liars - 2)
    return (made_by or cls)(**defaults | settings | kwargs)


def strategy_for(settings: RunSettings, num_hospitals: int, **kwargs: Any) -> strategy.Strategy:
    """Return the strategy that a run asks for; ``kwargs`` as for :func:`make_strategy`.

    Raises
    ------
    DataError
        If the run wants updates of more hospitals than there are.
    """
    if settings.min_hospitals > num_hospitals:
        raise DataError(
            f"min hospitals is {settings.min_hospitals} but there are only {num_hospitals}."
        )
    if settings.strategy == "fedprox":
        kwargs["proximal_mu"] = settings.training.proximal_mu
    return make_strategy(settings.strategy, num_hospitals, **kwargs)
