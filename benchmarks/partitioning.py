"""Dealing 112,120 labels to 100 hospitals, beside flwr-datasets; phantoms a second."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.harness import Row, from_pairs, print_rows, runs, seconds, side_by_side
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.images import MedicalImages
from fedtutor.partition import partition

NUM_IMAGES = 112_120
HOSPITALS = 100
ALPHA = 0.5


def partition_row() -> Row:
    from flwr_datasets.partitioner import DirichletPartitioner

    from datasets import Dataset

    labels = np.random.default_rng(0).integers(0, 3, NUM_IMAGES)
    # No patient is named, so that ours deals out images one by one, as flwr-datasets does.
    data = MedicalImages(
        np.broadcast_to(np.uint8(0), (NUM_IMAGES, 1, 1, 1)),
        labels,
        ("a", "b", "c"),
        pd.DataFrame(index=range(NUM_IMAGES)),
        "labels",
    )
    table = Dataset.from_dict({"label": labels})

    def ours():
        return partition(data, "dirichlet", HOSPITALS, alpha=ALPHA, seed=0).indices

    def theirs():
        partitioner = DirichletPartitioner(
            num_partitions=HOSPITALS,
            partition_by="label",
            alpha=ALPHA,
            min_partition_size=1,
            self_balancing=False,
            seed=0,
        )
        partitioner.dataset = table
        return [partitioner.load_partition(k)["label"] for k in range(HOSPITALS)]

    for dealt in ([len(part) for part in ours()], [len(part) for part in theirs()]):
        assert sum(dealt) == NUM_IMAGES and len(dealt) == HOSPITALS and min(dealt) > 0
    return side_by_side(
        "Dirichlet partition",
        ours,
        theirs,
        work=f"{NUM_IMAGES:,} labels over {HOSPITALS} hospitals, alpha {ALPHA}; every image dealt "
        "once on both sides",
        beside="flwr-datasets DirichletPartitioner, and its partitions' labels",
        target="≥ 50",
        repeat=9,
        quick=3,
    )


def phantoms_row() -> Row:
    count = 300
    chest_phantoms(20, size=128, seed=0)
    took = [seconds(lambda: chest_phantoms(count, size=128, seed=1)) for _ in range(runs(5, 3))]
    return from_pairs(
        "chest phantoms at 128²",
        [(1e3 * t / count, 1e3 / 300) for t in took],
        work=f"{count} images with lesion masks, one thread",
        beside="300 images a second",
        target="≥ 1.0",
        unit="ms an image",
    )


if __name__ == "__main__":
    print_rows([partition_row(), phantoms_row()])
