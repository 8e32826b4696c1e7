"""A class's laptop in a notebook: what comes and goes, and a button to leave."""

from __future__ import annotations

import html
import threading
from collections import deque
from typing import Any

import ipywidgets
from IPython.display import display

from fedtutor.classroom.join import Laptop

LINES = 8


def join_class(address: str, code: str, **given: Any) -> Laptop:
    """Join a class from a cell; show what is received and sent, below it, until it is left.

    Parameters
    ----------
    address, code : as on the board.
    given : further ones of :class:`~fedtutor.classroom.join.Laptop`: name, images, folder.
    """
    lines: deque[str] = deque(maxlen=LINES)
    told = ipywidgets.HTML()

    def tell(line: str) -> None:
        lines.append(html.escape(line))
        told.value = "<br>".join(lines)

    def leave(_: object) -> None:
        laptop.close()
        button.disabled = True
        tell("you have left the class")

    laptop = Laptop(address, code, **given, tell=tell).start()
    button = ipywidgets.Button(description="Leave the class")
    button.on_click(leave)
    threading.Thread(target=laptop.watch, daemon=True).start()
    display(ipywidgets.VBox([told, button]))
    return laptop
