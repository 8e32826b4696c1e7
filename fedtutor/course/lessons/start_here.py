"""What notebook 00 checks: a hospital's reply, and the server's average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise, other_case, same_arrays
from fedtutor.course.lessons.fedavg_by_hand import average_weighted_by_examples
from fedtutor.model import Weights


def reply(weights: Weights, images: Sequence[Any]) -> tuple[Weights, int]:
    """Return what a hospital sends after it has trained."""
    return weights, len(images)


@exercise(
    """00.1, what a hospital sends
    More: return weights, len(images)""",
    reference=reply,
)
def what_a_hospital_sends(send: Answer) -> None:
    weights, images = [np.ones((2, 3)), np.zeros(3)], ["an X-ray"] * 7
    got = send(weights, images)
    parts = got if isinstance(got, (tuple, list)) else [got]
    if any(part is images or part == images[0] for part in parts if isinstance(part, (list, str))):
        raise Wrong("""Images leave the hospital in your reply; that would be pooling.
            Hint: the model has learned from them, and the model travels. What stays?""")
    if got is weights:
        raise Wrong("""The server asks for two things, and your reply has one.
            Hint: it must know what was learned, and from how many images.""")
    if len(parts) != 2 or not isinstance(parts[0], list) or not same_arrays(parts[0], weights):
        raise Wrong("""The server expects first the weights, then a number, and nothing else.
            Hint: `return a, b` gives two things back, in this order.""")
    if parts[1] != len(images):
        text = """There are {images} images; your reply says {said}.
            Hint: `len` counts what is in a list, or in a hospital's set of images."""
        raise Wrong(text, images=len(images), said=parts[1])
    other_case(send(weights, images[:2])[1] == 2)


def average(arrays: Sequence[Any], num_examples: Sequence[int]) -> Any:
    """Return the mean of the hospitals' arrays, each counted by its number of examples."""
    return sum(n * w for n, w in zip(num_examples, arrays, strict=True)) / sum(num_examples)


@exercise(
    """00.2, the server's average
    More: sum(n * w for n, w in zip(num_examples, arrays)) / sum(num_examples)""",
    average,
)
def the_servers_average(mean: Answer) -> None:
    def of_models(weights: Sequence[Weights], counts: Sequence[int]) -> list:
        return [mean(list(arrays), counts) for arrays in zip(*weights, strict=True)]

    average_weighted_by_examples.try_out(of_models)
