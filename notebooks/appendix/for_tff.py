"""Write what the notebook on TensorFlow Federated compares with: `make tff` runs this first.

    python notebooks/appendix/for_tff.py [FILE]

TensorFlow Federated wants an old TensorFlow and an old NumPy, so that it has an environment of its
own, where fedtutor cannot train. What fedtutor does is therefore done here, in the course's
environment, and handed over in one file:

- ``names``, and for hospital k ``images_k`` (uint8, n x 32 x 32 x 1) and ``labels_k`` (int64, n);
- ``order_r_k``: in which order hospital k visits its images in round r;
- ``test_images``, ``test_labels``, ``class_names``;
- ``weights_r_i``: array i of fedtutor's global model after round r, 0 being the initial weights;
- ``auc`` and ``seconds``: of fedtutor's model after each round, and what each round took;
- ``nudged``: how far, after each round, a second run of fedtutor ends from the first if its initial
  weights differ by one part in ten million: the largest difference of a weight.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from fedtutor import TrainingSettings, create_model, evaluate, federation, load, split_by_patient
from fedtutor.compiled_training import trainer_for
from fedtutor.images import MedicalImages
from fedtutor.model import Weights
from fedtutor.partition import partition
from fedtutor.training import epoch_order

DEFAULT = Path(__file__).with_name("for_tff.npz")
SETTINGS = TrainingSettings("sgd", learning_rate=0.05, batch_size=8)
NUM_ROUNDS, SEED = 8, 0


def five_hospitals() -> tuple[tuple[str, ...], list[MedicalImages], MedicalImages]:
    """Names, images of each hospital, and the central test set, as in notebook 04."""
    data = load("chest-phantoms", size=32)
    data = data.take(np.random.default_rng(0).permutation(len(data))[:1000])
    train, test = split_by_patient(data)
    parts = partition(train, "by:hospital")
    return parts.names, parts.hospitals(train), test


def federate(
    names: tuple[str, ...], hospitals: list[MedicalImages], start: Weights
) -> tuple[list[Weights], list[float]]:
    """Global weights after rounds 0, 1, ..., and the seconds of each round but the 0th."""
    seen, times = [], []

    def remember(server_round: int, weights: Weights, grid: federation.GuardedGrid) -> None:
        seen.append(weights)
        times.append(time.perf_counter())

    server_app = federation.make_server_app(
        start,
        federation.make_strategy("fedavg", len(hospitals)),
        num_rounds=NUM_ROUNDS,
        config=federation.train_config(SETTINGS, num_rounds=NUM_ROUNDS, seed=SEED),
        min_hospitals=len(hospitals),
        on_round=remember,
    )
    client_app = federation.make_client_app(lambda c: hospitals[c.node_config["partition-id"]])
    federation.run_in_process(server_app, client_app, names)
    return seen, list(np.diff(times))


def nudged(weights: Weights) -> Weights:
    """The weights, each moved at random by up to one part in ten million."""
    rng = np.random.default_rng(SEED)
    return [array * (1 + 1e-7 * rng.uniform(-1, 1, array.shape)).astype("f4") for array in weights]


def distance(one: Weights, other: Weights) -> float:
    """The largest difference between two models' weights."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def contents() -> dict[str, np.ndarray]:
    """All arrays of the file by name."""
    names, hospitals, test = five_hospitals()
    model = create_model(test.image_shape, len(test.class_names))
    rounds, seconds = federate(names, hospitals, model.get_weights())
    again, _ = federate(names, hospitals, nudged(rounds[0]))
    trainer = trainer_for(test.image_shape, len(test.class_names), SETTINGS)
    found = {
        "names": np.array(names),
        "class_names": np.array(test.class_names),
        "test_images": test.images,
        "test_labels": test.labels,
        "seconds": np.array(seconds),
        "nudged": np.array([distance(a, b) for a, b in zip(rounds[1:], again[1:], strict=True)]),
    }
    auc = []
    for r, weights in enumerate(rounds):
        found |= {f"weights_{r}_{i}": array for i, array in enumerate(weights)}
        trainer.start(weights)
        auc.append(evaluate(trainer.predict(test.images), test.labels).auc)
    for k, images in enumerate(hospitals):
        found |= {f"images_{k}": images.images, f"labels_{k}": images.labels}
        for r in range(1, NUM_ROUNDS + 1):  # the seed of make_client_app
            found[f"order_{r}_{k}"] = epoch_order(len(images), 1, seed=(SEED, r, k))[0]
    return found | {"auc": np.array(auc)}


def main(path: Path) -> None:
    np.savez_compressed(path, **contents())
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
