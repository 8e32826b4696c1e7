"""The usual client: that of Flower's own TensorFlow quickstart, with the course's CNN and images.

It differs from the quickstart in two things only, so that both sides of a comparison compute the
same: the images come from this package, and they are visited in the order of ``epoch_order``.
"""

from __future__ import annotations

from functools import cache

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.work import BATCH_SIZE, LEARNING_RATE, hospital_images


def load_model(size: int):
    import keras

    from fedtutor.model import create_model

    model = create_model((size, size, 1), 3)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@cache
def reused_model(size: int):
    """The model of this process, and the values to set its optimiser back to."""
    model = load_model(size)
    model.optimizer.build(model.trainable_variables)
    return model, [variable.numpy() for variable in model.optimizer.variables]


def quickstart_client(size: int, num_images: int, *, reuse_model: bool) -> ClientApp:
    """``reuse_model``: one model an actor, in place of one a message as the quickstart has it."""
    app = ClientApp()

    def model_and_images(msg: Message, context: Context):
        import keras

        from fedtutor.model import standardise

        if reuse_model:
            model, fresh = reused_model(size)
            for variable, value in zip(model.optimizer.variables, fresh, strict=True):
                variable.assign(value)
        else:
            keras.backend.clear_session()
            model = load_model(size)
        model.set_weights(msg.content["arrays"].to_numpy_ndarrays())
        data = hospital_images(context.node_config["partition-id"], num_images, size)
        return model, standardise(data.images), data.labels

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        from fedtutor.training import epoch_order

        model, images, labels = model_and_images(msg, context)
        config = msg.content["config"]
        seed = (config["seed"], config["server-round"], context.node_config["partition-id"])
        order = epoch_order(len(labels), 1, seed=seed)[0]
        history = model.fit(
            images[order], labels[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0
        )
        metrics = MetricRecord(
            {"num-examples": len(labels), "loss": float(history.history["loss"][-1])}
        )
        content = RecordDict({"arrays": ArrayRecord(model.get_weights()), "metrics": metrics})
        return Message(content=content, reply_to=msg)

    @app.evaluate()
    def evaluate(msg: Message, context: Context) -> Message:
        model, images, labels = model_and_images(msg, context)
        _, accuracy = model.evaluate(images, labels, verbose=0)
        metrics = MetricRecord({"num-examples": len(labels), "accuracy": float(accuracy)})
        return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)

    return app


def no_op_client() -> ClientApp:
    """Sends back what it was sent, as a list of arrays: the usual way in and out of a record."""
    app = ClientApp()

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        weights = msg.content["arrays"].to_numpy_ndarrays()
        metrics = MetricRecord({"num-examples": 10, "loss": 0.0})
        content = RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics})
        return Message(content=content, reply_to=msg)

    return app
