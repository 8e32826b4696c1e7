"""Wrong answers to the exercises of start_here; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong


@wrong("00.1")
def sends_the_images(weights, images):
    return images, len(images)


@wrong("00.1")
def weights_only(weights, images):
    return weights


@wrong("00.1")
def the_other_way_round(weights, images):
    return len(images), weights


@wrong("00.1")
def counts_the_arrays(weights, images):
    return weights, len(weights)


@wrong("00.1")
def something_else(weights, images):
    return weights, 0


@wrong("00.1")
def a_fixed_number(weights, images):
    return weights, 7


@wrong("00.2")
def plain_mean(arrays, num_examples):
    return sum(arrays) / len(arrays)


@wrong("00.2")
def not_divided(arrays, num_examples):
    return sum(n * w for n, w in zip(num_examples, arrays, strict=True))


@wrong("00.2")
def divided_by_hospitals(arrays, num_examples):
    return not_divided(arrays, num_examples) / len(arrays)


@wrong("00.2")
def one_number_for_all(arrays, num_examples):
    return np.mean([n * w.mean() for n, w in zip(num_examples, arrays, strict=True)])


@wrong("00.2")
def examples_the_wrong_way_round(arrays, num_examples):
    return not_divided(arrays, num_examples[::-1]) / sum(num_examples)


@wrong("00.2")
def writes_over_a_model(arrays, num_examples):
    total = arrays[0]
    total *= num_examples[0] / sum(num_examples)
    for n, w in zip(num_examples[1:], arrays[1:], strict=True):
        total += n * w / sum(num_examples)
    return total


@wrong("00.2")
def two_hospitals_only(arrays, num_examples):
    return (arrays[0] + 3 * arrays[-1]) / 4 + 0 * num_examples[0] + (len(arrays) == 1)
