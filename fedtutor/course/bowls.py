"""Two quadratic hospitals, where FedAvg goes wrong and the right answer is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bowl:
    """A hospital whose loss is a bowl: ``0.5 (w - best)' curvature (w - best)``.

    Attributes
    ----------
    best : float (d,), where its own loss is 0.
    curvature : float (d, d), symmetric and positive definite.
    """

    best: np.ndarray
    curvature: np.ndarray

    def loss(self, points: np.ndarray) -> np.ndarray:
        """Return the loss at points (..., d): float (...)."""
        away = points - self.best
        return 0.5 * np.einsum("...i,ij,...j->...", away, self.curvature, away)

    def gradient(self, point: np.ndarray) -> np.ndarray:
        """Return the gradient at one point (d,): float (d,)."""
        return self.curvature @ (point - self.best)


BOWLS = (
    Bowl(np.array([-1.0, 0.6]), np.diag([1.0, 0.15])),
    Bowl(np.array([1.0, -0.6]), np.diag([0.1, 0.8])),
)
"""Two hospitals of one size that agree on neither the place nor on what matters."""


def lowest(bowls: Sequence[Bowl]) -> np.ndarray:
    """Return where the mean loss is lowest, (d,): ``sum_k H_k (w - b_k) = 0`` solved for w."""
    return fedavg_limit(bowls, steps=1, rate=1.0)


def fedavg_limit(bowls: Sequence[Bowl], steps: int, rate: float) -> np.ndarray:
    """Return where FedAvg with that many full-gradient steps a round comes to rest, (d,).

    A hospital's K steps from w end at ``b_k + M_k (w - b_k)`` with ``M_k = (1 - rate H_k)^K``; w is
    their mean when ``sum_k (1 - M_k) (w - b_k) = 0``. Only for K = 1 is that :func:`lowest`.
    """
    one = np.eye(len(bowls[0].best))
    pulls = [one - np.linalg.matrix_power(one - rate * b.curvature, steps) for b in bowls]
    return np.linalg.solve(
        sum(pulls), sum(pull @ bowl.best for pull, bowl in zip(pulls, bowls, strict=True))
    )


@dataclass(frozen=True)
class Way:
    """What an algorithm did on the bowls.

    Attributes
    ----------
    models : the global model before each round and after the last, float (rounds + 1, d).
    local : the hospitals' steps, float (rounds, hospitals, steps + 1, d).
    """

    models: np.ndarray
    local: np.ndarray


Round = Callable[..., tuple[np.ndarray, np.ndarray]]
"""A hospital's round, with the parameters and results of :func:`scaffold_round`."""


def scaffold_round(
    weights: np.ndarray,
    own: np.ndarray,
    common: np.ndarray,
    gradient: Callable[[np.ndarray], np.ndarray],
    num_steps: int,
    learning_rate: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (trained, own) after SCAFFOLD's steps (Karimireddy et al. 2020, option II).

    ``own`` and ``common`` are the control variates c_k and c.
    """
    trained = weights
    for _ in range(num_steps):
        trained = trained - learning_rate * (gradient(trained) - own + common)
    return trained, own - common + (weights - trained) / (num_steps * learning_rate)


def walk(
    bowls: Sequence[Bowl],
    hospital_round: Round,
    *,
    steps: int,
    rate: float,
    rounds: int,
    start: Sequence[float],
) -> Way:
    """Let the hospitals make their rounds on the bowls, in NumPy and without messages."""
    model = np.asarray(start, np.float64)
    controls = np.zeros((len(bowls), len(model)))
    models, local = [model], []
    for _ in range(rounds):
        common, paths = controls.mean(axis=0), []
        for k, bowl in enumerate(bowls):
            path: list[np.ndarray] = []  # where the gradient was asked for, and the end

            def gradient(point: np.ndarray, bowl: Bowl = bowl, path: list = path) -> np.ndarray:
                path.append(point)
                return bowl.gradient(point)

            end, controls[k] = hospital_round(model, controls[k], common, gradient, steps, rate)
            paths.append([*path, end])
        model = np.mean([path[-1] for path in paths], axis=0)
        models.append(model)
        local.append(paths)
    return Way(np.array(models), np.array(local))
