"""Aggregation: from the hospitals' weights to the global model's.

:func:`fedavg_formula` is the average of FedAvg (McMahan et al. 2017, algorithm 1) as one would
write it down; :func:`weighted_average` and :class:`RunningAverage` below give the same numbers in a
third of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np

from fedtutor.cores import num_cores
from fedtutor.errors import UpdateError
from fedtutor.model import Weights


def fedavg_formula(weights: Sequence[Weights], num_examples: Sequence[float]) -> Weights:
    """Return w = sum_k n_k w_k / sum_k n_k, array by array, added up in float64."""
    total = sum(num_examples)
    return [
        (
            sum(n * w_k.astype(np.float64) for w_k, n in zip(w, num_examples, strict=True)) / total
        ).astype(w[0].dtype)
        for w in zip(*weights, strict=True)
    ]


MAX_EXAMPLES = 2**53
"""Whole numbers beyond this are not exact in float64; no hospital has as many images."""

BLOCK = 2**16
"""Numbers handled at a time: few enough for a core's cache, so many that threads seldom meet."""

GROUP = 5
"""Updates that :class:`RunningAverage` holds, to pass over its sums once for all of them."""


class RunningAverage:
    """A weighted average that takes one hospital at a time and holds a few of them.

    The sum runs over ``num_examples * weights`` in float64 and is divided once, at the end. A
    whole number of up to 29 bits times a float32 is exact in float64, and so is their sum as
    long as the hospitals' values of one weight differ by less than some powers of ten; the order
    of the hospitals then cannot change the result. Held are, for any number of hospitals, the last
    GROUP updates, not copied, so that nobody may change them, and two models' memory of sums.

    Parameters
    ----------
    like : the global model's weights, whose number, shapes and dtypes every update has.
    """

    def __init__(self, like: Weights) -> None:
        self._like, self._sums = like, list[np.ndarray]()
        self._held: list[tuple[float, Weights]] = []
        self.total, self.count = 0.0, 0

    def add(self, weights: Weights, num_examples: float) -> None:
        """Take one hospital's update into the average; it must be sound, which is not looked at."""
        if len(self._held) == GROUP:
            sums = self._sums or [np.empty(array.shape) for array in self._like]
            self._sums = _add_up(self._held, self._sums, sums, 1.0)
            self._held = []
        self._held.append((float(num_examples), weights))
        self.total += float(num_examples)
        self.count += 1

    def result(self) -> Weights:
        """Return the average of what was added, of one update at least, in the model's dtypes."""
        averages = [np.empty(array.shape, array.dtype) for array in self._like]
        return _add_up(self._held, self._sums, averages, self.total)


def weighted_average(
    weights: Iterable[Weights],
    num_examples: Sequence[float],
    *,
    hospitals: Sequence[str] | None = None,
) -> Weights:
    """Return the average of the hospitals' weights, each counted by its number of examples.

    Parameters
    ----------
    weights : for each hospital a list of arrays; all alike in number, shape and dtype.
    num_examples : for each hospital a number above 0.
    hospitals : their names, for the error message; by default "hospital 1" and so on.

    Returns
    -------
    A list of arrays like one hospital's, equal to :class:`RunningAverage`'s. The order of the
    hospitals does not matter, within the limit stated there.

    Raises
    ------
    UpdateError
        Names the hospital whose update has NaN or infinity, another shape, dtype or number of
        arrays, or whose number of examples is zero, negative, NaN or infinite.
    """
    updates = list(weights)
    names = list(hospitals or (f"hospital {k + 1}" for k in range(len(updates))))
    if not len(updates) == len(num_examples) == len(names):
        raise UpdateError(
            f"{len(updates)} updates, {len(num_examples)} numbers of examples and {len(names)} "
            "names; give one of each for every hospital."
        )
    if not updates:
        raise UpdateError("there is no update to average; at least one hospital must reply.")
    for update, count, name in zip(updates, num_examples, names, strict=True):
        check_num_examples(count, hospital=name)
        check_form(update, updates[0], hospital=name)
    averages = [np.empty(array.shape, array.dtype) for array in updates[0]]
    counted = list(zip(map(float, num_examples), updates, strict=True))
    _add_up(counted, [], averages, float(sum(num_examples)))
    # One value that is not finite spoils the average, so that looking there is enough at first.
    if not all(map(_all_finite, averages)):
        for update, name in zip(updates, names, strict=True):
            check_finite(update, hospital=name)
    return averages


def _add_up(counted: list, sums: Weights, into: Weights, total: float) -> Weights:
    """Write (sums + sum_k n_k w_k) / total, of pairs (n_k, w_k); ``into`` may be the sums."""
    for position, array in enumerate(into):
        terms = [(1.0, sums)] * bool(sums) + counted
        flat = [(count, weights[position].reshape(-1)) for count, weights in terms]
        _in_parts(partial(_add_up_part, flat, array.reshape(-1), total), array.size)
    return into


def _add_up_part(flat: list, into: np.ndarray, total: float, part: slice) -> None:
    scratch = np.empty((2, BLOCK))
    for start in range(part.start, part.stop, BLOCK):
        block = slice(start, min(start + BLOCK, part.stop))
        added, product = scratch[:, : block.stop - start]
        for k, (count, array) in enumerate(flat):
            term = product if k else added
            np.multiply(array[block], count, out=term, dtype=np.float64)
            if k:
                np.add(added, product, out=added)
        np.divide(added, total, out=into[block], casting="unsafe")


_threads = cache(lambda: ThreadPoolExecutor(num_cores(), "fedtutor-average"))


def _in_parts(work: Callable[[slice], Any], size: int) -> list[Any]:
    """Return ``work(part)`` of each part of ``size`` numbers, a part for each core."""
    step = BLOCK * -(-size // (BLOCK * num_cores())) if size > BLOCK else BLOCK
    parts = [slice(start, min(start + step, size)) for start in range(0, size, step)]
    others = [_threads().submit(work, part) for part in parts[1:]]
    return [*map(work, parts[:1]), *(other.result() for other in others)]


def plain_mean(weights: Iterable[Weights], *, hospitals: Sequence[str] | None = None) -> Weights:
    """Return ``sum(client_weights) / num_clients``: a large hospital counts as a small one."""
    updates = list(weights)
    return weighted_average(updates, [1] * len(updates), hospitals=hospitals)


def update_norm(update: Weights) -> float:
    """Return the Euclidean length of an update, all its arrays taken together, in float64."""
    return float(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in update)))


def check_form(arrays: Sequence[Any], like: Weights, *, hospital: str) -> None:
    """Raise :class:`UpdateError` unless number, shapes and dtypes are those of ``like``."""
    if len(arrays) != len(like):
        raise UpdateError(f"{hospital} sent {len(arrays)} arrays; the model has {len(like)}.")
    for position, (array, model) in enumerate(zip(arrays, like, strict=True)):
        for what in ("shape", "dtype"):
            if (came := str(getattr(array, what))) != (expected := str(getattr(model, what))):
                raise UpdateError(
                    f"{hospital} sent an array {position} of {what} {came}; "
                    f"the model's has {expected}."
                )


def check_finite(weights: Weights, *, hospital: str) -> None:
    """Raise :class:`UpdateError` at a NaN or an infinity."""
    for position, array in enumerate(weights):
        if not _all_finite(array):
            raise UpdateError(
                f"{hospital} sent NaN or infinity in array {position}; its training diverged "
                "(a lower learning rate helps) or its data are broken."
            )


def check_num_examples(num_examples: float, *, hospital: str) -> None:
    """Raise :class:`UpdateError` unless this is a finite number above 0."""
    if not 0 < num_examples <= MAX_EXAMPLES:
        raise UpdateError(
            f"{hospital} claims {num_examples} examples; it must be a finite number above 0 "
            f"and at most {MAX_EXAMPLES:,}."
        )


def _all_finite(array: np.ndarray) -> bool:
    # One NaN or infinity anywhere makes the sum NaN or infinite, at a fraction of isfinite's cost;
    # a finite sum may still overflow from honest values, hence the second look.
    def finite(part: slice) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(np.sum(flat[part])) or np.isfinite(flat[part]).all())

    flat = array.reshape(-1)
    return all(_in_parts(finite, flat.size))
