"""What a built page must be: links that lead somewhere, nothing loaded from elsewhere, light."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MOST_FIRST_VIEW = 500_000
"""Bytes of a page with its scripts, style sheets and the pictures that are not loaded late."""
REMOTE = re.compile(r"^(?:[a-z][a-z+.-]*:)?//", re.I)
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?\s*([^"')\s;]+)""", re.I)


class Page(HTMLParser):
    """What a page links to, what it loads by itself and at once, and the places in it.

    Attributes
    ----------
    links : the targets of ``<a href>``.
    loads : what the browser fetches by itself; ``at_once`` of it without waiting to be scrolled to.
    ids : the anchors.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.at_once: list[str] = []
        self.ids: set[str] = set()
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what an element refers to."""
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self._in_style = tag == "style"
        found = [given[name] for name in ("src", "poster", "data", "srcset") if name in given]
        found += IN_STYLES.findall(given.get("style", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and set(given.get("rel", "").split()) - NOT_LOADED:
            found.append(given.get("href", ""))
        self.loads += found
        if given.get("loading") != "lazy":
            self.at_once += found

    def handle_data(self, data: str) -> None:
        """Note what a style sheet within the page loads."""
        if self._in_style:
            self.loads += IN_STYLES.findall(data)


NOT_LOADED = {"next", "prev", "search", "index", "author", "license", "canonical", "alternate"}


def problems(folder: Path) -> Iterator[str]:
    """Yield a sentence for everything wrong with the built pages."""
    pages = read(folder)
    for path, page in pages.items():
        name = path.relative_to(folder)
        for target in page.loads:
            if is_remote(target):
                yield f"{name} loads {target}, which is elsewhere"
        for target in {*page.links, *page.loads}:
            if not is_remote(target) and (sentence := broken(target, path, pages)):
                yield f"{name} {sentence}"
        if (size := first_view(page, path)) > MOST_FIRST_VIEW:
            yield f"{name}: the first view has {size:,} bytes; at most {MOST_FIRST_VIEW:,}"
    for path in folder.rglob("*.css"):
        for target in IN_STYLES.findall(path.read_text(encoding="utf-8")):
            if is_remote(target):
                yield f"{path.relative_to(folder)} loads {target}, which is elsewhere"


def read(folder: Path) -> dict[Path, Page]:
    """Return all pages by their path."""
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}


def is_remote(target: str) -> bool:
    """Whether a browser would have to ask another machine for it."""
    return bool(REMOTE.match(target)) and not target.startswith("data:")


def broken(target: str, path: Path, pages: dict[Path, Page]) -> str:
    """Return what is wrong with a link of the page at ``path`` to something local, or ""."""
    parts = urlsplit(target)
    if parts.scheme or not target:
        return ""
    there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not there.exists():
        return f"links to {target}, which is not there"
    anchor = unquote(parts.fragment)
    if anchor and there in pages and anchor not in pages[there].ids:
        return f"links to {target}; that page has no such place"
    return ""


def first_view(page: Page, path: Path, packed: bool = False) -> int:
    """Return the bytes of a page and of what it loads at once; ``packed`` as servers send them."""
    files = {path} | {
        (path.parent / unquote(urlsplit(target).path)).resolve()
        for target in page.at_once
        if not is_remote(target) and not target.startswith("data:")
    }
    texts = {".html", ".css", ".js", ".svg"}
    return sum(
        len(gzip.compress(file.read_bytes(), 6)) if packed and file.suffix in texts else size
        for file in files
        if file.is_file() and (size := file.stat().st_size)
    )


def external_links(folder: Path) -> list[str]:
    """Return the links of all pages that lead elsewhere, each once."""
    return sorted(
        {link for page in read(folder).values() for link in page.links if is_remote(link)}
    )


def report(folder: Path) -> str:
    """Return in two lines how much there is, and how much a reader loads before the first look."""
    pages = read(folder)
    views = {path: first_view(page, path) for path, page in pages.items()}
    heaviest = max(views, key=lambda path: views[path])
    packed = first_view(pages[heaviest], heaviest, packed=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    whole = sum(path.stat().st_size for path in files)
    return (
        f"{len(pages)} pages, {len(files)} files, {whole / 1e6:.1f} MB\n"
        f"first view: {min(views.values()) / 1e3:.0f} to {views[heaviest] / 1e3:.0f} kB "
        f"({heaviest.relative_to(folder)}; {packed / 1e3:.0f} kB as a server packs it)"
    )
