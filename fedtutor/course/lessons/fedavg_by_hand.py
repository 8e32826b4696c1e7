"""What notebook 04 checks: the average and the round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedtutor.aggregation import fedavg_formula, weighted_average
from fedtutor.course.exercises import Answer, Wrong, exercise, other_case, same_arrays
from fedtutor.model import Weights

# Two hospitals, a model of two arrays; every wrong way to average gives another number.
SMALL = [np.array([[2.0, 4.0]]), np.array([10.0])]
LARGE = [np.array([[6.0, 8.0]]), np.array([30.0])]


@exercise(
    """04.1, the average weighted by examples
    More: for each `arrays in zip(*weights)`, the hospitals' first arrays, then their second ones:
    sum(n * array) over the hospitals, divided by sum(num_examples).""",
    reference=fedavg_formula,
)
def average_weighted_by_examples(average: Answer) -> None:
    got = average(given := _copies(SMALL, LARGE), [10, 30])
    if not isinstance(got, (list, tuple)) or len(got) != 2:
        text = """A model is a list of arrays, as is an average; yours: {kind}.
            Hint: go through the arrays one by one, and average each over the hospitals."""
        raise Wrong(text, kind=type(got).__name__)
    got = [np.asarray(array) for array in got]
    if any(a.shape != b.shape for a, b in zip(got, SMALL, strict=True)):
        raise Wrong("""The average of arrays of one shape has that shape; yours has another.
            Hint: do not take the mean over the numbers in an array, only over the hospitals.""")
    _unharmed(given, [SMALL, LARGE])
    right = weighted_average([SMALL, LARGE], [10, 30])
    if same_arrays(got, weighted_average([SMALL, LARGE], [1, 1])):
        raise Wrong("""Every hospital counts the same in your average, however many examples it has.
            Hint: multiply each hospital's array by its number of examples before adding up.""")
    if same_arrays(got, [40 * array for array in right]):
        raise Wrong("""Your average is far larger than any of the hospitals' numbers.
            Hint: something is still to be divided by.""")
    if same_arrays(got, [20 * array for array in right]):
        raise Wrong("""The weighted sum is right, but it is divided by the number of hospitals.
            Hint: what do the weights 10 and 30 add up to?""")
    if not same_arrays(got, right):
        text = """Of 2 from 10 examples and 6 from 30 it is 5; yours is {yours:g}.
            Hint: which number belongs to which hospital?"""
        raise Wrong(text, yours=got[0].flat[0])
    other_case(same_arrays(average(_copies(LARGE), [7]), LARGE))


def _copies(*models: Weights) -> list[Weights]:
    return [[array.copy() for array in model] for model in models]


def _unharmed(models: Sequence[Weights], before: Sequence[Weights]) -> None:
    """Raise :class:`Wrong` if an answer has written into the models that it was given."""
    if not all(map(same_arrays, models, before)):
        raise Wrong("""A model that your function was given has changed under its hands.
            Hint: `a += b` on an array changes the array itself; `a = a + b` makes a new one.""")


def one_round(
    global_weights: Weights, hospitals: Sequence[Any], train: Callable[[Weights, Any], Weights]
) -> Weights:
    """Return the global model after one round; ``train(weights, images)`` is a hospital's work."""
    updates = [train(global_weights, images) for images in hospitals]
    return weighted_average(updates, [len(images) for images in hospitals])


@exercise(
    """04.2, one round
    More: updates = [train(global_weights, images) for images in hospitals]; return
    average(updates, [len(images) for images in hospitals])""",
    reference=one_round,
)
def a_round(run: Answer) -> None:
    start = [np.array([1.0]), np.array([[2.0, 3.0]])]
    (before,) = _copies(start)
    hospitals = [[10.0] * 2, [20.0] * 6]
    starts = []

    def train(weights: Weights, images: list[float]) -> Weights:
        starts.extend(_copies(weights))
        return [array + np.mean(images) for array in weights]

    got = run(start, hospitals, train)
    if len(starts) != len(hospitals):
        text = """`train` was called {times} times, for {hospitals} hospitals.
            Hint: each hospital trains once a round."""
        raise Wrong(text, times=len(starts), hospitals=len(hospitals))
    _unharmed([start], [before])
    if not same_arrays(starts[1], before):
        raise Wrong("""The second hospital began with the model that the first one had trained.
            Hint: in a round all hospitals start from the same global model.""")
    if same_arrays(got, before):
        raise Wrong("""The hospitals have trained, but the new global model is the old one.
            Hint: what comes back from `train`?""")
    if same_arrays(got, [array + 15.0 for array in before]):
        raise Wrong("""The hospital with 2 images counts as much as the one with 6.
            Hint: len(images) is a hospital's number of examples.""")
    if not same_arrays(got, [array + 17.5 for array in before]):
        raise Wrong("""The new global model is not the average of the hospitals' models.
            Hint: only what the hospitals sent goes into the average, nothing else.""")
