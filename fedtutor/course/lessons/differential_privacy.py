"""What notebook 09 checks, and its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedtutor.aggregation import update_norm
from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, same_arrays
from fedtutor.figures.charts import lines
from fedtutor.figures.picture import GREY, Picture
from fedtutor.topics.privacy.differential import epsilon


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


@exercise("""09.1, clip an update
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


@exercise("""09.2, rounds that a budget pays for
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
