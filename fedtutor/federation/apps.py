"""The Flower app of the course: one ClientApp and one ServerApp for every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from fedtutor.compiled_training import Trainer, trainer_for
from fedtutor.errors import DataError, FederationError
from fedtutor.evaluation import evaluate
from fedtutor.federation.guard import GuardedGrid, like_model
from fedtutor.federation.records import to_record, to_weights
from fedtutor.federation.roll import Roll
from fedtutor.images import MedicalImages
from fedtutor.model import Weights
from fedtutor.training import TrainingSettings, learning_rate_at


def train_config(
    settings: TrainingSettings,
    *,
    num_rounds: int,
    local_epochs: int = 1,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> ConfigRecord:
    """What the server tells the hospitals about training, as a Flower record.

    With ``class_names`` a hospital refuses to train if its own labels mean something else.
    """
    classes = {"class-names": list(class_names)} if class_names else {}
    return ConfigRecord(
        {
            **classes,
            "optimizer": settings.optimizer,
            "learning-rate": settings.learning_rate,
            "batch-size": settings.batch_size,
            "proximal-mu": settings.proximal_mu,
            "schedule": settings.schedule,
            "num-rounds": num_rounds,
            "local-epochs": local_epochs,
            "seed": seed,
        }
    )


def make_client_app(
    images_of: Callable[[Context], MedicalImages],
    *,
    name_of: Callable[[Context], str] | None = None,
    mods: Sequence[Callable] = (),
    trainer_for: Callable[..., Trainer] = trainer_for,
) -> ClientApp:
    """The hospital's half: train, evaluate and say its name.

    Parameters
    ----------
    images_of : from the node's ``Context`` to its own images; called on every message, so it
        should cache what is slow to load. ``context.node_config["partition-id"]`` is the
        hospital's number.
    name_of : from the node's ``Context`` to the hospital's name; by default what its
        ``node_config`` says, or "Hospital 1" and so on.
    mods : Flower mods, functions of (message, context, call_next) around the whole of it.
    trainer_for : what trains; ``fedtutor.topics.torch_client`` has one in PyTorch.
    """
    app = ClientApp(mods=list(mods))
    name_of = name_of or _name_of

    def load(message: Message, context: Context):
        images, config = images_of(context), message.content["config"]
        _check_classes(images, config)
        settings = TrainingSettings(
            optimizer=str(config["optimizer"]),
            learning_rate=float(config["learning-rate"]),
            batch_size=int(config["batch-size"]),
            proximal_mu=float(config["proximal-mu"]),
            schedule=str(config["schedule"]),
        )
        trainer = trainer_for(
            images.image_shape,
            len(images.class_names),
            settings,
            multi_label=images.multi_label,
        )
        return images, config, settings, trainer, to_weights(message.content["arrays"])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        images, config, settings, trainer, weights = load(message, context)
        server_round = int(config["server-round"])
        # Hospitals and rounds differ in the order of images, engines do not.
        seed = (config["seed"], server_round, context.node_config["partition-id"])
        weights, loss = trainer.train(
            weights,
            images,
            epochs=int(config["local-epochs"]),
            seed=seed,
            learning_rate=learning_rate_at(settings, server_round, int(config["num-rounds"])),
        )
        metrics = MetricRecord({"num-examples": len(images), "loss": loss})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate_global(message: Message, context: Context) -> Message:
        images, _, _, trainer, weights = load(message, context)
        trainer.start(weights)
        scores = evaluate(trainer.predict(images.images), images.labels)
        metrics = MetricRecord({"num-examples": len(images), "accuracy": scores.accuracy})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @app.query()
    def who(message: Message, context: Context) -> Message:
        name = ConfigRecord({"name": name_of(context)})
        return Message(RecordDict({"hospital": name}), reply_to=message)

    return app


def _name_of(context: Context) -> str:
    number = int(context.node_config.get("partition-id", 0)) + 1
    return str(context.node_config.get("name", f"Hospital {number}"))


def _check_classes(images: MedicalImages, config: ConfigRecord) -> None:
    wanted = config.get("class-names")
    if wanted is not None and list(wanted) != list(images.class_names):
        raise DataError(
            f"the server's labels are {', '.join(wanted)}, and this hospital's "
            f"{', '.join(images.class_names)}; agree on the classes and their order."
        )


def make_server_app(
    initial_weights: Weights,
    strategy: Strategy,
    *,
    num_rounds: int,
    config: ConfigRecord,
    min_hospitals: int = 1,
    timeout: float = 3600.0,
    on_reply: Callable[[int, str, dict], None] | None = None,
    on_round: Callable[[int, Weights, GuardedGrid], dict[str, float] | None] | None = None,
    max_ratio: float | None = None,
    roll: Roll | None = None,
) -> ServerApp:
    """The server's half: ``num_rounds`` rounds of a Flower strategy over a guarded grid.

    Parameters
    ----------
    initial_weights : the global model of round 0.
    config : see :func:`train_config`.
    min_hospitals : with fewer sound updates in a round the run stops with
        :class:`FederationError`; the last good model has then been seen by ``on_round``.
    timeout : seconds a round waits for the hospitals.
    on_reply : called after each sound update with (round, hospital, metrics).
    on_round : called with (round, global weights, guarded grid) before the first round (as round
        0) and after each; what it returns is kept as Flower's central evaluation.
    max_ratio, roll : see :class:`~fedtutor.federation.GuardedGrid`; over a network both are
        wanted, and the strategy's ``min_available_nodes`` must not be above the roll's minimum.

    The final weights are left in ``context.state["arrays"]``.
    """
    if num_rounds < 1:
        raise FederationError(f"rounds must be at least 1; got {num_rounds}.")
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        guarded = GuardedGrid(
            grid,
            initial_weights,
            min_hospitals=min_hospitals,
            on_reply=on_reply,
            max_ratio=max_ratio,
            roll=roll,
        )

        def evaluate_fn(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            weights = like_model(to_weights(arrays), initial_weights)
            metrics = on_round and on_round(server_round, weights, guarded)
            return MetricRecord(metrics) if metrics else None

        result = strategy.start(
            grid=guarded,
            initial_arrays=to_record(initial_weights),
            num_rounds=num_rounds,
            timeout=timeout,
            train_config=ConfigRecord(dict(config)),
            evaluate_config=ConfigRecord(dict(config)),
            evaluate_fn=evaluate_fn,
        )
        final = like_model(to_weights(result.arrays), initial_weights)
        context.state["arrays"] = to_record(final)

    return app
