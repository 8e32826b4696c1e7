"""Two small models to attack: one that begins with a dense layer, one that is smooth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedtutor.model import load_keras

if TYPE_CHECKING:
    import keras


def dense_model(
    input_shape: tuple[int, int, int], num_classes: int, *, hidden: int = 128, seed: int = 0
) -> keras.Sequential:
    """A multilayer perceptron: every pixel goes straight into a dense layer of ReLUs.

    From float32 (n, height, width, channels), standardised, to a softmax (n, num_classes).
    """
    keras = load_keras()
    seeds = iter(np.random.SeedSequence(seed).generate_state(2))

    def glorot():
        return keras.initializers.GlorotUniform(seed=int(next(seeds)))

    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(hidden, activation="relu", kernel_initializer=glorot()),
            keras.layers.Dense(num_classes, activation="softmax", kernel_initializer=glorot()),
        ]
    )


def smooth_model(
    input_shape: tuple[int, int, int], num_classes: int, *, filters: int = 16, seed: int = 0
) -> keras.Sequential:
    """A small CNN without ReLU or pooling, as Zhu et al. 2019 attack (their appendix A).

    Three convolutions of stride 2, 2 and 1 with a smooth activation, then one dense layer; its
    gradient changes smoothly with the image, which a search for the image needs.
    """
    keras = load_keras()
    seeds = iter(np.random.SeedSequence(seed).generate_state(4))

    def glorot():
        return keras.initializers.GlorotUniform(seed=int(next(seeds)))

    def convolution(stride: int):
        return keras.layers.Conv2D(
            filters, 5, strides=stride, padding="same", activation="tanh",
            kernel_initializer=glorot(),
        )  # fmt: skip

    return keras.Sequential(
        [
            keras.Input(input_shape),
            convolution(2),
            convolution(2),
            convolution(1),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes, activation="softmax", kernel_initializer=glorot()),
        ]
    )
