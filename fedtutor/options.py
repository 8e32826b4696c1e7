"""Options of the command line, made from the one table of settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedtutor.settings import RunSettings, TrainingSettings, settings_in

STOPPED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes; 130 is what a shell expects of a program stopped by Ctrl-C; SIGTERM has it, too."""


def add_settings(
    parser: argparse.ArgumentParser,
    classes: Sequence[type],
    defaults: Mapping[str, Any] = {},
    only: Sequence[str] = (),
) -> None:
    """Make an option of each setting, with its type, default and help."""
    for one in (one for cls in classes for one in settings_in(cls)):
        if only and one.name not in only:
            continue
        text, default = one.metadata["help"], defaults.get(one.name, one.default)
        if default is not None:
            text = text.split(" (default: ")[0] + " (default: %(default)s)"
        parser.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=one.metadata["kind"],
            default=default,
            metavar=one.metadata["metavar"],
            help=text,
        )


def path(text: str) -> Path:
    """Return a path that was typed; Windows' shells leave its ~ to the program."""
    return Path(text).expanduser()


def add_out(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--out``, the folder that a command writes to, and ``--resume``."""
    parser.add_argument(
        "--out",
        type=path,
        default=Path("fedtutor-run"),
        metavar="DIR",
        help=f"{text} (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run that is in --out")


def settings_from(arguments: argparse.Namespace) -> RunSettings:
    """Return the settings that the options of ``run`` and ``deploy`` ask for."""

    def given(cls: type) -> dict[str, Any]:
        return {one.name: getattr(arguments, one.name) for one in settings_in(cls)}

    training = TrainingSettings(**given(TrainingSettings))
    return RunSettings(**given(RunSettings), training=training)
