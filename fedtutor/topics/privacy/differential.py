"""Differential privacy: clip, add noise, and say what ε it buys.

Two units of protection. *A whole hospital*: Flower's strategies clip each hospital's update and add
noise to the mean (McMahan et al. 2018). *One image*: a hospital clips each image's gradient and
adds noise to every step (DP-SGD, Abadi et al. 2016). All ε are Google's ``dp-accounting``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, Strategy

from fedtutor.compiled_training import compiled
from fedtutor.errors import FederationError
from fedtutor.federation import StreamingFedAvg, make_strategy
from fedtutor.federation.records import arrays_in
from fedtutor.federation.strategies import Averaged
from fedtutor.images import MedicalImages
from fedtutor.model import Weights, standardise
from fedtutor.topics import clip_update
from fedtutor.training import loss_function

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SAMPLINGS = ("everybody", "poisson", "fixed")


def epsilon(
    noise_multiplier: float,
    steps: int,
    *,
    delta: float,
    sampled: float = 1,
    population: int = 1,
    sampling: str = "everybody",
) -> float:
    """Return ε of ``steps`` releases of a clipped sum with Gaussian noise, at ``delta``.

    Parameters
    ----------
    noise_multiplier : the noise's deviation over the clipping norm; 0 has no privacy.
    steps : how often noise was added: rounds, or steps of DP-SGD.
    delta : the chance, well below one over the population, with which ε may not hold.
    sampled, population : of how many (images, hospitals) how many take part in a step.
    sampling : what is assumed of who takes part, and of what ε compares.

        - "everybody" takes part in each step, or a lottery that is not counted on. Compares with
          the same run in which one of them contributes zero. Exact (Balle & Wang 2018).
        - "poisson": each by a coin of its own, with probability sampled / population, as
          :class:`PrivateTrainer` does. Compares with one more or one fewer. By the privacy loss
          distribution, an upper bound within 0.002 (Koskela et al. 2020).
        - "fixed": exactly ``sampled`` of them, drawn without replacement, as Flower's strategies
          do with ``fraction_train``. Compares with one of them *replaced*, which can change the
          sum by twice the clipping norm. The smaller of two upper bounds: by Rényi DP (Wang et
          al. 2019), and that of half the noise multiplier with everybody, which no lottery exceeds.

    Raises
    ------
    FederationError
        For a number out of its range.
    """
    _check(noise_multiplier, steps, delta, sampled, population, sampling)
    if not steps:
        return 0.0
    if not noise_multiplier:
        return math.inf
    import dp_accounting as dp

    if sampling == "everybody":
        # T Gaussian releases are one with a noise sqrt(T) times smaller (Dong et al. 2022).
        return float(dp.get_epsilon_gaussian(noise_multiplier / math.sqrt(steps), delta))
    if sampling == "poisson":
        # A coarser grid is ten times quicker, and as near for few steps; both round upwards.
        grid = 1e-3 if steps <= 100 else 1e-4
        accountant = dp.pld.PLDAccountant(value_discretization_interval=grid)
        event = dp.PoissonSampledDpEvent(sampled / population, dp.GaussianDpEvent(noise_multiplier))
        return float(accountant.compose(event, int(steps)).get_epsilon(delta))
    accountant = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.REPLACE_ONE)
    event = dp.SampledWithoutReplacementDpEvent(
        int(population), int(sampled), dp.GaussianDpEvent(noise_multiplier / 2)
    )
    by_renyi = accountant.compose(event, int(steps)).get_epsilon(delta)
    return min(float(by_renyi), epsilon(noise_multiplier / 2, steps, delta=delta))


def noise_for(target: float, steps: int, *, delta: float) -> float:
    """Return the noise multiplier that gives "everybody" ε = ``target`` in ``steps`` releases.

    Raises as :func:`epsilon` does.
    """
    _check(1, steps, delta, 1, 1, "everybody")
    if not target > 0:
        raise FederationError(f"ε must be above 0; got {target}.")
    import dp_accounting as dp

    return float(dp.get_sigma_gaussian(target, delta) * math.sqrt(steps))


def _check(
    noise: float, steps: int, delta: float, sampled: float, population: int, sampling: str
) -> None:
    if sampling not in SAMPLINGS:
        raise FederationError(f"unknown sampling {sampling!r}; known: {', '.join(SAMPLINGS)}.")
    if not (0 <= noise < math.inf and steps >= 0 and steps % 1 == 0 and 0 < delta < 1):
        raise FederationError(
            "the noise multiplier must be 0 or more and finite, steps 0 or more and whole, delta "
            f"between 0 and 1; got {noise}, {steps} and {delta}."
        )
    if not 0 < sampled <= population:
        what = "sampled must lie above 0 and be at most the population"
        raise FederationError(f"{what}; got {sampled} of {population}.")
    if sampling == "fixed" and (sampled % 1 or population % 1):
        raise FederationError(f"a fixed sample is of whole numbers; got {sampled} of {population}.")


def clip(update: Weights, norm: float) -> Weights:
    """Shorten the update to ``norm`` if it is longer (McMahan et al. 2018, FlatClip)."""
    if not norm > 0:
        raise FederationError(f"the clipping norm must be above 0; got {norm}.")
    return clip_update(update, norm)


def add_noise(update: Weights, deviation: float, rng: np.random.Generator) -> Weights:
    """Add independent normal noise of that deviation to every number of the update."""
    return [(a + deviation * rng.standard_normal(a.shape)).astype(a.dtype) for a in update]


class EqualFedAvg(StreamingFedAvg):
    """FedAvg in which every hospital counts the same, as Flower's noise assumes.

    Flower adds noise of deviation ``noise_multiplier * clipping_norm / hospitals`` to the mean.
    Were the mean weighted by images, a hospital with a third of them could move it by a third of
    the clipping norm, and ε would be too small.
    """

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Averaged:
        """Average the updates, each counted as one example."""
        arrays, metrics = super().aggregate_train(server_round, map(self._as_one, replies))
        # Flower adds the noise in place, so that arrays of our own read-only kind will not do.
        return arrays and ArrayRecord([array.numpy() for array in arrays.values()]), metrics

    def _as_one(self, reply: Message) -> Message:
        if reply.has_content():
            reply.content.metric_records["metrics"][self.weighted_by_key] = 1
        return reply


class ServerSideClipping(DifferentialPrivacyServerSideFixedClipping):
    """Flower's strategy, not stopped by a hospital that has learned nothing.

    Flower 1.41 divides by the update's length; an update of zeros, from a hospital that returns
    what it got, ends the run with a ZeroDivisionError. Here one number is moved by a millionth.
    """

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Averaged:
        """Clip, average and add noise, as Flower does."""
        return super().aggregate_train(server_round, map(self._nudged, replies))

    def _nudged(self, reply: Message) -> Message:
        if reply.has_content():
            got = arrays_in(reply).to_numpy_ndarrays()
            if all(map(np.array_equal, self.current_arrays.to_numpy_ndarrays(), got)):
                got[0] = got[0].copy()
                got[0].flat[0] += 1e-6 * (1 + abs(got[0].flat[0]))
                reply.content["arrays"] = ArrayRecord(got)
        return reply


def private_strategy(
    num_hospitals: int, noise_multiplier: float, clipping_norm: float, **kwargs: Any
) -> Strategy:
    """Return Flower's differential privacy for whole hospitals, around :class:`EqualFedAvg`.

    The noise comes from NumPy's global generator, as Flower has it: ``np.random.seed`` makes a
    demonstration repeatable, and must not be called where privacy is meant.

    Parameters
    ----------
    num_hospitals : how many train in each round. Flower's noise is for that number: if some drop
        out, the mean is over fewer and the true noise multiplier is smaller than said.
    kwargs : passed to FedAvg, such as ``fraction_train``.
    """
    inner = make_strategy("fedavg", num_hospitals, made_by=EqualFedAvg, **kwargs)
    return ServerSideClipping(inner, noise_multiplier, clipping_norm, num_hospitals)


class PrivateTrainer:
    """DP-SGD inside one hospital (Abadi et al. 2016, algorithm 1).

    Parameters
    ----------
    model : a Keras model with a softmax and no BatchNorm, which would mix the images.
    clipping_norm : the longest that one image's gradient may be; infinite for no clipping.
    """

    def __init__(self, model: keras.Model, clipping_norm: float) -> None:
        if not clipping_norm > 0:
            raise FederationError(f"the clipping norm must be above 0; got {clipping_norm}.")
        self.model = model
        self._clipping_norm = clipping_norm
        self._variables = [variable.value for variable in model.trainable_variables]
        self._sum = self._compile_sum()

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> Weights:
        """Return one gradient an image: float32 (n, *shape) for each variable, not clipped.

        ``images`` is standardised float32 (n, h, w, c), ``labels`` int (n,).
        """
        import tensorflow as tf

        found = _per_example(self.model, self._variables, tf.constant(images), tf.constant(labels))
        return [g.numpy() for g in found]

    def clipped_sum(self, images: np.ndarray, labels: np.ndarray) -> Weights:
        """Return the sum of the clipped gradients; zero for no image."""
        import tensorflow as tf

        if not len(images):
            return [np.zeros(v.shape, np.float32) for v in self._variables]
        found = self._sum(tf.constant(images), tf.constant(labels, tf.int64))
        return [g.numpy() for g in found]

    def train(
        self,
        data: MedicalImages,
        *,
        noise_multiplier: float,
        batch_size: int,
        steps: int,
        learning_rate: float,
        seed: int = 0,
    ) -> Weights:
        """Train the model in place and return its weights.

        Each image is in a step's batch by a coin of its own, with probability ``batch_size`` over
        the number of images, and the noisy sum is divided by ``batch_size`` however many came:
        that is what the ε of ``sampling="poisson"`` assumes.
        """
        rng = np.random.default_rng(seed)
        images = standardise(np.asarray(data.images))
        for _ in range(steps):
            drawn = np.flatnonzero(rng.random(len(data)) < batch_size / len(data))
            total = self.clipped_sum(images[drawn], data.labels[drawn])
            if noise_multiplier:  # without noise the clipping norm may be infinite
                total = add_noise(total, noise_multiplier * self._clipping_norm, rng)
            for variable, array in zip(self._variables, total, strict=True):
                variable.assign_sub(learning_rate / batch_size * array)
        return self.model.get_weights()

    def _compile_sum(self) -> Callable[..., list[tf.Tensor]]:
        import tensorflow as tf

        images_spec = tf.TensorSpec((None, *self.model.input_shape[1:]), tf.float32)

        def clipped_sum(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
            found = _per_example(self.model, self._variables, images, labels)
            squares = [tf.reduce_sum(g * g, axis=tuple(range(1, g.shape.rank))) for g in found]
            lengths = tf.sqrt(tf.add_n(squares))
            factor = tf.minimum(1.0, self._clipping_norm / tf.maximum(lengths, 1e-30))
            return [tf.tensordot(factor, g, 1) for g in found]

        return compiled(clipped_sum, images_spec, tf.TensorSpec((None,), tf.int64))


def _per_example(
    model: keras.Model, variables: Sequence[tf.Variable], images: tf.Tensor, labels: tf.Tensor
) -> list[tf.Tensor]:
    """Return the gradients of each image's own loss, (n, *shape), in one vectorised pass."""
    import tensorflow as tf

    criterion = loss_function(model)

    def of_one(one: tuple[tf.Tensor, tf.Tensor]) -> list[tf.Tensor]:
        image, label = one
        with tf.GradientTape() as tape:
            loss = criterion(label[None], model(image[None], training=True))[0]
        return tape.gradient(loss, variables)

    return tf.vectorized_map(of_one, (images, labels))
