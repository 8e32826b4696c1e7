"""Exercises that check themselves, and answers that run the course.

    check("04.1", my_average)            says what is right or wrong with it
    average = yours("04.1", my_average)  my_average if it is right, else the package's own

An exercise is a plain function that tries the learner's answer and raises :class:`Wrong` where it
breaks a property; those of notebook 04 live in ``fedtutor/course/lessons/fedavg_by_hand.py``:

    @exercise('''04.1, the average weighted by examples
        More: divide by sum(num_examples).''', reference=weighted_average)
    def weighted_average(average: Answer) -> None:
        got = average([...], [10, 30])
        if ...:
            raise Wrong('''Every hospital counts the same in your average.
                Hint: multiply by the number of examples before adding up.
                More: sum(n * array) over the hospitals.''')
"""

from __future__ import annotations

import ctypes
import importlib
import re
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from fedtutor.course.lessons import LESSONS
from fedtutor.support.language import say

Answer = Callable[..., Any]
"""A learner's function: it may take and return anything."""

TIME_LIMIT = 30.0
"""Seconds in which an answer should be tried; the slowest right one takes two."""

REGISTRY: dict[str, Exercise] = {}
_failures: Counter[str] = Counter()


def _parts(text: str) -> list[str]:
    """Split a text at its lines "Hint: ..." and "More: ...", and put each part on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*(?:Hint|More): ", text)]


class Wrong(Exception):
    """The answer breaks a property.

    ``text`` says what is wrong, kindly and in one sentence; on a line of its own ``Hint:`` and
    where to look; on another ``More:`` and nearly the answer, by default that of the exercise, said
    from the second failure on. Line breaks and indentation count for nothing. ``values`` stand for
    ``{names}`` in the text, which each part is translated without: no f-string, then.
    """

    def __init__(self, text: str, **values: object) -> None:
        parts = [say(part, **values) for part in _parts(text)]
        self.sentence, self.hint, self.more = [*parts, ""][:3]
        super().__init__(self.sentence)


class NotDone(Exception):
    """The answer is still ``...`` or nothing."""


@dataclass(frozen=True)
class Exercise:
    """One exercise, its check, and the answer that stands in for a learner's."""

    number: str
    title: str
    try_out: Callable[[Any], None]
    more: str
    reference: Any = None


def exercise(text: str, reference: Any = None) -> Callable[[Callable[[Any], None]], Exercise]:
    """Register the decorated check.

    Parameters
    ----------
    text : number and title: "04.2, one round" for exercise 2 of notebook 04, "A1.1, ..." in an
        appendix; on a line of its own ``More:`` and nearly the answer, for mistakes without one.
    reference : a right answer, which :func:`yours` gives where there is none yet.
    """
    head, more = [*_parts(text), ""][:2]
    number, _, title = head.partition(", ")
    if not re.fullmatch(r"[A\d]\d\.\d", number):
        raise ValueError(f'an exercise is numbered like "04.1" or "A1.1"; got {number!r}.')
    if number in REGISTRY:
        raise ValueError(f"there are two exercises {number}.")

    def register(try_out: Callable[[Any], None]) -> Exercise:
        REGISTRY[number] = Exercise(number, title, try_out, more, reference)
        return REGISTRY[number]

    return register


def find_exercise(number: str) -> Exercise:
    """Return the exercise of that number.

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
    """Try an answer and print what is to be said; never raise over a wrong one.

    Parameters
    ----------
    number : such as "04.1".
    answer : what the exercise asks for, mostly a function.
    """
    found = find_exercise(number)
    verdict = judge(found, answer)
    text = "Exercise {number}, {title}: {verdict}"
    print(say(text, number=number, title=say(found.title), verdict=verdict))


def yours(number: str, answer: Any) -> Any:
    """Return the learner's answer if its check finds it right, else the reference; say which.

    What comes next in the notebook then runs on it:

        average = yours("04.1", my_average)
    """
    found = find_exercise(number)
    right = _raised_in(lambda: found.try_out(_watched(answer))) is None
    text = "From here on, {title}: the package's own, until yours is right."
    if right:
        text = "From here on, {title}: your own answer."
    print(say(text, title=say(found.title)))
    return answer if right else found.reference


def judge(found: Exercise, answer: object) -> str:
    """Say whether an answer is right; the second failure in this process earns a stronger hint."""
    error = _raised_in(lambda: found.try_out(_watched(answer)))
    if error is None:
        _failures[found.number] = 0
        return say("right. Well done.")
    if isinstance(error, NotDone):
        return say(
            "not done yet.\n"
            "Write your answer in place of the dots and run this cell again; nothing else waits "
            "for it."
        )
    return _with_hint(found, error if isinstance(error, Wrong) else _stopped(error))


def _raised_in(work: Callable[[], None]) -> BaseException | None:
    """Do the work in a thread of its own, and return what it raised, if anything.

    After :data:`TIME_LIMIT` seconds, or at Ctrl-C, which arrives here and not in the thread, a
    SystemExit ends what it runs (PyThreadState_SetAsyncExc, on every system). Code that catches it
    a hundred times, or waits in a call into C such as a long ``sleep``, is left behind and goes on;
    a call into C that lets no other thread run, such as ``sum(range(10**12))``, stops for nobody.
    """
    raised: list[BaseException] = []
    ended = threading.Event()  # after a Ctrl-C Python 3.11 and 3.12 take any thread for ended

    def run() -> None:
        try:
            work()
        except BaseException as error:  # whatever a learner's code raises is answered kindly
            raised.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        # Not longer at a time, as Windows hears Ctrl-C only in between.
        late = not any(ended.wait(0.1) for _ in range(round(10 * TIME_LIMIT)))
    finally:
        end, number = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(thread.ident or 0)
        for _ in range(100):
            if not ended.wait(0.01):
                end(number, ctypes.py_object(SystemExit))
    if late:
        goes_on = "" if ended.wait(0.1) else say(" It cannot be stopped: restart the kernel.")
        text = """Your code was still running after {limit:g} seconds.{goes_on}
            Hint: does every loop come to an end? Print what changes from turn to turn."""
        return Wrong(text, limit=TIME_LIMIT, goes_on=goes_on)
    return raised[0] if raised else None


def _with_hint(found: Exercise, wrong: Wrong) -> str:
    _failures[found.number] += 1
    lines = [say("not yet."), wrong.sentence, say("Hint: {hint}", hint=wrong.hint)]
    if _failures[found.number] > 1:
        lines.append(say("Stronger hint: {hint}", hint=wrong.more or say(found.more)))
    return "\n".join(lines)


def _stopped(error: BaseException) -> Wrong:
    if isinstance(error, SystemExit):
        return Wrong("""Your code has asked Python itself to end.
            Hint: `return` ends a function; leave out sys.exit(), exit() and quit().""")
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = """Your code stopped with {kind}: {error}
        Hint: call the function yourself in a new cell with small lists and look at each step.
        More: it stopped in line {line} of {name}."""
    kind, said = type(error).__name__, " ".join(str(error).split())
    return Wrong(text, kind=kind, error=said, line=last.lineno, name=last.name)


def _watched(answer: object) -> object:
    """Return the answer; if it is a function, one that says so when it gives nothing back."""
    if answer is None or answer is ...:
        raise NotDone
    if not callable(answer):
        return answer

    @wraps(answer)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = answer(*args, **kwargs)
        if result is None or result is ...:
            raise NotDone
        return result

    return call


def one_number(got: object, hint: str = "give one plain number, such as 12.") -> Any:
    """Return the answer if it is one number, or say that one is asked for."""
    if np.ndim(np.asarray(got, dtype=object)) or np.asarray(got).dtype.kind not in "iuf":
        text = """One number is asked for; yours is a {kind}.
            Hint: {hint}"""
        raise Wrong(text, kind=type(got).__name__, hint=say(hint))
    return got


def of_shape(got: object, shape: tuple[int, ...], hint: str) -> np.ndarray:
    """Return the answer as floats of that shape, or say which shape is asked for."""
    array = np.asarray(got, dtype=float)
    if array.shape != shape:
        text = """Numbers of shape {shape} are asked for; yours are of shape {yours}.
            Hint: {hint}"""
        raise Wrong(text, shape=shape, yours=array.shape, hint=say(hint))
    return array


def other_case(right: object) -> None:
    """Raise :class:`Wrong` unless what fits the first case is right in another one, too."""
    if not right:
        raise Wrong("""It fits one case, and no others.
            Hint: is a value written out in your code? Use the arguments.""")


def same_arrays(
    got: Sequence[Any], expected: Sequence[np.ndarray], tolerance: float = 1e-6
) -> bool:
    """Tell whether two models have arrays of the same shapes and, nearly, the same numbers."""
    return len(got) == len(expected) and all(
        np.shape(a) == b.shape and np.allclose(a, b, atol=tolerance)
        for a, b in zip(got, expected, strict=True)
    )
