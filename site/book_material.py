"""The sources of the book, made from the repository: notebooks, cards and guides.

They keep their folders, so that links between them hold; links to any other file of the repository
lead to GitHub. Pictures leave the notebooks and become files of their own (WebP, loaded when they
come into sight); tables get headers that a screen reader can name.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import book_language
import book_panels
from book_language import say

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GITHUB = PROJECT["urls"]["Homepage"]

LINK = re.compile(r"(\]\()([^)\s]+)(\))")
IMAGE = re.compile(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)"\s*/?>')
MAP = re.compile(r"<!-- map -->\n(.*?)<!-- /map -->", re.S)
ROW = re.compile(r"^\| \[\w+\]\(([^)]+)\) \| (.*?) \| (\d+) \|", re.M)
MINUTES = re.compile(r"\*\*Time\*\*\D*(\d+) minutes")


def pages() -> list[Path]:
    """Return the files that become pages, below the repository's root."""
    found = [Path("ARCHITECTURE.md"), Path("CONTRIBUTING.md")]
    for pattern in (
        *("notebooks/*.ipynb", "notebooks/solutions/*.ipynb", "notebooks/appendix/*.ipynb"),
        *("notebooks/appendix/solutions/*.ipynb", "notebooks/*.md", "notebooks/appendix/*.md"),
        *("datasets/README.md", "datasets/*/README.md"),
    ):
        found += sorted(path.relative_to(ROOT) for path in ROOT.glob(pattern))
    return found


def make(source: Path, pictures: Path) -> dict[str, int]:
    """Write the sources of all pages and their pictures; return the minutes of each notebook."""
    shutil.rmtree(source, ignore_errors=True)
    pictures.mkdir(parents=True, exist_ok=True)
    minutes = {}
    known = set(pages())
    whole = book_language.whole(known)
    for path in known:
        text = (ROOT / path).read_text(encoding="utf-8")
        if path not in whole:
            text = book_language.headings(path, text)
        elif path.suffix == ".ipynb":
            notebook = book_language.with_outputs(json.loads(text), path)
            if found := MINUTES.search("".join(notebook["cells"][0]["source"])):
                minutes[path.with_suffix("").as_posix()] = int(found[1])
            text = json.dumps(for_book(notebook, path, known, pictures), ensure_ascii=False)
        else:
            text = mended_links(text, path, known)
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text, encoding="utf-8")
    index = (HERE / "index.md").read_text(encoding="utf-8")
    table = table_of_notebooks((ROOT / "README.md").read_text(encoding="utf-8"))
    english = [path.with_suffix("").as_posix() for path in sorted(known - whole)]
    (source / "english.json").write_text(json.dumps(english), encoding="utf-8")
    (source / "index.md").write_text(index.replace("<!-- map -->\n", table), encoding="utf-8")
    headline = ROOT / "docs" / f"headline.{book_language.chosen()}.png"
    headline = headline if headline.exists() else ROOT / "docs" / "headline.png"
    save_picture(headline.read_bytes(), source / "headline.webp")
    return minutes


def make_catalogues(source: Path, target: Path) -> None:
    """Write the catalogues with links as the pages have them, else Sphinx would not find them."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    known = set(pages())
    for file in target.rglob("*.po"):
        page = Path(*file.relative_to(target).parts[2:]).with_suffix(".ipynb")
        text = file.read_text(encoding="utf-8")
        file.write_text(mended_links(text, page, known), encoding="utf-8")


def table_of_notebooks(readme: str) -> str:
    """Return the README's map of the notebooks, without file names: it fits on a phone."""
    rows = ROW.findall(MAP.search(readme)[1])
    lines = [f"| [{title}]({file}) | {took} |" for file, title, took in rows]
    return "\n".join(["| notebook | minutes |", "|---|---:|", *lines, ""])


def for_book(notebook: dict, path: Path, known: set[Path], pictures: Path) -> dict:
    """Return the notebook as the book shows it."""
    up = "../" * (len(path.parts) - 1 + (book_language.chosen() != "en"))
    answers = path.parent.name == "solutions"
    recorded = HERE / "panels" / f"{path.stem}.zip"
    if book_language.notebook_of(path):
        recorded = recorded.with_name(book_language.chosen()) / recorded.name
    moving = {} if answers else book_panels.read(recorded, notebook, pictures)
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cell["source"] = mended_links(source, path, known)
            continue
        cell["metadata"]["tags"] = tags(cell["metadata"].get("jupyter", {}), answers)
        if answers:
            show, hide = say("Show the answer"), say("Hide the answer")
            cell["metadata"]["mystnb"] = {"code_prompt_show": show, "code_prompt_hide": hide}
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/html" not in data:
                continue
            text = "".join(data["text/html"])
            if cell["id"] in moving:
                panel = moving[cell["id"]]
                for state in panel["states"]:
                    state |= {"table": with_headers(state["table"])} if "table" in state else {}
                data["text/html"] = book_panels.to_html(panel, pictures, up)
                continue
            if "Panel(" in source:
                text = with_files(without_status(text), pictures, up) + book_panels.stands()
            else:
                text = with_files(text, pictures, up)
            data["text/html"] = with_headers(text)
    return notebook


def tags(jupyter: dict, answers: bool) -> list[str]:
    """Return the tags that fold a cell as JupyterLab does; answers are folded whole."""
    if answers or (jupyter.get("source_hidden") and jupyter.get("outputs_hidden")):
        return ["hide-cell"]
    return ["hide-input"] if jupyter.get("source_hidden") else []


def mended_links(text: str, path: Path, known: set[Path]) -> str:
    """Return Markdown whose links to files that are no page lead to the repository on GitHub.

    A link to a file that is nowhere stays as it is, and the build ends with it.
    """

    def mended(match: re.Match) -> str:
        target, mark, anchor = match[2].partition("#")
        if re.match(r"[a-z]+:", target):
            return match[0]
        if not target:
            return match[1] + mark + github_anchor(anchor) + match[3]
        full = (ROOT / path.parent / target).resolve()
        if not full.is_relative_to(ROOT) or not full.exists():
            return match[0]
        there = full.relative_to(ROOT)
        if there in known:
            return match[1] + target + mark + github_anchor(anchor) + match[3]
        if there == Path("README.md"):
            up = "../" * (len(path.parts) - 1)
            return f"{match[1]}{up}index.md{match[3]}"
        kind = "tree" if full.is_dir() else "blob"
        return f"{match[1]}{GITHUB}/{kind}/main/{there.as_posix()}{mark}{anchor}{match[3]}"

    return LINK.sub(mended, text)


def github_anchor(anchor: str) -> str:
    """Return the anchor as GitHub and Sphinx have it; JupyterLab's own keeps capitals."""
    return re.sub(r"[^\w\- ]", "", anchor.lower())


def with_files(text: str, pictures: Path, up: str) -> str:
    """Return HTML whose pictures are files and are loaded when they come into sight."""

    def filed(match: re.Match) -> str:
        png = base64.b64decode(match[1])
        name = f"{hashlib.sha256(png).hexdigest()[:12]}.webp"
        width, height = save_picture(png, pictures / name)
        return image_tag(f"{up}pictures/{name}", match[2], width, height)

    return IMAGE.sub(filed, text)


def image_tag(source: str, alt: str, width: int, height: int) -> str:
    """Return an image that is loaded late and has its place kept; ``alt`` is HTML already."""
    return (
        f'<img src="{source}" alt="{alt}" width="{width}" height="{height}" '
        'loading="lazy" decoding="async">'
    )


def save_picture(png: bytes, file: Path) -> tuple[int, int]:
    """Write a picture as WebP, with loss or without, whichever is smaller; return its size."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    if not file.exists():
        made = []
        for way in ({"lossless": True, "quality": 60}, {"quality": 82}):
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", method=2, **way)
            made.append(buffer.getvalue())
        file.write_bytes(min(made, key=len))
    return image.size


def without_status(text: str) -> str:
    """Return HTML in which a sentence that does not change is not announced as if it would."""
    return re.sub(r'<p role="status"[^>]*>', "<p>", text)


def with_headers(text: str) -> str:
    """Return HTML whose tables say what their headers are for, and can be scrolled by key."""
    text = re.sub(r"<style scoped>.*?</style>\s*", "", text, flags=re.S)
    text = re.sub(r'<tr style="text-align: right;">', "<tr>", text)
    text = text.replace('<table border="1" class="dataframe">', '<table class="dataframe">')
    parts = re.split(r"(<thead>.*?</thead>)", text, flags=re.S)
    for k, part in enumerate(parts):
        scope = "col" if part.startswith("<thead>") else "row"
        part = re.sub(r"<th( [^>]*)?>\s*</th>", r"<td\1></td>", part)
        parts[k] = re.sub(r"<th(?=[ >])(?![^>]*scope)", f'<th scope="{scope}"', part)
    numbered = _counted("".join(parts))
    return "".join(numbered)


def _counted(text: str) -> Iterator[str]:
    for part in re.split(r'(<table class="dataframe">.*?</table>)', text, flags=re.S):
        if part.startswith("<table"):
            heads = [html.unescape(h) for h in re.findall(r'<th scope="col"[^>]*>(.*?)</th>', part)]
            label = html.escape("Table: " + ", ".join(re.sub("<.*?>", "", h) for h in heads))
            yield f'<div class="wide" tabindex="0" role="region" aria-label="{label}">{part}</div>'
        else:
            yield part
