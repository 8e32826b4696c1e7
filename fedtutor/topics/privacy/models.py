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
    layers = load_keras().layers
    first, last = _glorot(2)
    body = [layers.Flatten(), layers.Dense(hidden, activation="relu", kernel_initializer=first)]
    return _classifier(input_shape, body, num_classes, last)


def smooth_model(input_shape: tuple[int, int, int], num_classes: int) -> keras.Sequential:
    """Return a small CNN without ReLU or pooling, as Zhu et al. 2019 attack (their appendix A).

    Three convolutions of stride 2, 2 and 1 with a smooth activation, then one dense layer; its
    gradient changes smoothly with the image, which a search for the image needs.
    """
    layers = load_keras().layers
    *kernels, last = _glorot(4)
    convolutions = [
        layers.Conv2D(
            16, 5, strides=stride, padding="same", activation="tanh", kernel_initializer=kernel
        )
        for stride, kernel in zip((2, 2, 1), kernels, strict=True)
    ]
    return _classifier(input_shape, [*convolutions, layers.Flatten()], num_classes, last)


def _classifier(
    input_shape: tuple[int, int, int], body: list, num_classes: int, kernel: keras.Initializer
) -> keras.Sequential:
    keras = load_keras()
    head = keras.layers.Dense(num_classes, activation="softmax", kernel_initializer=kernel)
    return keras.Sequential([keras.Input(input_shape), *body, head])


def _glorot(count: int) -> list[keras.Initializer]:
    seeds = np.random.SeedSequence(0).generate_state(count)
    return [load_keras().initializers.GlorotUniform(seed=int(one)) for one in seeds]
