"""What is to be translated: brings a language's catalogues up to date, for a translator to fill.

    python tools/catalogue.py de

The texts of figures, checks and hints go to fedtutor/course/locale/de.po, the words of the
book's frame to site/locale/de/LC_MESSAGES/sphinx.po, and what its pages say, once ``make site-pot``
has written them, to the catalogues beside it: begin a new page's with an empty file. A notebook's
has the comments in its code and what the code prints, too. What was changed in English since is
marked as fuzzy, and counts as missing until somebody has looked at it.
"""

from __future__ import annotations

import ast
import io
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "site"))

import book_language
import nbformat
import translated
from babel.messages import Catalog
from babel.messages.pofile import read_po, write_po

from fedtutor.course.exercises import _parts
from fedtutor.datasets.phantoms.chest import CHEST_CLASSES
from fedtutor.evaluation import TOO_FEW
from fedtutor.figures.diagram import STEPS
from fedtutor.support import language

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fedtutor"
SITE = ROOT / "site"
POT = SITE / "_build" / "gettext"

# Whose checks are translated whole. A lesson enters with its texts' values named.
CHECKS = ("lessons/start_here", "lessons/fedavg_by_hand")
# What figures look up, besides what stands in a call of say().
NAMES = (
    *(*STEPS, *CHEST_CLASSES, TOO_FEW, "Harbour General", "Castle Hill University Hospital"),
    *("St Synth Children's Hospital", "Phantom Valley Pandemic Centre"),
    "Northmoor Screening Clinic",
)

# Of a catalogue's head, what nobody fills in, or would change with each update.
UNSAID = r'^"(?!Language:|Plural-Forms|MIME|Content)[\w-]+: .*"(?:\n|\Z)'


def course() -> Iterator[tuple[str, str]]:
    """Yield each text of the package that a translation needs, with the file that has it."""
    checks = {PACKAGE / "course" / f"{name}.py" for name in ("exercises", *CHECKS)}
    for path in sorted(PACKAGE.rglob("*.py")):
        kinds = ("Wrong", "exercise", "text") if path in checks else ()
        for text in of_module(path.read_text(encoding="utf-8"), "say", *kinds):
            yield text, path.relative_to(ROOT).as_posix()
    for text in NAMES:
        yield text, "tools/catalogue.py"


def frame() -> Iterator[tuple[str, str]]:
    """Yield the words of the book's frame, with the file that has them."""
    for path in sorted(SITE.glob("*.py")):
        for text in of_module(path.read_text(encoding="utf-8"), "say"):
            yield text, path.relative_to(ROOT).as_posix()
    for text in book_language.WORDS:
        yield text, "site/book_language.py"
    for path in sorted((SITE / "templates").glob("*.html")):
        for text in re.findall(r'\b_\("([^"]+)"\)', path.read_text(encoding="utf-8")):
            yield text, path.relative_to(ROOT).as_posix()


def of_module(code: str, *kinds: str) -> Iterator[str]:
    """Yield the texts that a module gives to functions of these names, or to such a variable.

    Raises
    ------
    ValueError
        For an f-string, whose values have no names: nobody could look it up.
    """
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(func=ast.Name(id=kind), args=[said, *_]):
                pass
            case ast.Assign(targets=[ast.Name(id=kind)], value=said):
                pass
            case _:
                continue
        if kind not in kinds:
            continue
        if isinstance(said, ast.JoinedStr):
            raise ValueError(f"line {said.lineno}: name the values, as in say('{{n}} images', n=7)")
        if isinstance(said, ast.Constant):
            whole = str(said.value)
            parts = [whole] if kind == "say" else _parts(whole)
            if kind == "exercise":
                parts[0] = parts[0].partition(", ")[2]
            yield from (part for part in parts if not re.fullmatch(r"\{\w+\}", part))


def of_code(notebook: Path) -> Iterator[str]:
    """Yield the comments of a notebook's code, and what it prints."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            yield from (text for _, _, text in translated.texts(cell.source))


def template(texts: Iterable[tuple[str, str]]) -> Catalog:
    """Return texts as a catalogue without translations."""
    catalog = Catalog(fuzzy=False)
    for text, file in texts:
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
    path.write_text(f"{head.strip()}\n\n{rest.strip()}\n", encoding="utf-8", newline="\n")
    missing = sum(not message.string or message.fuzzy for message in catalog if message.id)
    return f"{path.relative_to(ROOT)}: {len(catalog)} texts, {missing} to be translated"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    (chosen,) = arguments
    folder = SITE / "locale" / chosen / "LC_MESSAGES"
    print(update(language.FOLDER / f"{chosen}.po", template(course()), chosen))
    print(update(folder / "sphinx.po", template(frame()), chosen))
    for path in sorted(folder.rglob("*.po")):
        pot = POT / path.relative_to(folder).with_suffix(".pot")
        if pot.exists() and path.name != "sphinx.po":
            with pot.open("rb") as file:
                page = read_po(file)
            notebook = ROOT / path.relative_to(folder).with_suffix(".ipynb")
            for text in of_code(notebook) if notebook.exists() else ():
                page.add(text, locations=[("code", None)])
            print(update(path, page, chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
