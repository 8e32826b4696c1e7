"""A federation that starts anywhere in seconds: small phantoms and a linear model in NumPy.

For what is about engines and not about images, so that nobody waits for TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedtutor import federation
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.images import MedicalImages
from fedtutor.model import Weights
from fedtutor.partition import partition
from fedtutor.settings import TrainingSettings

NUM_HOSPITALS, NUM_IMAGES, SIZE = 3, 120, 16
PROGRESS = "progress.jsonl"
SETTINGS = TrainingSettings("sgd", 0.05)


@lru_cache(maxsize=1)
def hospitals() -> tuple[tuple[str, ...], list[MedicalImages]]:
    """Draw three small synthetic hospitals, the same in every process: (names, images)."""
    data = chest_phantoms(NUM_IMAGES, size=SIZE, hospitals=NUM_HOSPITALS)
    parts = partition(data, "by:hospital")
    return parts.names, parts.hospitals(data)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return rows of probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class LinearTrainer:
    """Softmax regression by gradient descent on all images at once."""

    def train(
        self, weights: Weights, data: MedicalImages, *, epochs: int, learning_rate: float, **_: Any
    ) -> tuple[Weights, float]:
        """Train as :meth:`~fedtutor.compiled_training.Trainer.train`, but without chance."""
        kernel, bias = (np.array(array) for array in weights)
        pixels = np.asarray(data.images, np.float32).reshape(len(data), -1) / 255
        wanted = np.eye(len(bias), dtype=np.float32)[data.labels]
        loss = 0.0
        for _epoch in range(epochs):
            found = softmax(pixels @ kernel + bias)
            loss = float(-np.log((found * wanted).sum(axis=1)).mean())
            slope = (found - wanted) / len(data)
            kernel -= np.float32(learning_rate) * (pixels.T @ slope)
            bias -= np.float32(learning_rate) * slope.sum(axis=0)
        return [kernel, bias], loss


def make_client_app(mods: Sequence[Callable] = ()) -> ClientApp:
    """Return the hospital's half, with mods around it."""
    return federation.make_client_app(
        lambda context: hospitals()[1][int(context.node_config["partition-id"])],
        name_of=lambda context: hospitals()[0][int(context.node_config["partition-id"])],
        mods=mods,
        trainer_for=lambda *args, **kwargs: LinearTrainer(),
    )


server_app = ServerApp()
"""The server's half: one round, with every reply's metrics noted in the folder ``out``.

The run config says ``out``, how many ``hospitals``, and the ``size`` of their images.
"""


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train one round, and note what every hospital replies."""
    journal = Path(str(context.run_config["out"])) / PROGRESS

    def note(event: str, **values: object) -> None:
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")

    size, count = int(context.run_config["size"]), int(context.run_config["hospitals"])
    app = federation.make_server_app(
        [np.zeros((size * size, 3), np.float32), np.zeros(3, np.float32)],
        federation.make_strategy("fedavg", count),
        num_rounds=1,
        config=federation.train_config(SETTINGS, num_rounds=1, local_epochs=5),
        on_reply=lambda r, hospital, metrics: note("reply", hospital=hospital, metrics=metrics),
    )
    app(grid, context)
    note("end")
