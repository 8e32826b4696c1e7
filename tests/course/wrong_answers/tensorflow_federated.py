"""Wrong answers to the exercises of tensorflow_federated; each must earn a hint of its own."""

from __future__ import annotations

from wrong import wrong


@wrong("A1.1")
def average_without_a_rate(weights, client_weights, num_examples, learning_rate):
    return _average(client_weights, num_examples)


@wrong("A1.1")
def everybody_alike(weights, client_weights, num_examples, learning_rate):
    return _stepped(weights, _average(client_weights, [1, 1]), learning_rate)


@wrong("A1.1")
def the_wrong_way(weights, client_weights, num_examples, learning_rate):
    return _stepped(weights, _average(client_weights, num_examples), -learning_rate)


@wrong("A1.1")
def only_the_change(weights, client_weights, num_examples, learning_rate):
    new = _stepped(weights, _average(client_weights, num_examples), learning_rate)
    return [a - g for g, a in zip(weights, new, strict=True)]


@wrong("A1.1")
def rate_on_the_average(weights, client_weights, num_examples, learning_rate):
    return [learning_rate * array for array in _average(client_weights, num_examples)]


@wrong("A1.1")
def not_divided(weights, client_weights, num_examples, learning_rate):
    average = _average(client_weights, num_examples)
    return _stepped(weights, average, sum(num_examples) * learning_rate)


@wrong("A1.2")
def number_of_batches(batches):
    return len(batches)


@wrong("A1.2")
def all_batches_full(batches):
    return len(batches) * len(batches[0][1])


@wrong("A1.2")
def length_of_the_pairs(batches):
    return sum(len(batch) for batch in batches)


@wrong("A1.2")
def number_of_pixels(batches):
    return sum(images.size for images, _ in batches)


@wrong("A1.2")
def a_fixed_number(batches):
    return 29


def _average(client_weights, num_examples):
    return [
        sum(n * array for n, array in zip(num_examples, arrays, strict=True)) / sum(num_examples)
        for arrays in zip(*client_weights, strict=True)
    ]


def _stepped(weights, average, rate):
    return [g + rate * (a - g) for g, a in zip(weights, average, strict=True)]
