"""One hospital's training on every core, beside the bare training loop and beside Keras.

Each way works in a process of its own: TensorFlow's threads are set for good when it is imported,
one for an operation with us, its own with Keras's fit.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import (
    ITS_OWN_THREADS,
    Child,
    Row,
    answer,
    from_pairs,
    print_rows,
    runs,
    seconds,
)
from benchmarks.work import BATCH_SIZE, SETTINGS, hospital_images, initial_weights, our_client
from fedtutor import federation
from fedtutor.cores import num_workers, side_by_side
from fedtutor.federation.records import to_record, to_weights
from fedtutor.model import Weights, create_model, load_keras, standardise
from fedtutor.training import create_optimizer, epoch_order

NUM_IMAGES = 64
TIMES = {28: 40, 128: 4}
"""How often each core trains the hospital in one measurement, by pixels a side."""
SEED = (0, 1, 0)

GIL_NOTE = (
    "Python's part of a message, nearly 3 ms, is one thread's at a time, and at 28² that is much "
    "of a hospital's training"
)


def client_rows(size: int, limit: float) -> list[Row]:
    name, times = __spec__.name, TIMES[size] * num_workers()
    with (
        tempfile.TemporaryDirectory() as folder,
        Child(name, "client", size, times, f"{folder}/client.npz") as client,
        Child(name, "floor", size, times, f"{folder}/floor.npz") as floor,
        Child(name, "fit", size, times, f"{folder}/fit.npz", env=ITS_OWN_THREADS) as fit,
    ):
        for child in (client, floor, fit):
            child.answer()
        check_agreement(Path(folder), initial_weights(size))
        ms = 1e3 / (times * NUM_IMAGES)
        found = [(ms * client(), ms * floor(), ms * fit()) for _ in range(runs(15, 7))]
    at_a_time = f"{num_workers()} at a time, one thread each"
    work = (
        f"{NUM_IMAGES} images, batches of {BATCH_SIZE}, Adam, from message to reply; "
        f"{times} hospitals, {at_a_time}; the time of all over all their images"
    )
    return [
        from_pairs(
            f"client at {size}², beside the floor",
            [(ours, bare) for ours, bare, _ in found],
            work=work,
            beside="the same steps on the same batches as one compiled epoch, with Keras's Adam; "
            f"images ready as float tensors, weights and optimiser left as they are; {at_a_time}",
            target=f"≤ {limit}",
            unit="ms an image",
            note=GIL_NOTE if size == 28 else "",
        ),
        from_pairs(
            f"client at {size}², beside fit",
            [(ours, keras) for ours, _, keras in found],
            work=work,
            beside="model.fit of one compiled model on the same float images, one after the other, "
            "with TensorFlow's own threads",
            target="≤ 1.0",
            unit="ms an image",
        ),
    ]


def check_agreement(folder: Path, initial: Weights) -> None:
    """All three ways come from the same weights to the same, after one epoch."""
    ours, *others = (
        list(np.load(folder / f"{way}.npz").values()) for way in ("client", "floor", "fit")
    )
    for other in others:
        for a, b, start in zip(ours, other, initial, strict=True):
            assert abs(a - b).mean() < 0.02 * abs(a - start).mean()


def be_a_child(way: str, size: int, times: int, path: str) -> None:
    """Be a child that trains so many hospitals; leave what the first one came to in a file."""
    make, workers = {
        "client": (message_to_reply, num_workers()),
        "floor": (bare_loop, num_workers()),
        "fit": (keras_fit, 1),
    }[way]
    here, one_at_a_time = threading.local(), threading.Lock()

    def train(_: int) -> Weights | None:
        if not hasattr(here, "train"):  # a model for each thread
            with one_at_a_time:  # tracing is not for several threads at once
                here.train, weights = make(size)
                here.train()
                return weights()
        here.train()
        return None

    found = list(side_by_side(train, range(2 * workers), workers))
    np.savez(path, *next(filter(None, found)))
    answer(lambda _: seconds(lambda: list(side_by_side(train, range(times), workers))))


def message_to_reply(size: int) -> tuple[Callable, Callable[[], Weights]]:
    """(one message answered, read the weights of the last reply)."""
    from flwr.app import Context, Message, RecordDict

    initial, app, replies = initial_weights(size), our_client(size, NUM_IMAGES), []
    federation.InProcessGrid(app, ["Hospital 1"])  # sets what Flower writes into every message
    node = {"partition-id": 0, "num-partitions": 1}
    context = Context(1, 2, node, RecordDict(), {})
    config = federation.train_config(SETTINGS, num_rounds=1)
    config["server-round"] = 1

    def train() -> None:
        content = RecordDict({"arrays": to_record(initial), "config": config})
        reply = app(Message(content, 2, "train"), context)
        replies[:] = [to_weights(reply.content["arrays"])]

    return train, lambda: replies[0]


def bare_loop(size: int) -> tuple[Callable, Callable[[], Weights]]:
    """(one epoch and nothing else, read the weights)."""
    keras, model = load_keras(), create_model((size, size, 1), 3)
    import tensorflow as tf

    model.set_weights(initial_weights(size))
    optimizer = create_optimizer(SETTINGS)
    optimizer.build(model.trainable_variables)
    criterion = keras.losses.sparse_categorical_crossentropy
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

    return lambda: float(epoch(images, labels)), model.get_weights


def keras_fit(size: int) -> tuple[Callable, Callable[[], Weights]]:
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
    if sys.argv[1:]:
        way, size, times, path = sys.argv[1:]
        be_a_child(way, int(size), int(times), path)
    else:
        print_rows([*client_rows(128, 1.1), *client_rows(28, 1.25)])
