"""The ``fedtutor`` command."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from io import TextIOWrapper
from typing import Any

from rich.console import Console

from fedtutor import __version__
from fedtutor.classroom import commands as classroom
from fedtutor.datasets import commands as datasets
from fedtutor.deployment import commands as deployment
from fedtutor.errors import FedtutorError
from fedtutor.external import commands as external
from fedtutor.laptop import commands as laptop
from fedtutor.options import BAD_INPUT, INTERRUPTED, STOPPED, add_out, add_settings, settings_from
from fedtutor.settings import RunSettings, TrainingSettings
from fedtutor.support.output import check_writable
from fedtutor.support.system import LastingStream, when_told_to_end

RUN_EXAMPLES = """examples:
  fedtutor run                                   five synthetic hospitals, about a minute
  fedtutor run --size 128                        the same, with images of 128 pixels
  fedtutor run --partition dirichlet --alpha 0.1 hospitals that see almost one class each
  fedtutor run --dataset ~/xrays --partition by:view
A hospital trains on one core, and as many at a time as there are cores; the environment's
FEDTUTOR_WORKERS=2 makes it two at a time. The result is the same, bit for bit.
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
    external.add_commands(commands)
    laptop.add_commands(commands)
    datasets.add_commands(commands)
    deployment.add_commands(commands)
    classroom.add_commands(commands)
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
    add_out(run, "folder for the results; those of an older run move to previous/ in it")
    external.add_to_run(run)
    run.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor import report
    from fedtutor.console import LiveProgress
    from fedtutor.experiment import Experiment
    from fedtutor.figures.table import print_table

    settings, asked = settings_from(arguments), external.request_from(arguments, arguments.external)
    check_writable(arguments.out)
    with LiveProgress(console) as progress:
        experiment = Experiment(settings, progress, arguments.out)
        try:
            outcome = experiment.run(resume=arguments.resume, external=asked)
            progress.stage("writing the report")
            report.write(outcome, arguments.out, traces=not arguments.no_traces)
        except BaseException as error:
            if kept := experiment.keep():
                error.add_note(kept)
            raise
    print_table(outcome.summary, console)
    console.print(report.conclusion(outcome.summary))
    for name in ("report.html", "summary.json", "model.keras"):
        console.print(f"  {arguments.out / name}", soft_wrap=True, highlight=False)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    The exit code: 0 done, 1 stopped half-way or check failed, 2 bad input, 130 Ctrl-C or SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # its encoding may lack a sign of a name
            stream.reconfigure(errors="backslashreplace")
    arguments = build_parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():  # no other one is told of signals
        when_told_to_end(signal.default_int_handler)
    output: Any = sys.stdout and LastingStream(sys.stdout)
    console = Console(file=output, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000  # in a file or a pipe nothing is cut, whatever COLUMNS says
    try:
        return arguments.run(arguments, console)
    except (FedtutorError, KeyboardInterrupt) as error:
        stopped, notes = isinstance(error, KeyboardInterrupt), getattr(error, "__notes__", [])
        print(f"fedtutor: {'stopped.' if stopped else error}", *notes, sep="\n", file=sys.stderr)
        return INTERRUPTED if stopped else STOPPED if notes else BAD_INPUT
