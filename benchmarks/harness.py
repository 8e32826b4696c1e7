"""Two ways to do the same work, timed in turn, as one row of the table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

QUICK = os.environ.get("FEDTUTOR_BENCH_QUICK") == "1"


@dataclass
class Row:
    """One comparison.

    ``ours`` and ``theirs`` are medians in ``unit``; ``ratio`` is the median of the paired
    ratios, of what ``target`` limits: "≥ 6" means theirs / ours (how many times faster, or how
    much of a rate), "≤ 1.1" means ours / theirs (how much more).
    """

    name: str
    work: str
    beside: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    ratio_min: float
    ratio_max: float
    runs: int
    target: str
    met: bool
    note: str = ""


def runs(full: int, quick: int = 1) -> int:
    """How often to repeat."""
    return quick if QUICK else full


def side_by_side(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    work: str,
    beside: str,
    target: str,
    repeat: int = 5,
    quick: int = 3,
    scale: float = 1e3,
    unit: str = "ms",
    warm_up: bool = True,
    note: str = "",
) -> Row:
    """Time both by the clock, in turn; ``scale`` turns seconds into ``unit``."""
    if warm_up:
        ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(runs(repeat, quick))]
    return from_pairs(
        name,
        [(scale * a, scale * b) for a, b in pairs],
        work=work,
        beside=beside,
        target=target,
        unit=unit,
        note=note,
    )


def from_pairs(
    name: str,
    pairs: list[tuple[float, float]],
    *,
    work: str,
    beside: str,
    target: str,
    unit: str,
    note: str = "",
) -> Row:
    """A row from paired measurements (ours, theirs), both smaller for the better."""
    at_least = target.startswith("≥")
    limit = float(target.split()[1])
    pairs = [(float(a), float(b)) for a, b in pairs]
    ratios = [b / a if at_least else a / b for a, b in pairs]
    ratio = statistics.median(ratios)
    return Row(
        name=name,
        work=work,
        beside=beside,
        ours=statistics.median(a for a, _ in pairs),
        theirs=statistics.median(b for _, b in pairs),
        unit=unit,
        ratio=ratio,
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        runs=len(pairs),
        target=target,
        met=ratio >= limit if at_least else ratio <= limit,
        note=note,
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_child(module: str, *args: str) -> dict:
    """Run ``python -m module args`` and return the JSON object on its last line."""
    command = [sys.executable, "-m", module, *args]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def print_rows(rows: list[Row]) -> None:
    """For :func:`in_child` to read."""
    print(json.dumps({"rows": [asdict(row) for row in rows]}))
