"""Algorithms for hospitals that differ: SCAFFOLD, and batch norm at home.

What Flower brings along (FedProx, FedAvgM, FedAdam, FedYogi) is in
:func:`fedtutor.federation.make_strategy`. The two here are Flower *mods*, functions around a
hospital's app, so that one client app serves all of them on any engine:

    make_app(local)                                # FedAvg and whatever changes the server only
    make_app(local, mods=[scaffold])               # with the strategy Scaffold
    make_app(local, mods=[keep_at_home(places)])   # FedBN and its kin, with any strategy

where ``local`` is what a hospital does in a round, see :func:`local_training`. What a hospital
remembers from round to round is in its ``context.state``, which all of Flower's engines keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedtutor.aggregation import RunningAverage, update_norm
from fedtutor.compiled_training import FusedOptimizer, Trainer
from fedtutor.cores import one_a_thread
from fedtutor.errors import DataError, FederationError
from fedtutor.federation import StreamingFedAvg
from fedtutor.federation.client import hospital_name
from fedtutor.federation.records import arrays_in, config_in, to_record, to_weights
from fedtutor.federation.strategies import Averaged
from fedtutor.images import MedicalImages
from fedtutor.model import Weights, create_model, load_keras
from fedtutor.settings import TrainingSettings, from_config
from fedtutor.training import learning_rate_at

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class LocalSteps:
    """What a hospital made of the weights it was sent.

    Attributes
    ----------
    weights : after its steps.
    step_sum : its step sizes added up, the K * eta_l of the SCAFFOLD paper; above 0.
    num_examples : images trained on, the hospital's weight in the average.
    loss : mean loss of the last epoch.
    """

    weights: Weights
    step_sum: float
    num_examples: int
    loss: float


Local = Callable[[Weights, Weights | None, ConfigRecord, Context], LocalSteps]
"""From (global weights, correction, config, context) to the hospital's own steps.

The correction, where there is one, is to be added to every gradient; None is plain training.
"""


def make_app(
    local: Local,
    *,
    judge: Callable[[Weights, Context], dict[str, float]] | None = None,
    mods: Sequence[Callable] = (),
    side_by_side: bool = False,
) -> ClientApp:
    """Return a hospital's app around its local training.

    Parameters
    ----------
    local : see :data:`Local`.
    judge : from weights to what the hospital finds of them on its own test patients, with
        "num-examples"; without it, it cannot be asked.
    mods : :func:`scaffold` or what :func:`keep_at_home` gives.
    side_by_side : whether ``local`` and ``judge`` bear to be called by several threads at once.
    """
    app = ClientApp(mods=list(mods))
    app.side_by_side = side_by_side  # type: ignore[attr-defined]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        records = message.content.array_records
        correction = to_weights(records["correction"]) if "correction" in records else None
        done = local(to_weights(records["arrays"]), correction, config_in(message), context)
        metrics = MetricRecord(
            {"num-examples": done.num_examples, "loss": done.loss, "step-sum": done.step_sum}
        )
        reply = RecordDict({"arrays": to_record(done.weights), "metrics": metrics})
        return Message(reply, reply_to=message)

    if judge is not None:

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            found = judge(to_weights(arrays_in(message)), context)
            return Message(RecordDict({"metrics": MetricRecord({**found})}), reply_to=message)

    @app.query()
    def who(message: Message, context: Context) -> Message:
        name = ConfigRecord({"name": hospital_name(context)})
        return Message(RecordDict({"hospital": name}), reply_to=message)

    return app


def local_training(
    images_of: Callable[[Context], MedicalImages],
    trainer_of: Callable[[MedicalImages, TrainingSettings], Trainer],
) -> Local:
    """Return gradient steps on a hospital's own images, as the server's config asks for them.

    Parameters
    ----------
    images_of : see :func:`fedtutor.federation.make_client_app`.
    trainer_of : such as :func:`corrected_trainer_of` or :func:`batchnorm_trainer_of`.

    Images come in the order of the course's own app: all algorithms meet the same batches.
    """

    def local(
        weights: Weights, correction: Weights | None, config: ConfigRecord, context: Context
    ) -> LocalSteps:
        images, asked = images_of(context), dict[str, Any](config)
        settings = from_config(TrainingSettings, config)
        server_round, epochs = asked["server-round"], asked["local-epochs"]
        rate = learning_rate_at(settings, server_round, asked["num-rounds"])
        trainer = trainer_of(images, settings)
        if isinstance(trainer, CorrectedTrainer):
            trainer.correct(correction)
        elif correction is not None:
            raise FederationError(
                "SCAFFOLD corrects every gradient and this trainer cannot; give local_training "
                "corrected_trainer_of."
            )
        weights, loss = trainer.train(
            weights,
            images,
            epochs=epochs,
            seed=(asked["seed"], server_round, int(context.node_config["partition-id"])),
            learning_rate=rate,
        )
        num_steps = epochs * math.ceil(len(images) / settings.batch_size)
        return LocalSteps(weights, num_steps * rate, len(images), loss)

    return local


# SCAFFOLD


def scaffold(message: Message, context: Context, call_next: Callable) -> Message:
    """Do the hospital's half of SCAFFOLD (Karimireddy et al. 2020, algorithm 1): a Flower mod.

    Before training, the correction ``c - c_k`` of its line 10 goes into the message; after it the
    hospital's own control variate, in ``context.state["control"]`` and 0 at first, becomes

        c_k <- c_k - c + (x - y_k) / (K * eta_l)        (option II of line 12),

    which is the mean of the plain gradients along the hospital's K steps.
    """
    if "control" not in message.content:
        return call_next(message, context)
    asked = dict[str, Any](config_in(message))
    optimizer, mu = asked.get("optimizer", "sgd"), asked.get("proximal-mu", 0.0)
    if optimizer != "sgd" or mu:
        raise FederationError(
            "SCAFFOLD takes the hospitals' way for a sum of gradients, so they must train with "
            f"plain sgd; the config says {optimizer} with proximal-mu {mu}."
        )
    sent, control = (to_weights(message.content.array_records[k]) for k in ("arrays", "control"))
    own = _kept(context, "control") or [np.zeros_like(array) for array in control]
    correction = to_record([c - c_k for c, c_k in zip(control, own, strict=True)])
    message.content = RecordDict({**message.content, "correction": correction})
    reply = call_next(message, context)
    if reply.has_content():
        change = control_change(control, sent, reply)
        new = [c_k + d for c_k, d in zip(own, change, strict=True)]
        context.state["control"] = to_record(new)
    return reply


def control_change(control: Weights, sent: Weights, reply: Message) -> Weights:
    """Return by how much a hospital's control variate changes: ``(x - y) / (K eta_l) - c``.

    It does not depend on the hospital's former control variate, so that the server, who knows
    ``x``, ``y`` and ``c``, works it out for itself and nothing more need be sent up.
    """
    step_sum: Any = reply.content.metric_records["metrics"]["step-sum"]
    arrays = zip(control, sent, to_weights(arrays_in(reply)), strict=True)
    return [(x - y) / np.float32(step_sum) - c for c, x, y in arrays]


class Scaffold(StreamingFedAvg):
    """The server's half of SCAFFOLD (Karimireddy et al. 2020, algorithm 1, lines 16 and 17).

    ``x <- mean(y_k)`` (the paper's with a server learning rate of 1) and ``c <- mean(c_k)``.
    Where the paper counts every hospital the same, both means are weighted by ``num-examples``, as
    FedAvg's is; with hospitals of one size that is the paper's. The mean of the ``c_k`` is over the
    hospitals met so far; whoever does not reply keeps the one it had. Memory does not grow with
    their number. The parameters are those of Flower's FedAvg.
    """

    needs = ("step-sum",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._examples: dict[int, float] = {}
        self.control: Weights = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model, and the control variate with it."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self.control = self.control or [np.zeros_like(array) for array in self._like]
        control = to_record(self.control)
        for message in messages:
            message.content = RecordDict({**message.content, "control": control})
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Averaged:
        """Average the models and the changes of the control variates as they come in."""
        changes = RunningAverage(self._like)
        good = (reply for reply in replies if reply.has_content())
        averaged = super().aggregate_train(server_round, (self._note(r, changes) for r in good))
        if changes.count:
            share = np.float32(changes.total / sum(self._examples.values()))
            mean = changes.result()
            self.control = [c + share * d for c, d in zip(self.control, mean, strict=True)]
        return averaged

    def _note(self, reply: Message, changes: RunningAverage) -> Message:
        node_id = reply.metadata.src_node_id
        count: Any = reply.content.metric_records["metrics"][self.weighted_by_key]
        with np.errstate(all="ignore"):  # a sum of steps can be 0
            change = control_change(self.control, self._like, reply)
            if np.isfinite(update_norm(change)):
                changes.add(change, count)
                self._examples[node_id] = count
        return reply


class CorrectedTrainer(Trainer):
    """A trainer that adds a correction to every gradient: ``y <- y - eta_l (g + correction)``.

    With ``c - c_k`` for a correction that is SCAFFOLD's local step (algorithm 1, line 10).

    Raises
    ------
    DataError
        If the model has weights without a gradient, such as the statistics of batch norm.
    """

    _optimizer: _CorrectedOptimizer

    def __init__(self, model: keras.Model, settings: TrainingSettings) -> None:
        if model.non_trainable_weights:
            raise DataError(
                f"{len(model.non_trainable_weights)} arrays of the model have no gradient that "
                "could be corrected; take a model without batch norm."
            )
        super().__init__(model, settings)

    def correct(self, correction: Weights | None) -> None:
        """Set the correction, one array for each weight of the model; None takes it away."""
        for k, variable in enumerate(self._optimizer.correction):
            variable.assign(np.zeros(variable.shape) if correction is None else correction[k])

    def _compile_start(self) -> Callable[..., None]:
        # The first thing that is compiled; what follows is compiled with this optimiser.
        name = self.settings.optimizer
        self._optimizer = _CorrectedOptimizer(name, self._trained, self._learning_rate)
        return super()._compile_start()


class _CorrectedOptimizer(FusedOptimizer):
    """An optimiser that adds a correction to every gradient."""

    def __init__(self, name: str, variables: Sequence[tf.Variable], rate: tf.Variable) -> None:
        import tensorflow as tf

        super().__init__(name, variables, rate)
        self.correction = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Take one step along the corrected gradients."""
        super().apply([g + d for g, d in zip(gradients, self.correction, strict=True)])


def corrected_trainer_of(images: MedicalImages, settings: TrainingSettings) -> CorrectedTrainer:
    """Return this thread's trainer of the course's CNN with corrected gradients."""
    return _made_once(CorrectedTrainer, create_model, settings, **images.form)


@one_a_thread
def _made_once(kind: type, create: Callable, settings: TrainingSettings, **form: Any) -> Any:
    return kind(create(**form), settings)


# Partial averaging


def keep_at_home(places: Sequence[int]) -> Callable:
    """Keep the arrays at ``places`` of the model in the hospital: a Flower mod.

    With all arrays of the batch-norm layers that is FedBN (Li et al. 2021), with their running
    statistics only SiloBN (Andreux et al. 2020); see :func:`batchnorm_places`. In the first round
    a hospital begins with the server's; from then on with its own, in ``context.state["home"]``.
    What it sends in their place is what it was sent, so that any strategy can be used and the
    server learns nothing of them.
    """
    at_home = sorted(set(places))

    def mod(message: Message, context: Context, call_next: Callable) -> Message:
        if "arrays" not in message.content:
            return call_next(message, context)
        sent = to_weights(arrays_in(message))
        own = dict(zip(at_home, _kept(context, "home") or (), strict=False))
        mixed = [own.get(place, array) for place, array in enumerate(sent)]
        message.content = RecordDict({**message.content, "arrays": to_record(mixed)})
        reply = call_next(message, context)
        if reply.has_content() and "arrays" in reply.content:
            trained = to_weights(arrays_in(reply))
            context.state["home"] = to_record([trained[place] for place in at_home])
            shared = [sent[k] if k in at_home else array for k, array in enumerate(trained)]
            reply.content["arrays"] = to_record(shared)
        return reply

    return mod


def _kept(context: Context, key: str) -> Weights | None:
    return to_weights(context.state.array_records[key]) if key in context.state else None


def create_batchnorm_model(
    input_shape: tuple[int, int, int], num_classes: int, *, multi_label: bool = False, seed: int = 0
) -> keras.Sequential:
    """Return the course's CNN with a batch norm between each convolution and its ReLU.

    Parameters and initial weights as in :func:`fedtutor.model.create_model`. The running
    statistics follow with a momentum of 0.9, as with Keras's 0.99 a small hospital would take
    dozens of epochs to get away from their initial 0 and 1.
    """
    keras = load_keras()
    layers = [keras.Input(input_shape)]
    plain = create_model(input_shape, num_classes, multi_label=multi_label, seed=seed)
    for layer in plain.layers:
        layers.append(layer)
        if isinstance(layer, keras.layers.Conv2D):
            layer.activation = keras.activations.linear
            layers += [keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]
    return keras.Sequential(layers)


def batchnorm_places(model: keras.Model) -> dict[str, list[int]]:
    """Say which of the model's arrays are batch norm's: "affine" (learned) and "statistics".

    The affine ones are gamma and beta, the scale and shift; the statistics the running mean and
    variance, which no gradient reaches.
    """
    place = {id(variable): k for k, variable in enumerate(model.weights)}
    batchnorm = load_keras().layers.BatchNormalization
    norms = [layer for layer in model.layers if isinstance(layer, batchnorm)]
    return {
        "affine": [place[id(v)] for norm in norms for v in norm.trainable_weights],
        "statistics": [place[id(v)] for norm in norms for v in norm.non_trainable_weights],
    }


def batchnorm_trainer_of(images: MedicalImages, settings: TrainingSettings) -> Trainer:
    """Return this thread's trainer of :func:`create_batchnorm_model`."""
    return _made_once(Trainer, create_batchnorm_model, settings, **images.form)
