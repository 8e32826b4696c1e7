"""The ``fedtutor`` command."""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console

from fedtutor import __version__
from fedtutor.datasets import commands as datasets
from fedtutor.deployment import commands as deployment
from fedtutor.errors import FederationError, FedtutorError
from fedtutor.options import BAD_INPUT, INTERRUPTED, STOPPED, add_out, add_settings, settings_from
from fedtutor.output import LAST_GOOD, check_writable, save_model
from fedtutor.settings import RunSettings, TrainingSettings

RUN_EXAMPLES = """examples:
  fedtutor run                                   five synthetic hospitals, about a minute
  fedtutor run --size 128                        the same, with images of 128 pixels
  fedtutor run --partition dirichlet --alpha 0.1 hospitals that see almost one class each
  fedtutor run --dataset ~/xrays --partition by:view
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="fedtutor",
        description="Learn federated learning on medical images. It teaches; it does not diagnose.",
    )
    parser.add_argument("--version", action="version", version=f"fedtutor {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    datasets.add_commands(commands)
    deployment.add_commands(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="train hospitals alone, federated and pooled, and compare them",
        description="Train each hospital alone, all of them federated, and one model on the\n"
        "pooled images, each image seen equally often; test all on patients that none\n"
        "of them saw; write summary.json, report.html and the global model, model.keras.",
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_settings(run, (RunSettings, TrainingSettings))
    add_out(run, "folder for the results")
    run.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor import report
    from fedtutor.console import LiveProgress, print_table
    from fedtutor.experiment import Experiment

    settings = settings_from(arguments)
    check_writable(arguments.out)
    with LiveProgress(console) as progress:
        experiment = Experiment(settings, progress)
        try:
            outcome = experiment.run()
            progress.stage("writing the report")
            report.write(outcome, arguments.out)
        except (FederationError, KeyboardInterrupt) as error:
            last_good = experiment.last_good
            if isinstance(error, FederationError) and not last_good:
                raise
            progress.close()
            return _say_stopped(error, last_good, arguments.out)
    print_table(outcome.summary, console)
    console.print(report.conclusion(outcome.summary))
    for name in ("report.html", "summary.json", "model.keras"):
        console.print(f"  {arguments.out / name}", soft_wrap=True, highlight=False)
    return 0


def _say_stopped(error: BaseException, last_good: tuple[int, Any] | None, folder: Path) -> int:
    """Say why a run ended early, keep its last good model, and return the exit code."""
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "stopped; no report was written." if interrupted else str(error)
    print(f"fedtutor: {reason}", file=sys.stderr)
    if last_good:
        server_round, model = last_good
        save_model(model, folder / LAST_GOOD)
        kept = f"The global model of round {server_round} is kept in {folder / LAST_GOOD}."
        print(kept, file=sys.stderr)
    return INTERRUPTED if interrupted else STOPPED


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    The exit code: 0 done, 1 stopped half-way or check failed, 2 bad input, 130 Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # its encoding may lack a sign of a name
            stream.reconfigure(errors="backslashreplace")
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments, Console(markup=False, emoji=False))
    except FedtutorError as error:
        print(f"fedtutor: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nfedtutor: stopped.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
