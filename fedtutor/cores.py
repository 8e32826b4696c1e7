"""Every core: work side by side in threads, which TensorFlow and NumPy let run at once.

A thread a core, and one for each operation of TensorFlow (:mod:`~fedtutor.support.keras_import`): a
second one would bring less than a second hospital does, and move results with the cores.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache, lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import psutil

from fedtutor.errors import FederationError

P = ParamSpec("P")
T = TypeVar("T")

WORKERS = "FEDTUTOR_WORKERS"
"""The environment's variable that says how many work side by side."""

_here = threading.local()


class Stopped(BaseException):
    """Whoever asked for this work has left."""


def num_cores() -> int:
    """Return how many cores this process may use."""
    bound = getattr(psutil.Process(), "cpu_affinity", None)  # macOS binds nobody
    return len(bound()) if bound else os.cpu_count() or 1


def num_workers() -> int:
    """Return how many work side by side: one for each core, but one alone if there is a GPU.

    :data:`WORKERS` says otherwise; :class:`FederationError` unless it is a whole number above 0.
    """
    if said := os.environ.get(WORKERS):
        if not said.isdecimal() or said == "0":
            raise FederationError(f"{WORKERS} must be a whole number of at least 1; got {said!r}.")
        return int(said)
    tf = sys.modules.get("tensorflow")
    return 1 if tf and tf.config.list_physical_devices("GPU") else num_cores()


def side_by_side(work: Callable, items: Iterable, workers: int = 0) -> Generator:
    """Yield ``work(item)`` for each of the items, in their order, worked on side by side.

    A worker that asks for others works in turns. No more items are begun ahead than two for each
    of the ``workers``, by default :func:`num_workers`. When the generator is closed, what goes on
    ends at its next :func:`check_stopped`, and is waited for.
    """
    workers = 1 if hasattr(_here, "stop") else workers or num_workers()
    if workers == 1:
        yield from map(work, items)
        return
    begun, stop = deque[Future](), threading.Event()

    def do(item: Any) -> Any:
        _here.stop = stop
        try:
            check_stopped()
            return work(item)
        finally:
            del _here.stop

    try:
        for item in items:
            begun.append(_threads(workers).submit(do, item))
            if len(begun) == 2 * workers:
                yield _result(begun)
        while begun:
            yield _result(begun)
    finally:
        stop.set()
        wait([future for future in begun if not future.cancel()])


def check_stopped() -> None:
    """Raise :class:`Stopped` in a worker whose result nobody waits for any more."""
    if hasattr(_here, "stop") and _here.stop.is_set():
        raise Stopped


def one_a_thread(make: Callable[P, T]) -> Callable[P, T]:
    """Return ``make`` with a memory of its last four results, each thread's its own."""
    here, making = threading.local(), threading.Lock()

    @wraps(make)
    def own(*args: P.args, **kwargs: P.kwargs) -> T:
        if not hasattr(here, "made"):
            here.made = lru_cache(maxsize=4)(make)
        with making:
            return here.made(*args, **kwargs)

    own.side_by_side = True  # type: ignore[attr-defined]
    return own


@cache
def _threads(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "fedtutor")  # for good: each has its own trainers


def _result(begun: deque[Future]) -> Any:
    while not wait([begun[0]], timeout=0.2).done:  # else Ctrl-C would not get through on Windows
        continue
    return begun.popleft().result()
