"""Wrong answers to the exercises of privacy; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.aggregation import update_norm
from fedtutor.course.lessons.privacy import most_rounds
from fedtutor.topics.privacy import secure_sum
from fedtutor.topics.privacy.differential import epsilon


@wrong("08.1")
def the_first_unit(kernel, bias):
    return kernel[:, 0] / bias[0]


@wrong("08.1")
def always_unit_one(kernel, bias):
    return kernel[:, 1] / bias[1]


@wrong("08.1")
def all_units(kernel, bias):
    return kernel / bias


@wrong("08.1")
def the_column_alone(kernel, bias):
    return kernel[:, np.argmax(np.abs(bias))]


@wrong("08.1")
def upside_down(kernel, bias):
    j = np.argmax(np.abs(bias))
    return bias[j] / kernel[:, j]


@wrong("08.1")
def largest_without_abs(kernel, bias):
    j = np.argmax(bias)
    return kernel[:, j] / bias[j]


@wrong("08.1")
def wrong_axis(kernel, bias):
    return kernel[0]


@wrong("08.2")
def each_number(update, norm):
    return [np.clip(array, -norm, norm) for array in update]


@wrong("08.2")
def each_array(update, norm):
    return [array * min(1, norm / max(np.linalg.norm(array), 1e-9)) for array in update]


@wrong("08.2")
def always_that_long(update, norm):
    return [array * norm / update_norm(update) for array in update]


@wrong("08.2")
def without_the_root(update, norm):
    squares = sum((array**2).sum() for array in update)
    return [array * min(1, norm / squares) for array in update]


@wrong("08.2")
def in_place(update, norm):
    factor = min(1, norm / max(update_norm(update), 1e-9))
    for array in update:
        array *= factor
    return update


@wrong("08.2")
def nothing_happens(update, norm):
    return [array * max(1, norm / update_norm(update)) for array in update]


@wrong("08.2")
def one_vector(update, norm):
    flat = np.concatenate([np.ravel(array) for array in update])
    return flat * min(1, norm / np.linalg.norm(flat))


@wrong("08.2")
def zero_becomes_nan(update, norm):
    with np.errstate(all="ignore"):
        factor = (
            np.minimum(1, np.float64(norm) / update_norm(update)) if update_norm(update) else np.nan
        )
    return [array * factor for array in update]


@wrong("08.3")
def added_up(noise, budget, delta):
    return int(budget / epsilon(noise, 1, delta=delta))


@wrong("08.3")
def one_too_many(noise, budget, delta):
    return most_rounds(noise, budget, delta) + 1


@wrong("08.3")
def a_delta_of_ones_own(noise, budget, delta):
    return most_rounds(noise, budget, 1e-5)


@wrong("08.3")
def at_least_one(noise, budget, delta):
    return max(1, most_rounds(noise, budget, delta))


@wrong("08.3")
def twice_the_budget(noise, budget, delta):
    return most_rounds(noise, 2 * budget, delta)


@wrong("08.3")
def the_epsilon(noise, budget, delta):
    return epsilon(noise, 10, delta=delta)


@wrong("08.4")
def everybody_adds(vector, number, seeds):
    return vector + sum(secure_sum.mask(s, len(vector)) for s in seeds.values())


@wrong("08.4")
def no_mask(vector, number, seeds):
    return vector


@wrong("08.4")
def masks_alone(vector, number, seeds):
    return _signed(np.zeros_like(vector), number, seeds)


@wrong("08.4")
def in_floats(vector, number, seeds):
    total = vector.astype(float)
    for other, seed in seeds.items():
        total += (1 if number < other else -1) * secure_sum.mask(seed, len(vector)).astype(float)
    return total


@wrong("08.4")
def only_the_neighbours(vector, number, seeds):
    ring = sorted([number, *seeds])
    place = ring.index(number)
    near = {ring[place - 1], ring[(place + 1) % len(ring)]} - {number}
    return _signed(vector, number, {other: seeds[other] for other in near})


@wrong("08.4")
def adds_to_the_first_subtracts_from_the_rest(vector, number, seeds):
    total = vector.copy()
    for k, seed in enumerate(seeds.values()):
        noise = secure_sum.mask(seed, len(vector))
        total = total + noise if k == 0 else total - noise
    return total


def _signed(vector, number, seeds):
    total = vector.copy()
    for other, seed in seeds.items():
        noise = secure_sum.mask(seed, len(vector))
        total = total + noise if number < other else total - noise
    return total
