"""What a server in a network is asked for, and the run config that brings it to Flower's app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedtutor.errors import DataError
from fedtutor.settings import (
    Checked,
    Config,
    RunSettings,
    TrainingSettings,
    from_config,
    setting,
    to_config,
)


@dataclass(frozen=True)
class ServerSettings(Checked):
    """The part of the run config that is about a server in a network, not the experiment."""

    test_data: str = setting(
        "", "file of the central test set; deal out the data set here if ''", "FILE"
    )
    out: str = setting("", "absolute folder for the progress and the last good model", "DIR")
    round_timeout: float = setting(600.0, "how long a round waits for updates", "SECONDS", above=0)
    patience: float = setting(
        120.0, "how long it waits for hospitals not connected", "SECONDS", least=0
    )
    expected: int = setting(0, "how many hospitals to wait for; all, if 0", least=0)
    max_update_ratio: float = setting(
        10.0, "leave out an update so many times as long as the median", "X", above=1
    )
    registered: str = setting(
        "", "images that each hospital registered; none may claim more", "NAME=N,..."
    )
    resume: bool = setting(False, "go on after the last whole round of the run in 'out'")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.register()

    def register(self) -> dict[str, int] | None:
        """Return the registered numbers by name; None if there are none: all are believed."""
        try:
            pairs = [one.rpartition("=") for one in self.registered.split(",") if one.strip()]
            return {name.strip(): int(number) for name, _, number in pairs} or None
        except ValueError:
            raise DataError(f"registered must be NAME=N,...; got {self.registered!r}.") from None


def run_config(settings: RunSettings, server: ServerSettings) -> Config:
    """Return both as a Flower run config."""
    return to_config(settings) | to_config(settings.training) | to_config(server)


def settings_of(config: Mapping[str, Any]) -> tuple[RunSettings, ServerSettings]:
    """Return the settings that :func:`run_config` was made from."""
    training = from_config(TrainingSettings, config)
    return from_config(RunSettings, config, training=training), from_config(ServerSettings, config)
