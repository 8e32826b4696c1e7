"""The course itself: from a kernel's start to the first figure, and all of it under nbval."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from benchmarks.harness import Row, from_pairs, print_rows, runs, seconds

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
BUDGET = 360.0
WHY_LONGER = (
    "the six minutes were set for twelve notebooks; fifteen and their solutions take 870 s of "
    "processor time, and both cores were busy all along. The longest, on deployment, starts some "
    "fifty of Flower's programs, each of which imports Flower"
)


class FirstFigure(Exception):
    """Ends a run when it has shown a figure."""


class Watch(NotebookClient):
    """Runs a notebook up to its first figure."""

    def process_message(self, msg, cell, cell_index):
        if "<img" in str(msg["content"].get("data", {}).get("text/html", "")):
            raise FirstFigure
        return super().process_message(msg, cell, cell_index)


def until_first_figure(path: Path) -> float:
    """Seconds from the start of the kernel; the whole notebook's, if it has no figure."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    client = Watch(notebook, timeout=240, resources={"metadata": {"path": str(path.parent)}})
    with suppress(FirstFigure):
        client.execute()
    return time.perf_counter() - start


def import_tensorflow() -> None:
    subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True)


def compare() -> None:
    """What ``make test`` does: every notebook on a fresh kernel, every output compared."""
    script = ROOT / "tools" / "compare.py"
    subprocess.run([sys.executable, script], check=True, capture_output=True, cwd=ROOT)


def notebook_rows() -> list[Row]:
    importing = [seconds(import_tensorflow) for _ in range(runs(3, 3))]
    rows = [
        from_pairs(
            f"{path.stem}: first figure",
            [(until_first_figure(path), t) for t in importing[: runs(3, 1)]],
            work="from the kernel's start to the first picture, all cells before it run",
            beside="a Python that imports TensorFlow and exits",
            target="≤ 8",
            unit="s",
        )
        for path in NOTEBOOKS
    ]
    rows.append(
        from_pairs(
            f"all {len(NOTEBOOKS)} notebooks and their solutions under nbval",
            [(seconds(compare), BUDGET)],
            work="fresh kernels, three at a time; every cell run, every output compared",
            beside="a budget of 6 minutes",
            target="≤ 1",
            unit="s",
            note=WHY_LONGER,
        )
    )
    return rows


if __name__ == "__main__":
    print_rows(notebook_rows())
