"""A small model to attack: it begins with a dense layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedtutor.model import load_keras

if TYPE_CHECKING:
    import keras


def dense_model(
    input_shape: tuple[int, int, int], num_classes: int, *, hidden: int = 128
) -> keras.Sequential:
    """Return a multilayer perceptron: every pixel goes straight into a dense layer of ReLUs.

    From float32 (n, height, width, channels), standardised, to a softmax (n, num_classes).
    """
    keras = load_keras()
    seeds = np.random.SeedSequence(0).generate_state(2)
    first, last = (keras.initializers.GlorotUniform(seed=int(one)) for one in seeds)
    layers = [
        keras.layers.Flatten(),
        keras.layers.Dense(hidden, activation="relu", kernel_initializer=first),
        keras.layers.Dense(num_classes, activation="softmax", kernel_initializer=last),
    ]
    return keras.Sequential([keras.Input(input_shape), *layers])
