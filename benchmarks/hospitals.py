"""Many hospitals, and many rounds: time for each and peak memory, each run in its own process."""

from __future__ import annotations

import json
import sys

import numpy as np
import psutil

from benchmarks.harness import Row, from_pairs, in_child, print_rows, runs

IMAGES = 32
SIZE = 28


def measure(hospitals: int, rounds: int) -> dict:
    """Run one federation in this process; milliseconds a hospital and round, and MB."""
    from benchmarks.work import Run, initial_weights

    memory: list[float] = []

    class Watched(Run):
        def _on_round(self, server_round, weights, grid):
            super()._on_round(server_round, weights, grid)
            memory.append(resident_mb())

    run = Watched("ours", client(), initial_weights(SIZE), hospitals=hospitals, rounds=rounds)
    return {
        "ms": 1e3 * float(np.median(run.rounds)) / hospitals,
        "peak_mb": peak_mb(),
        "mb_after": memory,
    }


def client():
    """Ten sets of images for any number of hospitals, so that memory grows by nothing else."""
    from benchmarks.work import hospital_images
    from fedtutor import federation

    return federation.make_client_app(
        lambda context: hospital_images(context.node_config["partition-id"] % 10, IMAGES, SIZE)
    )


def resident_mb() -> float:
    """Memory this process has in use now."""
    return psutil.Process().memory_info().rss / 1e6


def peak_mb() -> float:
    """The most memory that this process has had in use."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, else kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def scaling_rows() -> list[Row]:
    """A hundred and a thousand hospitals beside ten."""
    # rounds, of which the first is not counted
    counts = {10: runs(60, 20), 100: runs(8, 4), 1000: runs(3, 2)}
    found = [
        {n: in_child(__spec__.name, str(n), str(rounds)) for n, rounds in counts.items()}
        for _ in range(runs(5, 1))
    ]
    rows = []
    for n in (100, 1000):
        work = f"{n} hospitals of {IMAGES} images at 28²"
        rows.append(
            from_pairs(
                f"{n} hospitals: time for each",
                [(run[n]["ms"], run[10]["ms"]) for run in found],
                work=work,
                beside="10 hospitals",
                target="≤ 1.05" if n == 1000 else "≤ 1.15",
                unit="ms",
            )
        )
        rows.append(
            from_pairs(
                f"{n} hospitals: peak memory",
                [(run[n]["peak_mb"], run[10]["peak_mb"]) for run in found],
                work=work,
                beside="10 hospitals",
                target="≤ 1.1",
                unit="MB",
            )
        )
    return rows


def growth_row() -> Row:
    """The fiftieth round beside the fifth."""
    found = [in_child(__spec__.name, "10", "50")["mb_after"] for _ in range(runs(5, 1))]
    return from_pairs(
        "memory after round 50",
        [(after[50], after[5]) for after in found],
        work=f"10 hospitals of {IMAGES} images at 28²; resident memory of the process",
        beside="after round 5",
        target="≤ 1.02",
        unit="MB",
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
    else:
        print_rows([*scaling_rows(), growth_row()])
