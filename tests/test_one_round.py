"""A whole round of federated learning in one sitting, four times over.

Three hospitals are sent the same weights. Each takes steps down the gradient of its own loss, and
the server averages what comes back, every hospital counted by its images (McMahan et al. 2017,
algorithm 1). Below, this is written out in NumPy down to the derivative of a convolution; the
package, Flower and Keras must arrive at the same weights.
"""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from keras_fit import fit_keras
from numpy.lib.stride_tricks import sliding_window_view

from fedtutor.aggregation import weighted_average
from fedtutor.compiled_training import Trainer
from fedtutor.federation import run_in_process
from fedtutor.model import create_model
from fedtutor.training import TrainingSettings, epoch_order, fit_step_by_step

pytestmark = pytest.mark.slow

SHAPE = (10, 10, 1)  # the smallest that the CNN takes: 10 -> 8 -> 4 -> 2 -> 1 pixels a side
CLASSES, RATE, BATCH, EPOCHS = 3, 0.1, 4, 2
SETTINGS = TrainingSettings("sgd", RATE, BATCH)


@pytest.fixture(scope="module")
def hospitals(make_images):
    """Hospitals of 6, 9 and 13 images: the last batch of an epoch is a smaller one."""
    return [make_images(n, classes=CLASSES, size=SHAPE[0], seed=n) for n in (6, 9, 13)]


def new_model(weights=None):
    model = create_model(SHAPE, CLASSES, seed=1)
    if weights is not None:
        model.set_weights(weights)
    return model


def order_of(k, images):
    """Return the order in which hospital ``k`` visits its images: (epochs, images)."""
    return epoch_order(len(images), EPOCHS, seed=k)


# By hand ------------------------------------------------------------------------------------------


def patches(x):
    """Return the 3x3 surroundings of every pixel that has them: (n, h - 2, w - 2, c, 3, 3)."""
    return sliding_window_view(x, (3, 3), axis=(1, 2))


def convolve(x, kernel):
    return np.einsum("nhwcij,ijcf->nhwf", patches(x), kernel)


def convolve_back(d, kernel):
    """Return the derivative by the input, of that by the output: each pixel was in 9 patches."""
    around = np.pad(d, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return np.einsum("nhwfij,ijcf->nhwc", patches(around), kernel[::-1, ::-1])


def kernel_gradient(x, d):
    return np.einsum("nhwcij,nhwf->ijcf", patches(x), d)


def pool(x):
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def pool_back(d, x):
    """Give the derivative to the largest of each four pixels, as the others had no part in it."""

    def enlarge(small):
        return small.repeat(2, axis=1).repeat(2, axis=2)

    return enlarge(d) * (x == enlarge(pool(x)))


def gradients(weights, pixels, labels):
    """Return the derivative of the mean cross-entropy by each of the CNN's eight arrays."""
    kernel1, bias1, kernel2, bias2, kernel3, bias3, kernel4, bias4 = weights
    # Forward.
    x1 = np.maximum(convolve(pixels, kernel1) + bias1, 0)
    x2 = np.maximum(convolve(pool(x1), kernel2) + bias2, 0)
    flat = pool(x2).reshape(len(pixels), -1)
    x3 = np.maximum(flat @ kernel3 + bias3, 0)
    odds = np.exp(x3 @ kernel4 + bias4)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    # Backward: the chain rule, from the last layer to the first. A ReLU passes on what it let in.
    d4 = (probabilities - np.eye(CLASSES)[labels]) / len(labels)
    d3 = (d4 @ kernel4.T) * (x3 > 0)
    d2 = pool_back((d3 @ kernel3.T).reshape(pool(x2).shape), x2) * (x2 > 0)
    d1 = pool_back(convolve_back(d2, kernel2), x1) * (x1 > 0)
    return [
        *(kernel_gradient(pixels, d1), d1.sum(axis=(0, 1, 2))),
        *(kernel_gradient(pool(x1), d2), d2.sum(axis=(0, 1, 2))),
        *(flat.T @ d3, d3.sum(axis=0)),
        *(x3.T @ d4, d4.sum(axis=0)),
    ]


def train_by_hand(weights, images, order):
    """Return the weights after one step of gradient descent a batch."""
    pixels = images.images.astype(np.float64)
    pixels -= pixels.mean(axis=(1, 2, 3), keepdims=True)
    pixels /= pixels.std(axis=(1, 2, 3), keepdims=True)
    for epoch in order:
        for start in range(0, len(epoch), BATCH):
            batch = epoch[start : start + BATCH]
            steps = gradients(weights, pixels[batch], images.labels[batch])
            weights = [w - RATE * step for w, step in zip(weights, steps, strict=True)]
    return weights


def average_by_hand(updates, sizes):
    """Return w = sum_k n_k w_k / sum_k n_k, array by array."""
    return [
        sum(n * w for n, w in zip(sizes, arrays, strict=True)) / sum(sizes)
        for arrays in zip(*updates, strict=True)
    ]


@pytest.fixture(scope="module")
def by_hand(hospitals):
    start = [w.astype(np.float64) for w in new_model().get_weights()]
    updates = [train_by_hand(start, h, order_of(k, h)) for k, h in enumerate(hospitals)]
    return average_by_hand(updates, [len(h) for h in hospitals])


# By others ----------------------------------------------------------------------------------------


def by_the_package(start, hospitals):
    trainer = Trainer(new_model(), SETTINGS)
    updates = [trainer.train(start, h, epochs=EPOCHS, seed=k)[0] for k, h in enumerate(hospitals)]
    return weighted_average(updates, [len(h) for h in hospitals])


def by_keras(start, hospitals):
    models = [new_model(start) for _ in hospitals]
    for k, (model, images) in enumerate(zip(models, hospitals, strict=True)):
        fit_keras(model, images, order_of(k, images), SETTINGS)
    arrays = zip(*(model.get_weights() for model in models), strict=True)
    return [np.average(a, axis=0, weights=[len(h) for h in hospitals]) for a in arrays]


def by_flower(start, hospitals):
    client, server = ClientApp(), ServerApp()

    @client.train()
    def train(message, context):
        k = context.node_config["partition-id"]
        model = new_model(message.content["arrays"].to_numpy_ndarrays())
        fit_step_by_step(model, hospitals[k], order_of(k, hospitals[k]), SETTINGS)
        metrics = MetricRecord({"num-examples": len(hospitals[k])})
        content = RecordDict({"arrays": ArrayRecord(model.get_weights()), "metrics": metrics})
        return Message(content, reply_to=message)

    @server.main()
    def main(grid, context):
        strategy = FedAvg(fraction_evaluate=0.0)
        result = strategy.start(grid=grid, initial_arrays=ArrayRecord(start), num_rounds=1)
        context.state["arrays"] = result.arrays

    context = run_in_process(server, client, ["North", "South", "West"])
    return context.state["arrays"].to_numpy_ndarrays()


@pytest.mark.parametrize("others", [by_the_package, by_keras, by_flower])
def test_one_round_gives_the_weights_worked_out_by_hand(others, hospitals, by_hand):
    start = new_model().get_weights()
    found = others(start, hospitals)
    for hand, theirs, before in zip(by_hand, found, start, strict=True):
        np.testing.assert_allclose(theirs, hand, rtol=0, atol=2e-7)
        assert np.abs(hand - before).max() > 1e-3  # something was learnt that could be wrong
