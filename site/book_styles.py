"""Lighter style sheets: rules for classes that no page and no script has are left out.

The theme brings all of Bootstrap, 380 kB; the book uses a part of it.
"""

from __future__ import annotations

import re
from pathlib import Path

CLASS = re.compile(r"\.(-?[_a-zA-Z](?:[\w-]|\\.)*)")
WORD = re.compile(r"[\w-]+")


def lighten(folder: Path) -> None:
    """Rewrite the theme's style sheets, for the pages and scripts that are in the folder."""
    words: set[str] = set()
    for pattern in ("*.html", "*.js"):
        for path in folder.rglob(pattern):
            words |= set(WORD.findall(path.read_text(encoding="utf-8")))
    for path in (folder / "_static").rglob("*.css"):
        path.write_text(purged(path.read_text(encoding="utf-8"), words), encoding="utf-8")


def purged(css: str, words: set[str]) -> str:
    """Return the style sheet without comments and without rules for classes not among the words."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    kept, at = [], 0
    while (brace := css.find("{", at)) >= 0:
        head = css[at:brace]
        lead, semicolon, selector = head.rpartition(";")  # @charset "UTF-8";
        end = _end(css, brace)
        body, at = css[brace + 1 : end], end + 1
        selector = selector.strip()
        if selector.startswith(("@media", "@supports", "@layer")):
            body = purged(body, words)
        elif selector.startswith("@font-face"):
            body = ""
        elif not selector.startswith("@"):
            selector = ",".join(one for one in _split(selector) if used(one, words))
        if selector and body.strip():
            kept.append(f"{lead}{semicolon}{selector}{{{body}}}")
    return "".join(kept)


def used(selector: str, words: set[str]) -> bool:
    """Whether all classes of a selector occur, apart from those in ``:not(...)``."""
    bare = re.sub(r":not\([^()]*\)", "", selector)
    return all(set(WORD.findall(name)) <= words for name in CLASS.findall(bare))


def _split(selector: str) -> list[str]:
    """Split a list of selectors at its commas, but not in brackets."""
    parts, depth = [""], 0
    for sign in selector:
        depth += (sign in "([") - (sign in ")]")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _end(css: str, brace: int) -> int:
    """Return where the block that begins at a brace ends; braces in strings do not count."""
    depth = 0
    for match in re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[{}]").finditer(css, brace):
        depth += (match[0] == "{") - (match[0] == "}")
        if not depth:
            return match.start()
    return len(css)
