"""What the appendix on TensorFlow Federated checks: the step of its server, and its weights."""

from __future__ import annotations

import numpy as np

from fedtutor.course.exercises import Wrong, exercise

# Two hospitals; every wrong way to step gives another number.
GLOBAL = [np.array([[10.0, 10.0]]), np.array([0.0])]
SMALL = [np.array([[14.0, 6.0]]), np.array([4.0])]
LARGE = [np.array([[18.0, 2.0]]), np.array([12.0])]
COUNTS = [10, 30]


@exercise("A1.1", "the server's step")
def server_step(step):
    def towards(rate: float, counts=COUNTS):
        small, large = np.array(counts) / sum(counts)
        return [
            g + rate * (small * (a - g) + large * (b - g))
            for g, a, b in zip(GLOBAL, SMALL, LARGE, strict=True)
        ]

    def got(rate: float):
        return [np.asarray(array) for array in step(GLOBAL, [SMALL, LARGE], COUNTS, rate)]

    if len(got(1.0)) != len(GLOBAL):
        raise Wrong(
            f"The model has {len(GLOBAL)} arrays; yours has {len(got(1.0))}.",
            hint="step array by array, and give back a list.",
            more="for g, *arrays in zip(weights, *client_weights): ...",
        )
    if _same(got(1.0), towards(1.0, [1, 1])):
        raise Wrong(
            "Every hospital counts the same in your mean.",
            hint="the mean of the changes is weighted by num_examples.",
            more="sum(n * (array - g) for ...) / sum(num_examples)",
        )
    if _same(got(1.0), towards(-1.0)):
        raise Wrong(
            "The global model runs away from the hospitals' models.",
            hint="which minus which is a hospital's change?",
            more="a hospital's change is its array minus the global one; add it.",
        )
    if _same(got(1.0), [new - old for new, old in zip(towards(1.0), GLOBAL, strict=True)]):
        raise Wrong(
            "That is the change alone, not the new model.",
            hint="a step starts somewhere.",
            more="add the weighted mean of the changes to the global array.",
        )
    if not _same(got(1.0), towards(1.0)):
        raise Wrong(
            "With a learning rate of 1 the step must end on FedAvg's average; "
            f"yours ends at {float(got(1.0)[0].flat[0]):g} and not at 17.",
            hint="10 examples say +4 and 30 examples say +8.",
            more="10 + 1 * (10 * 4 + 30 * 8) / 40 = 17",
        )
    if _same(got(0.5), got(1.0)):
        raise Wrong(
            "The learning rate makes no difference.",
            hint="a rate of 0.5 goes half of the way.",
            more="g + learning_rate * mean_change",
        )
    if not _same(got(0.5), towards(0.5)) or not _same(got(0.0), GLOBAL):
        raise Wrong(
            "With a learning rate of 0 nothing may change, and with 0.5 half as much as with 1.",
            hint="multiply the mean of the changes by the rate, and nothing else.",
            more="g + learning_rate * mean_change",
        )


@exercise("A1.2", "how many examples are in the batches?")
def examples(count):
    batches = [(np.zeros((8, 2, 2, 1)), np.zeros(8))] * 3 + [(np.zeros((5, 2, 2, 1)), np.zeros(5))]
    got = count(batches)
    if got == len(batches):
        raise Wrong(
            "That is the number of batches, as in the mission's `len(client_data)`.",
            hint="every batch is a pair (images, labels), and knows how many it holds.",
            more="sum(len(labels) for images, labels in batches)",
        )
    if got == len(batches) * 8:
        raise Wrong(
            "The last batch is smaller, and you have counted it as a full one.",
            hint="29 images in batches of 8 make three full batches and one of 5.",
            more="ask every batch for its own size: len(labels)",
        )
    if got == 2 * len(batches):
        raise Wrong(
            "That counts what is in the pairs: images and labels, for each batch.",
            hint="a pair has length 2, whatever is in it.",
            more="for images, labels in batches: take len(labels)",
        )
    if got != 29:
        raise Wrong(
            f"There are 29 examples in these four batches; you have {got}.",
            hint="8 and 8 and 8 and 5.",
            more="sum(len(labels) for images, labels in batches)",
        )
    if count(batches[3:]) != 5:
        raise Wrong(
            "It fits these four batches, and no others.",
            hint="use the batches that come in, no numbers of your own.",
            more="sum(len(labels) for images, labels in batches)",
        )


def _same(got, expected) -> bool:
    return len(got) == len(expected) and all(
        np.shape(a) == np.shape(b) and np.allclose(a, b) for a, b in zip(got, expected, strict=True)
    )
