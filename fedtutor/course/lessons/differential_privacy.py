"""What notebook 09 checks, and its first figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from matplotlib.figure import Figure

from fedtutor.aggregation import update_norm
from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, same_arrays
from fedtutor.figures.charts import legend_above
from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture, tidy
from fedtutor.model import Weights
from fedtutor.topics.privacy.differential import clip, epsilon


def best_attacker(noise: float, rounds: int, *, delta: float) -> tuple[Picture, str]:
    """Draw what comes out with and without her, and the best ROC curve that anybody can have.

    All that such releases tell is one number, normal with deviation 1 around 0 without her and
    around sqrt(rounds) / noise with her (Dong, Roth & Su 2022, arXiv 1905.02383).
    """
    normal, distance = NormalDist(), math.sqrt(rounds) / noise
    budget = epsilon(noise, rounds, delta=delta)
    x = np.linspace(-4, distance + 4, 201)  # he says "with her" above a threshold, each in turn
    rate, found = (np.array([normal.cdf(c - t) for t in x]) for c in (0, distance))
    promise = np.minimum(
        math.exp(budget) * rate + delta, 1 - math.exp(-budget) * (1 - delta - rate)
    )
    figure = Figure(figsize=(8.6, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    for centre, colour, dash, name in (
        (0, BLUE, "-", "without her"),
        (distance, ORANGE, "--", "with her"),
    ):
        bell = np.exp(-0.5 * (x - centre) ** 2)
        left.plot(x, bell, dash, color=colour, label=name)
        left.fill_between(x, bell, color=colour, alpha=0.15)
    left.set_yticks([])
    left.set_xlabel("what comes out, in deviations of the noise")
    right.plot(rate, found, "-", color=BLUE, label="best attacker")
    right.plot(rate, np.minimum(1, promise), "--", color=ORANGE, label="limit by ε and δ")
    right.plot([0, 1], [0, 1], ":", color=GREY, label="guessing")
    right.set_xlabel("others wrongly accused (share)")
    right.set_ylabel("found (share)")
    for axes in (left, right):
        tidy(axes)
        legend_above(axes, 3, handlelength=1.6, columnspacing=1.0)
    figure.subplots_adjust(wspace=0.25)
    area = normal.cdf(distance / math.sqrt(2))
    low = 100 * normal.cdf(distance + normal.inv_cdf(0.01))
    sentence = (
        f"Noise {noise:g}, {rounds} rounds: ε = {budget:.2f} at δ = {delta:g}. The best attacker "
        f"has AUC {area:.2f}; accusing 1 % of the others wrongly, he finds her in {low:.0f} %."
    )
    return Picture(figure, sentence, 0.01), sentence


@exercise(
    """09.1, clip an update
    More: length = math.sqrt(sum((array ** 2).sum() for array in update)); [array * norm /
    max(length, norm) for array in update]""",
    reference=clip,
)
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


def noisy_mean(
    each: Sequence[Weights],
    norm: float,
    noise_multiplier: float,
    count: float,
    rng: np.random.Generator,
) -> Weights:
    """Return the clipped contributions' sum, with noise, over the number that was expected."""
    total = [sum(arrays) for arrays in zip(*[clip(one, norm) for one in each], strict=True)]
    deviation = noise_multiplier * norm
    return [(array + deviation * rng.normal(size=array.shape)) / count for array in total]


@exercise(
    """09.2, the noisy mean of DP-SGD
    More: clip each, add up array by array, add noise_multiplier * norm *
    rng.normal(size=array.shape) to each sum, divide by count""",
    reference=noisy_mean,
)
def noisy(my_noisy_mean: Answer) -> None:
    rng = np.random.default_rng(0)
    each = [[k * np.array([[0.6, 0.0]]), k * np.array([0.8])] for k in (0.5, 1.0, 4.0)]
    before = [[array.copy() for array in one] for one in each]
    got = my_noisy_mean(each, 1.0, 0.0, 5, rng)
    if [np.shape(array) for array in got] != [(1, 2), (1,)]:
        raise Wrong("""A list of arrays is asked for, shaped like *one* contribution.
            Hint: zip(*...) brings together what belongs to one array.""")
    if not all(map(same_arrays, each, before)):
        raise Wrong("""The contributions that were given are changed.
            Hint: `total += array` changes an array that is not yours; begin from zeros.""")
    _without_noise(got)
    zeros = [[np.zeros((60, 50)), np.zeros(2000)]] * 5
    noise = np.concatenate([np.ravel(a) for a in my_noisy_mean(zeros, 0.5, 3.0, 10, rng)])
    _noise(noise.std() / 0.15, len(np.unique(noise)) < 4000)
    twice = [my_noisy_mean(zeros, 0.5, 3.0, 10, np.random.default_rng(1)) for _ in range(2)]
    if not same_arrays(*twice):
        raise Wrong("""The same `rng` gives other noise each time.
            Hint: draw with the generator that is given, rng.normal(size=...).""")


def _without_noise(got: Weights) -> None:
    length = update_norm(got)
    if math.isclose(length, 5.5 / 5, rel_tol=1e-6):
        raise Wrong("""The largest contribution comes through at full length.
            Hint: clip *each* to `norm` before anything is added up.""")
    if math.isclose(length, 1 / 5, rel_tol=1e-6) or math.isclose(length, 1, rel_tol=1e-6):
        raise Wrong("""The sum or mean is clipped, so that one may still be all of it.
            Hint: clip *each* contribution first, then add up.""")
    if math.isclose(length, 2.5 / 3, rel_tol=1e-6):
        raise Wrong("""You divide by how many came, which is itself something about the patients.
            Hint: divide by `count`, which was fixed beforehand.""")
    if math.isclose(length, 2.5, rel_tol=1e-6):
        raise Wrong("""That is the sum; the mean is asked for.
            Hint: divide by `count` at the end.""")
    if not same_arrays(got, [np.array([[0.3, 0.0]]), np.array([0.4])]):
        raise Wrong("""Without noise, contributions of length 0.5, 1 and 4, clipped to 1 and divided
            by 5, should give one of length 0.5 and of their direction.
            Hint: clip each, add up, divide; one step a line.""")


def _noise(ratio: float, alike: bool) -> None:
    if ratio < 0.01:
        raise Wrong("""There is no noise.
            Hint: rng.normal(size=array.shape), times its deviation.""")
    if alike:
        raise Wrong("""Several numbers get the same noise, so that their differences have none.
            Hint: size=array.shape draws one for each number.""")
    for factor, hint in (
        (2, "its deviation is noise_multiplier times *norm*."),
        (10, "it goes to the sum, before that is divided."),
        (1 / 3, "and the noise multiplier?"),
    ):
        if abs(ratio / factor - 1) < 0.05:
            raise Wrong(f"""The noise is {ratio:.2g} times what it should be.
                Hint: {hint}""")
    if not abs(ratio - 1) < 0.05:
        raise Wrong(f"""The noise is {ratio:.2g} times what it should be.
            Hint: add it once, to the sum, and not to every contribution.""")


def most_rounds(noise: float, budget: float, delta: float) -> int:
    """Return the largest number of rounds whose ε is at most the budget."""
    rounds = 0
    while epsilon(noise, rounds + 1, delta=delta) <= budget:
        rounds += 1
    return rounds


@exercise(
    """09.3, rounds that a budget pays for
    More: rounds = 0; while epsilon(noise, rounds + 1, delta=delta) <= budget: rounds += 1""",
    reference=most_rounds,
)
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
