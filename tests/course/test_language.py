"""What panels, checks and hints say in other languages."""

from __future__ import annotations

import catalogue
import pandas as pd
import pytest
from wrong import WRONG
from wrong_answers import start_here

from fedtutor.course import language
from fedtutor.course.exercises import Wrong, find_exercise, judge
from fedtutor.course.panels import Panel, slider
from fedtutor.errors import FedtutorError

LANGUAGES = sorted(path.stem for path in language.FOLDER.glob("*.po"))


class Told(dict):
    """A catalogue that remembers what it was asked for in vain."""

    def __init__(self, known):
        super().__init__(known)
        self.missing = []

    def get(self, text, default=None):
        if text not in self:
            self.missing.append(text)
        return super().get(text, default)


@pytest.mark.parametrize("chosen", LANGUAGES)
def test_whatever_a_learner_writes_in_notebook_0_is_answered_in_the_language(chosen, monkeypatch):
    told = Told(language.catalogue(chosen))
    monkeypatch.setattr(language, "catalogue", lambda _: told)
    assert start_here  # registers them
    for number in ("00.1", "00.2"):
        found = find_exercise(number)
        for answer in (*WRONG[number].values(), lambda *_: 1 / 0, None, found.reference):
            for _ in range(2):
                assert judge(found, answer)
    assert told.missing == []


@pytest.fixture
def german(monkeypatch):
    monkeypatch.setenv(language.LANGUAGE, "de")


def test_values_are_put_into_a_translation_by_name(german):
    text = "There are {images} images; your reply says {said}.\n Hint: something new {images}"
    said = Wrong(text, images=7, said="{x}")
    assert said.sentence == "Es sind 7 Bilder; Ihre Antwort nennt {x}."
    assert said.hint == "something new 7"


def test_a_panels_sentence_is_found_whatever_its_numbers(german):
    said = "After round 2: AUC ≈0.88, from ≈0.85 to ≈0.91."
    panel = Panel(lambda after: (pd.DataFrame(), said), after=slider("Rounds done", [2, 3]))
    assert panel.state == "Nach Runde 2: AUC ≈0.88, von ≈0.85 bis ≈0.91."
    assert repr(panel).startswith("Panel: Abgeschlossene Runden = 2")


def test_what_has_no_translation_stays_english(german):
    assert language.say("Nobody said this 3 times.") == "Nobody said this 3 times."
    assert language.say("{n} of these", n=3) == "3 of these"


def test_english_is_what_stands_in_the_code(monkeypatch):
    monkeypatch.delenv(language.LANGUAGE, raising=False)
    assert language.say("not yet.") == "not yet."


def test_an_unknown_language_is_refused_with_those_that_are_known(monkeypatch):
    monkeypatch.setenv(language.LANGUAGE, "tlh")
    with pytest.raises(FedtutorError, match="'tlh'; the course speaks: en, de"):
        language.say("not yet.")


def test_fuzzy_and_empty_translations_do_not_count(tmp_path):
    (tmp_path / "x.po").write_text(
        '#, fuzzy\nmsgid "a"\nmsgstr "A"\n\nmsgid "b"\nmsgstr ""\n\nmsgid "c"\nmsgstr "C"\n',
        encoding="utf-8",
    )
    assert language.read(tmp_path / "x.po") == {"c": "C"}


def test_a_text_with_values_inside_cannot_be_translated_and_is_refused():
    found = catalogue.of_module("say('a'); text = 'b\\n Hint: c'", "say", "text")
    assert sorted(found) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="line 1: name the values"):
        list(catalogue.of_module("Wrong(f'{n} images')", "Wrong"))
