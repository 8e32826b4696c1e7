"""Show that requirements.lock has a wheel of every package for every system and Python.

    python tools/check_lock.py [--lock FILE] [--strict]

Nothing is installed: uv, which comes with Flower, resolves the lock for each of them as if it ran
there, from wheels only. (pip's own dry run reads a lock's markers as if they asked for the machine
it runs on.) 3.11 stands for 3.11.0, macOS for 13, and Linux for glibc 2.28, or later ones.

The package index is asked. Where none answers, nothing is shown: that is said, and is no error but
with --strict. Exit code: 0 all is there, or skipped; 1 something is missing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from uv import find_uv_bin

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
SYSTEMS = {
    "Windows x86-64": "x86_64-pc-windows-msvc",
    "macOS arm64": "aarch64-apple-darwin",
    "Linux x86-64": "x86_64-unknown-linux-gnu",
    "Linux arm64": "aarch64-unknown-linux-gnu",
}
PYTHONS = ("3.11", "3.12", "3.13")
INTEL_MAC = "x86_64-apple-darwin"
PROBE = "packaging"  # any index has it, for all systems in one wheel
UNANSWERED = re.compile(r"Failed to fetch|network\s+was\s+disabled")


@dataclass(frozen=True)
class Answer:
    """What uv finds: how many packages, all of them as wheels, or 0; and its words."""

    packages: int
    said: str


class NoIndex(Exception):
    """No package index answers; nothing can be said of wheels."""


def resolve(requirements: str, *further: str) -> Answer:
    """Ask for a wheel of each requirement, a line each, with further options of uv."""
    python = ("--python", sys.executable)
    options = ("--dry-run", "--no-deps", "--only-binary", ":all:", "--requirements", "-")
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [find_uv_bin(), "pip", "install", "--target", nowhere, *python, *options, *further],
            input=requirements,
            capture_output=True,
            encoding="utf-8",
        )
    count = re.search(r"^Resolved (\d+) package", done.stderr, flags=re.MULTILINE)
    return Answer(int(count[1]) if count and not done.returncode else 0, done.stderr.strip())


def resolve_for(requirements: str, platform: str, python: str) -> Answer:
    """Resolve for a system and a Python; raise :class:`NoIndex` if none is there to be asked."""
    answer = resolve(requirements, "--python-platform", platform, "--python-version", python)
    if not answer.packages:
        ask_index()
    return answer


def ask_index() -> None:
    """Raise :class:`NoIndex` if no index answers now, whatever uv has kept from earlier.

    Raises
    ------
    RuntimeError
        If uv fails for another reason; it is quoted.
    """
    answer = resolve(PROBE, "--no-cache")
    if not answer.packages:
        raise (NoIndex if UNANSWERED.search(answer.said) else RuntimeError)(answer.said)


def check(lock: str) -> list[str]:
    """Print the table, and return what is wrong."""
    ask_index()
    wrong = []
    cases = list(product(SYSTEMS, PYTHONS))
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda case: resolve_for(lock, SYSTEMS[case[0]], case[1]), cases)
        print(f"{'system':<16}{'Python':<8}{'packages':>8}")
        for (system, python), answer in zip(cases, answers, strict=True):
            word = "ok" if answer.packages else "no"
            print(f"{system:<16}{python:<8}{answer.packages or '-':>8}  {word}")
            if not answer.packages:
                wrong.append(f"{system}, Python {python}: {answer.said}")
    tensorflow = re.search(r"^tensorflow==\S+", lock, flags=re.MULTILINE)
    if tensorflow and not wrong:
        if resolve_for(tensorflow[0], INTEL_MAC, PYTHONS[0]).packages:
            wrong.append(f"{tensorflow[0]} has a wheel for Intel Macs; the documents say none.")
        else:
            print(f"macOS x86-64 (Intel): no wheel of {tensorflow[0]}, as the documents say")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lock", type=Path, default=LOCK, help="the lock (default: the course's)")
    parser.add_argument("--strict", action="store_true", help="without an index end with code 1")
    options = parser.parse_args(arguments)
    try:
        wrong = check(options.lock.read_text(encoding="utf-8"))
    except NoIndex as error:
        print(f"check-lock: skipped, as no package index answers. uv says:\n{error}")
        return int(options.strict)
    print("\n".join(wrong), end="\n" * bool(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
