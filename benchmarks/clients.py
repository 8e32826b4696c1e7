"""One hospital's training, beside the bare training loop and beside Keras."""

from __future__ import annotations

from benchmarks.harness import Row, print_rows, side_by_side
from benchmarks.work import BATCH_SIZE, SETTINGS, hospital_images, initial_weights, our_client
from fedtutor import federation
from fedtutor.federation.records import to_record, to_weights
from fedtutor.model import create_model, load_keras, standardise
from fedtutor.training import create_optimizer, epoch_order

NUM_IMAGES = 64
SEED = (0, 1, 0)


def client_rows(size: int, limit: float) -> list[Row]:
    from flwr.app import Context, Message, RecordDict

    initial = initial_weights(size)
    app = our_client(size, NUM_IMAGES)
    federation.InProcessGrid(app, ["Hospital 1"])  # sets what Flower writes into every message
    context = Context(
        run_id=1,
        node_id=2,
        node_config={"partition-id": 0, "num-partitions": 1},
        state=RecordDict(),
        run_config={},
    )
    config = federation.train_config(SETTINGS, num_rounds=1)
    config["server-round"] = 1
    epoch, reset, weights = bare_loop(size)
    fit, fit_weights = keras_fit(size)

    def client():
        content = RecordDict({"arrays": to_record(initial), "config": config})
        reply = app(Message(content, 2, "train"), context)
        return to_weights(reply.content["arrays"])

    reset(initial)
    epoch()
    trained = client()
    fit()
    for a, b, c, start in zip(trained, weights(), fit_weights(), initial, strict=True):
        moved = abs(a - start).mean()
        assert abs(a - b).mean() < 0.02 * moved and abs(a - c).mean() < 0.02 * moved
    pixels = f"{size}²"
    work = f"{NUM_IMAGES} images, batches of {BATCH_SIZE}, Adam, from message to reply"
    common = {"scale": 1e3 / NUM_IMAGES, "unit": "ms an image", "repeat": 15, "quick": 7}
    return [
        side_by_side(
            f"client at {pixels}, beside the floor",
            client,
            epoch,
            work=work,
            beside="the same steps on the same batches as one compiled epoch, with Keras's Adam; "
            "images ready as float tensors, weights and optimiser left as they are",
            target=f"≤ {limit}",
            **common,
        ),
        side_by_side(
            f"client at {pixels}, beside fit",
            client,
            fit,
            work=work,
            beside="model.fit of one compiled model on the same float images",
            target="≤ 1.0",
            **common,
        ),
    ]


def bare_loop(size: int):
    """(one epoch and nothing else, set the weights, read the weights)."""
    import tensorflow as tf

    model = create_model((size, size, 1), 3)
    optimizer = create_optimizer(SETTINGS)
    optimizer.build(model.trainable_variables)
    criterion = load_keras().losses.sparse_categorical_crossentropy
    data = hospital_images(0, NUM_IMAGES, size)
    order = epoch_order(NUM_IMAGES, 1, seed=SEED)[0]
    images = tf.constant(standardise(data.images[order]))
    labels = tf.constant(data.labels[order])

    @tf.function
    def epoch(images, labels):
        total = 0.0
        for start in tf.range(0, NUM_IMAGES, BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            with tf.GradientTape() as tape:
                outputs = model(images[batch], training=True)
                loss = tf.reduce_mean(criterion(labels[batch], outputs))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            total += loss
        return total

    return lambda: float(epoch(images, labels)), model.set_weights, model.get_weights


def keras_fit(size: int):
    """(one call of fit, read the weights)."""
    model = create_model((size, size, 1), 3)
    model.set_weights(initial_weights(size))
    model.compile(optimizer=create_optimizer(SETTINGS), loss="sparse_categorical_crossentropy")
    data = hospital_images(0, NUM_IMAGES, size)
    order = epoch_order(NUM_IMAGES, 1, seed=SEED)[0]
    images, labels = standardise(data.images[order]), data.labels[order]
    fit = lambda: model.fit(images, labels, batch_size=BATCH_SIZE, shuffle=False, verbose=0)  # noqa: E731
    return fit, model.get_weights


if __name__ == "__main__":
    print_rows([*client_rows(128, 1.1), *client_rows(28, 1.25)])
