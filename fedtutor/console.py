"""What a run shows in a terminal while it goes on."""

from __future__ import annotations

from rich import progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedtutor.experiment import Progress


class LiveProgress(Progress):
    """The main job's progress as one live line: what is going on, how far, how long still."""

    def __init__(self, console: Console) -> None:
        self._bar = progress.Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        # Without a terminal the bar would show nothing until the end; stages are then lines.
        self._print = None if console.is_terminal else console.print

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def start(self, total: int) -> None:
        """Say how many images there are to train on, counted once each time."""
        self._bar.update(self._task, total=total)

    def stage(self, text: str) -> None:
        """Say what is going on."""
        self._bar.update(self._task, description=text)
        if self._print and ", " not in text:
            self._print(f"{text} ...")

    def advance(self, images: int) -> None:
        """Say that so many images more were trained on."""
        self._bar.advance(self._task, images)
