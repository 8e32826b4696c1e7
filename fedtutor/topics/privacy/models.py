"""Two small models to attack: one that begins with a dense layer, one that is smooth."""

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
    first, second = _glorot(2)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(hidden, activation="relu", kernel_initializer=first),
            keras.layers.Dense(num_classes, activation="softmax", kernel_initializer=second),
        ]
    )


def smooth_model(input_shape: tuple[int, int, int], num_classes: int) -> keras.Sequential:
    """Return a small CNN without ReLU or pooling, as Zhu et al. 2019 attack (their appendix A).

    Three convolutions of stride 2, 2 and 1 with a smooth activation, then one dense layer; its
    gradient changes smoothly with the image, which a search for the image needs.
    """
    keras = load_keras()
    *kernels, last = _glorot(4)
    convolutions = [
        keras.layers.Conv2D(
            16, 5, strides=stride, padding="same", activation="tanh", kernel_initializer=kernel
        )
        for stride, kernel in zip((2, 2, 1), kernels, strict=True)
    ]
    return keras.Sequential(
        [
            keras.Input(input_shape),
            *convolutions,
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes, activation="softmax", kernel_initializer=last),
        ]
    )


def _glorot(count: int) -> list[keras.Initializer]:
    seeds = np.random.SeedSequence(0).generate_state(count)
    return [load_keras().initializers.GlorotUniform(seed=int(one)) for one in seeds]
