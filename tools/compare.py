"""Run the notebooks on fresh kernels and compare every output with the stored one.

    python tools/compare.py [notebook ...] [pytest's options]   by default the whole course
    python tools/compare.py all                                 and all tests in the same run

This is nbval in strict mode, with one addition: numbers written with a sign of approximation,
such as ≈0.87, may differ by three in their last digit, as training does not end in the same
numbers on every processor. All else must be the same.
"""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from lint import LONG_CELL_SECONDS, course, read_timings, timing_key

SANITIZE = Path(__file__).with_name("sanitize.cfg")
MOST_UNITS = 3
ABOUT = re.compile(r"≈(-?\d+(?:\.\d+)?)")


class Text(str):
    """Text that equals another if they differ in nothing but a little in their ≈ numbers."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and agree(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def agree(one: str, other: str) -> bool:
    """Whether two outputs are the same but for their ≈ numbers, and those are close."""
    if ABOUT.sub("≈", one) != ABOUT.sub("≈", other):
        return False
    numbers = [map(Decimal, ABOUT.findall(text)) for text in (one, other)]
    return all(_close(a, b) for a, b in zip(*numbers, strict=True))


def _close(one: Decimal, other: Decimal) -> bool:
    """Whether both have as many decimals, and differ by little in the last of them."""
    unit = Decimal(1).scaleb(one.as_tuple().exponent)
    return one.same_quantum(other) and abs(one - other) <= MOST_UNITS * unit


def pytest_configure(config: pytest.Config) -> None:
    """As this file is a plugin of pytest: have nbval compare as :class:`Text` does."""
    from nbval.plugin import IPyNbCell

    exact = IPyNbCell.sanitize

    def sanitize(cell, text):
        text = exact(cell, text)
        return Text(text) if isinstance(text, str) else text

    IPyNbCell.sanitize = sanitize


def main(arguments: list[str]) -> int:
    named = [argument for argument in arguments if not argument.startswith("-")]
    everything = named == ["all"]
    options = [
        *("-p", Path(__file__).stem),
        "--nbval",
        "--nbval-current-env",
        f"--nbval-cell-timeout={4 * LONG_CELL_SECONDS}",  # a busy machine is no error
        f"--nbval-sanitize-with={SANITIZE}",
        "--quiet",
    ]
    if everything or not named:
        # Some notebooks and tests wait for other programs; this many keep two cores busy.
        workers = "4" if everything else "3"
        options += ["-n", workers, "--dist", "loadfile", "--no-loadscope-reorder"]
        timings = read_timings()
        took = {path: timings[timing_key(path)]["seconds"] for path in course()}
        options += map(str, sorted(took, key=took.get, reverse=True))
    if everything:
        arguments = ["tests", *(argument for argument in arguments if argument != "all")]
    return pytest.main([*options, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
