"""``fedtutor datasets``, ``fetch`` and ``mirror``: their options, and what they say."""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markdown import Markdown

from fedtutor.datasets.download import size_of
from fedtutor.support.places import material

if TYPE_CHECKING:
    from fedtutor.datasets import Dataset


TABLE_NEXT = "fedtutor lab    (notebook 14 trains on it)"


def add_commands(commands: Any) -> None:
    """Add the three to the command line."""
    listing = commands.add_parser(
        "datasets",
        help="list the data sets, or tell all of one: its card, parts, tasks and commands",
        description="List the data sets that 'fedtutor run --dataset' knows by name, and whether "
        "their files are here. With a NAME print the card of that set, with its licence and its "
        "traps, its tasks, its parts with their sizes, where its files belong, and the commands "
        "that fetch it and train on it. The environment's FEDTUTOR_DATA moves the data folder.",
    )
    listing.add_argument("name", nargs="?", metavar="NAME", help="a name from the list")
    listing.set_defaults(run=_datasets)
    _add_fetch(commands)
    _add_mirror(commands)


def _add_fetch(commands: Any) -> None:
    fetch = commands.add_parser(
        "fetch",
        help="bring a data set here",
        description="Download a data set, check it and unpack it. What is here is not fetched\n"
        "again, and a partial download is resumed. With FEDTUTOR_MIRROR, a folder or an\n"
        "address, files come from there and are checked just the same.",
        epilog="examples:\n"
        "  fedtutor fetch pneumoniamnist                    4 MB\n"
        "  fedtutor fetch octmnist --part 64                images of 64 pixels\n"
        "  fedtutor fetch nih-chestxray14 --part 1 --part 2 two of twelve archives\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fetch.add_argument("name", metavar="NAME", help="a name from 'fedtutor datasets'")
    _add_what_to_fetch(fetch)
    fetch.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="data folder, in which the set gets a folder of its own (default: FEDTUTOR_DATA, or "
        "what 'fedtutor datasets' shows)",
    )
    fetch.set_defaults(run=_fetch)


def _add_mirror(commands: Any) -> None:
    mirror = commands.add_parser(
        "mirror",
        help="prepare a copy of data sets for a class",
        description="Download the files of data sets into DIR, checked and as they are. Thirty\n"
        "laptops with FEDTUTOR_MIRROR=DIR (a shared folder), or the address of a web\n"
        "server that serves DIR, then fetch from there.",
        epilog="example:\n"
        "  fedtutor mirror /srv/fedtutor pneumoniamnist octmnist\n"
        "  python -m http.server --directory /srv/fedtutor 8000\n"
        "  FEDTUTOR_MIRROR=http://teacher.local:8000 fedtutor fetch octmnist\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mirror.add_argument("directory", type=Path, metavar="DIR", help="where to put the copy")
    mirror.add_argument("names", nargs="*", metavar="NAME", help="(default: pneumoniamnist)")
    _add_what_to_fetch(mirror)
    mirror.set_defaults(run=_mirror)


def _add_what_to_fetch(command: argparse.ArgumentParser) -> None:
    parts = "which part, may be given several times; 'fedtutor datasets NAME' lists their sizes"
    command.add_argument("--part", action="append", default=[], metavar="PART", help=parts)
    unverified = "also a file of which no hash is published; says what hash came, to compare"
    command.add_argument("--unverified", action="store_true", help=unverified)


def _datasets(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets.registry import DATASETS, data_folder, find_dataset

    if arguments.name:
        _tell_all(find_dataset(arguments.name), console)
        return 0
    rows = [("name", "what", "images", "here")]
    for info in DATASETS.values():
        images = "" if info.images is None else f"{info.images:,}"
        rows.append((info.name, info.title.rpartition(": ")[2], images, _whether_here(info)))
    lines = [f"{name:21}{what:39}{images:>8}  {here}" for name, what, images, here in rows]
    tells = "fedtutor datasets NAME tells all of one: licence, traps, tasks, parts, commands."
    lines += ["", tells, f"Data folder: {data_folder()} (FEDTUTOR_DATA moves it)"]
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
    return 0


def _whether_here(info: Dataset) -> str:
    return "drawn" if info.synthetic else "yes" if info.is_present() else "no"


def _tell_all(info: Dataset, console: Console) -> None:
    """Print a set's card, what can be chosen, where it belongs and the commands that bring it."""
    card = (material() / "datasets" / info.name / "README.md").read_text(encoding="utf-8")
    shown = re.sub("<(https:[^>]+)>", r"\1", card)  # else its address would stand there twice
    console.print(Markdown(shown, hyperlinks=False) if console.is_terminal else card.rstrip())
    where = " on the spot" if info.synthetic else f"; its folder: {info.folder}"
    size = f"Size by default: {info.size} pixels" if info.size else "A table, without images"
    facts = [f"Here: {_whether_here(info)}{where}", size]
    facts += [f"Tasks, the first by default: {', '.join(info.tasks)}"] if info.tasks else []
    which = "all" if info.all_parts else "the first"
    facts += [f"Parts, {which} by default:"] if info.parts or info.tables else []
    facts += [f"  --part {part:8}{file.size:>16}" for part, file in info.parts.items()]
    tables = size_of(sum(file.num_bytes or 0 for file in info.tables))
    also = ", with any other, too" if info.parts else ""
    facts += [f"  --part {'tables':8}{tables:>16}{also}"] if info.tables else []
    commands = [f"  pip install {info.needs}"] if info.needs else []
    commands += [] if info.synthetic else [f"  {info.fetching}"]
    commands += [f"  fedtutor run --dataset {info.name}" if info.size else f"  {TABLE_NEXT}"]
    for line in ("", *facts, "", *commands):
        console.print(line, soft_wrap=not line.startswith("Tasks"), highlight=False)


def _fetch(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets.download.fetch_and_mirror import fetch
    from fedtutor.datasets.registry import find_dataset

    folder = fetch(
        arguments.name, parts=arguments.part, folder=arguments.to, unverified=arguments.unverified
    )
    info = find_dataset(arguments.name)
    what = info.name if arguments.to is None else f'"{folder}"'
    missing = info.needs and not info.kaggle and not find_spec("pyarrow")
    first = f"pip install {info.needs}, then: " if missing else ""
    next_step = f"fedtutor run --dataset {what}" if info.size else TABLE_NEXT
    lines = f"{info.name} is in {folder}\nNext: {first}{next_step}"
    console.print(lines, soft_wrap=True, highlight=False)
    return 0


def _mirror(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets.download.fetch_and_mirror import mirror

    wanted = {"parts": arguments.part, "unverified": arguments.unverified}
    lines = [f"  {file}" for file in mirror(arguments.directory, arguments.names, **wanted)]
    lines.append(
        f"Now set FEDTUTOR_MIRROR={arguments.directory.absolute()} on the laptops, or to the "
        "address of a web server that serves this folder."
    )
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
    return 0
