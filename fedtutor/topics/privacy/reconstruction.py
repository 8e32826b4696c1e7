"""Reconstruction: from an update back to the images it was computed on.

A curious server can do all of it: it knows the weights it sent and got, and the settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fedtutor.compiled_training import FusedOptimizer, compiled
from fedtutor.errors import DataError
from fedtutor.model import Weights
from fedtutor.training import loss_function

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PICTURE_DEVIATIONS = 6.0
"""Standardised pixels from -3 to 3 become grey values from 0 to 1, for originals and guesses."""

DECAYS = (3 / 8, 5 / 8, 7 / 8)
"""Parts of the search after which its steps become tenfold smaller."""

DEAD = 1e-7
"""A unit whose bias gradient is this small against the largest was not active."""


def gradient(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Weights:
    """Return the gradient of the mean loss, one array a trained variable.

    ``images`` is standardised float32 (n, h, w, c), ``labels`` int (n,).
    """
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(tf.convert_to_tensor(images), training=True)
        loss = tf.reduce_mean(loss_function(model)(labels, outputs))
    return [np.asarray(g) for g in tape.gradient(loss, model.trainable_variables)]


def gradient_from_update(before: Weights, after: Weights, learning_rate: float) -> Weights:
    """Return the gradient of a step of plain SGD: (before - after) / learning_rate."""
    return [(b.astype(np.float64) - a) / learning_rate for b, a in zip(before, after, strict=True)]


def inputs_of_units(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Guess the input of a dense layer from each of its active units: float (active, inputs).

    ``kernel`` and ``bias`` are gradients of shapes (inputs, units) and (units,). The unit with the
    largest bias gradient comes first. Exact if the batch held one image (Phong et al. 2018, section
    III; Geiping et al. 2020, proposition 3.1); of a batch each is a mixture of those it fired for.

    Raises
    ------
    DataError
        If no unit was active, so that the gradient is zero.
    """
    strength = np.abs(bias)
    order = np.argsort(-strength, kind="stable")
    active = order[strength[order] > DEAD * strength.max()]
    if not len(active):
        raise DataError("no unit of the layer has a gradient; there is nothing to divide by.")
    return (kernel[:, active] / bias[active]).T


def rank_one_input(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Guess the input from all units at once, float (inputs,): the best against noise.

    The gradient of one image, the bias as a last row below the kernel, is the outer product of
    (x, 1) and the errors; its first singular vector is (x, 1) up to a factor.
    """
    stacked = np.vstack([kernel, bias[None]]).astype(np.float64)
    # Of (inputs x units) only the small side's Gram matrix is needed.
    _, vectors = np.linalg.eigh(stacked.T @ stacked)
    direction = stacked @ vectors[:, -1]
    return direction[:-1] / direction[-1]


def as_picture(standardised: np.ndarray) -> np.ndarray:
    """Map standardised pixels to grey values in 0..1, float32, always by the same rule."""
    return np.clip(0.5 + np.asarray(standardised) / PICTURE_DEVIATIONS, 0, 1).astype(np.float32)


def ssim(originals: np.ndarray, guesses: np.ndarray) -> np.ndarray:
    """Return the structural similarity (Wang et al. 2004) of pictures in 0..1; 1 is the same.

    Both are float (n, h, w, 1) of at least 11 x 11 pixels, the result float (n,).
    """
    import tensorflow as tf

    return tf.image.ssim(originals, guesses, max_val=1.0).numpy()


def best_guesses(originals: np.ndarray, guesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each original the guess most like it, and their SSIM: int (n,), float (n,).

    The one of the highest correlation is taken. That is generous to the attacker, who has to tell
    by eye which of his guesses are good; of chest X-rays that is easy.
    """
    rows = []
    for pictures in (originals, guesses):
        flat = np.asarray(pictures, np.float64).reshape(len(pictures), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        rows.append(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))
    best = (rows[0] @ rows[1].T).argmax(axis=1)
    return best, ssim(originals, np.asarray(guesses)[best])


def matching_loss(found: Sequence, wanted: Sequence, images: tf.Tensor) -> tf.Tensor:
    """Return 1 - cosine(found, wanted) + 0.01 * total variation (Geiping et al. 2020, eq. 4).

    ``found`` and ``wanted`` are gradients, lists of tensors; ``images`` float32 (n, h, w, c), of
    which the mean total variation counts, a pixel.
    """
    import tensorflow as tf

    dot = tf.add_n([tf.reduce_sum(f * w) for f, w in zip(found, wanted, strict=True)])
    lengths = [tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in gs])) for gs in (found, wanted)]
    variation = tf.reduce_mean(tf.image.total_variation(images)) / math.prod(images.shape[1:3])
    return 1 - dot / (lengths[0] * lengths[1]) + 0.01 * variation


def match_gradients(
    model: keras.Model,
    targets: Sequence[Weights],
    labels: np.ndarray,
    *,
    keep: Sequence[int] = (600,),
    seed: int = 0,
    loss: Callable = matching_loss,
) -> tuple[np.ndarray, np.ndarray]:
    """Search, from noise, for images whose gradients point where ``targets`` do.

    By Adam on the signs of the search's own gradient, in steps of 0.1 that :data:`DECAYS` makes
    smaller (Geiping et al. 2020). Neither ReLU nor pooling stops it. Returns the images as
    standardised float32 (searches, keep, n, h, w, c), and the loss of each.

    Parameters
    ----------
    model : holding the weights that were sent out.
    targets : gradients of the mean loss that the attacker saw; one search, and other noise, each.
    labels : int (searches, n); of one image, the only output whose bias gradient is negative.
    keep : the iterations after which the images are kept; the last one ends the search.
    seed : of the noise.
    loss : what is minimised, see :func:`matching_loss`.
    """
    import tensorflow as tf

    rng, shape = np.random.default_rng(seed), (len(labels[0]), *model.input_shape[1:])
    guess, truth = tf.Variable(tf.zeros(shape)), tf.Variable(np.zeros(shape[0], np.int32))
    rate, value = tf.Variable(0.1), tf.Variable(0.0)
    adam = FusedOptimizer("adam", [guess], rate)
    wanted = [tf.Variable(g, dtype=tf.float32) for g in targets[0]]
    variables = [variable.value for variable in model.trainable_variables]
    criterion, half = loss_function(model), PICTURE_DEVIATIONS / 2

    def distance() -> tf.Tensor:
        with tf.GradientTape() as tape:
            error = tf.reduce_mean(criterion(truth, model(guess, training=True)))
        return loss(tape.gradient(error, variables), wanted, guess)

    def step(k):
        with tf.GradientTape() as tape:
            found = distance()
        passed = tf.cast(k, tf.float32) >= tf.constant(DECAYS) * keep[-1]
        rate.assign(0.1 * 0.1 ** tf.reduce_sum(tf.cast(passed, tf.float32)))
        adam.apply([tf.sign(tape.gradient(found, guess))])
        guess.assign(tf.clip_by_value(guess, -half, half))
        value.assign(found)
        return k + 1

    def steps(first, last):
        return tf.while_loop(lambda k: k < last, step, [first])

    search = compiled(steps, *[tf.TensorSpec((), tf.int32)] * 2)
    images, losses = [], []
    for target, classes in zip(targets, labels, strict=True):
        for variable, new in zip([*wanted, truth], [*target, classes], strict=True):
            variable.assign(tf.cast(new, variable.dtype))
        guess.assign(rng.normal(size=shape).astype(np.float32))
        adam.wipe()
        for first, last in pairwise([0, *keep]):
            search(tf.constant(first), tf.constant(last))
            images.append(guess.numpy())
            losses.append(value.numpy())
    size = len(targets), len(keep)
    return np.reshape(images, (*size, *shape)), np.reshape(losses, size)
