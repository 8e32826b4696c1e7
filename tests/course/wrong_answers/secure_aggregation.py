"""Wrong answers to the exercises of secure_aggregation; each must earn a hint of its own."""

from __future__ import annotations

import random
from secrets import randbelow

import numpy as np
from wrong import wrong

from fedtutor.topics.privacy import secure_sum
from fedtutor.topics.privacy.secure_sum import PRIME


@wrong("10.1")
def everybody_adds(vector, number, seeds):
    return vector + sum(secure_sum.mask(s, len(vector)) for s in seeds.values())


@wrong("10.1")
def no_mask(vector, number, seeds):
    return vector


@wrong("10.1")
def masks_alone(vector, number, seeds):
    return _signed(np.zeros_like(vector), number, seeds)


@wrong("10.1")
def in_floats(vector, number, seeds):
    total = vector.astype(float)
    for other, seed in seeds.items():
        total += (1 if number < other else -1) * secure_sum.mask(seed, len(vector)).astype(float)
    return total


@wrong("10.1")
def the_higher_number_adds(vector, number, seeds):
    return _signed(vector, -number, {-other: seed for other, seed in seeds.items()})


@wrong("10.1")
def into_the_vector(vector, number, seeds):
    for other, seed in seeds.items():
        noise = secure_sum.mask(seed, len(vector))
        vector += noise if number < other else -noise
    return vector


@wrong("10.1")
def only_the_neighbours(vector, number, seeds):
    ring = sorted([number, *seeds])
    place = ring.index(number)
    near = {ring[place - 1], ring[(place + 1) % len(ring)]} - {number}
    return _signed(vector, number, {other: seeds[other] for other in near})


@wrong("10.1")
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


def _values(coefficients, holders):
    return {x: sum(c * x**k for k, c in enumerate(coefficients)) % PRIME for x in holders}


def _drawn(count):
    return [randbelow(PRIME) for _ in range(count)]


@wrong("10.2")
def a_list(secret, holders, threshold):
    return list(_values([secret, *_drawn(threshold - 1)], holders).values())


@wrong("10.2")
def without_the_remainder(secret, holders, threshold):
    coefficients = [secret, *_drawn(threshold - 1)]
    return {x: sum(c * x**k for k, c in enumerate(coefficients)) for x in holders}


@wrong("10.2")
def numbered_from_zero(secret, holders, threshold):
    values = _values([secret, *_drawn(threshold - 1)], range(len(holders)))
    return dict(zip(holders, values.values(), strict=True))


@wrong("10.2")
def always_the_same(secret, holders, threshold):
    rng = random.Random(0)
    return _values([secret, *(rng.randrange(PRIME) for _ in range(threshold - 1))], holders)


@wrong("10.2")
def one_coefficient_too_few(secret, holders, threshold):
    return _values([secret, *_drawn(threshold - 2)], holders)


@wrong("10.2")
def one_coefficient_too_many(secret, holders, threshold):
    return _values([secret, *_drawn(threshold)], holders)


@wrong("10.2")
def small_coefficients(secret, holders, threshold):
    return _values([secret, *(random.randint(1, 10**9) for _ in range(threshold - 1))], holders)


@wrong("10.2")
def always_a_parabola(secret, holders, threshold):
    return _values([secret, *_drawn(2)], holders)


@wrong("10.3")
def the_sum(shares):
    return sum(shares.values()) % PRIME


@wrong("10.3")
def with_a_slash(shares):
    return sum(y * np.prod([k / (k - x) for k in shares if k != x]) for x, y in shares.items())


def _lagrange(shares, factor):
    total = 0
    for x, share in shares.items():
        for k in shares:
            share = share * factor(k, x) if k != x else share
        total += share
    return total


@wrong("10.3")
def without_the_last_remainder(shares):
    return _lagrange(shares, lambda k, x: k * pow(k - x, -1, PRIME))


@wrong("10.3")
def the_wrong_way_round(shares):
    return _lagrange(shares, lambda k, x: k * pow(x - k, -1, PRIME)) % PRIME


@wrong("10.3")
def itself_among_the_others(shares):
    total = 0
    for x, share in shares.items():
        for k in shares:
            share = share * k * pow(k - x, PRIME - 2, PRIME)
        total += share
    return total % PRIME


@wrong("10.3")
def a_line_through_the_first_two(shares):
    (a, ya), (b, yb) = list(shares.items())[:2]
    return (ya * b - yb * a) * pow(b - a, -1, PRIME) % PRIME
