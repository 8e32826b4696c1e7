"""Run the benchmarks, print the table, write results.json and the tables of the two READMEs.

With GROUPs only their rows are measured anew, and take the place of the former ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
README = HERE / "README.md"
FRONT_README = HERE.parent / "README.md"
GROUPS = (
    "clients",
    "averaging",
    "explaining",
    "coverage",
    "partitioning",
    "images",
    "processes",
    "hospitals",
    "rounds",
    "cores",
    "scale",
    "notebooks",
)
FILES = {"cores": "every_core"}
"""Where a group's file is called otherwise."""
EXTRA = ", beside pfl-research"
"""How rows end that ``make bench-pfl`` measures, in an environment of its own."""
QUICK_GROUPS = GROUPS[:-1]  # the course alone takes longer than a quick look may
BEGIN, END = "<!-- benchmarks: made by make bench -->", "<!-- /benchmarks -->"
FRONT_ROWS = (
    "fedtutor run",
    "whole run at 128², 3 rounds",
    "FedAvg, beside Flower",
    "Grad-CAM at 128², batch 16",
    "client at 128², beside fit",
    "Dirichlet partition",
)
"""What the front page shows; one that misses its target is among them."""
HEADER = """\
| what | beside | ours | theirs | ratio (min to max) | target | met |
|---|---|---|---|---|---|---|"""
PACKAGES = ("tensorflow", "keras", "flwr", "ray", "numpy", "tf-keras-vis", "flwr-datasets")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="fewer runs; results-quick.json")
    parser.add_argument("--readme", action="store_true", help="only write the READMEs' tables anew")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"unknown group {', '.join(sorted(unknown))}; known: {', '.join(GROUPS)}")
    if arguments.readme:
        write_tables(json.loads((HERE / "results.json").read_text(encoding="utf-8")))
        return 0
    os.environ["FEDTUTOR_BENCH_QUICK"] = "1" if arguments.quick else "0"
    from benchmarks.harness import in_child  # it reads the variable

    console, rows, start = Console(), [], time.perf_counter()
    for group in arguments.groups or (QUICK_GROUPS if arguments.quick else GROUPS):
        console.print(f"[{time.perf_counter() - start:4.0f} s] {group}", highlight=False)
        rows += in_child(f"benchmarks.{FILES.get(group, group)}")["rows"]
    console.print(as_table(rows))
    store(rows, quick=arguments.quick, anew=not arguments.groups)
    return 0


def store(rows: list[dict], *, quick: bool = False, anew: bool = False) -> None:
    """Write the rows into the results, and unless quick into the READMEs.

    What is measured ``anew`` takes the place of all former rows but the extra's, see
    :mod:`benchmarks.beside_pfl`; else that of rows of the same names.
    """
    target = HERE / ("results-quick.json" if quick else "results.json")
    if target.is_file():
        former = json.loads(target.read_text(encoding="utf-8"))["rows"]
        rows = merged(former, rows, anew=anew)
    results = {
        "date": str(date.today()),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
        "rows": rows,
    }
    target.write_text(
        json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )
    if not quick:
        write_tables(results)


def merged(former: list[dict], rows: list[dict], *, anew: bool) -> list[dict]:
    """Put new rows in the place of former ones of their names, or of all but the extra's."""
    new = {row["name"]: row for row in rows}
    if anew:
        return rows + [row for row in former if row["name"].endswith(EXTRA)]
    return [new.pop(row["name"], row) for row in former] + list(new.values())


def machine() -> str:
    """Processor, cores and memory, as far as this system tells."""
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 1e9
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # only Linux has such a file, and not on every processor
        model = platform.processor() or platform.machine()
    return f"{model}, {cores} cores, {memory:.0f} GB"


def as_table(rows: list[dict]) -> Table:
    table = Table("what", "ours", "theirs", "ratio (min to max)", "target", "met")
    for row in rows:
        table.add_row(*cells(row))
    return table


def cells(row: dict) -> list[str]:
    return [
        row["name"],
        f"{number(row['ours'])} {row['unit']}",
        f"{number(row['theirs'])} {row['unit']}",
        f"{number(row['ratio'])} ({number(row['ratio_min'])} to {number(row['ratio_max'])})",
        row["target"],
        "yes" if row["met"] else "no",
    ]


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def full_table(results: dict) -> str:
    """Every row, and why some miss their target, in Markdown."""
    notes = [f"- {row['name']}: {row['note']}" for row in results["rows"] if row["note"]]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    head = f"Medians of interleaved runs on {results['machine']}, {results['date']}; {versions}."
    return "\n".join([head, "", HEADER, *map(as_line, results["rows"]), "", *notes]).rstrip()


def front_table(results: dict) -> str:
    """The rows of the front page, and how many of all meet their target, in Markdown."""
    rows = {row["name"]: row for row in results["rows"]}
    lines = [as_line(rows[name]) for name in FRONT_ROWS if name in rows]
    met = sum(row["met"] for row in results["rows"])
    foot = f"Of all {len(rows)} rows {met} meet their target. Measured on {results['machine']}."
    return "\n".join([HEADER, *lines, "", foot])


def as_line(row: dict) -> str:
    """One row of a table in Markdown."""
    name, *figures = cells(row)
    return "| " + " | ".join([name, row["beside"], *figures]) + " |"


def write_tables(results: dict) -> None:
    """Put the tables between the marks of both READMEs."""
    for readme, table in ((README, full_table(results)), (FRONT_README, front_table(results))):
        before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
