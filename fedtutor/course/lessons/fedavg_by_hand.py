"""What notebook 04 checks: the average, the round, and what travels."""

from __future__ import annotations

import numpy as np

from fedtutor.aggregation import weighted_average
from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, other_case, same_arrays
from fedtutor.model import Weights

# Two hospitals, a model of two arrays; every wrong way to average gives another number.
SMALL = [np.array([[2.0, 4.0]]), np.array([10.0])]
LARGE = [np.array([[6.0, 8.0]]), np.array([30.0])]


@exercise("""04.1, the average weighted by examples
    More: for each `arrays in zip(*weights)`, the hospitals' first arrays, then their second ones:
    sum(n * array) over the hospitals, divided by sum(num_examples).""")
def average_weighted_by_examples(average: Answer) -> None:
    got = average([SMALL, LARGE], [10, 30])
    if not isinstance(got, (list, tuple)) or len(got) != 2:
        raise Wrong(f"""A model is a list of arrays, as is an average; yours: {type(got).__name__}.
            Hint: go through the arrays one by one, and average each over the hospitals.""")
    got = [np.asarray(array) for array in got]
    if any(a.shape != b.shape for a, b in zip(got, SMALL, strict=True)):
        raise Wrong("""The average of arrays of one shape has that shape; yours has another.
            Hint: do not take the mean over the numbers in an array, only over the hospitals.""")
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
        raise Wrong(f"""Of 2 from 10 examples and 6 from 30 it is 5; yours is {got[0].flat[0]:g}.
            Hint: which number belongs to which hospital?""")
    other_case(same_arrays(average([LARGE], [7]), LARGE))


@exercise("""04.2, one round
    More: updates = [train(global_weights, images) for images in hospitals]; return
    my_average(updates, [len(images) for images in hospitals])""")
def one_round(run: Answer) -> None:
    start = [np.array([1.0]), np.array([[2.0, 3.0]])]
    before = [array.copy() for array in start]
    hospitals = [np.full(2, 10.0), np.full(6, 20.0)]
    starts = []

    def train(weights: Weights, images: np.ndarray) -> Weights:
        starts.append([np.array(array) for array in weights])
        return [array + images.mean() for array in weights]

    got = run(start, hospitals, train)
    if len(starts) != len(hospitals):
        raise Wrong(f"""`train` was called {len(starts)} times, for {len(hospitals)} hospitals.
            Hint: each hospital trains once a round.""")
    if not same_arrays(start, before):
        raise Wrong("""The global model you were given has changed under your hands.
            Hint: `a += b` on an array changes the array itself; `a = a + b` makes a new one.""")
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


@exercise("""04.3, what travels in a round
    More: 2 * num_hospitals * num_parameters * 4""")
def bytes_in_a_round(count: Answer) -> None:
    got, right = one_number(count(1000, 5)), 2 * 5 * 1000 * 4
    if got in (right / 4, right / 8):
        raise Wrong("""That counts the numbers, not their bytes.
            Hint: a float32 takes 32 bits.""")
    if got == right / 2:
        raise Wrong("""That is one direction only.
            Hint: before a hospital can train it must be sent the global model.""")
    if got == right * 8:
        raise Wrong("""Those are bits.
            Hint: a byte has eight.""")
    if got == right / 5:
        raise Wrong("""That is one hospital's traffic.
            Hint: every hospital receives and sends a whole model.""")
    if got != right:
        raise Wrong(f"""5 hospitals and 1,000 parameters make {right:,} bytes; you have {got:,}.
            Hint: down and up, for each hospital, four bytes a parameter.""")
    other_case(count(10, 3) == 240)
