"""Two thousand practices with a linear model, for the privacy of whole hospitals in notebook 09."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flwr.clientapp import ClientApp

from fedtutor.model import Weights, standardise
from fedtutor.topics.algorithms import LocalSteps, make_app


def thumbnails(images: np.ndarray, factor: int = 4) -> np.ndarray:
    """Turn images into a row of features each, float64 (n, pixels + 1): coarse pixels and a 1.

    uint8 (n, h, w, 1) is standardised and averaged over squares of ``factor`` pixels a side.
    """
    n, height, width, _ = images.shape
    squares = (n, height // factor, factor, width // factor, factor)
    coarse = standardise(images).reshape(squares).mean(axis=(2, 4)).reshape(n, -1)
    return np.hstack([coarse / math.sqrt(coarse.shape[1]), np.ones((n, 1))])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return rows of probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def linear_updates(
    weights: np.ndarray, features: np.ndarray, labels: np.ndarray, hospitals: int, norm: float
) -> np.ndarray:
    """Return every hospital's update of a linear model: float (hospitals, features, classes).

    Each takes one long gradient step on its own images and shortens it to ``norm``. Hospital k
    has the k-th of ``hospitals`` equal parts of the images.
    """
    errors = softmax(features @ weights) - np.eye(weights.shape[1])[labels]
    blocks = (hospitals, len(features) // hospitals)
    gradients = np.einsum(
        "hmd,hmk->hdk", features.reshape(*blocks, -1), errors.reshape(*blocks, -1)
    )
    lengths = np.linalg.norm(gradients, axis=(1, 2), keepdims=True)
    return -norm * gradients / np.maximum(lengths, 1e-12)


def linear_federation(
    features: np.ndarray,
    labels: np.ndarray,
    hospitals: int,
    *,
    noise_multiplier: float,
    rounds: int,
    norm: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Train a linear model by private FedAvg in plain NumPy: float (features, classes).

    The arithmetic of Flower's strategy: the mean of clipped updates, plus noise of deviation
    ``noise_multiplier * norm / hospitals``.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((features.shape[1], int(labels.max()) + 1))
    for _ in range(rounds):
        mean = linear_updates(weights, features, labels, hospitals, norm).mean(axis=0)
        weights += mean + noise_multiplier * norm / hospitals * rng.standard_normal(mean.shape)
    return weights


def linear_app(
    features: np.ndarray, labels: np.ndarray, hospitals: int, *, step: float = 100.0
) -> ClientApp:
    """Make the same hospitals a Flower app; to clip its update is the strategy's work.

    ``step`` is so long that the strategy shortens every update.
    """
    size = len(features) // hospitals

    def local(weights: Weights, *others: Any) -> LocalSteps:
        k = int(others[-1].node_config["partition-id"])
        start, mine = weights[0].astype(float), slice(k * size, (k + 1) * size)
        update = linear_updates(start, features[mine], labels[mine], 1, step)[0]
        return LocalSteps([(start + update).astype(np.float32)], step, size, loss=0.0)

    return make_app(local)
