"""What the appendix on TensorFlow Federated checks: the step of its server, and its weights."""

from __future__ import annotations

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, other_case, same_arrays

# Two hospitals; every wrong way to step gives another number.
GLOBAL = [np.array([[10.0, 10.0]]), np.array([0.0])]
SMALL = [np.array([[14.0, 6.0]]), np.array([4.0])]
LARGE = [np.array([[18.0, 2.0]]), np.array([12.0])]


@exercise("""A1.1, the server's step
    More: g + learning_rate * sum(n * (array - g) for ...) / sum(num_examples)""")
def server_step(step: Answer) -> None:
    def got(rate: float) -> list[np.ndarray]:
        return [np.asarray(array) for array in step(GLOBAL, [SMALL, LARGE], [10, 30], rate)]

    change = [0.25 * (a - g) + 0.75 * (b - g) for g, a, b in zip(GLOBAL, SMALL, LARGE, strict=True)]
    if same_arrays(got(1.0), [(a + b) / 2 for a, b in zip(SMALL, LARGE, strict=True)]):
        raise Wrong("""Every hospital counts the same in your mean.
            Hint: the mean of the changes is weighted by num_examples.""")
    if same_arrays(got(1.0), [g - c for g, c in zip(GLOBAL, change, strict=True)]):
        raise Wrong("""The global model runs away from the hospitals' models.
            Hint: which minus which is a hospital's change?""")
    if same_arrays(got(1.0), change):
        raise Wrong("""That is the change alone, not the new model.
            Hint: a step starts somewhere.""")
    if not same_arrays(got(1.0), [g + c for g, c in zip(GLOBAL, change, strict=True)]):
        raise Wrong(f"""At rate 1 it must end on FedAvg's average, 17, not {got(1.0)[0].flat[0]:g}.
            Hint: 10 examples say +4 and 30 examples say +8.
            More: 10 + 1 * (10 * 4 + 30 * 8) / 40 = 17""")
    if same_arrays(got(0.5), got(1.0)):
        raise Wrong("""The learning rate makes no difference.
            Hint: a rate of 0.5 goes half of the way.""")
    if not same_arrays(got(0.5), [g + c / 2 for g, c in zip(GLOBAL, change, strict=True)]):
        raise Wrong("""With a learning rate of 0.5 half as much must change as with 1.
            Hint: multiply the mean of the changes by the rate, and nothing else.""")


@exercise("""A1.2, how many examples are in the batches?
    More: sum(len(labels) for images, labels in batches)""")
def examples(count: Answer) -> None:
    batches = [(np.zeros((8, 2, 2, 1)), np.zeros(8))] * 3 + [(np.zeros((5, 2, 2, 1)), np.zeros(5))]
    got = one_number(count(batches))
    if np.isclose(got, 4):
        raise Wrong("""That is the number of batches, as in the mission's `len(client_data)`.
            Hint: every batch is a pair (images, labels), and knows how many it holds.""")
    if np.isclose(got, 32):
        raise Wrong("""The last batch is smaller, and you have counted it as a full one.
            Hint: 29 images in batches of 8 make three full batches and one of 5.""")
    if np.isclose(got, 8):
        raise Wrong("""That counts what is in the pairs: images and labels, for each batch.
            Hint: a pair has length 2, whatever is in it.""")
    if got != 29:
        raise Wrong(f"""There are 29 examples in these four batches; you have {got}.
            Hint: 8 and 8 and 8 and 5.""")
    other_case(count(batches[3:]) == 5)
