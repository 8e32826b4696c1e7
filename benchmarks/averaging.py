"""FedAvg of ten models, beside Flower's own and beside copying."""

from __future__ import annotations

import tracemalloc

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from benchmarks.harness import Row, from_pairs, print_rows, side_by_side
from benchmarks.work import initial_weights, largest_difference
from fedtutor.aggregation import weighted_average

HOSPITALS = 10


def averaging_rows() -> list[Row]:
    rng = np.random.default_rng(0)
    initial = initial_weights(128)
    updates = [
        [a + rng.normal(0, 0.01, a.shape).astype(np.float32) for a in initial]
        for _ in range(HOSPITALS)
    ]
    counts = list(range(50, 50 + HOSPITALS))
    copies = [[np.empty_like(array) for array in initial] for _ in range(HOSPITALS)]
    records = [
        RecordDict({"arrays": ArrayRecord(u), "metrics": MetricRecord({"num-examples": n})})
        for u, n in zip(updates, counts, strict=True)
    ]

    def ours():
        return weighted_average(updates, counts)

    def flower():
        return aggregate_arrayrecords(records, "num-examples").to_numpy_ndarrays()

    def memcpy() -> None:
        for update, copy in zip(updates, copies, strict=True):
            for source, target in zip(update, copy, strict=True):
                np.copyto(target, source)

    assert largest_difference(ours(), flower()) < 1e-6
    work = "10 models of 28.2 MB, weighted by examples, in float64, checked for NaN"
    tracemalloc.start()
    ours()
    extra = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    model = sum(array.nbytes for array in initial)
    rows = [
        side_by_side("FedAvg, beside Flower", ours, flower, work=work, target="≥ 3",
                     beside="flwr's aggregate_arrayrecords, without checks", repeat=9, quick=5),
        side_by_side("FedAvg, beside memcpy", ours, memcpy, work=work, target="≥ 0.6",
                     beside="copying 10 × 28.2 MB once", repeat=15, quick=9),
    ]  # fmt: skip
    memory = from_pairs(
        "FedAvg, extra memory",
        [(extra / 1e6, model / 1e6)],
        work=work + "; peak of what was allocated, result included",
        beside="one model",
        target="≤ 1.5",
        unit="MB",
    )
    return [*rows, memory]


if __name__ == "__main__":
    print_rows(averaging_rows())
