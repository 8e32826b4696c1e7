"""What notebook 10 checks, and its figures."""

from __future__ import annotations

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise
from fedtutor.figures.picture import Picture, row_of_images
from fedtutor.topics.privacy import secure_sum


def update_and_noise(update: np.ndarray, masked: np.ndarray, *, side: int = 64) -> Picture:
    """Draw an update, the same masked, and pure noise: each one's first numbers as a grey square.

    ``update`` and ``masked`` are uint64 vectors of fixed-point numbers. Each square is scaled to
    its own largest values, leaving out the outermost 2 %.
    """
    noise = np.frombuffer(np.random.default_rng(0).bytes(8 * side * side), np.uint64)
    squares = []
    for vector in (update, masked, noise):
        values = vector[: side * side].view(np.int64).astype(np.float64)
        limit = max(np.quantile(np.abs(values), 0.98), 1.0)
        squares.append(np.clip(values / limit, -1, 1).reshape(side, side))
    return row_of_images(
        squares,
        ("the update", "the update, masked", "nothing but noise"),
        f"{side * side} numbers each as squares of grey. The update has a pattern; the masked "
        "update and pure noise have none.",
        limits=(-1, 1),
        step=0.1,
        width=2.6,
    )


@exercise("""10.1, masks that cancel
    More: total = vector.copy(); for other, seed in seeds.items(): add mask(seed, len(vector)) if
    number < other, else subtract it""")
def masks(my_masked: Answer) -> None:
    numbers, rng = (2, 5, 7, 11), np.random.default_rng(0)
    seeds = {  # one for each pair of parties, the same for both
        i: {j: bytes([min(i, j), max(i, j)]) * 16 for j in numbers if j != i} for i in numbers
    }
    vectors = {k: rng.integers(0, 2**40, 6, dtype=np.uint64) for k in numbers}
    got = {k: my_masked(vectors[k].copy(), k, dict(seeds[k])) for k in numbers}
    for k, vector in got.items():
        if getattr(vector, "dtype", None) != np.uint64 or vector.shape != (6,):
            raise Wrong("""A masked vector is a uint64 array like the vector; yours is not.
                Hint: floats lose digits, and then nothing cancels exactly.""")
        if np.array_equal(vector, vectors[k]):
            raise Wrong(f"""Party {k} sends its vector without any mask.
                Hint: one mask for each of the other parties in `seeds`.""")
    total = sum(got.values(), np.zeros(6, np.uint64))
    if not total.any():
        raise Wrong("""The sum of your masked vectors is 0: the vectors are not in it.
            Hint: the mask comes on top of the vector.""")
    all_masks = {k: sum(secure_sum.mask(s, 6) for s in seeds[k].values()) for k in numbers}
    if all(np.array_equal(got[k] - vectors[k], all_masks[k]) for k in numbers):
        raise Wrong("""Everybody adds all of the masks, so that each mask is in the sum twice.
            Hint: of two parties one must add and the other subtract. Which one?""")
    if not np.array_equal(total, sum(vectors.values())):
        raise Wrong("""The masks do not cancel in the sum of the masked vectors.
            Hint: of each pair one adds the mask, one subtracts it. How do both know who?""")
    for other in seeds[2]:
        changed = {**seeds[2], other: bytes(secure_sum.SECRET_BYTES)}
        if np.array_equal(my_masked(vectors[2].copy(), 2, changed), got[2]):
            raise Wrong(f"""Party 2 shares no mask with party {other}: a few others can unmask it.
                Hint: a mask with every other party, not only with some.""")
