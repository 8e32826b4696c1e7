"""What is to be translated: brings a language's catalogues up to date, for a translator to fill.

    python tools/catalogue.py de

The texts of panels, checks and hints go to fedtutor/course/locale/de.po; those of the book's pages,
once ``make site-pot`` has written them, to site/locale/de/LC_MESSAGES/. Of the pages only those
that have a catalogue there: begin a new one with an empty file. What was changed in English since
is marked as fuzzy, and counts as missing until somebody has looked at it.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from babel.messages import Catalog
from babel.messages.pofile import read_po, write_po

from fedtutor.course import language
from fedtutor.course.exercises import _parts

ROOT = Path(__file__).resolve().parents[1]
COURSE = ROOT / "fedtutor" / "course"
LOCALE = ROOT / "site" / "locale"
POT = ROOT / "site" / "_build" / "gettext"

# Whose checks and panels are translated whole. A lesson enters with its texts' values named.
LESSONS = ("start_here", "fedavg_by_hand")
PANELS = ("00_start_here",)

# Of a catalogue's head, what nobody fills in, or would change with each update.
UNSAID = r'^"(?!Language:|Plural-Forms|MIME|Content)[\w-]+: .*"\n'


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text of the course that a translation needs, with the file that has it."""
    for path in (COURSE / "exercises.py", *(COURSE / "lessons" / f"{name}.py" for name in LESSONS)):
        for text in of_module(path.read_text(encoding="utf-8")):
            yield text, path.relative_to(ROOT).as_posix()
    for name in PANELS:
        for text in of_panels(ROOT / "site" / "panels" / f"{name}.zip"):
            yield text, f"notebooks/{name}.ipynb"


def of_module(code: str) -> Iterator[str]:
    """Yield what a module says by ``say``, ``Wrong``, ``exercise``, and what it keeps in ``text``.

    Raises
    ------
    ValueError
        For an f-string, whose values have no names: nobody could look it up.
    """
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(func=ast.Name(id="say" | "Wrong" | "exercise" as kind), args=[said, *_]):
                pass
            case ast.Assign(targets=[ast.Name(id="text" as kind)], value=said):
                pass
            case _:
                continue
        if isinstance(said, ast.JoinedStr):
            raise ValueError(f"line {said.lineno}: name the values, as in say('{{n}} images', n=7)")
        if isinstance(said, ast.Constant):
            whole = str(said.value)
            parts = [whole] if kind == "say" else _parts(whole)
            if kind == "exercise":
                parts[0] = parts[0].partition(", ")[2]
            yield from (part for part in parts if not re.fullmatch(r"\{\w+\}", part))


def of_panels(path: Path) -> Iterator[str]:
    """Yield the labels, sentences and alt texts of recorded panels, with {0} for their numbers."""
    with zipfile.ZipFile(path) as archive:
        panels = json.loads(archive.read("panels.json"))["panels"]
    for panel in panels:
        yield from (control["label"] for control in panel["controls"])
        for state in panel["states"]:
            for text in (state["say"], state.get("alt")):
                places = count()
                if text:
                    yield language.NUMBER.sub(lambda _, at=places: f"{{{next(at)}}}", text)


def template() -> Catalog:
    """Return the course's texts as a catalogue without translations."""
    catalog = Catalog(project="fedtutor", fuzzy=False)
    for text, file in texts():
        catalog.add(text, locations=[(file, None)])
    return catalog


def update(path: Path, new: Catalog, chosen: str) -> str:
    """Bring the catalogue at ``path`` up to date; return in a sentence what is left to do."""
    with path.open("rb") if path.exists() else io.BytesIO() as file:
        catalog = read_po(file, locale=chosen)
    catalog.header_comment, catalog.fuzzy = f"# fedtutor, {chosen}", False
    catalog.update(new)
    catalog.obsolete.clear()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_po(written := io.BytesIO(), catalog, width=100, include_lineno=False)
    head, _, rest = written.getvalue().decode("utf-8").partition("\n\n")
    head = re.sub(UNSAID, "", head, flags=re.M)
    path.write_text(f"{head}\n\n{rest.strip()}\n", encoding="utf-8", newline="\n")
    missing = sum(not message.string or message.fuzzy for message in catalog if message.id)
    return f"{path.relative_to(ROOT)}: {len(catalog)} texts, {missing} to be translated"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    (chosen,) = arguments
    print(update(language.FOLDER / f"{chosen}.po", template(), chosen))
    folder = LOCALE / chosen / "LC_MESSAGES"
    for path in sorted(folder.rglob("*.po")):
        pot = POT / path.relative_to(folder).with_suffix(".pot")
        if pot.exists():
            with pot.open("rb") as file:
                print(update(path, read_po(file), chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
