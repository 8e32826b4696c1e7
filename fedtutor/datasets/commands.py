"""``fedtutor datasets``, ``fetch`` and ``mirror``: their options, and what they say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def add_commands(commands: Any) -> None:
    """Add the three to the command line."""
    listing = commands.add_parser(
        "datasets",
        help="list the data sets and where their files belong",
        description="List the data sets that 'fedtutor run --dataset' knows by name: classes or "
        "tasks, number and size of the images, licence, and whether the files are where they "
        "belong. The environment variable FEDTUTOR_DATA moves the data folder.",
    )
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
    fetch.add_argument(
        "--keep-archives", action="store_true", help="do not delete archives once unpacked"
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
    parts = "which part, may be given several times; 'fedtutor datasets' lists them"
    command.add_argument("--part", action="append", default=[], metavar="PART", help=parts)
    unverified = "also a file of which no hash is published; says what hash came, to compare"
    command.add_argument("--unverified", action="store_true", help=unverified)


def _datasets(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets import DATASETS, data_folder

    columns = ("name", "what", "tasks or classes", "images", "pixels", "licence", "parts", "here")
    table = Table(*columns)
    table.columns[0].no_wrap = True  # is to be typed
    for info in DATASETS.values():
        parts = list(info.parts)
        table.add_row(
            info.name,
            info.title,
            _some(list(info.tasks) or info.classes),
            "" if info.images is None else f"{info.images:,}",
            str(info.size),
            info.licence,
            f"{parts[0]}-{parts[-1]}" if len(parts) > 4 else ", ".join(parts),
            "generated" if info.synthetic else "yes" if info.is_present() else "no",
        )
    console.print(table)
    console.print(f"Data folder: {data_folder()} (FEDTUTOR_DATA moves it)", soft_wrap=True)
    return 0


def _some(words: Sequence[str], most: int = 4) -> str:
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")


def _fetch(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets.download.fetch_and_mirror import fetch

    folder = fetch(
        arguments.name,
        parts=arguments.part,
        folder=arguments.to,
        keep_archives=arguments.keep_archives,
        unverified=arguments.unverified,
    )
    what = arguments.name if arguments.to is None else folder
    lines = f"{arguments.name} is in {folder}\nNext: fedtutor run --dataset {what}"
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
