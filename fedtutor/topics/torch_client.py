"""A hospital that trains in PyTorch: the same CNN, the same numbers, the same Flower app.

Only what a hospital does inside differs: the weights that travel are Keras's, whose layout is the
course's. PyTorch is asked for when a model is; it comes with ``pip install "fedtutor[torch]"``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from fedtutor.aggregation import check_form
from fedtutor.cores import one_a_thread
from fedtutor.errors import FedtutorError
from fedtutor.images import MedicalImages
from fedtutor.model import Weights, standardise
from fedtutor.settings import TrainingSettings
from fedtutor.training import epoch_order

if TYPE_CHECKING:
    import torch

FILTERS = (32, 64)
HIDDEN = 128

FeatureShape = tuple[int, int, int]
"""(height, width, channels) of what the flatten layer gets."""


@cache
def load_torch():
    """Import PyTorch; it works on one core unless ``OMP_NUM_THREADS`` says otherwise.

    Its threads wait for each other by turning on the spot. Beside TensorFlow's on two busy cores
    small batches took thirty times as long with two of them as with one.

    Raises
    ------
    FedtutorError
        If it is not installed; says how to get it.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise FedtutorError(
            'PyTorch is not installed; it is an extra: pip install "fedtutor[torch]". On Linux '
            "that brings CUDA, 2.7 GB, unless PyTorch's own build for the CPU is there before."
        ) from error
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    return torch


def feature_shape(input_shape: tuple[int, int, int]) -> FeatureShape:
    """Return what two convolutions of 3x3 and two poolings of 2x2 leave of an image."""
    height, width = (((side - 2) // 2 - 2) // 2 for side in input_shape[:2])
    return height, width, FILTERS[-1]


def to_torch_layout(weights: Weights, features: FeatureShape) -> Weights:
    """Turn Keras's layout into PyTorch's, array by array; nothing is copied where that goes.

    A convolution's kernel goes from (height, width, in, out) to (out, in, height, width), a dense
    one from (in, out) to (out, in). After the flatten layer the inputs change places too: Keras
    flattens (height, width, channels), PyTorch (channels, height, width).

    Parameters
    ----------
    weights : as ``model.get_weights()`` of :func:`fedtutor.model.create_model` gives them.
    features : see :func:`feature_shape`.
    """
    arrays = [array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T for array in weights]
    k = _first_dense(weights)
    units = weights[k].shape[1]
    arrays[k] = weights[k].reshape(*features, units).transpose(3, 2, 0, 1).reshape(units, -1)
    return arrays


def to_keras_layout(arrays: Weights, features: FeatureShape) -> Weights:
    """Turn PyTorch's layout back into Keras's, C-contiguous; undo :func:`to_torch_layout`."""
    height, width, channels = features
    weights = [array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T for array in arrays]
    k = _first_dense(arrays)
    units = arrays[k].shape[0]
    by_channel = arrays[k].reshape(units, channels, height, width)
    weights[k] = by_channel.transpose(2, 3, 1, 0).reshape(-1, units)
    return [np.ascontiguousarray(array) for array in weights]


def _first_dense(weights: Weights) -> int:
    """Return the place of the kernel that comes after the flatten layer."""
    return next(k for k, array in enumerate(weights) if array.ndim == 2)


def create_torch_model(
    input_shape: tuple[int, int, int] = (128, 128, 1), num_classes: int = 3
) -> torch.nn.Sequential:
    """Return :func:`fedtutor.model.create_model`'s CNN, with PyTorch's own initial weights.

    It maps float32 (n, channels, height, width) to logits, float32 (n, num_classes): PyTorch's
    losses take those, so that the softmax, or the sigmoids of multi-label data, come after it.
    """
    nn = load_torch().nn
    return nn.Sequential(
        nn.Conv2d(input_shape[2], FILTERS[0], (3, 3)),
        nn.ReLU(),
        nn.MaxPool2d((2, 2)),
        nn.Conv2d(FILTERS[0], FILTERS[1], (3, 3)),
        nn.ReLU(),
        nn.MaxPool2d((2, 2)),
        nn.Flatten(),
        nn.Linear(int(np.prod(feature_shape(input_shape))), HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, num_classes),
    )


def set_weights(model: torch.nn.Module, weights: Weights, features: FeatureShape) -> None:
    """Put weights in Keras's layout into a PyTorch model.

    Raises
    ------
    UpdateError
        If their number, shapes or dtypes are not the model's.
    """
    torch = load_torch()
    check_form(weights, get_weights(model, features), hospital="the server")
    with torch.no_grad():
        arrays = to_torch_layout(weights, features)
        for parameter, array in zip(model.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(np.array(array)))


def get_weights(model: torch.nn.Module, features: FeatureShape) -> Weights:
    """Return a PyTorch model's weights in Keras's layout, as copies."""
    arrays = [parameter.detach().numpy().copy() for parameter in model.parameters()]
    return to_keras_layout(arrays, features)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Turn uint8 images (n, h, w, c) into what the PyTorch model takes: float32 (n, c, h, w)."""
    return load_torch().from_numpy(standardise(images).transpose(0, 3, 1, 2).copy())


def create_torch_optimizer(
    model: torch.nn.Module, settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Return a fresh PyTorch optimiser that steps as Keras's does.

    PyTorch's Adam adds its epsilon as Kingma & Ba 2015 do in algorithm 1, Keras's as they do at the
    end of section 2; in PyTorch's place Keras's is 30 times as large in the first step, and many
    gradients of a wide dense layer are smaller than that.
    """
    optim, rate = load_torch().optim, settings.learning_rate
    if settings.optimizer != "adam":
        momentum = 0.9 if settings.optimizer == "momentum" else 0.0
        return optim.SGD(model.parameters(), rate, momentum=momentum)
    optimizer, steps = optim.Adam(model.parameters(), rate), count(1)

    def put_epsilon_where_keras_has_it(*_: object) -> None:
        (group,) = optimizer.param_groups
        group["eps"] = 1e-7 / math.sqrt(1 - 0.999 ** next(steps))

    optimizer.register_step_pre_hook(put_epsilon_where_keras_has_it)
    return optimizer


def batches(
    data: MedicalImages, order: np.ndarray, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield an epoch's (images, labels), in the order given; the last batch may be smaller."""
    torch = load_torch()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        labels = torch.from_numpy(data.labels[batch])
        yield to_tensor(data.images[batch]), labels.float() if data.multi_label else labels


def fit_torch(
    model: torch.nn.Module, data: MedicalImages, order: np.ndarray, settings: TrainingSettings
) -> float:
    """Train as the course's mission writes it; return the last epoch's mean loss.

    ``order`` is int (epochs, n), see :func:`fedtutor.training.epoch_order`.
    """
    nn = load_torch().nn
    optimizer = create_torch_optimizer(model, settings)
    criterion = nn.BCEWithLogitsLoss() if data.multi_label else nn.CrossEntropyLoss()
    anchor = [parameter.detach().clone() for parameter in model.parameters()]
    total = 0.0
    for epoch in order:
        total = 0.0
        for images, labels in batches(data, epoch, settings.batch_size):
            optimizer.zero_grad()
            outputs = model(images)
            loss = criterion(outputs, labels)
            loss.backward()
            if settings.proximal_mu:  # FedProx's gradient (Li et al. 2020, eq. 2) on top
                for parameter, start in zip(model.parameters(), anchor, strict=True):
                    parameter.grad += settings.proximal_mu * (parameter.detach() - start)
            optimizer.step()
            total += loss.item() * len(images)
    return total / len(data)


class TorchTrainer:
    """A :class:`~fedtutor.compiled_training.Trainer` in PyTorch: one model for all hospitals.

    Made for (height, width, channels) of an image, as many classes, and the settings.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        settings: TrainingSettings,
        *,
        multi_label: bool = False,
    ) -> None:
        self.model = create_torch_model(input_shape, num_classes)
        self.settings = settings
        self._features = feature_shape(input_shape)
        self._multi_label = multi_label

    def train(
        self,
        weights: Weights,
        data: MedicalImages,
        *,
        epochs: int = 1,
        seed: int | tuple[int, ...] = 0,
        learning_rate: float | None = None,
    ) -> tuple[Weights, float]:
        """Train from ``weights`` with a fresh optimiser; return the new weights and the mean loss.

        Images come in the order of :class:`~fedtutor.compiled_training.Trainer`.
        """
        self.start(weights)
        rate = self.settings.learning_rate if learning_rate is None else learning_rate
        order = epoch_order(len(data), epochs, seed=seed)
        loss = fit_torch(self.model, data, order, replace(self.settings, learning_rate=rate))
        return get_weights(self.model, self._features), loss

    def start(self, weights: Weights) -> None:
        """Begin anew from ``weights``, in Keras's layout."""
        set_weights(self.model, weights, self._features)

    def predict(self, images: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
        """Return probabilities, float32 (n, num_classes), of uint8 images (n, h, w, c)."""
        torch = load_torch()
        head = torch.sigmoid if self._multi_label else partial(torch.softmax, dim=1)
        with torch.inference_mode():
            blocks = [
                head(self.model(to_tensor(images[i : i + batch_size]))).numpy()
                for i in range(0, len(images), batch_size)
            ]
        return np.concatenate(blocks)


torch_trainer_for = one_a_thread(TorchTrainer)
"""This thread's PyTorch trainer for such images; made on the first call, reused ever after."""
