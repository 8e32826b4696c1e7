"""Wrong answers to the exercises of differential_privacy; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.aggregation import update_norm
from fedtutor.course.lessons.differential_privacy import most_rounds
from fedtutor.topics.privacy.differential import epsilon


@wrong("09.1")
def each_number(update, norm):
    return [np.clip(array, -norm, norm) for array in update]


@wrong("09.1")
def each_array(update, norm):
    return [array * min(1, norm / max(np.linalg.norm(array), 1e-9)) for array in update]


@wrong("09.1")
def always_that_long(update, norm):
    return [array * norm / update_norm(update) for array in update]


@wrong("09.1")
def without_the_root(update, norm):
    squares = sum((array**2).sum() for array in update)
    return [array * min(1, norm / squares) for array in update]


@wrong("09.1")
def in_place(update, norm):
    factor = min(1, norm / max(update_norm(update), 1e-9))
    for array in update:
        array *= factor
    return update


@wrong("09.1")
def nothing_happens(update, norm):
    return [array * max(1, norm / update_norm(update)) for array in update]


@wrong("09.1")
def one_vector(update, norm):
    flat = np.concatenate([np.ravel(array) for array in update])
    return flat * min(1, norm / np.linalg.norm(flat))


@wrong("09.1")
def zero_becomes_nan(update, norm):
    with np.errstate(all="ignore"):
        factor = (
            np.minimum(1, np.float64(norm) / update_norm(update)) if update_norm(update) else np.nan
        )
    return [array * factor for array in update]


@wrong("09.2")
def added_up(noise, budget, delta):
    return int(budget / epsilon(noise, 1, delta=delta))


@wrong("09.2")
def one_too_many(noise, budget, delta):
    return most_rounds(noise, budget, delta) + 1


@wrong("09.2")
def a_delta_of_ones_own(noise, budget, delta):
    return most_rounds(noise, budget, 1e-5)


@wrong("09.2")
def at_least_one(noise, budget, delta):
    return max(1, most_rounds(noise, budget, delta))


@wrong("09.2")
def twice_the_budget(noise, budget, delta):
    return most_rounds(noise, 2 * budget, delta)


@wrong("09.2")
def the_epsilon(noise, budget, delta):
    return epsilon(noise, 10, delta=delta)
