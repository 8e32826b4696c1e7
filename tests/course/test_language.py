"""What figures, checks and hints say in other languages."""

from __future__ import annotations

import catalogue
import numpy as np
import pytest
from wrong import WRONG
from wrong_answers import start_here

from fedtutor import figures
from fedtutor.course.exercises import Wrong, find_exercise, judge
from fedtutor.datasets import load
from fedtutor.errors import DataError, FedtutorError
from fedtutor.laptop.check import check_machine
from fedtutor.support import language

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


def test_a_figure_and_its_words_are_in_the_language(german):
    picture = figures.federated_round()
    assert "Beschriftung: Bilder bleiben" in repr(picture)
    assert picture.alt.startswith("Eine föderierte Runde mit 3 Krankenhäusern: (1) Der Server")
    assert "<summary>Die Abbildung in Worten und Zahlen</summary>" in picture._repr_html_()


def test_names_that_are_not_known_stay_in_a_figure_as_they_are(german):
    shown = figures.who_has_what(["Harbour General", "{n}"], np.array([[1], [2]]), ["Öl {0}"])
    assert shown.alt.endswith("Klinikum am Hafen hat 1 Öl {0}; {n} hat 2 Öl {0}.")


def test_what_is_said_before_the_first_cell_works_is_in_the_language(german):
    assert "Arbeitsspeicher" in {finding.what for finding in check_machine()}
    with pytest.raises(DataError, match="Unbekannter Datensatz 'chest'; bekannt sind: chest-"):
        load("chest")


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
