"""``make site``: the whole course as a static site, from its stored outputs, without a network.

    python site/build.py            the pages, into site/_build/html
    python site/build.py --links    the external links of all pages, one a line
    python site/build.py --pot      what translators need, into site/_build/gettext

A broken internal link, or anything that a page would load from elsewhere, ends the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import book_check
import book_language
import book_material
import book_styles

HERE = Path(__file__).resolve().parent
BUILD = HERE / "_build"
SOURCE, EXTRA, HTML, POT = (BUILD / name for name in ("source", "extra", "html", "gettext"))
EXPLORER = HERE / "explorer.html"  # built by tools/explorer.py
EXPLORER_LINK = (
    '**Try it first:** <a href="explorer.html">the explorer</a> trains a federation in this very '
    "browser.\n"
)


def sources(pictures: Path) -> None:
    """Write the sources of all pages, and the files that go beside them."""
    minutes = book_material.make(SOURCE, pictures)
    (SOURCE / "minutes.json").write_text(json.dumps(minutes), encoding="utf-8")
    index = SOURCE / "index.md"
    link = EXPLORER_LINK if EXPLORER.exists() else ""
    text = index.read_text(encoding="utf-8").replace("<!-- explorer -->\n", link)
    index.write_text(text, encoding="utf-8")
    if EXPLORER.exists():
        shutil.copy(EXPLORER, EXTRA / "explorer.html")


def sphinx(builder: str, target: Path) -> None:
    """Run Sphinx; every warning, so every broken link, is an error."""
    shutil.rmtree(target, ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-E", "-j", "auto"]
    trees = BUILD / "doctrees" / builder / book_language.chosen()
    folders = ["-c", HERE, "-d", trees, SOURCE, target]
    command = [sys.executable, "-m", "sphinx", "-b", builder, *options, *map(str, folders)]
    subprocess.run(command, check=True)


def english() -> None:
    """Make the English book, with each page's original notebook to download."""
    shutil.rmtree(EXTRA, ignore_errors=True)
    sources(EXTRA / "pictures")
    sphinx("html", HTML)
    for original in book_material.pages():
        copy = HTML / "_sources" / original
        if original.suffix == ".ipynb":
            shutil.copy(book_material.ROOT / original, copy)
    finish(HTML)


def translated(language: str) -> None:
    """Make the pages that there are in another language, in a folder of the English book."""
    book_language.choose(language)
    sources(HTML / "pictures")
    sphinx("html", HTML / language)
    book_language.finish(HTML / language, HTML)
    finish(HTML / language)


def finish(folder: Path) -> None:
    """Leave out what no page uses, and make the style sheets light."""
    for unused in (
        *folder.rglob("*.map"),
        *folder.rglob("fontawesome.js"),
        folder / "objects.inv",
        *(folder / "_static").glob("*.html"),
    ):
        unused.unlink(missing_ok=True)
    shutil.rmtree(folder / "_static" / "vendor", ignore_errors=True)
    book_styles.lighten(folder)
    # What the theme tells itself on the console is for its makers.
    for script in (*(folder / "_static").rglob("*.js"), folder / "search.html"):
        text = script.read_text(encoding="utf-8")
        script.write_text(re.sub(r"console\.(log|debug)\(", "void (", text), encoding="utf-8")


def main(arguments: list[str]) -> int:
    begin = time.monotonic()
    book_language.choose("en")
    if "--pot" in arguments:
        sources(EXTRA / "pictures")
        sphinx("gettext", POT)
        print(f"{len(list(POT.rglob('*.pot')))} catalogues: {POT}")
        return 0
    english()
    found = []
    for language in book_language.known():
        translated(language)
        found += book_language.left(HTML / language)
    if "--links" in arguments:
        print(*book_check.external_links(HTML), sep="\n")
        return 0
    found += book_check.problems(HTML)
    for sentence in found:
        print(sentence, file=sys.stderr)
    print(book_check.report(HTML))
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    print(
        f"{time.monotonic() - begin:.0f} s, {cpu:.0f} s of processor time; open {HTML}/index.html"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
