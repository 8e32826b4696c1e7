"""What figures, checks and hints say, in the language that FEDTUTOR_LANGUAGE names.

English stands in the code, the rest in ``course/locale/``: gettext's catalogues, one a language,
read as they are, so that a clone has nothing to compile. ``notebooks/AUTHORING.md`` says how to add
one.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fedtutor.errors import FedtutorError

LANGUAGE, FOLDER = "FEDTUTOR_LANGUAGE", Path(__file__).parents[1] / "course" / "locale"


def say(text: str, /, **values: object) -> str:
    """Return an English text in the learner's language, with the values in place of ``{names}``.

    What has no translation stays English.
    """
    return translated(catalogue(os.environ.get(LANGUAGE) or "en"), text, **values)


def translated(known: Mapping[str, str], text: str, /, **values: object) -> str:
    """Do what :func:`say` does, with another catalogue."""
    said = known.get(text, text)
    return said.format(**values) if values else said


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return the texts of a language by the English ones, or raise FedtutorError: unknown."""
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
