"""The CNN of the course: two convolutions, one hidden dense layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fedtutor.errors import DataError
from fedtutor.images import Images
from fedtutor.support.keras_import import load_keras

if TYPE_CHECKING:
    import keras

Weights = list[np.ndarray]
"""A model's weights as Keras orders them: float32 arrays, kernel before bias, input to output."""


def create_model(
    input_shape: tuple[int, int, int] = (128, 128, 1),
    num_classes: int = 3,
    *,
    multi_label: bool = False,
    seed: int = 0,
) -> keras.Sequential:
    """Build the course's convolutional network, not yet trained.

    Parameters
    ----------
    input_shape : (height, width, channels) of one image, as :func:`standardise` gives it.
    num_classes : number of classes; the output is a softmax over them.
    multi_label : True if an image can have several of the classes, or none; the output is then a
        sigmoid for each of them.
    seed : of the initial weights (Glorot uniform kernels, zero biases). Hospitals that are to be
        averaged must start from the same seed.

    Returns
    -------
    A Sequential model from float32 (n, height, width, channels) to float32 (n, num_classes).
    At (128, 128, 1) it has 7,392,131 parameters, nearly all in the first dense layer.

    Raises
    ------
    DataError
        If an image is too small for two poolings, or there are fewer than two classes (with
        ``multi_label`` fewer than one).
    """
    _check_shape(input_shape, num_classes, multi_label)
    keras = load_keras()
    layers = keras.layers
    seeds = np.random.SeedSequence(seed).generate_state(4)
    glorot = [keras.initializers.GlorotUniform(seed=int(one)) for one in seeds]
    head = "sigmoid" if multi_label else "softmax"
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, (3, 3), activation="relu", kernel_initializer=glorot[0]),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu", kernel_initializer=glorot[1]),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(128, activation="relu", kernel_initializer=glorot[2]),
            layers.Dense(num_classes, activation=head, kernel_initializer=glorot[3]),
        ]
    )


MIN_SIZE = 10
"""Below this many pixels a side nothing is left after two convolutions and two poolings."""

MIN_DEVIATION = 1.0
"""Grey levels; keeps an empty image from being blown up into noise."""


def _check_shape(input_shape: tuple[int, int, int], num_classes: int, multi_label: bool) -> None:
    height, width, _ = input_shape
    if min(height, width) < MIN_SIZE:
        raise DataError(
            f"images of {height}x{width} are too small for this CNN; give at least "
            f"{MIN_SIZE}x{MIN_SIZE} (fedtutor run --size 28, for example)."
        )
    fewest = 1 if multi_label else 2
    if num_classes < fewest:
        raise DataError(f"num_classes must be at least {fewest}; got {num_classes}.")


def is_multi_label(model: keras.Model) -> bool:
    """Tell whether the model ends in a sigmoid for each finding, not in one softmax."""
    return getattr(model.layers[-1], "activation", None) is load_keras().activations.sigmoid


def standardise(images: np.ndarray) -> np.ndarray:
    """Standardise uint8 images (n, h, w, channels) to float32, each of mean 0 and deviation 1.

    Scanners differ in brightness and contrast; taking both out of each image by itself, of all its
    channels together as hues matter, leaves less to disagree about, and no number is shared.
    """
    pixels = images.astype(np.float32)
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    deviation = pixels.std(axis=(1, 2, 3), keepdims=True)
    return (pixels - mean) / np.maximum(deviation, MIN_DEVIATION)


def predict(
    model: keras.Model, images: Images, *, batch_size: int = 64, forward: Callable | None = None
) -> np.ndarray:
    """Return class probabilities, float32 (n, num_classes), of uint8 images (n, h, w, channels).

    Works in blocks of ``batch_size``, so that a large test set is never held as float. ``forward``
    is the model's own pass, if somebody has compiled it.
    """
    forward = forward or partial(model, training=False)
    blocks = [
        np.asarray(forward(standardise(images[i : i + batch_size])))
        for i in range(0, len(images), batch_size)
    ]
    return np.concatenate(blocks) if blocks else np.empty((0, model.output_shape[-1]), np.float32)
