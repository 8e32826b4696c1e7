"""Wrong answers to the exercises of secure_aggregation; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.topics.privacy import secure_sum


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
