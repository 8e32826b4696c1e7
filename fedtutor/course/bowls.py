"""Two quadratic hospitals, where FedAvg goes wrong and the right answer is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import ConfigRecord, Context

from fedtutor import federation
from fedtutor.model import Weights
from fedtutor.topics.algorithms import Local, LocalSteps, Scaffold, make_app, scaffold


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


def bowl_training(bowls: Sequence[Bowl], *, steps: int, rate: float) -> Local:
    """Make the bowls hospitals of a Flower app, each with one example; for ``make_app``."""

    def local(
        weights: Weights, correction: Weights | None, config: ConfigRecord, context: Context
    ) -> LocalSteps:
        bowl = bowls[int(context.node_config["partition-id"])]
        towards = np.zeros_like(weights[0]) if correction is None else correction[0]
        start = weights[0].astype(np.float64)
        end, _ = scaffold_round(start, 0 * start, towards, bowl.gradient, steps, rate)
        return LocalSteps([end.astype(np.float32)], steps * rate, 1, float(bowl.loss(end)))

    return local


def walk_in_flower(
    bowls: Sequence[Bowl],
    *,
    corrected: bool,
    steps: int,
    rate: float,
    rounds: int,
    start: Sequence[float],
) -> np.ndarray:
    """Walk with the package's app and strategy on the grid: float32 (rounds + 1, d)."""
    seen: list[np.ndarray] = []
    scaffolding = Scaffold(fraction_evaluate=0.0, min_available_nodes=len(bowls))
    server_app = federation.make_server_app(
        [np.asarray(start, np.float32)],
        scaffolding if corrected else federation.make_strategy("fedavg", len(bowls)),
        num_rounds=rounds,
        config=ConfigRecord({}),
        on_round=lambda server_round, weights, grid: seen.append(weights[0]),
    )
    local = bowl_training(bowls, steps=steps, rate=rate)
    client_app = make_app(local, mods=[scaffold] if corrected else [])
    names = [f"Hospital {k + 1}" for k in range(len(bowls))]
    federation.run_in_process(server_app, client_app, names)
    return np.array(seen)
