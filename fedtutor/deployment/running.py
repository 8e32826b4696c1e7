"""A run that is under way in other processes, watched from here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fedtutor.deployment.processes import Program
from fedtutor.errors import FederationError


class Running:
    """Watches ``flwr run --stream`` and the journal that the app's server keeps.

    Parameters
    ----------
    program : the running command; it ends when the run does.
    journal : the server's ``progress.jsonl``; None if the app keeps none.
    start_again : called when the command has ended; gives a new one, with a journal that begins
        anew, if it is worth another try.
    """

    def __init__(
        self,
        program: Program,
        journal: Path | None,
        start_again: Callable[[], Program | None] = lambda: None,
    ) -> None:
        self.program, self._journal, self._start_again = program, journal, start_again

    def events(self) -> list[dict]:
        """Return all that has been noted so far, whole lines only."""
        if self._journal is None or not self._journal.exists():
            return []
        text = self._journal.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def follow(self) -> Iterator[dict]:
        """Yield the events as they come, until the run has ended."""
        told = 0
        while True:
            running = self.program.running  # asked first, so that no last event is missed
            for event in self.events()[told:]:
                told += 1
                yield event
            if running:
                time.sleep(0.1)
            elif again := self._start_again():
                self.program, told = again, 0
            else:
                return

    def wait_for(self, wanted: Callable[[dict], bool], what: str) -> dict:
        """Return the first event that is wanted.

        Raises :class:`FederationError`, with the run's own reason, if the run ends before.
        """
        for event in self.follow():
            if wanted(event):
                return event
        raise FederationError(f"the run ended before {what}: {self._why()}")

    def wait_for_round(self, server_round: int) -> dict:
        """Return the event that ends a round: its scores, who trained, who was left out and why."""
        return self.wait_for(
            lambda event: event["event"] == "round" and event["round"] == server_round,
            f"round {server_round}",
        )

    def wait(self) -> dict:
        """Return the run's last event, with its scores; the run has then ended."""
        last = self.wait_for(lambda event: event["event"] == "end", "its result")
        self.program.process.wait()
        return last

    def _why(self) -> str:
        """Return why it ended: the server's own words, or the end of the log."""
        reasons = [event["reason"] for event in self.events() if event["event"] == "stopped"]
        return reasons[0] if reasons else f"its log ends with:\n{self.program.tail(20)}"
