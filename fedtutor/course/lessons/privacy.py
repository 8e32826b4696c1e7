"""What notebook 08 checks, and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fedtutor.aggregation import update_norm
from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, one_number, same_arrays
from fedtutor.figures.charts import lines
from fedtutor.figures.picture import GREY, Picture, row_of_images, show
from fedtutor.topics.privacy import secure_sum
from fedtutor.topics.privacy.differential import epsilon
from fedtutor.topics.privacy.membership import found_at
from fedtutor.topics.privacy.reconstruction import ssim


def side_by_side(originals: np.ndarray, guesses: Mapping[str, np.ndarray]) -> Picture:
    """Draw a row of originals over one row of guesses for each name, with the SSIM of each guess.

    ``originals`` is float (n, h, w, 1) in 0..1, and so is each of ``guesses``, in that order.
    """
    count, rows = len(originals), 1 + len(guesses)
    figure = Figure(figsize=(1.5 * count + 1.6, 1.9 * rows))
    grid = figure.subplots(rows, count, squeeze=False)
    said = []
    for row, (name, images) in zip(grid, {"original": originals, **guesses}.items(), strict=True):
        scores = [f"{score:.2f}" for score in ssim(originals, images)]
        for axes, image, score in zip(row, images, scores, strict=True):
            show(axes, image, f"SSIM {score}" if name in guesses else "", limits=(0, 1))
        row[0].text(-0.1, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
        said.append(f"{name}: SSIM {', '.join(scores)}")
    figure.subplots_adjust(wspace=0.05, hspace=0.2)
    alt = f"{count} originals, and below them what was reconstructed; {'; '.join(said[1:])}."
    return Picture(figure, alt, 0.1)


def in_a_row(shown: Mapping[str, tuple[np.ndarray, float]]) -> Picture:
    """Draw pictures, float (h, w, 1) in 0..1, by name and each with its SSIM or NaN, in one row."""
    titles = [
        name if math.isnan(score) else f"{name}\nSSIM {score:.2f}"
        for name, (_, score) in shown.items()
    ]
    alt = f"Pictures in a row: {', '.join(titles)}.".replace("\n", " ")
    return row_of_images([picture for picture, _ in shown.values()], titles, alt, step=0.1)


def curves_of_attacks(attacks: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Picture:
    """Draw ROC curves on logarithmic axes, where the few sure accusations are seen.

    ``attacks`` is from a name to (scores of members, scores of others).
    """
    rates = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    found = {name: [found_at(rate, *scores) for rate in rates] for name, scores in attacks.items()}
    picture = lines(
        {name: (rates, shares) for name, shares in {"guessing": rates, **found}.items()},
        x="outsiders wrongly accused (share)",
        y="members found (share)",
        step=0.1,
    )
    (axes,) = picture.figure.axes
    axes.loglog()
    axes.set_ylim(0.005, 1.2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0.01, 0.1, 1], ["1 %", "10 %", "100 %"])
        axis.set_minor_locator(NullLocator())
    said = [
        f"{name} finds {at[0]:.2f} at 0.01 and {at[3]:.2f} at 0.10" for name, at in found.items()
    ]
    alt = f"Members found against outsiders accused, on logarithmic axes: {'; '.join(said)}."
    return replace(picture, alt=alt)


def three_on_one_axis(
    noise: Sequence[float], budgets: Sequence[float], auc: Sequence[float], attack: Sequence[float]
) -> Picture:
    """Draw utility and attack against ε, from no privacy at the left to much at the right.

    ``noise`` are noise multipliers from 0 on, ``budgets`` their ε, the first infinite.
    """
    x = range(len(noise))
    curves = {
        "the model's AUC on new patients": (x, auc),
        "the attack's AUC on its own patients": (x, attack),
    }
    picture = lines(curves, x="", y="AUC (0.5 is guessing)", step=0.1)
    (axes,) = picture.figure.axes
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
    names = ["∞" if math.isinf(e) else f"{e:.0f}" if e >= 10 else f"{e:.1f}" for e in budgets]
    axes.set_xticks(x, [f"ε {e}\nnoise {z:g}" for e, z in zip(names, noise, strict=True)])
    axes.set_ylim(0.4, 1.02)
    said = [
        f"at ε {e} the model has {a:.2f} and the attack {b:.2f}"
        for e, a, b in zip(names, auc, attack, strict=True)
    ]
    return replace(picture, alt=f"{'; '.join(said)}.")


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


def _outer(seed: int, dead: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a dense layer's gradient of one image: (image, kernel gradient, bias gradient)."""
    rng = np.random.default_rng(seed)
    image, errors = rng.normal(size=30), rng.normal(size=9)
    errors[list(dead)] = 0
    return image, np.outer(image, errors), errors


@exercise("""08.1, an image from a gradient
    More: kernel[:, j] / bias[j] with j = the unit of the largest abs(bias).""")
def from_gradient(reconstruct: Answer) -> None:
    def tried(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            got = reconstruct(kernel.copy(), bias.copy())
        hint = "one unit of the layer is enough for the image: choose a column."
        return of_shape(got, kernel[:, 0].shape, hint)

    image, kernel, bias = _outer(0, dead=[0, 4])
    got = tried(kernel, bias)
    if not np.isfinite(got).all():
        raise Wrong("""There is NaN or infinity in your image.
            Hint: some units were not active: both of their gradients are 0.""")
    if np.allclose(got * image, 1, atol=1e-6):
        raise Wrong("""That is one over the image.
            Hint: which is divided by which?""")
    parallel = np.allclose(np.outer(got, image), np.outer(image, got))
    if parallel and not np.allclose(got, image):
        raise Wrong("""That is the image up to a factor.
            Hint: the column is the image times the unit's error. Where do you find that error?""")
    if not parallel:
        raise Wrong("""That is not the image.
            Hint: kernel[i, j] is pixel i times the error of unit j, which bias[j] is.""")
    image, kernel, bias = _outer(1, dead=[1, 2])
    if not np.allclose(tried(kernel, bias), image):
        raise Wrong("""It works for one gradient and fails for another.
            Hint: which units are dead changes with the image.""")
    if not np.allclose(tried(np.outer(image, -np.abs(bias)), -np.abs(bias)), image):
        raise Wrong("""It fails where no unit has a positive error.
            Hint: without its sign, which error is the largest?""")


@exercise("""08.2, clip an update
    More: length = math.sqrt(sum((array ** 2).sum() for array in update)); [array * norm /
    max(length, norm) for array in update]""")
def clipping(my_clip: Answer) -> None:
    long = [np.array([[2.0, -2.0], [0.0, 1.0]]), np.array([4.0])]
    before = [array.copy() for array in long]
    got = my_clip(long, 2.5)
    if [np.shape(array) for array in got] != [array.shape for array in before]:
        raise Wrong("""A list of arrays is asked for, shaped like the update's.
            Hint: a list in, a list out.""")
    if not same_arrays(long, before):
        raise Wrong("""The update that was given is changed.
            Hint: `array *= factor` changes the array itself; the hospital still needs it.""")
    if same_arrays(got, [np.clip(a, -2.5, 2.5) for a in before]):
        raise Wrong("""Each number is cut by itself, which bends the update into another direction.
            Hint: not np.clip: shorten the arrow, and keep where it points.""")
    if same_arrays(got, [a * min(1, 2.5 / np.linalg.norm(a)) for a in before]):
        raise Wrong(f"""Each array is clipped by itself; together they are
            {update_norm(got):.2f} long, not 2.5.
            Hint: the length is that of all arrays together.""")
    if not same_arrays(got, [a / 2 for a in before]):
        raise Wrong(f"""An update of length 5 should come back half as long; yours has length
            {update_norm(got):.3g} or another direction.
            Hint: one factor for all, norm over length; the length is the root of one sum.""")
    short = [np.array([0.3, 0.0]), np.array([0.4])]
    again = my_clip([array.copy() for array in short], 2.5)
    if not same_arrays(again, short):
        raise Wrong(f"""An update of length 0.5 is within 2.5, and is {update_norm(again):.3g} now.
            Hint: clipping shortens what is too long and leaves the rest alone.""")
    if not same_arrays(my_clip([np.zeros(3)], 1.0), [np.zeros(3)]):
        raise Wrong("""An update of nothing but zeros does not stay zero.
            Hint: its length is 0; what happens to norm / length?""")


def most_rounds(noise: float, budget: float, delta: float) -> int:
    """Return the largest number of rounds whose ε is at most the budget."""
    rounds = 0
    while epsilon(noise, rounds + 1, delta=delta) <= budget:
        rounds += 1
    return rounds


@exercise("""08.3, rounds that a budget pays for
    More: rounds = 0; while epsilon(noise, rounds + 1, delta=delta) <= budget: rounds += 1""")
def affordable(my_rounds: Answer) -> None:
    noise, budget, delta = 4.0, 4.0, 1e-5
    truth, one = most_rounds(noise, budget, delta), epsilon(noise, 1, delta=delta)
    got = one_number(my_rounds(noise, budget, delta))
    if got in (int(budget / one), round(budget / one)):
        raise Wrong(f"""{got} rounds: you added up the ε of single rounds. The truth is kinder.
            Hint: noise of several rounds partly cancels, so that ε grows more slowly.""")
    if got == truth + 1:
        raise Wrong(f"""With noise {noise:g} and {got} rounds, ε is {
            epsilon(noise, got, delta=delta):.3f}: the last round is one too many.
            Hint: the budget must still hold after the last round.""")
    if got != truth:
        raise Wrong(f"""ε {budget:g} at noise {noise:g} pays for another number than {got}.
            Hint: the largest number of rounds whose ε is at most the budget.""")
    if my_rounds(4.0, 4.0, 1e-3) != most_rounds(4.0, 4.0, 1e-3):
        raise Wrong("""At another delta, 0.001, your number is wrong.
            Hint: is a number written out in your code that should be the argument delta?""")
    if my_rounds(0.1, 1.0, 1e-5) != 0:
        raise Wrong("""With so little noise not even one round is within the budget.
            Hint: the answer can be 0.""")


@exercise("""08.4, masks that cancel
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
