"""The federation that the benchmarks run, on either engine."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
from flwr.app import Context
from flwr.clientapp import ClientApp

from fedtutor import federation
from fedtutor.data import MedicalImages
from fedtutor.data.phantoms import chest_phantoms
from fedtutor.model import Weights, create_model
from fedtutor.training import TrainingSettings

BATCH_SIZE = 32
LEARNING_RATE = 1e-3
SETTINGS = TrainingSettings(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE)


@cache
def hospital_images(number: int, num_images: int, size: int) -> MedicalImages:
    """The images of one hospital; three classes."""
    data = chest_phantoms(num_images, size=size, hospitals=1, seed=number)
    labels = np.arange(num_images) % 3  # learning is not the point here, equal work is
    return MedicalImages(data.images, labels, ("a", "b", "c"), data.table, data.name, True)


def our_client(size: int, num_images: int) -> ClientApp:
    return federation.make_client_app(
        lambda context: hospital_images(context.node_config["partition-id"], num_images, size)
    )


class Run:
    """One run of a Flower app: the final weights, and when each round ended."""

    def __init__(
        self, engine: str, client_app: ClientApp, initial: Weights, *, hospitals: int, rounds: int,
        evaluate: bool = False,
    ) -> None:  # fmt: skip
        self.ends: list[float] = []
        self.weights: Weights = initial
        strategy = federation.make_strategy(
            "fedavg", hospitals, fraction_evaluate=1.0 if evaluate else 0.0
        )
        server_app = federation.make_server_app(
            initial,
            strategy,
            num_rounds=rounds,
            config=federation.train_config(SETTINGS, num_rounds=rounds),
            min_hospitals=hospitals,
            on_round=self._on_round,
        )
        start = time.perf_counter()
        if engine == "in-process":
            names = [f"Hospital {k + 1}" for k in range(hospitals)]
            federation.run_in_process(server_app, client_app, names)
        else:
            _run_on_ray(server_app, client_app, hospitals)
        self.seconds = time.perf_counter() - start

    def _on_round(self, server_round: int, weights: Weights, grid) -> None:
        self.ends.append(time.perf_counter())
        self.weights = weights

    @property
    def rounds(self) -> np.ndarray:
        """Seconds of each round after the first, float64."""
        return np.diff(self.ends)[1:]


def _run_on_ray(server_app, client_app: ClientApp, hospitals: int) -> Context:
    from flwr.simulation import run_simulation

    return run_simulation(
        server_app,
        client_app,
        num_supernodes=hospitals,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


def initial_weights(size: int) -> Weights:
    return create_model((size, size, 1), 3, seed=0).get_weights()


def largest_difference(one: Weights, other: Weights) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
