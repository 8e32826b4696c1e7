"""Two ways to do the same work, timed in turn, as one row of the table.

What must not share a process, because TensorFlow's threads are set for good when it is imported,
works in a :class:`Child` each, and the children take turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psutil

QUICK = os.environ.get("FEDTUTOR_BENCH_QUICK") == "1"
ITS_OWN_THREADS = {"TF_NUM_INTRAOP_THREADS": "0"}
"""TensorFlow's own: each operation on all cores. The package sets one, and theirs is not ours."""


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


def in_child(
    module: str,
    *args: object,
    env: Mapping[str, str] | None = None,
    cores: Iterable[int] | None = None,
) -> dict:
    """Run ``python -m module args`` and return the JSON object on its last line.

    ``env`` is added to the environment; ``cores`` are those it may use, by default all.
    """
    command = python(module, *args)
    with bound_to(cores):
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", env=os.environ | dict(env or {})
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Child:
    """A process that works each time it is asked to; ``python -m module args``.

    The module calls :func:`answer`. Use it in a ``with`` block, at whose end it leaves.
    """

    def __init__(
        self,
        module: str,
        *args: object,
        env: Mapping[str, str] | None = None,
        cores: Iterable[int] | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        with bound_to(cores):
            self._process = subprocess.Popen(
                python(module, *args),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                env=os.environ | dict(env or {}),
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._process, self._errors:  # closes its stdin and waits, else ends it
            if exception[0] is not None:
                self._process.kill()

    def __call__(self, request: object = "") -> Any:
        """Ask, and return the answer."""
        self.ask(request)
        return self.answer()

    def ask(self, request: object = "") -> None:
        """Ask, and do not wait for the answer."""
        print(request, file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """Wait for the next answer; the first one, to no question, is given when it is ready."""
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace")
            raise RuntimeError(f"{' '.join(self._process.args)} ended:\n{said[-4000:]}")
        return json.loads(line)


def answer(work: Callable[[str], object], ready: object = None) -> None:
    """In a :class:`Child`: say ``ready``, then do the work for each line that is asked."""
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        print(json.dumps(work(line.strip())), flush=True)


def python(module: str, *args: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, args)]


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use; macOS does not say which."""
    this = psutil.Process()
    return this.cpu_affinity() if hasattr(this, "cpu_affinity") else list(range(os.cpu_count()))


@contextmanager
def bound_to(cores: Iterable[int] | None) -> Iterator[None]:
    """Use these cores only; what is started meanwhile inherits that. None: as before."""
    if cores is None:
        yield
        return
    this, before = psutil.Process(), usable_cores()
    if not hasattr(this, "cpu_affinity"):
        raise RuntimeError("this system binds no process to a core; measure on Linux or Windows.")
    try:
        this.cpu_affinity(list(cores))
        yield
    finally:
        this.cpu_affinity(before)


def print_rows(rows: list[Row]) -> None:
    """For :func:`in_child` to read."""
    print(json.dumps({"rows": [asdict(row) for row in rows]}))
