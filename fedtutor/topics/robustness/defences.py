"""Defences: strategies that bear some hospitals that lie.

Clipping is here, the others are in :data:`fedtutor.federation.STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from fedtutor.aggregation import update_norm
from fedtutor.errors import FederationError
from fedtutor.federation import StreamingFedAvg, make_strategy
from fedtutor.federation.records import arrays_in, to_record, to_weights
from fedtutor.federation.strategies import Averaged
from fedtutor.model import Weights
from fedtutor.topics import clip_update


class ClippedFedAvg(StreamingFedAvg):
    """FedAvg in which no hospital pulls harder than the median one (Sun et al. 2019, section 4).

    A longer update is shortened; its direction stays: ``w + (w_k - w) * min(1, m / ||w_k - w||)``
    with the median m of the round's lengths; no tuning, but all of a round's updates in memory.
    """

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Averaged:
        """Average the updates, the longer ones clipped."""
        good = [reply for reply in replies if reply.has_content()]
        usual = np.median([update_norm(self._update(reply)) for reply in good] or [0.0])
        for reply in good:
            clipped = clip_update(self._update(reply), float(usual))
            weights = [w + d for w, d in zip(self._like, clipped, strict=True)]
            reply.content["arrays"] = to_record(weights)
        return super().aggregate_train(server_round, good)

    def _update(self, reply: Message) -> Weights:
        pairs = zip(to_weights(arrays_in(reply)), self._like, strict=True)
        return [w_k - w for w_k, w in pairs]


DEFENCES = {
    "plain average": ("fedavg", None),
    "clipping": ("fedavg", ClippedFedAvg),
    "median": ("fedmedian", None),
    "trimmed mean": ("fedtrimmedavg", None),
    "Krum": ("krum", None),
    "Multi-Krum": ("multikrum", None),
    "Bulyan": ("bulyan", None),
}
"""What people call them, and what :func:`fedtutor.federation.make_strategy` makes them of."""


def make_defence(name: str, num_hospitals: int, **kwargs: Any) -> Strategy:
    """Return a strategy by a name of :data:`DEFENCES`, set up for as many liars as it bears.

    Of ten hospitals: the trimmed mean leaves two out at either end, Krum and Multi-Krum bear
    three (n >= 2 f + 3), Bulyan one (n >= 4 f + 3), the median four.
    """
    if name not in DEFENCES:
        raise FederationError(f"unknown defence {name!r}; known: {', '.join(DEFENCES)}.")
    strategy, made_by = DEFENCES[name]
    return make_strategy(strategy, num_hospitals, made_by=made_by, **kwargs)


class Chosen:
    """Whom a strategy's average was made of: ``rounds`` has their numbers, ascending, by round.

    Give it to a Flower strategy as ``train_metrics_aggr_fn``: Flower's Krum, Multi-Krum and
    Bulyan call that with the replies they selected. Needs the mod
    :func:`fedtutor.topics.robustness.sign_reply` at the hospitals.
    """

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []

    def __call__(self, contents: list[RecordDict], weighted_by_key: str) -> MetricRecord:
        """Note the replies' hospitals and average their metrics, as Flower does by itself."""
        numbers: list[Any] = [one.metric_records["metrics"]["partition-id"] for one in contents]
        self.rounds.append(sorted(map(int, numbers)))
        return aggregate_metricrecords(contents, weighted_by_key)

    def times(self, hospital: int) -> int:
        """Return in how many rounds the hospital was among the chosen."""
        return sum(hospital in chosen for chosen in self.rounds)
