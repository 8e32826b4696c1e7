"""What notebook 08 checks, its figures, and its two thousand hospitals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from fedtutor.course.exercises import Wrong, exercise
from fedtutor.figures.picture import BLUE, GREEN, GREY, ORANGE, PURPLE, Picture
from fedtutor.model import Weights
from fedtutor.topics.privacy import secure_sum
from fedtutor.topics.privacy.differential import epsilon
from fedtutor.topics.privacy.membership import roc
from fedtutor.topics.privacy.reconstruction import (
    ssim,
)

STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, ":"), (PURPLE, "-."))


def side_by_side(
    originals: np.ndarray, guesses: Mapping[str, np.ndarray], *, step: float = 0.1
) -> Picture:
    """A row of originals over one row of guesses for each name, with the SSIM below each guess.

    ``originals`` is float (n, h, w, 1) in 0..1, and so is each of ``guesses``, in that order.
    """
    count = len(originals)
    figure = Figure(figsize=(1.5 * count + 1.6, 1.75 * (1 + len(guesses))))
    grid = figure.subplots(1 + len(guesses), count, squeeze=False)
    said = []
    for axes_row, (name, images) in zip(
        grid, {"original": originals, **guesses}.items(), strict=True
    ):
        scores = ssim(originals, images) if name != "original" else None
        for k, axes in enumerate(axes_row):
            axes.imshow(images[k, ..., 0], cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            if scores is not None:
                axes.set_title(f"SSIM {scores[k]:.2f}", fontsize=9, y=-0.16)
        axes_row[0].text(-0.1, 0.5, name, transform=axes_row[0].transAxes, ha="right", va="center")
        if scores is not None:
            said.append(f"{name}: SSIM {', '.join(f'{s:.2f}' for s in scores)}")
    figure.subplots_adjust(wspace=0.05, hspace=0.2)
    return Picture(
        figure,
        f"{count} originals above, and below them what was reconstructed; {'; '.join(said)}.",
        step,
    )


def in_a_row(shown: Mapping[str, tuple[np.ndarray, float]], *, step: float = 0.1) -> Picture:
    """Pictures, float (h, w, 1) in 0..1, by name and each with its SSIM, in one row."""
    figure = Figure(figsize=(1.6 * len(shown), 2.1))
    for axes, (name, (picture, score)) in zip(
        figure.subplots(1, len(shown)), shown.items(), strict=True
    ):
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
        axes.set_title(name if math.isnan(score) else f"{name}\nSSIM {score:.2f}", fontsize=9)
        axes.set_axis_off()
    figure.subplots_adjust(wspace=0.08)
    said = ", ".join(
        name if math.isnan(score) else f"{name} SSIM {score:.2f}"
        for name, (_, score) in shown.items()
    )
    return Picture(figure, f"Pictures in a row: {said}.", step)


def curves_of_attacks(attacks: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Picture:
    """ROC curves on logarithmic axes, where the few sure accusations are seen.

    ``attacks`` is from a name to (scores of members, scores of others).
    """
    figure = Figure(figsize=(7.2, 4.2))
    axes = figure.add_subplot()
    rates = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    axes.plot(rates, rates, color=GREY, linewidth=1, label="guessing")
    said = []
    for (name, (members, others)), (colour, dash) in zip(attacks.items(), STYLES, strict=False):
        fpr, tpr = roc(members, others)
        found = np.array([tpr[fpr <= rate].max() for rate in rates])
        axes.plot(rates, found, dash, marker="o", color=colour, label=name)
        said.append(f"{name} finds {found[0]:.2f} at 0.01 and {found[3]:.2f} at 0.10")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.009, 1.1)
    axes.set_ylim(0.005, 1.2)
    for axis, ticks in ((axes.xaxis, (0.01, 0.1, 1)), (axes.yaxis, (0.01, 0.1, 1))):
        axis.set_ticks(ticks, [f"{t:.0%}".replace("%", " %") for t in ticks])
        axis.set_minor_locator(_no_ticks())
    axes.set_xlabel("outsiders wrongly accused (share)")
    axes.set_ylabel("members found (share)")
    _tidy(axes)
    axes.legend(loc="lower right", frameon=False)
    return Picture(
        figure,
        f"Members found against outsiders accused, on logarithmic axes: {'; '.join(said)}.",
        0.1,
    )


def _no_ticks():
    from matplotlib.ticker import NullLocator

    return NullLocator()


def three_on_one_axis(
    noise: Sequence[float],
    budgets: Sequence[float],
    auc: Sequence[float],
    attack: Sequence[float],
) -> Picture:
    """Against ε, from no privacy at the left to much at the right: utility and attack.

    ``noise`` are noise multipliers from 0 on, ``budgets`` their ε, the first infinite.
    """
    figure = Figure(figsize=(7.6, 3.8))
    axes = figure.add_subplot()
    x = range(len(noise))
    axes.plot(x, auc, "o-", color=BLUE, label="the model's AUC on new patients")
    axes.plot(x, attack, "D--", color=ORANGE, label="the attack's AUC on its own patients")
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=":")
    names = ["∞" if math.isinf(e) else f"{e:.0f}" if e >= 10 else f"{e:.1f}" for e in budgets]
    axes.set_xticks(x, [f"ε {e}\nnoise {z:g}" for e, z in zip(names, noise, strict=True)])
    axes.set_ylim(0.4, 1.02)
    axes.set_ylabel("AUC (0.5 is guessing)")
    _tidy(axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    said = [
        f"at ε {e} the model has {a:.2f} and the attack {b:.2f}"
        for e, a, b in zip(names, auc, attack, strict=True)
    ]
    return Picture(figure, f"{'; '.join(said)}.", 0.1)


def update_and_noise(update: np.ndarray, masked: np.ndarray, *, side: int = 64) -> Picture:
    """An update, the same masked, and pure noise: the first numbers of each as a grey square.

    ``update`` and ``masked`` are uint64 vectors of fixed-point numbers. Each square is scaled to
    its own largest values, leaving out the outermost 2 %.
    """
    noise = np.frombuffer(np.random.default_rng(0).bytes(8 * side * side), np.uint64)
    names = ("the update", "the update, masked", "nothing but noise")
    figure = Figure(figsize=(8, 3.1))
    for axes, name, vector in zip(
        figure.subplots(1, 3), names, (update, masked, noise), strict=True
    ):
        values = vector[: side * side].view(np.int64).astype(np.float64)
        limit = max(np.quantile(np.abs(values), 0.98), 1.0)
        scaled = np.clip(values / limit, -1, 1).reshape(side, side)
        axes.imshow(scaled, cmap="gray", vmin=-1, vmax=1)
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    figure.tight_layout()
    return Picture(
        figure,
        f"{side * side} numbers each as squares of grey. The update has a pattern; the masked "
        "update and pure noise have none.",
        0.1,
    )


def _tidy(axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


# Exercise 08.1


def _outer(seed: int, dead: Sequence[int] = (0, 4), units: int = 9, inputs: int = 30):
    """A dense layer's gradient of one image: (image, kernel gradient, bias gradient)."""
    rng = np.random.default_rng(seed)
    image, errors = rng.normal(size=inputs), rng.normal(size=units)
    errors[list(dead)] = 0
    return image, np.outer(image, errors), errors


@exercise("08.1", "an image from a gradient")
def from_gradient(reconstruct):
    image, kernel, bias = _outer(0)
    with np.errstate(all="ignore"):
        got = np.asarray(reconstruct(kernel.copy(), bias.copy()), float)
    if got.shape != image.shape:
        raise Wrong(
            f"One image of {image.size} pixels is asked for, shape {image.shape}; yours is "
            f"{got.shape}.",
            hint="one unit of the layer is enough: choose a column.",
            more="kernel[:, j] / bias[j] for a single j.",
        )
    if np.isnan(got).any() or np.isinf(got).any():
        raise Wrong(
            "There is NaN or infinity in your image.",
            hint="some units were not active: both of their gradients are 0.",
            more="choose the unit with the largest abs(bias).",
        )
    if np.allclose(got, image):
        _try_others(reconstruct)
        return
    if _parallel(got, image):
        raise Wrong(
            "That is the image up to a factor.",
            hint="the column is the image times the unit's error. Where do you find that error?",
            more="divide the column by bias[j].",
        )
    if np.allclose(got * image, 1, atol=1e-6):
        raise Wrong(
            "That is one over the image.",
            hint="which is divided by which?",
            more="kernel[:, j] / bias[j], not the other way round.",
        )
    raise Wrong(
        "That is not the image.",
        hint="for one image, kernel[i, j] is pixel i times the error of unit j, and bias[j] is "
        "that error.",
        more="kernel[:, j] / bias[j] with j = the unit of the largest abs(bias).",
    )


def _try_others(reconstruct) -> None:
    for seed in range(1, 10):
        image, kernel, bias = _outer(seed, dead=[seed % 9, (seed + 3) % 9])
        if not _finds(reconstruct, image, kernel, bias):
            raise Wrong(
                "It works for one gradient and fails for another.",
                hint="which units are dead changes with the image.",
                more="look for a unit that is not dead: the one with the largest abs(bias).",
            )
        if not _finds(reconstruct, image, np.outer(image, -np.abs(bias)), -np.abs(bias)):
            raise Wrong(
                "It fails where no unit has a positive error.",
                hint="without its sign, which error is the largest?",
                more="j = np.argmax(np.abs(bias)): without abs, a dead unit beats negative errors.",
            )


def _finds(reconstruct, image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        return np.allclose(np.asarray(reconstruct(kernel, bias), float), image)


def _parallel(one: np.ndarray, other: np.ndarray) -> bool:
    cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-300)
    return bool(abs(cosine) > 1 - 1e-9)


# Exercise 08.2


@exercise("08.2", "clip an update")
def clipping(my_clip):
    long = [np.array([[2.0, -2.0], [0.0, 1.0]]), np.array([4.0])]
    short = [np.array([[0.3, 0.0], [0.0, 0.0]]), np.array([0.4])]
    before = [array.copy() for array in long]
    got = my_clip(long, 2.5)
    _check_shapes(got, before)
    if any((a != b).any() for a, b in zip(long, before, strict=True)):
        raise Wrong(
            "The update that was given is changed.",
            hint="`array *= factor` changes the array itself; the hospital still needs it.",
            more="[array * factor for array in update]",
        )
    total = _length(got)
    if _same_arrays(got, before):
        raise Wrong(
            "An update of length 5 comes back as it was; at most 2.5 was asked for.",
            hint="the length counts all numbers of all arrays together.",
            more="length = sqrt(sum of (array ** 2).sum() over the arrays)",
        )
    expected = [array / 2 for array in before]
    if not _same_arrays(got, expected):
        raise _why_not_clipped(got, before, total)
    again = my_clip([array.copy() for array in short], 2.5)
    if not _same_arrays(again, short):
        raise Wrong(
            f"An update of length 0.5 is within 2.5, and yours has length {_length(again):.3g} "
            "afterwards.",
            hint="clipping shortens what is too long and leaves the rest alone.",
            more="factor = min(1, norm / length)",
        )
    zero = my_clip([np.zeros(3)], 1.0)
    if not np.array_equal(zero[0], np.zeros(3)):
        raise Wrong(
            "An update of nothing but zeros does not stay zero.",
            hint="its length is 0; what happens to norm / length?",
            more="divide by max(length, norm) in place of the length: norm / max(length, norm).",
        )


def _why_not_clipped(got: Weights, before: Weights, total: float) -> Wrong:
    if _same_arrays(got, [np.clip(a, -2.5, 2.5) for a in before]):
        return Wrong(
            "Each number is cut by itself, which bends the update into another direction.",
            hint="not np.clip: shorten the arrow, and keep where it points.",
            more="multiply all arrays by one factor, norm / length.",
        )
    if _same_arrays(got, [a * min(1, 2.5 / np.linalg.norm(a)) for a in before]):
        return Wrong(
            f"Each array is clipped by itself; together they are {total:.2f} long, not 2.5.",
            hint="the length is that of all arrays together.",
            more="add up (array ** 2).sum() over all arrays, then the root, then one factor.",
        )
    if _same_arrays(got, [a * 2.5 / 25 for a in before]):
        return Wrong(
            "It becomes too short: 0.5 in place of 2.5.",
            hint="did you take the root?",
            more="length = math.sqrt(sum((a ** 2).sum() for a in update))",
        )
    return Wrong(
        f"An update of length 5 should come back half as long; yours has length {total:.3g} or "
        "another direction.",
        hint="one factor for all arrays: norm over length.",
        more="[array * min(1, norm / length) for array in update]",
    )


def _check_shapes(got, like) -> None:
    try:
        shapes = [np.shape(array) for array in got]
    except TypeError:
        shapes = None
    if shapes != [array.shape for array in like]:
        raise Wrong(
            "A list of arrays is asked for, shaped like the update's.",
            hint="a list in, a list out.",
            more="return [array * factor for array in update]",
        )


def _length(update) -> float:
    return math.sqrt(sum(float((np.asarray(a) ** 2).sum()) for a in update))


def _same_arrays(got, expected) -> bool:
    return all(
        np.shape(a) == np.shape(b) and np.allclose(a, b) for a, b in zip(got, expected, strict=True)
    )


# Exercise 08.3


@exercise("08.3", "rounds that a budget pays for")
def affordable(my_rounds):
    for noise, budget, delta in ((4.0, 4.0, 1e-5), (10.0, 2.0, 1e-5), (4.0, 4.0, 1e-3)):
        truth = _most_rounds(noise, budget, delta)
        got = my_rounds(noise, budget, delta)
        if got == truth:
            continue
        one = epsilon(noise, 1, delta=delta)
        if got in (int(budget / one), round(budget / one)):
            raise Wrong(
                f"{got} rounds: you added up the ε of single rounds. The truth is kinder.",
                hint="noise of several rounds partly cancels, so that ε grows more slowly than "
                "the number of rounds.",
                more="ask epsilon(noise, rounds, delta=delta) for 1, 2, 3, ... rounds.",
            )
        if got == truth + 1:
            raise Wrong(
                f"With noise {noise:g} and {got} rounds, ε is "
                f"{epsilon(noise, got, delta=delta):.3f}: the last round is one too many.",
                hint="the budget must still hold after the last round.",
                more="stop before the first number of rounds whose ε is above the budget.",
            )
        if delta != 1e-5:
            raise Wrong(
                f"At delta {delta:g} it should be {truth} rounds; yours gives {got}.",
                hint="is a number written out in your code that should be the argument delta?",
                more="epsilon(noise, rounds, delta=delta)",
            )
        raise Wrong(
            f"With noise {noise:g} a budget of ε {budget:g} pays for some other number of rounds "
            f"than {got}.",
            hint="the largest number of rounds whose ε is at most the budget.",
            more="rounds = 0; while epsilon(noise, rounds + 1, delta=delta) <= budget: rounds += 1",
        )
    if my_rounds(0.1, 1.0, 1e-5) != 0:
        raise Wrong(
            "With so little noise not even one round is within the budget.",
            hint="the answer can be 0.",
            more="begin with rounds = 0 and look whether one more is allowed.",
        )


def _most_rounds(noise: float, budget: float, delta: float) -> int:
    rounds = 0
    while epsilon(noise, rounds + 1, delta=delta) <= budget:
        rounds += 1
    return rounds


# Exercise 08.4


def _seeds(numbers: Sequence[int]) -> dict[int, dict[int, bytes]]:
    """A seed for each pair of parties, the same for both."""
    return {
        i: {
            j: bytes([min(i, j), max(i, j)]) * (secure_sum.SECRET_BYTES // 2)
            for j in numbers
            if j != i
        }
        for i in numbers
    }


@exercise("08.4", "masks that cancel")
def masks(my_masked):
    numbers = (2, 5, 7, 11)
    seeds = _seeds(numbers)
    rng = np.random.default_rng(0)
    vectors = {k: rng.integers(0, 2**40, 6, dtype=np.uint64) for k in numbers}
    got = {k: my_masked(vectors[k].copy(), k, dict(seeds[k])) for k in numbers}
    for k, vector in got.items():
        if getattr(vector, "dtype", None) != np.uint64 or vector.shape != (6,):
            raise Wrong(
                "A masked vector is a uint64 array like the vector; yours is not.",
                hint="floats lose digits, and then nothing cancels exactly.",
                more="start from vector.copy() and add or subtract mask(seed, len(vector)).",
            )
        if np.array_equal(vector, vectors[k]):
            raise Wrong(
                f"Party {k} sends its vector without any mask.",
                hint="one mask for each of the other parties in `seeds`.",
                more="for other, seed in seeds.items(): add or subtract mask(seed, len(vector))",
            )
    _check_sum(got, vectors)
    for k in numbers:
        for other in seeds[k]:
            changed = {**seeds[k], other: bytes(secure_sum.SECRET_BYTES)}
            if np.array_equal(my_masked(vectors[k].copy(), k, changed), got[k]):
                raise Wrong(
                    f"Party {k} has no mask in common with party {other}: a few others who talk "
                    "to each other can unmask it.",
                    hint="a mask with every other party, not only with some.",
                    more="use all of seeds.items().",
                )
    few = {k: {j: s for j, s in seeds[k].items() if j in (2, 11)} for k in (2, 11)}
    _check_sum({k: my_masked(vectors[k].copy(), k, few[k]) for k in few}, vectors)


def _check_sum(got: Mapping[int, np.ndarray], vectors: Mapping[int, np.ndarray]) -> None:
    total = sum(got.values(), np.zeros(6, np.uint64))
    plain = sum((vectors[k] for k in got), np.zeros(6, np.uint64))
    if np.array_equal(total, plain):
        return
    if not total.any():
        raise Wrong(
            "The sum of your masked vectors is 0: the masks cancel, and the vectors are not in it.",
            hint="the mask comes on top of the vector.",
            more="begin with total = vector.copy().",
        )
    if all(_adds_all(got[k], vectors[k], k, list(got)) for k in got):
        raise Wrong(
            "Everybody adds all of the masks, so that each mask is in the sum twice.",
            hint="of two parties one must add and the other subtract. Which one?",
            more="add the mask if number < other, subtract it if number > other.",
        )
    raise Wrong(
        "The masks do not cancel: the sum of the masked vectors is not the sum of the vectors.",
        hint="of each pair, one party must add the common mask and the other subtract it. How can "
        "both know, without asking, which of them they are?",
        more="add it if number < other, subtract it if number > other.",
    )


def _adds_all(got: np.ndarray, vector: np.ndarray, k: int, numbers: list[int]) -> bool:
    seeds = _seeds(numbers)[k].values()
    return np.array_equal(got - vector, sum(secure_sum.mask(s, len(vector)) for s in seeds))
