"""What panels, checks and hints say, in the language that FEDTUTOR_LANGUAGE names.

English stands in the code, the rest in ``locale/``: gettext's catalogues, one a language, read as
they are, so that a clone has nothing to compile. ``notebooks/AUTHORING.md`` says how to add one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from itertools import count
from pathlib import Path

from fedtutor.errors import FedtutorError

LANGUAGE = "FEDTUTOR_LANGUAGE"
FOLDER = Path(__file__).parent / "locale"
NUMBER = re.compile(r"\d+(?:\.\d+)*")


def say(text: str, **values: object) -> str:
    """Return a text of the course in the learner's language, or in English if it has no other.

    Parameters
    ----------
    text : in English. Without values, its numbers may be the placeholders: "After round 2." is
        found as "After round {0}.", too, so that a notebook's panel can write what it likes.
    values : what to put into the text for each ``{name}``.

    Raises
    ------
    FedtutorError
        If ``FEDTUTOR_LANGUAGE`` names a language that is not there; lists those that are.
    """
    return translated(catalogue(os.environ.get(LANGUAGE) or "en"), text, **values)


def translated(known: Mapping[str, str], text: str, **values: object) -> str:
    """Return what a catalogue has for a text, else the text, and fill in the values."""
    if text not in known and not values:
        numbers, places = NUMBER.findall(text), count()
        found = known.get(NUMBER.sub(lambda _: f"{{{next(places)}}}", text))
        return re.sub(r"\{(\d+)\}", lambda at: numbers[int(at[1])], found) if found else text
    said = known.get(text, text)
    return said.format(**values) if values else said


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return the texts of a language by the English ones."""
    known = ["en", *sorted(path.stem for path in FOLDER.glob("*.po"))]
    if language not in known:
        raise FedtutorError(f"{LANGUAGE} is {language!r}; the course speaks: {', '.join(known)}.")
    return {} if language == "en" else read(FOLDER / f"{language}.po")


def read(path: Path) -> dict[str, str]:
    """Return what a catalogue of gettext's has, without what is fuzzy or still to be done."""
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        messages = list(read_po(file, abort_invalid=True))
    return {str(m.id): str(m.string) for m in messages if m.id and m.string and not m.fuzzy}
