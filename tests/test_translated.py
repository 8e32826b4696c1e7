"""Notebooks in another language: made of the English ones, and no English word is left in them."""

from __future__ import annotations

import ast
import html
import json
import re
import zipfile
from pathlib import Path

import book_panels
import catalogue
import lint
import nbformat
import panel_states
import pytest
import translated
from compare import agree
from refresh import settle

PATHS = lint.translations()
IDS = [lint.timing_key(path) for path in PATHS]
NUMBER = re.compile(r"≈?-?\d+(?:\.\d+)?")
WORD = re.compile(r"[A-Za-zÄÖÜäöüß]{2,}")
SAME = {
    "de": {"AUC", "COVID", "Keras", "Normal", "Screening", "Server", "St", "Synth", "True"}
    | {"fedavg", "in", "tensorflow"}
}
"""Words of English outputs that another language has as well, by language."""


def read(path):
    return nbformat.read(path, as_version=4)


def outputs(notebook):
    """Return all that a notebook's code has put out, as a reader meets it: a text a cell."""
    return ["\n".join(map(_said, cell.outputs)) for cell in lint.code_cells(notebook)]


def _said(output):
    data = output.get("data", {})
    shown = re.sub(r'<img src="[^"]*" alt="([^"]*)"', r"\1<", data.get("text/html", ""))
    words = html.unescape(re.sub(r"<[^>]*>", " ", shown))
    return f"{output.get('text', '')}\n{data.get('text/plain', '')}\n{words}"


def without_words(code):
    """Return code as a tree without its strings and comments."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_a_translation_is_made_of_the_english_notebook_as_it_is_now(path):
    made, stored = translated.translate(read(translated.english(path)), path), read(path)
    again = f"python tools/refresh.py {lint.timing_key(path)}"
    assert [cell.source for cell in stored.cells] == [cell.source for cell in made.cells], again
    assert [cell.id for cell in stored.cells] == [cell.id for cell in made.cells]
    assert settle(stored) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_its_code_differs_in_words_only(path):
    speak = translated.SPEAK.format(path.parent.name)
    pairs = zip(
        lint.code_cells(read(path)), lint.code_cells(read(translated.english(path))), strict=True
    )
    for ours, english in pairs:
        source = ours.source.removeprefix(speak)
        assert without_words(source) == without_words(english.source)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_its_outputs_have_the_same_numbers(path):
    english = outputs(read(translated.english(path)))
    for ours, theirs in zip(outputs(read(path)), english, strict=True):
        numbers = [" ".join(NUMBER.findall(text)) for text in (ours, theirs)]
        assert agree(*numbers)


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_no_english_word_is_left_in_what_it_shows(path):
    english, ours = (
        set(WORD.findall("\n".join(outputs(read(one))))) for one in (translated.english(path), path)
    )
    assert english & ours == SAME[path.parent.name]


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_it_ran_in_order_and_its_links_lead_somewhere(path):
    notebook = read(path)
    checks = (lint._execution(notebook), lint._outputs(notebook), lint._links(notebook, path))
    assert [problem for found in checks for problem in found] == []


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_its_panels_are_recorded_of_its_code(path):
    recorded = panel_states.file_of(path)
    if not recorded.parent.parent.exists():
        pytest.skip("an sdist has no recorded panels")
    with zipfile.ZipFile(recorded) as archive:
        code = json.loads(archive.read("panels.json"))["code"]
    assert code == book_panels.code_of(json.loads(path.read_text(encoding="utf-8")))


def test_in_code_sentences_comments_and_what_is_printed_is_translated_and_no_key():
    code = 'd["a b"] = f("key")  # one\nprint("Öl:", f"{x} of\\n {d[\'k\']}")\nslider("R", k)\n'
    texts = ["a b", "one", "Öl:", "{x} of\\n {d['k']}", "R"]
    assert [text for *_, text in translated.texts(code)] == texts
    changed = translated.code(code, {text: f"<{text}>" for text in texts})
    assert changed == (
        'd["<a b>"] = f("key")  # <one>\n'
        'print("<Öl:>", f"<{x} of\\n {d[\'k\']}>")\nslider("<R>", k)\n'
    )


def test_of_markdown_sentences_are_translated_and_links_lead_up_a_folder():
    text = "## A\n\n- [b](c.md) d\n\n| e |\n|---|\n| [f](https://g.example) |\n\n```\nA\n```\n"
    known = {"A": "1", "[b](c.md) d": "[2](c.md) 3", "e": "4"}
    known["[f](https://g.example)"] = "[5](https://g.example)"
    assert translated.markdown(text, known) == (
        "## 1\n\n- [2](../c.md) 3\n\n| 4 |\n|---|\n| [5](https://g.example) |\n\n```\nA\n```\n"
    )
    with pytest.raises(KeyError, match="A"):
        translated.markdown(text, {})


def test_a_notebooks_texts_are_asked_of_its_translator(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('print("one")  # two')])
    nbformat.write(notebook, path := Path(tmp_path, "n.ipynb"))
    assert list(catalogue.of_code(path)) == ["one", "two"]
