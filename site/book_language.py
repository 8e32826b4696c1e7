"""The book in other languages: gettext's catalogues of its pages, and what is not translated.

``locale/de/LC_MESSAGES/`` holds a catalogue for each German page, and in ``sphinx.po`` the words of
the frame. The German book has these pages; all others are there while it is made, as headings for
links to lead to, and every link to them then leads to the English page.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from fedtutor.support import language as course  # noqa: E402

LOCALE = HERE / "locale"
WORDS = (
    *("Search...", "Main", "Page", "Link to this heading"),
    *("Toggle primary sidebar", "Toggle secondary sidebar", "Toggle hidden content"),
)
"""Labels that the theme does not have in other languages, or does not look up."""
NAMES = {"en": "English", "de": "Deutsch"}


def known() -> list[str]:
    """Return the languages that the book has besides English."""
    return sorted(path.name for path in LOCALE.iterdir())


def chosen() -> str:
    """Return the language of the book that is made now."""
    return os.environ.get(course.LANGUAGE) or "en"


def choose(language: str) -> None:
    """Have everything from here on, Sphinx included, speak a language."""
    os.environ[course.LANGUAGE] = language


@cache
def _frame(language: str) -> dict[str, str]:
    path = LOCALE / language / "LC_MESSAGES" / "sphinx.po"
    return course.read(path) if path.exists() else {}


def say(text: str, **values: object) -> str:
    """Return words of the book's frame in its language."""
    return course.translated(_frame(chosen()), text, **values)


def pages(language: str) -> set[str]:
    """Return the names of the pages that are translated, as "notebooks/00_start_here"."""
    folder = LOCALE / language / "LC_MESSAGES"
    names = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.po")}
    return names - {"sphinx"}


def whole(known: set[Path]) -> set[Path]:
    """Return those of the book's files that become whole pages in its language."""
    if chosen() == "en":
        return known
    names = pages(chosen())
    return {path for path in known if path.with_suffix("").as_posix() in names}


def others(page: str) -> list[tuple[str, str, str]]:
    """Return (language, its name, link from the book's folder) of a page's other languages."""
    here = chosen()
    if here != "en":
        return [("en", NAMES["en"], f"../{page}.html")]
    return [(one, NAMES[one], f"{one}/{page}.html") for one in known() if page in pages(one)]


def headings(path: Path, text: str) -> str:
    """Return a page's source with nothing but its headings, for links to lead to."""
    if path.suffix == ".ipynb":
        notebook = json.loads(text)
        kept = []
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown" and (lines := _headings("".join(cell["source"]))):
                kept.append(cell | {"source": lines})
        return json.dumps(notebook | {"cells": kept})
    return _headings(text)


def _headings(text: str) -> str:
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return "\n\n".join(re.findall(r"^#{1,6} .+$", text, flags=re.M))


def notebook_of(path: Path) -> Path | None:
    """Return the translated notebook whose code and outputs a page shows, None if there is none."""
    file = ROOT / path.parent / chosen() / path.name
    return file if file.is_file() else None


def with_outputs(notebook: dict, path: Path) -> dict:
    """Return a notebook with the code and outputs that it has in the book's language."""
    if file := notebook_of(path):
        cells = {one["id"]: one for one in json.loads(file.read_text(encoding="utf-8"))["cells"]}
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= cells[cell["id"]]
    return notebook


def left(folder: Path) -> Iterator[str]:
    """Yield a sentence for each one that a translated page has in English all the same."""
    for name in sorted(pages(chosen())):
        text = (folder / f"{name}.html").read_text(encoding="utf-8")
        shown = " ".join(html.unescape(re.sub("<[^>]*>", "", text)).split())
        for english, ours in sentences(name).items():
            if ours != english and " " in english and english in shown:
                yield f"{chosen()}/{name}.html says {english!r}, which is translated"


def sentences(page: str) -> dict[str, str]:
    """Return what a page says in the book's language, by the English, both without marks."""
    known = course.read(LOCALE / chosen() / "LC_MESSAGES" / f"{page}.po")
    plain = partial(re.sub, r"\[([^]]*)\]\([^)]*\)|[*`]", r"\1")
    return {plain(english): plain(ours) for english, ours in known.items()}


def finish(folder: Path, english: Path) -> None:
    """Take out pages that are not translated, have links to them lead to English, mark English.

    Beside a page is its notebook to download, if that is translated, too.
    """
    mine = pages(chosen())
    for page in sorted(folder.rglob("*.html")):
        name = page.relative_to(folder).with_suffix("").as_posix()
        if name in mine | {"search"}:
            text = page.read_text(encoding="utf-8")
            original = notebook_of(Path(name).with_suffix(".ipynb"))
            text = _marked(_mended(text, page, folder, english), english_outputs=not original)
            page.write_text(text, encoding="utf-8")
            if original:
                copy = folder / "_sources" / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(original, copy.with_suffix(".ipynb"))
        else:
            page.unlink()


def _mended(text: str, page: Path, folder: Path, english: Path) -> str:
    stay = {folder / f"{name}.html" for name in pages(chosen()) | {"search"}}

    def mended(match: re.Match) -> str:
        there = (page.parent / match[2]).resolve()
        if not there.is_relative_to(folder) or there in stay:
            return match[0]
        up = os.path.relpath(english / there.relative_to(folder), page.parent)
        return f'{match[1]}{Path(up).as_posix()}{match[3] or ""}" hreflang="en"'

    return re.sub(r'(<(?:a|link)\b[^>]*?\bhref=")([^":#]+\.html)(#[^"]*)?"', mended, text)


def _marked(text: str, *, english_outputs: bool) -> str:
    """Return HTML that says of code, and perhaps of what it has put out, that it is English."""
    for word in WORDS:
        text = text.replace(f'"{word}"', f'"{say(word)}"')
    for title, ours in sentences("index").items():  # those of English pages, in links to them
        text = text.replace(f">{html.escape(title)}<", f">{html.escape(ours)}<")
        text = text.replace(f'title="{html.escape(title)}"', f'title="{html.escape(ours)}"')
    kinds = "input|output" if english_outputs else "input"
    return re.sub(rf'<div class="(?=cell_(?:{kinds}) )', '<div lang="en" class="', text)
