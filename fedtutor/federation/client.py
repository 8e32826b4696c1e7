"""The hospital's half of the Flower app: train, evaluate, and say one's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedtutor.compiled_training import Trainer, trainer_for
from fedtutor.evaluation import evaluate
from fedtutor.federation.records import arrays_in, config_in, to_record, to_weights
from fedtutor.images import MedicalImages
from fedtutor.settings import TrainingSettings, from_config
from fedtutor.training import learning_rate_at


def make_client_app(
    images_of: Callable[[Context], Any],
    *,
    name_of: Callable[[Context], str] | None = None,
    mods: Sequence[Callable] = (),
    trainer_for: Callable[..., Any] = trainer_for,
) -> ClientApp:
    """Return the ClientApp of the course, which every engine runs.

    Parameters
    ----------
    images_of : from the node's ``Context`` to its own images; called on every message and from
        several threads, so it should cache what is slow to load. The hospital's number is
        ``context.node_config["partition-id"]``. In place of ``MedicalImages`` anything will do that
        has a length, ``labels``, ``form`` and, for the trainer to predict, ``images``.
    name_of : from the node's ``Context`` to the hospital's name; by default what its
        ``node_config`` says, or "Hospital 1" and so on.
    mods : Flower mods, functions of (message, context, call_next) around the whole of it.
    trainer_for : what trains, from settings and ``MedicalImages.form`` to a
        :class:`~fedtutor.compiled_training.Trainer`. If it gives each thread its own
        (:func:`~fedtutor.cores.one_a_thread`), as by default, hospitals can train side by side.
    """
    app = ClientApp(mods=list(mods))
    app.side_by_side = getattr(trainer_for, "side_by_side", False)  # type: ignore[attr-defined]

    def trainer_of(message: Message, images: MedicalImages) -> Trainer:
        settings = from_config(TrainingSettings, config_in(message))
        return trainer_for(settings=settings, **images.form)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        images = images_of(context)
        number = int(context.node_config["partition-id"])
        return reply_to_train(message, images, trainer_of(message, images), number)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        images = images_of(context)
        return reply_to_evaluate(message, images, trainer_of(message, images))

    @app.query()
    def query(message: Message, context: Context) -> Message:
        name = ConfigRecord({"name": (name_of or hospital_name)(context)})
        return Message(RecordDict({"hospital": name}), reply_to=message)

    return app


def reply_to_train(
    message: Message, images: MedicalImages, trainer: Trainer, number: int
) -> Message:
    """Train the global model on the hospital's images; reply with its weights.

    The reply has "arrays", the new weights, and "metrics": "num-examples", how many images were
    trained on, and "loss", the mean of the last epoch. ``number`` is the hospital's.
    """
    config = config_in(message)
    settings = from_config(TrainingSettings, config)
    server_round, num_rounds, epochs, seed = (
        int(str(config[key])) for key in ("server-round", "num-rounds", "local-epochs", "seed")
    )
    weights, loss = trainer.train(
        to_weights(arrays_in(message)),
        images,
        epochs=epochs,
        # Hospitals and rounds differ in the order of images, engines do not.
        seed=(seed, server_round, number),
        learning_rate=learning_rate_at(settings, server_round, num_rounds),
    )
    metrics = MetricRecord({"num-examples": len(images), "loss": loss})
    content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
    return Message(content, reply_to=message)


def reply_to_evaluate(message: Message, images: MedicalImages, trainer: Trainer) -> Message:
    """Score the global model on the hospital's images; reply with "num-examples", "accuracy"."""
    trainer.start(to_weights(arrays_in(message)))
    scores = evaluate(trainer.predict(images.images), images.labels)
    metrics = MetricRecord({"num-examples": len(images), "accuracy": scores.accuracy})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def hospital_name(context: Context) -> str:
    """Return the hospital's name as its node's config has it, or "Hospital 1" and so on."""
    number = int(context.node_config.get("partition-id", 0)) + 1
    return str(context.node_config.get("name", f"Hospital {number}"))
