"""The federation that the benchmarks run, on either engine."""

from __future__ import annotations

import os
import time
from functools import cache
from unittest.mock import patch

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from benchmarks.harness import ITS_OWN_THREADS
from fedtutor import federation
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.images import MedicalImages
from fedtutor.model import Weights, create_model
from fedtutor.settings import TrainingSettings

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
    """One run of a Flower app: the final weights, and when each round ended.

    ``engine`` is "ours", the in-process grid with this course's server half, or "ray", Flower's
    simulation with Flower's own FedAvg and nothing of ours.
    """

    def __init__(
        self,
        engine: str,
        client_app: ClientApp,
        initial: Weights,
        *,
        hospitals: int,
        rounds: int,
        evaluate: bool = False,
        settings: TrainingSettings = SETTINGS,
    ) -> None:
        self.ends: list[float] = []
        self.weights: Weights = initial
        share = 1.0 if evaluate else 0.0
        config = federation.train_config(settings, num_rounds=rounds)
        start = time.perf_counter()
        if engine == "ours":
            strategy = federation.make_strategy("fedavg", hospitals, fraction_evaluate=share)
            server_app = federation.make_server_app(
                initial, strategy, num_rounds=rounds, config=config, on_round=self._on_round
            )
            names = [f"Hospital {k + 1}" for k in range(hospitals)]
            federation.run_in_process(server_app, client_app, names)
        else:
            from flwr.simulation import run_simulation  # and Ray, which ours does without

            strategy = FedAvg(
                fraction_evaluate=share,
                min_train_nodes=hospitals,
                min_evaluate_nodes=hospitals if evaluate else 0,
                min_available_nodes=hospitals,
            )
            server_app = self._flower_server(strategy, initial, rounds, config)
            with patch.dict(os.environ, ITS_OWN_THREADS):  # Ray's processes inherit it
                run_simulation(
                    server_app,
                    client_app,
                    num_supernodes=hospitals,
                    backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
                )
        self.seconds = time.perf_counter() - start

    def _on_round(self, server_round: int, weights: Weights, grid) -> None:
        self.ends.append(time.perf_counter())
        self.weights = weights

    def _flower_server(self, strategy, initial, rounds: int, config: ConfigRecord) -> ServerApp:
        app = ServerApp()

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            strategy.start(
                grid=grid,
                initial_arrays=ArrayRecord(initial),
                num_rounds=rounds,
                train_config=ConfigRecord(dict(config)),
                evaluate_config=ConfigRecord(dict(config)),
                evaluate_fn=lambda server_round, arrays: self._on_round(
                    server_round, arrays.to_numpy_ndarrays(), grid
                ),
            )

        return app

    @property
    def rounds(self) -> np.ndarray:
        """Seconds of each round after the first, float64."""
        return np.diff(self.ends)[1:]


def initial_weights(size: int) -> Weights:
    return create_model((size, size, 1), 3, seed=0).get_weights()


def largest_difference(one: Weights, other: Weights) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
