"""Show on a terminal how far a long step has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import DownloadColumn, MofNCompleteColumn, Progress, TransferSpeedColumn

Report = Callable[[int, int | None], object]
"""Called with how much is done so far and how much there is in all, or None if nobody knows."""


@contextmanager
def reporting(label: str, *, in_bytes: bool) -> Iterator[Report]:
    """Give a function that draws a bar on a terminal, and does nothing without one."""
    console = Console(stderr=True)
    units = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (*Progress.get_default_columns(), *units)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
