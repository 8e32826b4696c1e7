"""A run of a class: what watches it, and what the board shows of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from fedtutor.deployment.running import Running
from fedtutor.settings import RunSettings

RUN_ID = re.compile(r"started run (\d+)")


@dataclass
class Run:
    """A run that was started, and what watches it."""

    number: int
    settings: RunSettings
    scenario: str
    seat: int
    folder: Path
    running: Running
    stopped: bool = False

    @property
    def going(self) -> bool:
        """Whether it has not ended yet."""
        return self.running.program.running

    def state(self, scheme: str) -> dict:
        """Return what the board shows of it; ``scheme`` dealt its images out."""
        going, events = self.going, self.running.events()  # in this order: it may end meanwhile
        file = self.folder / "references.json"
        references = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        stopped = [event["reason"] for event in events if event["event"] == "stopped"]
        ended = any(event["event"] == "end" for event in events)
        if not going and not ended and not stopped:
            why = "stopped by the teacher" if self.stopped else self.running.program.tail(3)
            stopped = [why]
        last = events[-1] if events else {"event": ""}
        return {
            "number": self.number,
            "rounds": [event for event in events if event["event"] == "round"],
            "going": going,
            "planned": self.settings.rounds,
            "strategy": self.settings.strategy,
            "partition": scheme,
            "scenario": self.scenario,
            "seat": self.seat,
            "references": references,
            "problem": "".join(stopped),
            "waiting": last["text"] if last["event"] == "waiting" else "",
        }


def doing(name: str, events: list[dict]) -> str:
    """Return what a connected hospital does at this moment: "trains", "sent", or why it is out."""
    rounds = [event["round"] for event in events if event["event"] == "round"]
    if not rounds:
        return ""
    now = rounds[-1] + 1
    for event in reversed(events):
        if event["event"] == "reply" and event["round"] == now and event["hospital"] == name:
            return "sent"
        if event["event"] == "round" and event["round"] == rounds[-1]:
            missed = [one["reason"] for one in event["left_out"] if one["hospital"] == name]
            return f"left out: {missed[0]}" if missed else "trains"
    return "trains"
