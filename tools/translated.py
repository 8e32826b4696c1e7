"""A notebook in another language, made of the English one and the catalogues.

``notebooks/de/00_start_here.ipynb`` has the text that the book's German page has, the same code, of
which comments and what is printed are in German, and German outputs: its first cell with code has
the package speak German. ``make refresh`` makes it anew and runs it.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

from lint import NOTEBOOKS
from markdown_it import MarkdownIt

from fedtutor.support import language

PAGES = NOTEBOOKS.parent / "site" / "locale"
SPEAK = f'import os\n\nos.environ["{language.LANGUAGE}"] = "{{}}"\n'
LINK = re.compile(r"\]\((?![a-z]+:|#)")


def english(path: Path) -> Path:
    """Return the notebook that one is a translation of."""
    return NOTEBOOKS / path.name


def translate(notebook, path: Path):
    """Return an English notebook as the one at ``path``, its outputs still to be made.

    Raises
    ------
    KeyError
        For a text without a translation.
    """
    chosen = path.parent.name
    page = PAGES / chosen / "LC_MESSAGES" / "notebooks" / f"{path.stem}.po"
    known = language.read(page)
    first = True
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = markdown(cell.source, known)
            continue
        cell.source = SPEAK.format(chosen) * first + code(cell.source, known)
        first = False
    return notebook


def markdown(text: str, known: Mapping[str, str]) -> str:
    """Return a text with each of its sentences translated, and its links from a folder below."""
    done, at = "", 0
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "inline" and token.content:
            start = text.index(token.content, at)
            done += text[at:start] + known[" ".join(token.content.split())]
            at = start + len(token.content)
    return LINK.sub("](../", done + text[at:])


def code(source: str, known: Mapping[str, str]) -> str:
    """Return code with its comments and what it prints translated, and nothing else changed."""
    for start, end, said in reversed(list(texts(source))):
        source = source[:start] + known[said] + source[end:]
    return source


def texts(source: str) -> Iterator[tuple[int, int, str]]:
    """Yield what a learner reads in code, and where: comments, sentences, whatever is printed.

    A sentence is a string with a blank in it; all else may be a key, and is only a text in a call
    of ``print`` or ``slider``.
    """
    lines = source.splitlines(keepends=True)
    starts = [sum(map(len, lines[:k])) for k in range(len(lines) + 1)]

    def place(line: int, column: int) -> int:  # ast counts bytes
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    found = []
    for node, said in _strings(ast.parse(source)):
        start, end = (
            place(node.lineno, node.col_offset),
            place(node.end_lineno, node.end_col_offset),
        )
        quoted = re.fullmatch(r'(f?("""|"))(.*)\2', source[start:end], re.S)
        if said or " " in quoted[3].strip():
            found.append((start + len(quoted[1]), end - len(quoted[2]), quoted[3]))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            start = starts[token.start[0] - 1] + token.start[1] + 2
            found.append((start, start + len(token.string) - 2, token.string[2:]))
    yield from sorted(one for one in found if re.search(r"[^\W\d_]", one[2]))


def _strings(node: ast.AST, said: bool = False) -> Iterator[tuple[ast.expr, bool]]:
    """Yield each string of code, f-strings whole, and whether it is given to print or slider."""
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        yield node, said
        return
    for child in ast.iter_child_nodes(node):
        is_said = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "slider")
        yield from _strings(child, is_said)
