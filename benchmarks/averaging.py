"""FedAvg of ten models, beside Flower's own and beside copying."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from benchmarks.harness import Row, from_pairs, print_rows, seconds, side_by_side
from benchmarks.work import initial_weights, largest_difference
from fedtutor.aggregation import BLOCK, weighted_average
from fedtutor.cores import num_cores

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
    single = 1e3 * min(seconds(lambda: in_single_precision(updates, counts)) for _ in range(7))
    rows[0].note = (
        "ours adds up in float64, so that the order of the hospitals cannot change the result, and "
        f"looks for NaN; the same blocks in float32, as Flower computes, take {single:.0f} ms, "
        f"{rows[0].theirs / single:.1f} times faster than Flower. The float64 is worth its price"
    )
    memory = from_pairs(
        "FedAvg, extra memory",
        [(extra / 1e6, model / 1e6)],
        work=work + "; peak of what was allocated, result included",
        beside="one model",
        target="≤ 1.5",
        unit="MB",
    )
    return [*rows, memory]


def in_single_precision(updates: list, counts: list[int]) -> np.ndarray:
    """The largest array of the model averaged block by block in float32, on all cores."""
    arrays = [max(update, key=np.size).reshape(-1) for update in updates]
    shares = np.float32(counts) / np.float32(sum(counts))
    average = np.empty_like(arrays[0])

    def work(start: int) -> None:
        block = slice(start, start + BLOCK)
        total = np.multiply(arrays[0][block], shares[0], out=average[block])
        product = np.empty_like(total)
        for array, share in zip(arrays[1:], shares[1:], strict=True):
            total += np.multiply(array[block], share, out=product)

    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(work, range(0, average.size, BLOCK)))
    return average


if __name__ == "__main__":
    print_rows(averaging_rows())
