"""``make refresh``: run the notebooks anew and store what nbval will compare.

    python tools/refresh.py [part of a name ...]

Each runs from its first cell on a fresh kernel. Whatever changes from run to run (times, widget
views, versions) is left out of the file, so that a second refresh changes nothing. How long they
took goes to ``timings.json``, and from there into the maps of the two READMEs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from datetime import datetime
from pathlib import Path

import nbformat
import panel_states
from jupyter_client import KernelManager
from lint import (
    CELL_SECONDS,
    NOTEBOOKS,
    TIMINGS,
    appendix,
    chosen,
    code_cells,
    code_hash,
    course,
    is_folded,
    is_lesson,
    read_timings,
    timing_key,
    translations,
)
from lint import minutes as minutes_of
from nbclient import NotebookClient
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager
from translated import english, translate

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
MAPS = {NOTEBOOKS / "README.md": "", NOTEBOOKS.parent / "README.md": "notebooks/"}
MAP = re.compile(r"(<!-- map -->\n).*?(<!-- /map -->)", re.S)


def execute(path: Path):
    """The notebook, run in this environment: (notebook, seconds of each code cell).

    A translation is made anew of the English one first. A cell of ours, which is taken away again,
    records for the book what its panels show.
    """
    is_translated = path in translations()
    notebook = nbformat.read(english(path) if is_translated else path, as_version=4)
    if is_translated:
        notebook = translate(notebook, path)
    notebook.metadata.pop("widgets", None)
    recording = panel_states.cell(path, notebook.cells, code_hash(notebook))
    if recording:
        notebook.cells.append(nbformat.v4.new_code_cell(recording))
    manager = KernelManager(
        kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager()
    )
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=30 * CELL_SECONDS,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # nbval's kernels have it too; ipykernel then does not catch what C code writes.
    try:
        client.execute(env=os.environ | {"PYTEST_CURRENT_TEST": "refresh"})
    finally:
        manager.shutdown_kernel(now=True)  # nbclient leaves a manager that it was given alone
    if recording:
        notebook.cells.pop()
    return notebook, [_seconds(cell) for cell in code_cells(notebook)]


def _seconds(cell) -> float:
    times = cell.metadata.get("execution", {})
    begin, end = (times.get(f"iopub.status.{state}") for state in ("busy", "idle"))
    if not begin or not end:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def settle(notebook) -> str:
    """The notebook as text, without anything that the next run would change."""
    seen = set()
    for cell in notebook.cells:
        cell.source = cell.source.strip("\n")
        cell.metadata.pop("execution", None)
        for key in ("collapsed", "scrolled", "trusted", "editable"):
            cell.metadata.pop(key, None)
        if not is_folded(cell):
            cell.metadata.pop("jupyter", None)
        if cell.get("id") in seen or not cell.get("id"):
            cell.id = hashlib.sha256(f"{len(seen)}{cell.source}".encode()).hexdigest()[:8]
        seen.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs = _settled_outputs(cell.outputs)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def _settled_outputs(outputs: list) -> list:
    """Streams joined, as they arrive in pieces; widget views left out, as nobody answers them."""
    settled, streams = [], {}
    for output in outputs:
        if output.output_type == "stream":
            if output.name in streams:
                streams[output.name].text += output.text
                continue
            streams[output.name] = output
        elif WIDGET_VIEW in output.get("data", {}):
            del output.data[WIDGET_VIEW]
        settled.append(output)
    return settled


def timing(notebook, seconds: list[float], before: dict | None) -> dict:
    """What is noted of a run: of the same code the fastest, as a busy machine only adds.

    A gain below a tenth, or below a second, is chance and leaves the former note as it is.
    """
    now = {
        "code": code_hash(notebook),
        "seconds": round(sum(seconds), 1),
        "slowest": round(max(seconds, default=0.0), 1),
    }
    if before is None or before["code"] != now["code"]:
        return now
    return now if now["seconds"] < 0.9 * before["seconds"] - 1 else before


def map_of_notebooks(timings: dict, folder: str = "") -> str:
    """A Markdown table: notebook, what it is about, minutes; ``folder`` goes before the links."""
    rows = ["| notebook | | minutes | of which computing |", "|---|---|---|---|"]
    for path in filter(is_lesson, course()):
        if timing_key(path) not in timings:  # written, and not yet refreshed
            continue
        notebook = nbformat.read(path, as_version=4)
        title = re.search(r"^# (.*)$", notebook.cells[0].source, flags=re.M).group(1)
        seconds = timings[timing_key(path)]["seconds"]
        took = f"{max(10, 10 * round(seconds / 10))} s"
        total = minutes_of(notebook, seconds)
        rows.append(f"| [{path.stem}]({folder}{path.name}) | {title} | {total} | {took} |")
    return "\n".join(rows) + "\n"


def write(path: Path, text: str) -> None:
    """Write the file unless it has this text already, with the same line ends on every system."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8", newline="\n")


def note(key: str, notebook, seconds: list[float]) -> None:
    """Write a notebook's times down; read anew, as somebody may refresh another one meanwhile."""
    known = {timing_key(path) for path in (*course(), *appendix())}
    timings = read_timings()
    timings[key] = timing(notebook, seconds, timings.get(key))
    timings = {key: timings[key] for key in sorted(known & set(timings))}
    write(TIMINGS, json.dumps(timings, indent=2) + "\n")


def main(names: list[str]) -> int:
    for path in chosen(names) + ([] if names else translations()):
        notebook, seconds = execute(path)
        write(path, settle(notebook))
        if path not in translations():
            note(timing_key(path), notebook, seconds)
        print(f"{timing_key(path)}: {sum(seconds):.1f} s, the slowest cell {max(seconds):.1f} s")
    for readme, folder in MAPS.items():
        table = map_of_notebooks(read_timings(), folder)
        text = readme.read_text(encoding="utf-8")
        write(readme, MAP.sub(lambda m, table=table: m[1] + table + m[2], text))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
