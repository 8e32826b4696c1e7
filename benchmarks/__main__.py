"""Run the benchmarks, print the table, write results.json and the README's table.

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

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
GROUPS = (
    "clients",
    "averaging",
    "explaining",
    "partitioning",
    "images",
    "processes",
    "hospitals",
    "rounds",
    "notebooks",
)
QUICK_GROUPS = GROUPS[:-1]  # the course alone takes longer than a quick look may
BEGIN, END = "<!-- benchmarks: made by make bench -->", "<!-- /benchmarks -->"
PACKAGES = ("tensorflow", "keras", "flwr", "ray", "numpy", "tf-keras-vis", "flwr-datasets")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="fewer runs; results-quick.json")
    parser.add_argument("--readme", action="store_true", help="only write the README's table anew")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"unknown group {', '.join(sorted(unknown))}; known: {', '.join(GROUPS)}")
    if arguments.readme:
        write_readme(json.loads((HERE / "results.json").read_text()))
        return 0
    os.environ["FEDTUTOR_BENCH_QUICK"] = "1" if arguments.quick else "0"
    from benchmarks.harness import in_child  # it reads the variable

    console, rows, start = Console(), [], time.perf_counter()
    for group in arguments.groups or (QUICK_GROUPS if arguments.quick else GROUPS):
        console.print(f"[{time.perf_counter() - start:4.0f} s] {group}", highlight=False)
        rows += in_child(f"benchmarks.{group}")["rows"]
    console.print(as_table(rows))
    target = HERE / ("results-quick.json" if arguments.quick else "results.json")
    if arguments.groups and target.is_file():
        new = {row["name"]: row for row in rows}
        former = json.loads(target.read_text(encoding="utf-8"))["rows"]
        rows = [new.pop(row["name"], row) for row in former] + list(new.values())
    results = {
        "date": str(date.today()),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
        "rows": rows,
    }
    target.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not arguments.quick:
        write_readme(results)
    return 0


def machine() -> str:
    """Processor, cores and memory, as far as this system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB"
    except (OSError, StopIteration):
        return f"{platform.machine()}, {os.cpu_count()} cores"


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


def as_markdown(results: dict) -> str:
    """The README's table."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        "| what | beside | ours | theirs | ratio (min to max) | target | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        name, ours, theirs, ratio, target, met = cells(row)
        lines.append(
            f"| {name} | {row['beside']} | {ours} | {theirs} | {ratio} | {target} | {met} |"
        )
    notes = [f"- {row['name']}: {row['note']}" for row in results["rows"] if row["note"]]
    head = f"Medians of interleaved runs on {results['machine']}, {results['date']}; {versions}."
    return "\n".join([head, "", *lines, *([""] if notes else []), *notes])


def write_readme(results: dict) -> None:
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{as_markdown(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
