"""The training loop of :mod:`fedtutor.training`, compiled for each core (:mod:`fedtutor.cores`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fedtutor.cores import check_stopped, one_a_thread
from fedtutor.errors import DataError
from fedtutor.images import Images, MedicalImages
from fedtutor.model import MIN_DEVIATION, Weights, create_model, is_multi_label, predict
from fedtutor.settings import TrainingSettings
from fedtutor.support.rows import on_disk
from fedtutor.training import check_head, epoch_order, loss_function

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


PIXELS_AT_A_TIME = 2**21
"""Trained on in one piece, about a second's work; in between the work can be stopped."""


class Trainer:
    """One model and one compiled training loop, for one hospital after the other.

    A new model costs TensorFlow a new trace, far more than a small hospital's training; here the
    weights are put into the same variables and the optimiser's memory is wiped in place.

    Parameters
    ----------
    model : a Keras model with a softmax output, or sigmoids for multi-label data; the trainer
        owns its weights from now on.
    settings : see :class:`~fedtutor.training.TrainingSettings`.
    """

    def __init__(self, model: keras.Model, settings: TrainingSettings) -> None:
        import tensorflow as tf

        self.model = model
        self.settings = settings
        self._learning_rate = tf.Variable(settings.learning_rate, dtype=tf.float32)
        self._variables = [variable.value for variable in model.weights]
        self._trained = [variable.value for variable in model.trainable_variables]
        self._optimizer = FusedOptimizer(settings.optimizer, self._trained, self._learning_rate)
        pulled = self._trained if settings.proximal_mu else []
        self._anchor = [tf.Variable(tf.zeros_like(variable)) for variable in pulled]
        self._start = self._compile_start()
        self._steps = self._compile_steps()

    def train(
        self,
        weights: Weights,
        data: MedicalImages,
        *,
        epochs: int = 1,
        seed: int | tuple[int, ...] = 0,
        learning_rate: float | None = None,
    ) -> tuple[Weights, float]:
        """Train from ``weights`` on ``data`` with a fresh optimiser.

        ``learning_rate`` is by default that of the settings.

        Returns
        -------
        The new weights and the last epoch's mean loss. The order of the images depends only on
        ``seed`` and their number.
        """
        self.start(weights)
        loss = self.more(data, epochs=epochs, seed=seed, learning_rate=learning_rate)
        return self.weights(), loss

    def start(self, weights: Weights) -> None:
        """Begin anew from ``weights``, the optimiser's memory wiped."""
        import tensorflow as tf

        pairs = list(zip(weights, self._variables, strict=True))
        if any(w.shape != v.shape for w, v in pairs):
            form = "x".join(map(str, self.model.input_shape[1:]))
            raise DataError(f"this model is not for images of {form}; agree on size and colour.")
        self._start(*(tf.convert_to_tensor(w, v.dtype) for w, v in pairs))

    def more(
        self,
        data: MedicalImages,
        *,
        epochs: int = 1,
        seed: int | tuple[int, ...] = 0,
        learning_rate: float | None = None,
    ) -> float:
        """Train on from where it stands; return the last epoch's mean loss."""
        import tensorflow as tf

        check_head(self.model, data)
        if learning_rate is not None:
            self._learning_rate.assign(learning_rate)
        for anchor, variable in zip(self._anchor, self._trained, strict=False):
            anchor.assign(variable)
        from_disk = on_disk(data.images)  # by the piece, or memory would grow with the images
        given = (data.images, data.labels)
        whole = () if from_disk else tuple(map(tf.convert_to_tensor, given))
        piece = self.settings.batch_size
        piece *= max(1, PIXELS_AT_A_TIME // (piece * math.prod(data.image_shape)))
        for order in epoch_order(len(data), epochs, seed=seed):
            loss = 0.0
            for start in range(0, len(order), piece):
                check_stopped()
                part = order[start : start + piece]
                if from_disk:
                    whole = tuple(tf.convert_to_tensor(np.asarray(one[part])) for one in given)
                    part = np.arange(len(part), dtype=np.int32)
                loss += float(self._steps(*whole, tf.convert_to_tensor(part)))
        return loss / len(data)

    def weights(self) -> Weights:
        """Return the model's present weights, as arrays that can be read but not written.

        They are views on TensorFlow's memory; TensorFlow leaves that memory alone as long as
        somebody looks at it, so that they never change.
        """
        return [np.asarray(variable.read_value()) for variable in self._variables]

    def predict(self, images: Images) -> np.ndarray:
        """Return probabilities by the present weights, see :func:`fedtutor.model.predict`."""
        return predict(self.model, images, forward=self._forward)

    @cached_property
    def _forward(self):
        """The model's pass as a graph of its own: other threads may not be in the same one."""
        import tensorflow as tf

        spec = tf.TensorSpec(self.model.input_shape, tf.float32)
        forward = compiled(lambda pixels: self.model(pixels, training=False), spec)
        return lambda pixels: forward(tf.convert_to_tensor(pixels))

    def _compile_start(self):
        import tensorflow as tf

        def start(*weights):
            for variable, value in zip(self._variables, weights, strict=True):
                variable.assign(value)
            self._optimizer.wipe()

        return compiled(start, *(tf.TensorSpec(v.shape, v.dtype) for v in self._variables))

    def _compile_steps(self):
        """Compile an epoch of :func:`~fedtutor.training.fit_step_by_step`, or a part of it."""
        import tensorflow as tf

        model, variables, batch_size = self.model, self._trained, self.settings.batch_size
        mu = self.settings.proximal_mu
        criterion = loss_function(model)
        labels_spec = (
            tf.TensorSpec((None, model.output_shape[-1]), tf.uint8)
            if is_multi_label(model)
            else tf.TensorSpec((None,), tf.int64)
        )

        def standardised(images):  # fedtutor.model.standardise, in the graph
            pixels = tf.cast(images, tf.float32)
            mean = tf.reduce_mean(pixels, axis=(1, 2, 3), keepdims=True)
            deviation = tf.math.reduce_std(pixels, axis=(1, 2, 3), keepdims=True)
            return (pixels - mean) / tf.maximum(deviation, MIN_DEVIATION)

        def step(images, labels):
            with tf.GradientTape() as tape:
                outputs = model(standardised(images), training=True)
                losses = criterion(labels, outputs)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, variables)
            if mu:
                gradients = [
                    g + mu * (w - a)
                    for g, w, a in zip(gradients, variables, self._anchor, strict=True)
                ]
            self._optimizer.apply(gradients)
            return tf.reduce_sum(losses)

        def steps(images, labels, order):
            def one_more(start, total):
                batch = order[start : start + batch_size]
                loss = step(tf.gather(images, batch), tf.gather(labels, batch))
                return start + batch_size, total + loss

            return tf.while_loop(lambda start, _: start < tf.size(order), one_more, (0, 0.0))[1]

        images_spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)
        return compiled(steps, images_spec, labels_spec, tf.TensorSpec((None,), tf.int32))


def compiled(function: Callable, *specs: tf.TensorSpec) -> Callable:
    """Return a function of tensors as one graph, traced now, for one thread.

    Two threads in one graph end TensorFlow 2.21 with a segmentation fault now and then. A graph
    does not look for the right trace at each call, which at 28 pixels is a twentieth of a small
    hospital's training. Autograph, which parses Python, is off: before Python 3.11.8 and 3.12.2
    one of two threads that parse may fail (cpython issue 106905).
    """
    import tensorflow as tf

    return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()


class FusedOptimizer:
    """Keras's Adam, SGD and momentum by TensorFlow's fused kernels.

    Each kernel goes through memory once where Keras's optimisers write every intermediate result
    of their formula; with this course's wide dense layer that is a tenth to a fifth of the
    training time. The numbers are those of
    :func:`~fedtutor.training.create_optimizer`, as a test shows.

    Parameters
    ----------
    name : one of :data:`fedtutor.settings.OPTIMIZERS`.
    variables : what it trains.
    learning_rate : a scalar variable.
    """

    def __init__(
        self, name: str, variables: Sequence[tf.Variable], learning_rate: tf.Variable
    ) -> None:
        import tensorflow as tf

        self._name, self._variables, self._learning_rate = name, variables, learning_rate
        self._steps = tf.Variable(0.0)
        num_slots = {"adam": 2, "momentum": 1, "sgd": 0}[name]
        self._slots = [[tf.Variable(tf.zeros_like(v)) for _ in range(num_slots)] for v in variables]

    def wipe(self) -> None:
        """Forget all former gradients."""
        import tensorflow as tf

        for variable in [self._steps, *(slot for slots in self._slots for slot in slots)]:
            variable.assign(tf.zeros_like(variable))

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Take one step along the gradients, which come in the order of the variables."""
        import tensorflow as tf

        ops, rate = tf.raw_ops, self._learning_rate
        self._steps.assign_add(1.0)
        powers = 0.9**self._steps, 0.999**self._steps
        for variable, gradient, slots in zip(self._variables, gradients, self._slots, strict=True):
            handle, memory = variable.handle, [slot.handle for slot in slots]
            if self._name == "adam":  # Kingma & Ba 2015, algorithm 1, with section 2's step size
                ops.ResourceApplyAdam(
                    **{"var": handle, "m": memory[0], "v": memory[1], "lr": rate, "grad": gradient},
                    **{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7},
                    beta1_power=powers[0],
                    beta2_power=powers[1],
                )
            elif self._name == "momentum":
                ops.ResourceApplyKerasMomentum(
                    var=handle, accum=memory[0], lr=rate, grad=gradient, momentum=0.9
                )
            else:
                ops.ResourceApplyGradientDescent(var=handle, alpha=rate, delta=gradient)


@one_a_thread
def trainer_for(
    input_shape: tuple[int, int, int],
    num_classes: int,
    settings: TrainingSettings,
    *,
    multi_label: bool = False,
) -> Trainer:
    """Return this thread's trainer for such images, made on the first call and then reused."""
    return Trainer(create_model(input_shape, num_classes, multi_label=multi_label), settings)
