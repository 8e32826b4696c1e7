"""What a notebook of the course must be, read from the file without running it.

``problems(path)`` gives one sentence for each thing that is wrong. Whether the outputs are right
is nbval's to say; here it is made sure that nbval had something to compare.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent / "notebooks"
TIMINGS = HERE / "timings.json"

CELL_SECONDS, NOTEBOOK_SECONDS = 30, 180
LONG_CELL_SECONDS, LONG_NOTEBOOK_SECONDS = 60, 300
LONG = ("13_",)  # processes that must be started, and one that is waited for
LONG += ("tensorflow_federated",)  # half of it is the import
APPENDIX = {"tensorflow_federated": "A1", "pytorch_client": "A2"}  # have no number in their names
MOST_LINES, MOST_SKIPS, MOST_BYTES = 100, 3, 2_000_000
VERDICT, MOST_VERDICTS = re.compile(r"\b(True|False)$", re.M), 3
SKIP_MARKS = (
    "nbval-ignore-output",
    "pytest-validate-ignore-output",
    "nbval-skip",
    "nbval-raises-exception",
    "raises-exception",
)
BECAUSE = re.compile(r"^# nbval: because \S.{10,}$", re.M)
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|usr|var|opt|mnt)/|\b[A-Z]:\\\w")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
FIRST_CELL = ("# ", "You will learn", "minutes", "You need")
SECTIONS = ("## Key points", "## What next")


def course(folder: Path = NOTEBOOKS) -> list[Path]:
    """All notebooks: the lessons in order, then the solutions."""
    return sorted(folder.glob("*.ipynb")) + sorted(folder.glob("solutions/*.ipynb"))


def appendix() -> list[Path]:
    """Those that need packages which `make test` does not have: `make tff` and `make torch` do."""
    return course(NOTEBOOKS / "appendix")


def translations() -> list[Path]:
    """Those in another language, as notebooks/de/00_start_here.ipynb."""
    return sorted(NOTEBOOKS.glob("[a-z][a-z]/*.ipynb"))


def chosen(names: list[str]) -> list[Path]:
    """The notebooks in whose path one of the names occurs; without names the course."""
    if not names:
        return course()
    known = [*course(), *appendix(), *translations()]
    return [path for path in known if any(name in str(path) for name in names)]


def is_lesson(path: Path) -> bool:
    return path.parent.name != "solutions"


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook) -> str:
    """All Markdown, without the code in it."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def code_hash(notebook) -> str:
    """Of the code cells only, so that prose may be polished without running anything."""
    code = json.dumps([cell.source for cell in code_cells(notebook)])
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def minutes(notebook, seconds: float) -> int:
    """How long a learner takes, in steps of five minutes.

    130 words a minute, six seconds a line of code that is not folded away, a minute a figure, eight
    an exercise, and the computer's own time: what workshops have taken, not what a fast reader,
    or one whose first language is English, can do.
    """
    cells = [cell for cell in code_cells(notebook) if not is_folded(cell)]
    lines = sum(len(cell.source.splitlines()) for cell in cells)
    figures = sum("text/html" in out.get("data", {}) for cell in cells for out in cell.outputs)
    exercises = len(exercise_numbers(notebook))
    total = len(prose(notebook).split()) / 130 + lines / 10 + figures + 8 * exercises + seconds / 60
    return max(5, 5 * round(total / 5))


def is_folded(cell) -> bool:
    """Whether JupyterLab hides the code of the cell, as it only holds the outputs to the text."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def exercise_numbers(notebook) -> list[str]:
    code = "\n".join(cell.source for cell in code_cells(notebook))
    return re.findall(r"^check\([\"'](\w\d\.\d)[\"']", code, flags=re.M)


def read_timings() -> dict[str, dict]:
    """How long each notebook took when it was last refreshed, by :func:`timing_key`."""
    return json.loads(TIMINGS.read_text(encoding="utf-8")) if TIMINGS.exists() else {}


def problems(path: Path, timings: dict | None = None) -> list[str]:
    """Everything wrong with one notebook, a sentence each.

    ``timings`` is the content of ``timings.json``, by default this course's.
    """
    notebook = nbformat.read(path, as_version=4)
    timing = (read_timings() if timings is None else timings).get(timing_key(path))
    found = [
        *_execution(notebook),
        *_skips(notebook),
        *_outputs(notebook),
        *_paths(notebook),
        *_links(notebook, path),
        *_bloat(notebook, path),
        *_time(notebook, timing, path.name.startswith(LONG)),
    ]
    if is_lesson(path):
        found += _frame(notebook, timing, path)
        found += _verdicts(notebook) if path.stem not in APPENDIX else []
    return found


def timing_key(path: Path) -> str:
    """The path below the notebooks' folder."""
    others = {"appendix", "solutions", *(one.parent.name for one in translations())}
    folders = [name for name in path.parts[-3:-1] if name in others]
    return "/".join([*folders, path.name])


def _execution(notebook) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        if not cell.source.strip():
            yield f"code cell {number} is empty"
        if cell.execution_count is None:
            yield f"code cell {number} was not executed; run `make refresh`"
        elif cell.execution_count != number:
            yield (
                f"code cell {number} was run as number {cell.execution_count}, so not in order on "
                "a fresh kernel; run `make refresh`"
            )
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"code cell {number} is stored with an error"


def _skips(notebook) -> Iterator[str]:
    skipped = 0
    for number, cell in enumerate(code_cells(notebook), start=1):
        comments = {
            line.strip().lstrip("# ").lower().replace("_", "-")
            for line in cell.source.splitlines()
            if line.strip().startswith("#")
        }
        if not {*comments, *cell.metadata.get("tags", [])} & set(SKIP_MARKS):
            continue
        skipped += 1
        if not BECAUSE.search(cell.source):
            yield f"code cell {number} is not compared and does not say `# nbval: because ...`"
    if skipped > MOST_SKIPS:
        yield f"{skipped} cells are not compared; at most {MOST_SKIPS} may be"


def _outputs(notebook) -> Iterator[str]:
    for number, cell in enumerate(code_cells(notebook), start=1):
        lines = 0
        for output in cell.outputs:
            if output.output_type == "stream":
                lines += len(output.text.splitlines())
                if output.name == "stderr":
                    yield f"code cell {number} writes to stderr; a learner takes it for an error"
                continue
            data = output.get("data", {})
            plain = data.get("text/plain", "")
            lines += len(plain.splitlines())
            for kind in data:
                if kind.startswith("image/"):
                    yield f"code cell {number} shows a bare {kind}, without alt; show a Picture"
                if kind == "application/vnd.jupyter.widget-view+json":
                    yield f"code cell {number} is stored with a widget view; run `make refresh`"
            if "<matplotlib" in plain or " at 0x" in plain:
                yield f"code cell {number} shows an object's address; end it with what is meant"
            if _has_bare_image(data.get("text/html", "")):
                yield f"code cell {number} shows an image without alt text"
        if lines > MOST_LINES:
            yield f"code cell {number} prints {lines} lines; at most {MOST_LINES}"


def _has_bare_image(text: str) -> bool:
    """Whether an <img> in the HTML has no alt text."""
    images = re.findall(r"<img\b[^>]*>", text)
    return not all(re.search(r'\balt="[^"]*[^"\s]', image) for image in images)


def _paths(notebook) -> Iterator[str]:
    for number, cell in enumerate(notebook.cells, start=1):
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
        for text in texts:
            if match := ABSOLUTE.search(text):
                near = text[match.start() : match.start() + 40].split("\n")[0]
                yield f"cell {number} holds an absolute path: {near}"


def _links(notebook, path: Path) -> Iterator[str]:
    for is_image, text, target in LINK.findall(prose(notebook)):
        if is_image and not text.strip():
            yield f"the image {target} has no alt text"
        if re.match(r"https?:|mailto:|attachment:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = path.parent / file if file else path
        if not goal.exists():
            yield f"the link to {target} leads nowhere"
        elif anchor and anchor not in _anchors(goal):
            yield f"{file or path.name} has no heading #{anchor}"
    if _has_bare_image(prose(notebook)):
        yield "an <img> in the text has no alt text"


def _anchors(path: Path) -> set[str]:
    """What can be linked to: as JupyterLab makes it of a heading, and as GitHub does."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = prose(nbformat.reads(text, as_version=4))
    headings = [html.unescape(h).strip() for h in re.findall(r"^#+ (.*)$", text, flags=re.M)]
    github = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
    return {*(h.replace(" ", "-") for h in headings), *github}


def _bloat(notebook, path: Path) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "widget state is stored in the notebook; run `make refresh`"
    if (size := path.stat().st_size) > MOST_BYTES:
        yield f"the file has {size:,} bytes; at most {MOST_BYTES:,}"


def _time(notebook, timing: dict | None, long: bool) -> Iterator[str]:
    if timing is None or timing["code"] != code_hash(notebook):
        yield "the outputs are not of this code; run `make refresh`"
        return
    cell = LONG_CELL_SECONDS if long else CELL_SECONDS
    whole = LONG_NOTEBOOK_SECONDS if long else NOTEBOOK_SECONDS
    if timing["slowest"] > cell:
        yield f"a cell takes {timing['slowest']} s; at most {cell}"
    if timing["seconds"] > whole:
        yield f"the notebook takes {timing['seconds']} s; at most {whole}"


def _verdicts(notebook) -> Iterator[str]:
    """What is found should be read as a number with its spread."""
    said = [out.text for cell in code_cells(notebook) for out in cell.outputs if "text" in out]
    if (verdicts := len(VERDICT.findall("\n".join(said)))) > MOST_VERDICTS:
        yield f"{verdicts} printed lines end in True or False; at most {MOST_VERDICTS} may"


def _frame(notebook, timing: dict | None, path: Path) -> Iterator[str]:
    """The parts that every lesson has."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown":
        yield "the first cell must be Markdown with the title, aims, minutes and needs"
        return
    for part in FIRST_CELL:
        if part not in first.source:
            yield f"the first cell does not say {part!r}"
    if timing is not None and (match := re.search(r"(\d+) minutes", first.source)):
        measured = minutes(notebook, timing["seconds"])
        if int(match.group(1)) != measured:
            yield f"the first cell says {match.group(1)} minutes; it is about {measured}"
    for section in SECTIONS:
        if section not in prose(notebook):
            yield f"there is no section {section!r}"
    numbers = exercise_numbers(notebook)
    if len(numbers) < 2:
        yield f"there are {len(numbers)} exercises; at least 2"
    for number in numbers:
        if not number.startswith(APPENDIX.get(path.stem, path.name[:2])):
            yield f"exercise {number} is another notebook's"
