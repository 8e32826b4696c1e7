"""``fedtutor host`` and ``join``: their options, and what they say."""

from __future__ import annotations

import argparse
import time
import webbrowser
from pathlib import Path
from typing import Any

from rich.console import Console

from fedtutor.classroom import DEFAULTS, PORT
from fedtutor.options import add_settings, path, settings_from
from fedtutor.settings import RunSettings, TrainingSettings


def add_commands(commands: Any) -> None:
    """Add both to the command line."""
    host = commands.add_parser(
        "host",
        help="open a class: each laptop in the room becomes one hospital of a federation",
        description="Start Flower's SuperLink behind a gate on this machine, print what learners\n"
        "type, and open the board in the browser: who is here, what each has, and the\n"
        "global model round by round. Runs are started on the board. Ctrl-C ends the\n"
        "class; the same command goes on with it, with the same code and seats.",
        epilog="examples:\n"
        "  fedtutor host                      30 hospitals, synthetic X-rays\n"
        "  fedtutor host --hospitals 12       fewer seats, more images for each\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_settings(host, (RunSettings, TrainingSettings), DEFAULTS)
    host.add_argument(
        "--folder",
        type=path,
        default=Path("fedtutor-class"),
        metavar="DIR",
        help="of the class: its keys, seats and runs (default: %(default)s)",
    )
    host.add_argument("--address", metavar="IP", help="this machine's, as the laptops see it")
    host.add_argument(
        "--port", type=int, metavar="N", help=f"where laptops come in (default: {PORT})"
    )
    host.add_argument("--no-browser", action="store_true", help="print the board's address only")
    host.set_defaults(run=_host)
    join = commands.add_parser(
        "join",
        help="join a class: this laptop becomes a hospital",
        description="Join the class at ADDRESS with its CODE, both as the board shows them, as a\n"
        "hospital with a share of the class's data or with images of your own. The key\n"
        "is made here and stays here, and so do the images: weights and counts of\n"
        "images travel. Ctrl-C leaves; the same command comes back to the same seat.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    join.add_argument("address", metavar="ADDRESS", help="such as 192.168.1.20")
    join.add_argument("code", metavar="CODE", help="ten signs, such as K7QF3-9MPXT")
    join.add_argument("--name", default="", metavar="TEXT", help="your hospital's name")
    join.add_argument("--images", type=path, metavar="PATH", help="own images: .npz or folder")
    join.add_argument("--folder", type=path, metavar="DIR", help="for key and logs")
    join.set_defaults(run=_join)


def _host(arguments: argparse.Namespace, console: Console) -> int:
    import segno

    from fedtutor.classroom.desk import join_command, open_class

    settings = settings_from(arguments)
    console.print(f"opening the class in {arguments.folder.absolute()}", soft_wrap=True)
    further = {"port": arguments.port, "address": arguments.address}
    classroom, desk = open_class(settings, arguments.folder, **further)
    try:
        command = join_command(classroom)
        if console.is_terminal:
            segno.make(command, error="m").terminal(compact=True)
        console.print(f"On each laptop:   {command}", soft_wrap=True, highlight=False)
        console.print(f"The board, yours: {desk.board}", soft_wrap=True, highlight=False)
        console.print("Ctrl-C ends the class; its state stays.")
        if not arguments.no_browser:
            webbrowser.open(desk.board)
        while True:
            time.sleep(1)
    finally:
        classroom.close()
        desk.close()


def _join(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.classroom.join import Laptop

    def tell(line: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True, highlight=False)

    given = {"name": arguments.name, "images": arguments.images, "folder": arguments.folder}
    with Laptop(arguments.address, arguments.code, **given, tell=tell) as laptop:
        laptop.watch()
    return 0
