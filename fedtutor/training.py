"""Local training: what one hospital does with its own images.

The same gradient steps twice: written out (:func:`fit_step_by_step`), and compiled once for all
hospitals (:mod:`fedtutor.compiled_training`), as the course runs them. A test holds both equal to
Keras's own ``fit``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fedtutor.errors import DataError
from fedtutor.images import MedicalImages
from fedtutor.model import is_multi_label, load_keras, standardise
from fedtutor.settings import TrainingSettings

if TYPE_CHECKING:
    import keras


def fit_step_by_step(
    model: keras.Model, data: MedicalImages, order: np.ndarray, settings: TrainingSettings
) -> float:
    """Train with every step in sight; returns the last epoch's mean loss."""
    import tensorflow as tf

    check_head(model, data)
    optimizer, criterion = create_optimizer(settings), loss_function(model)
    for epoch in order:
        losses, sizes = [], []
        for start in range(0, len(epoch), settings.batch_size):
            batch = epoch[start : start + settings.batch_size]
            images, labels = standardise(data.images[batch]), data.labels[batch]
            with tf.GradientTape() as tape:
                outputs = model(images, training=True)  # forward
                loss = tf.reduce_mean(criterion(labels, outputs))
            gradients = tape.gradient(loss, model.trainable_variables)  # backward
            optimizer.apply_gradients(
                zip(gradients, model.trainable_variables, strict=True)
            )  # step
            losses.append(float(loss))
            sizes.append(len(batch))
    return float(np.average(losses, weights=sizes))


def create_optimizer(settings: TrainingSettings) -> keras.optimizers.Optimizer:
    """Return a fresh Keras optimiser."""
    optimizers = load_keras().optimizers
    if settings.optimizer == "adam":
        return optimizers.Adam(settings.learning_rate)
    momentum = 0.9 if settings.optimizer == "momentum" else 0.0
    return optimizers.SGD(settings.learning_rate, momentum=momentum)


def loss_function(model: keras.Model) -> Callable:
    """Return the loss of the model's head, from (labels, outputs) to one number an image.

    After a softmax the cross-entropy of the class; after sigmoids the binary cross-entropy, the
    mean over the findings.
    """
    losses = load_keras().losses
    if is_multi_label(model):
        return losses.binary_crossentropy
    return losses.sparse_categorical_crossentropy


def check_head(model: keras.Model, data: MedicalImages) -> None:
    """Raise :class:`DataError` unless the model's head is of the data's kind."""
    if is_multi_label(model) != data.multi_label:
        what = "several findings" if data.multi_label else "one class"
        raise DataError(
            f"{data.name} has {what} an image, and the model's head is not made for that; build "
            f"it with create_model(..., multi_label={data.multi_label})."
        )


def learning_rate_at(settings: TrainingSettings, server_round: int, num_rounds: int) -> float:
    """Return the step size in a round, 1..num_rounds.

    Half a cosine from ``learning_rate`` towards 0 (Loshchilov & Hutter 2017, eq. 5): large steps
    while the hospitals still agree on the direction, small ones when they would only pull the
    average to and fro.
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (server_round - 1) / num_rounds))


def epoch_order(num_images: int, epochs: int, *, seed: int | tuple[int, ...]) -> np.ndarray:
    """Draw the order of the images: int32 (epochs, num_images), a permutation a row."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(num_images) for _ in range(epochs)]).astype(np.int32)
