"""Exercises that check themselves: ``check("04.1", my_function)``.

An exercise is a plain function that tries the learner's answer and raises :class:`Wrong` where it
breaks a property; those of notebook 04 live in ``fedtutor/course/lessons/fedavg_by_hand.py``:

    @exercise("04.1", "An average weighted by examples")
    def weighted(average):
        got = average([...], [10, 30])
        if ...:
            raise Wrong("Every hospital counts the same.", hint="...", more="...")
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from fedtutor.course.lessons import LESSONS

REGISTRY: dict[str, Exercise] = {}
_failures: Counter[str] = Counter()


class Wrong(Exception):
    """The answer breaks a property.

    Parameters
    ----------
    sentence : what is wrong, kindly and in one sentence.
    hint : where to look.
    more : said from the second failure on: nearly the answer.
    """

    def __init__(self, sentence: str, *, hint: str, more: str) -> None:
        super().__init__(sentence)
        self.sentence, self.hint, self.more = sentence, hint, more


class NotDone(Exception):
    """The answer is still ``...`` or nothing."""


@dataclass(frozen=True)
class Exercise:
    """One exercise and its check."""

    number: str
    title: str
    try_out: Callable[[object], None]


def exercise(number: str, title: str) -> Callable[[Callable], Exercise]:
    """Decorator: register a check under "NN.k", exercise k of notebook NN, or "A1.k"."""
    if not re.fullmatch(r"[A\d]\d\.\d", number):
        raise ValueError(f'an exercise is numbered like "04.1" or "A1.1"; got {number!r}.')
    if number in REGISTRY:
        raise ValueError(f"there are two exercises {number}.")

    def register(try_out: Callable[[object], None]) -> Exercise:
        REGISTRY[number] = Exercise(number, title, try_out)
        return REGISTRY[number]

    return register


def find(number: str) -> Exercise:
    """The exercise of that number.

    Raises
    ------
    ValueError
        If there is none; lists those of the same notebook.
    """
    lesson = number.split(".")[0]
    if lesson in LESSONS:
        importlib.import_module(f"fedtutor.course.lessons.{LESSONS[lesson]}")
    if number not in REGISTRY:
        known = ", ".join(name for name in sorted(REGISTRY) if name.startswith(f"{lesson}."))
        raise ValueError(f"there is no exercise {number!r}; notebook {lesson} has: {known or '-'}.")
    return REGISTRY[number]


def check(number: str, answer: object) -> None:
    """Try an answer and print what is to be said; never raises over a wrong one.

    Parameters
    ----------
    number : such as "04.1".
    answer : what the exercise asks for, mostly a function.
    """
    found = find(number)
    print(f"Exercise {number}, {found.title}: {judge(found, answer)}")


def judge(found: Exercise, answer: object) -> str:
    """The verdict on an answer; the second failure in this process earns the stronger hint."""
    try:
        found.try_out(_watched(answer))
    except NotDone:
        return (
            "not done yet.\n"
            "Write your answer in place of the dots and run this cell again; nothing else waits "
            "for it."
        )
    except Wrong as wrong:
        return _with_hint(found, wrong)
    except Exception as error:  # whatever a learner's code raises is answered kindly
        return _with_hint(found, _stopped(error))
    _failures[found.number] = 0
    return "right. Well done."


def _with_hint(found: Exercise, wrong: Wrong) -> str:
    _failures[found.number] += 1
    lines = ["not yet.", wrong.sentence, f"Hint: {wrong.hint}"]
    if _failures[found.number] > 1:
        lines.append(f"Stronger hint: {wrong.more}")
    return "\n".join(lines)


def _stopped(error: Exception) -> Wrong:
    line = error.__traceback__
    while line.tb_next is not None:
        line = line.tb_next
    return Wrong(
        f"Your code stopped with {type(error).__name__}: {error}",
        hint="call the function yourself in a new cell with small lists and look at each step.",
        more=f"it stopped in line {line.tb_lineno} of {line.tb_frame.f_code.co_name}.",
    )


def _watched(answer: object) -> object:
    """The answer; if it is a function, one that says so when it gives nothing back."""
    if answer is None or answer is ...:
        raise NotDone
    if not callable(answer):
        return answer

    @wraps(answer)
    def call(*args, **kwargs):
        result = answer(*args, **kwargs)
        if result is None or result is ...:
            raise NotDone
        return result

    return call
