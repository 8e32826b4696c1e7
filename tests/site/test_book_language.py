"""The book in other languages, and its catalogues and the course's: nothing is missing or lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import book_language
import book_material
import catalogue
import pytest
from babel.messages.pofile import read_po
from markdown_it import MarkdownIt

from fedtutor.support import language

ROOT = Path(__file__).resolve().parents[2]
PANELS = ROOT / "site" / "panels"
LANGUAGES = book_language.known()
CATALOGUES = [*language.FOLDER.glob("*.po"), *book_language.LOCALE.rglob("*.po")]
MARKS = re.compile(r"`[^`]+`|\]\([^)]+\)|\$[^$]+\$|\*\*|href=|%s")


def messages(path):
    with path.open("rb") as file:
        return [one for one in read_po(file, abort_invalid=True) if one.id]


def sentences(markdown):
    """Return the sentences of a page as Sphinx's catalogues have them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return {" ".join(one.content.split()) for one in tokens if one.type == "inline" and one.content}


def of_page(name):
    if name == "index":
        text = (ROOT / "site" / "index.md").read_text(encoding="utf-8")
        captions = set(re.findall(r"^:caption: (.+)$", text, flags=re.M))
        table = book_material.table_of_notebooks((ROOT / "README.md").read_text(encoding="utf-8"))
        text = re.sub(r"^```.*?^```|<!--.*?-->", "", text, flags=re.M | re.S)
        return sentences(text) | sentences(table) | captions
    notebook = json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return set().union(*(sentences("".join(cell["source"])) for cell in cells))


@pytest.mark.parametrize("chosen", LANGUAGES)
def test_a_translated_page_has_every_sentence_of_the_english_one(chosen):
    folder = book_language.LOCALE / chosen / "LC_MESSAGES"
    for name in book_language.pages(chosen):
        missing = of_page(name) - language.read(folder / f"{name}.po").keys()
        assert not missing, f"python tools/catalogue.py {chosen}; translate {missing}"


def test_the_sentences_of_a_page_are_those_that_are_translated():
    page = "# 1. A\n\n- **b** [c](d.md)\n  e\n\n| f |\n|---|\n| `g` |\n\n```\nh\n```\n"
    assert sentences(page) == {"1. A", "**b** [c](d.md) e", "f", "`g`"}


@pytest.mark.skipif(not PANELS.exists(), reason="an sdist has no recorded panels")
@pytest.mark.parametrize("chosen", LANGUAGES)
def test_no_hint_check_panel_or_word_of_the_frame_is_missing(chosen):
    course = language.read(language.FOLDER / f"{chosen}.po")
    assert not {text for text, _ in catalogue.course()} - course.keys()
    frame = language.read(book_language.LOCALE / chosen / "LC_MESSAGES" / "sphinx.po")
    assert not {text for text, _ in catalogue.frame()} - frame.keys()


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_nothing_is_fuzzy_and_every_translation_keeps_code_links_and_places(path):
    for one in messages(path):
        assert one.string and not one.fuzzy, one.id
        for found in (MARKS.findall, places):
            assert Counter(found(one.string)) == Counter(found(one.id)), one.string


def places(text):
    return re.findall(r"\{[^{}]*\}", text)


def test_a_lost_link_or_place_would_be_seen():
    assert MARKS.findall("**a** [b](c.md) `d`") == ["**", "**", "](c.md)", "`d`"]
    assert places("{n:g} of {name}") == ["{n:g}", "{name}"]


@pytest.fixture
def german(monkeypatch):
    monkeypatch.setenv(language.LANGUAGE, "de")


def test_what_changed_in_english_is_fuzzy_until_somebody_has_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    path = tmp_path / "de.po"
    path.write_text('msgid "The server averages models"\nmsgstr "So"\n', encoding="utf-8")
    said = catalogue.update(path, catalogue.template([("The server averages model", "x")]), "de")
    assert said == "de.po: 1 texts, 1 to be translated"
    assert messages(path)[0].fuzzy


def translated_site(folder, text):
    """Return the German front page, of a book of a front page and one page in English only."""
    for name in ("index", "de/index", "only", "de/only"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    book_language.finish(folder / "de", folder)
    assert not (folder / "de" / "only.html").exists()
    return (folder / "de" / "index.html").read_text(encoding="utf-8")


def test_a_link_to_a_page_that_is_not_translated_leads_to_the_english_one(german, tmp_path):
    text = '<a class="x" href="only.html#a">b</a> <a href="index.html">c</a> <a href="https://d/e.html">'
    assert translated_site(tmp_path, text) == text.replace(
        'href="only.html#a"', 'href="../only.html#a" hreflang="en"'
    )


def test_code_and_what_it_put_out_is_marked_as_english(german, tmp_path):
    text = translated_site(tmp_path, '<div class="cell_output docutils container">x</div><p>y</p>')
    assert text.startswith('<div lang="en" class="cell_output docutils container">x</div><p>')


def test_only_the_headings_of_other_pages_are_read(german):
    path, text = Path("notebooks/x.md"), "# A\n\nb\n\n```\n# c\n```\n\n## D\n"
    assert book_language.headings(path, text) == "# A\n\n## D"
    known = {Path("notebooks/00_start_here.ipynb"), path}
    assert book_language.whole(known) == known - {path}


def test_a_page_knows_its_other_languages(monkeypatch):
    for chosen, others in (
        ("en", [("de", "Deutsch", "de/index.html")]),
        ("de", [("en", "English", "../index.html")]),
    ):
        monkeypatch.setenv(language.LANGUAGE, chosen)
        assert [one for one in book_language.others("index") if one[0] in ("en", "de")] == others
    monkeypatch.setenv(language.LANGUAGE, "en")
    assert book_language.others("ARCHITECTURE") == []
    assert set(LANGUAGES) | {"en"} == book_language.NAMES.keys()
    assert {path.stem for path in language.FOLDER.glob("*.po")} == set(LANGUAGES)


def test_an_english_sentence_that_is_translated_is_found_in_a_translated_page(german, tmp_path):
    for name in book_language.pages("de"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.html").write_text("<p>Die Geschichte</p>", encoding="utf-8")
    assert list(book_language.left(tmp_path)) == []
    (tmp_path / "index.html").write_text("<p>The <em>course</em></p>", encoding="utf-8")
    assert list(book_language.left(tmp_path)) == [
        "de/index.html says 'The course', which is translated"
    ]


def test_catalogues_have_the_links_that_the_pages_have(tmp_path):
    book_material.make_catalogues(book_language.LOCALE, tmp_path)
    page = language.read(tmp_path / "de" / "LC_MESSAGES" / "notebooks" / "00_start_here.po")
    links = [text for text in page if "trains a federation inside a browser" in text]
    assert all(f"]({book_material.GITHUB}/blob/main/site/explorer.html)" in one for one in links)
    assert len(links) == 1


def test_a_page_shows_the_code_and_outputs_of_its_translated_notebook(german):
    path = Path("notebooks/00_start_here.ipynb")
    english = json.loads((ROOT / path).read_text(encoding="utf-8"))
    text = json.dumps(book_language.with_outputs(english, path), ensure_ascii=False)
    assert "Der Kurs läuft auf diesem Rechner: True" in text
    assert "## How a notebook works" in text  # Sphinx translates it
    assert book_language.notebook_of(Path("notebooks/01_problem_and_data.ipynb")) is None
