"""The register of wrong answers: what learners typically write, exercise by exercise."""

from __future__ import annotations

from collections.abc import Callable

WRONG: dict[str, dict[str, object]] = {}
"""From an exercise's number to its wrong answers by name."""


def wrong(number: str) -> Callable[[Callable], Callable]:
    """List the decorated function as a wrong answer to an exercise."""

    def register(answer: Callable) -> Callable:
        wrong_value(number, answer.__name__, answer)
        return answer

    return register


def wrong_value(number: str, name: str, value: object) -> None:
    """List a value, for an exercise that asks for a value and not for a function."""
    WRONG.setdefault(number, {})[name] = value
