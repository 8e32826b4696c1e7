"""Who gains: the worst hospital, groups, and each hospital against staying alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp import strategy

from fedtutor.errors import DataError
from fedtutor.evaluation import Evaluation, estimate_auc, gain_interval
from fedtutor.federation.records import arrays_in, to_weights
from fedtutor.federation.strategies import Averaged

Estimate = tuple[float, tuple[float, float]]
"""A value and its 95 % interval."""


class FairFedAvg(strategy.QFedAvg):
    """Flower's q-FedAvg (Li et al. 2020, algorithm 2) for the course's app.

    A hospital whose training loss F is high counts F**q times: q = 0 is the plain mean, a large q
    listens to the worst-off. Here its loss goes by the name of "loss", and the updates are
    copied, as Flower's class works in place and those of one process cannot be written to.

    Parameters
    ----------
    q : 0 or more.
    client_learning_rate : 1 / L of the paper, where an update times L stands for the gradient.
        Adam's updates do not scale with the gradient; with 1.0 the update itself stands for it.
    """

    needs = ("loss",)

    def __init__(self, *, q: float, client_learning_rate: float = 1.0, **kwargs: Any) -> None:
        super().__init__(
            client_learning_rate=client_learning_rate, q=q, train_loss_key="loss", **kwargs
        )

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Averaged:
        """Average copies of the updates, each counted by its loss."""
        replies = list(replies)
        for reply in replies:
            if reply.has_content():
                arrays = map(np.array, to_weights(arrays_in(reply)))
                reply.content["arrays"] = ArrayRecord(list(arrays))
        return super().aggregate_train(server_round, replies)


def gain(
    one: np.ndarray, other: np.ndarray, labels: np.ndarray, *, patients: np.ndarray | None = None
) -> Estimate:
    """Return the AUC of one model minus that of another, with the interval of the difference.

    What makes a patient hard for both models does not widen it, see
    :func:`fedtutor.evaluation.gain_interval`.

    Parameters
    ----------
    one, other : float (n, classes), the two models' probabilities for the same images.
    labels : int (n,), the truth.
    patients : (n,), who each image is of.
    """
    a, b = (estimate_auc(p, labels, patients=patients) for p in (one, other))
    return a.auc - b.auc, gain_interval(a, b)


def worst(scores: Mapping[str, Evaluation]) -> str:
    """Name the hospital or group with the lowest AUC; those without an AUC aside.

    ``scores`` is what :func:`fedtutor.evaluation.by_group` gives.
    """
    known = {name: one.auc for name, one in scores.items() if np.isfinite(one.auc)}
    if not known:
        raise DataError("no group has an AUC: each needs images of more than one class.")
    return min(known, key=lambda name: known[name])


def verdict_on_gain(estimate: Estimate) -> str:
    """Say "gains" or "loses" where the interval lies on one side of zero, else "cannot tell".

    Nor can be told without an interval, (NaN, NaN), as of too few patients.
    """
    _, (low, high) = estimate
    if low > 0:
        return "gains"
    return "loses" if high < 0 else "cannot tell"


def recall(probabilities: np.ndarray, labels: np.ndarray, which: int) -> float:
    """Return the share of the images of class ``which`` that are called so, 0..1."""
    of_class = labels == which
    if not of_class.any():
        raise DataError(f"there is no image of class {which}, so no recall of it.")
    return float((probabilities[of_class].argmax(axis=1) == which).mean())
