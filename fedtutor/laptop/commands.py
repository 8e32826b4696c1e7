"""``fedtutor check`` and ``lab``: their options, and what they say."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedtutor.options import STOPPED, path
from fedtutor.support.language import say
from fedtutor.support.places import clone, material

COLOURS = {"ok": "green", "note": "yellow", "MISSING": "red"}
"""On a terminal; the words say all."""


def add_commands(commands: Any) -> None:
    """Add both to the command line."""
    check = commands.add_parser(
        "check",
        help="tell whether this machine can run the course",
        description="Look at Python, packages, memory, disk and data; print the fix for whatever "
        "is missing. Exit code 1 if something needed is missing.",
    )
    check.add_argument(
        "--class", action="store_true", dest="rehearse", help="also open a class here, and join it"
    )
    check.set_defaults(run=_check)
    lab = commands.add_parser(
        "lab",
        help="copy the course into a folder of your own, and open it in JupyterLab",
        description="Copy the notebooks, solutions and data cards into FOLDER, and open\n"
        "JupyterLab there. What you have changed in it is kept: if a later fedtutor has\n"
        "a newer notebook, that is put beside yours, as NAME.new.ipynb. A notebook that\n"
        "you delete is copied again. Ctrl-C ends JupyterLab.",
        epilog="Without FOLDER, a clone's own notebooks are opened where they are; elsewhere it\n"
        "is fedtutor-course in the current folder.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lab.add_argument("folder", nargs="?", type=path, metavar="FOLDER", help="your folder")
    lab.add_argument("--copy-only", action="store_true", help="copy, and do not open JupyterLab")
    lab.add_argument("--no-browser", action="store_true", help="print the address, open no browser")
    lab.add_argument(
        "--port", type=int, default=8888, metavar="N", help="or the next free one (default: 8888)"
    )
    lab.set_defaults(run=_lab)


def _check(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.laptop.check import check_machine

    findings = check_machine()
    table = Table(show_header=False, box=None)
    said = {"ok": "ok", "note": say("note"), "MISSING": say("MISSING")}
    for finding in findings:
        word = "ok" if finding.ok else "MISSING" if finding.needed else "note"
        table.add_row(Text(said[word], COLOURS[word]), finding.what, finding.found)
    console.print(table)
    for finding in findings:
        if not finding.ok:
            console.print(f"{finding.what}: {finding.fix}", soft_wrap=True, highlight=False)
    broken = sum(finding.needed and not finding.ok for finding in findings)
    missing = say("{n} needed things are missing.", n=broken)
    console.print(missing if broken else say("This machine can run the course."))
    if arguments.rehearse and not broken:
        from fedtutor.classroom.rehearsal import rehearse

        for what, how in rehearse():
            console.print(f"{what}: {how}", soft_wrap=True, highlight=False)
        console.print("This machine can host a class and join one.")
    return 1 if broken else 0


def _lab(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.laptop.lab import copy_course, serve

    here = None if arguments.copy_only else clone()
    folder = arguments.folder or here or Path("fedtutor-course")
    done = {} if folder.resolve() == material() else copy_course(folder)
    lines = [f"The course is in {folder.absolute()}"]
    words = {"kept": "kept, with your changes", "beside": "newer, put beside yours:"}
    lines += [f"  {len(names)} {words.get(what, what)}" for what, names in done.items()]
    lines += [f"    {name}" for name in done.get("beside", [])]
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
    if arguments.copy_only:
        return 0
    options = [f"--port={arguments.port}", *["--no-browser"] * arguments.no_browser]
    return STOPPED if serve(folder, options) else 0
