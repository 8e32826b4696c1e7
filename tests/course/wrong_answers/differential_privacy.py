"""Wrong answers to the exercises of differential_privacy; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.aggregation import update_norm
from fedtutor.course.lessons.differential_privacy import most_rounds, noisy_mean
from fedtutor.topics.privacy.differential import clip, epsilon


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


def added(each):
    return [sum(arrays) for arrays in zip(*each, strict=True)]


@wrong("09.2")
def not_clipped(each, norm, noise_multiplier, count, rng):
    return [(a + noise_multiplier * norm * rng.normal(size=a.shape)) / count for a in added(each)]


@wrong("09.2")
def the_sum_is_clipped(each, norm, noise_multiplier, count, rng):
    total = clip(added(each), norm)
    return [(a + noise_multiplier * norm * rng.normal(size=a.shape)) / count for a in total]


@wrong("09.2")
def over_those_who_came(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, noise_multiplier, len(each), rng)


@wrong("09.2")
def not_divided(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, noise_multiplier, 1, rng)


@wrong("09.2")
def no_noise(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, 0, count, rng)


@wrong("09.2")
def one_draw_for_all(each, norm, noise_multiplier, count, rng):
    return [
        a + noise_multiplier * norm * rng.normal() / count
        for a in noisy_mean(each, norm, 0, count, rng)
    ]


@wrong("09.2")
def without_the_norm(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, noise_multiplier / norm, count, rng)


@wrong("09.2")
def noise_on_the_mean(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, noise_multiplier * count, count, rng)


@wrong("09.2")
def without_the_multiplier(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, bool(noise_multiplier), count, rng)


@wrong("09.2")
def noise_on_each(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, noise_multiplier * len(each) ** 0.5, count, rng)


@wrong("09.2")
def a_generator_of_ones_own(each, norm, noise_multiplier, count, rng):
    return noisy_mean(each, norm, noise_multiplier, count, np.random.default_rng())


@wrong("09.2")
def one_flat_vector(each, norm, noise_multiplier, count, rng):
    found = noisy_mean(each, norm, noise_multiplier, count, rng)
    return np.concatenate([np.ravel(array) for array in found])


@wrong("09.2")
def into_the_first(each, norm, noise_multiplier, count, rng):
    total = each[0]
    for one in each[1:]:
        for a, b in zip(total, clip(one, norm), strict=True):
            a += b
    return [(a + noise_multiplier * norm * rng.normal(size=a.shape)) / count for a in total]


@wrong("09.2")
def clipped_by_the_largest(each, norm, noise_multiplier, count, rng):
    longest = max(map(update_norm, each))
    shorter = [[a * norm / max(longest, norm) for a in one] for one in each]
    return noisy_mean(shorter, norm, noise_multiplier, count, rng)


@wrong("09.3")
def added_up(noise, budget, delta):
    return int(budget / epsilon(noise, 1, delta=delta))


@wrong("09.3")
def one_too_many(noise, budget, delta):
    return most_rounds(noise, budget, delta) + 1


@wrong("09.3")
def a_delta_of_ones_own(noise, budget, delta):
    return most_rounds(noise, budget, 1e-5)


@wrong("09.3")
def at_least_one(noise, budget, delta):
    return max(1, most_rounds(noise, budget, delta))


@wrong("09.3")
def twice_the_budget(noise, budget, delta):
    return most_rounds(noise, 2 * budget, delta)


@wrong("09.3")
def the_epsilon(noise, budget, delta):
    return epsilon(noise, 10, delta=delta)
