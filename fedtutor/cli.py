"""The ``fedtutor`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fedtutor import __version__
from fedtutor.errors import FederationError, FedtutorError
from fedtutor.output import LAST_GOOD, check_writable, save_model
from fedtutor.settings import RunSettings, ServerSettings, TrainingSettings, settings_in

STOPPED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes; 130 is what a shell expects of a program stopped by Ctrl-C."""

DEPLOY = {"hospitals": 3, "rounds": 3, "size": 32, "round_timeout": 180.0, "patience": 10.0}
"""Other defaults for ``fedtutor deploy``: who is gone from one machine will not come back."""

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
    _add_deploy(commands)
    commands.add_parser(
        "check",
        help="tell whether this machine can run the course",
        description="Look at Python, packages, memory, disk and data; print the fix for whatever "
        "is missing. Exit code 1 if something needed is missing.",
    )
    commands.add_parser(
        "datasets",
        help="list the data sets and where their files belong",
        description="List the data sets that 'fedtutor run --dataset' knows by name: classes or "
        "tasks, number and size of the images, licence, and whether the files are where they "
        "belong. The environment variable FEDTUTOR_DATA moves the data folder.",
    )
    _add_fetch(commands)
    _add_mirror(commands)
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
    _add_settings(run, (RunSettings, TrainingSettings))
    _add_out(run, "folder for the results")


def _add_deploy(commands: Any) -> None:
    deploy = commands.add_parser(
        "deploy",
        help="rehearse a deployment: a server and hospitals as processes, over TLS",
        description="Start a Flower SuperLink and a SuperNode for each hospital on this machine,\n"
        "with TLS and a key for each hospital, run the course's app on them, end them\n"
        "all, and write summary.json and global-model.keras. What is written stays in\n"
        "--out. Nothing but 127.0.0.1 is listened on.",
        epilog="examples:\n"
        "  fedtutor deploy                                three hospitals, three rounds\n"
        "  fedtutor deploy --kill-one                     one loses its power half-way\n"
        "  fedtutor deploy --dataset ~/xrays --size 64    images of your own\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_settings(deploy, (RunSettings, TrainingSettings), DEPLOY)
    _add_settings(deploy, (ServerSettings,), DEPLOY, only=("round_timeout", "patience"))
    _add_out(deploy, "folder for results, logs and keys")
    deploy.add_argument(
        "--kill-one",
        action="store_true",
        help="kill a hospital while it trains; the others go on",
    )


def _add_settings(
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


def _add_out(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("fedtutor-run"),
        metavar="DIR",
        help=f"{text} (default: %(default)s)",
    )


def _settings(arguments: argparse.Namespace) -> RunSettings:
    """Return the settings that the options of ``run`` and ``deploy`` ask for."""

    def given(cls: type) -> dict[str, Any]:
        return {one.name: getattr(arguments, one.name) for one in settings_in(cls)}

    training = TrainingSettings(**given(TrainingSettings))
    return RunSettings(**given(RunSettings), training=training)


PART_HELP = "which part, may be given several times; 'fedtutor datasets' lists them"


def _add_fetch(commands: Any) -> None:
    fetch = commands.add_parser(
        "fetch",
        help="bring a data set here",
        description="Download a data set, check it and unpack it. What is here is not fetched\n"
        "again, and a partial download is resumed. With FEDTUTOR_MIRROR, a folder or an\n"
        "address, files come from there and are checked just the same.",
        epilog="examples:\n"
        "  fedtutor fetch pneumoniamnist                    4 MB\n"
        "  fedtutor fetch octmnist --part 64                images of 64 pixels\n"
        "  fedtutor fetch nih-chestxray14 --part 1 --part 2 two of twelve archives\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fetch.add_argument("name", metavar="NAME", help="a name from 'fedtutor datasets'")
    fetch.add_argument("--part", action="append", default=[], metavar="PART", help=PART_HELP)
    fetch.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help="data folder, in which the set gets a folder of its own (default: FEDTUTOR_DATA, or "
        "what 'fedtutor datasets' shows)",
    )
    fetch.add_argument(
        "--keep-archives", action="store_true", help="do not delete archives once unpacked"
    )


def _add_mirror(commands: Any) -> None:
    mirror = commands.add_parser(
        "mirror",
        help="prepare a copy of data sets for a class",
        description="Download the files of data sets into DIR, checked and as they are. Thirty\n"
        "laptops with FEDTUTOR_MIRROR=DIR (a shared folder), or the address of a web\n"
        "server that serves DIR, then fetch from there.",
        epilog="example:\n"
        "  fedtutor mirror /srv/fedtutor pneumoniamnist octmnist\n"
        "  python3 -m http.server --directory /srv/fedtutor 8000\n"
        "  FEDTUTOR_MIRROR=http://teacher.local:8000 fedtutor fetch octmnist\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mirror.add_argument("directory", type=Path, metavar="DIR", help="where to put the copy")
    mirror.add_argument("names", nargs="*", metavar="NAME", help="(default: pneumoniamnist)")
    mirror.add_argument("--part", action="append", default=[], metavar="PART", help=PART_HELP)


def _run(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor import report
    from fedtutor.console import LiveProgress, print_table
    from fedtutor.experiment import Experiment

    settings = _settings(arguments)
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


def _deploy(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.deployment.job import deploy

    def tell(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    kept = arguments.out / LAST_GOOD
    try:
        summary = deploy(
            _settings(arguments),
            arguments.out,
            kill_one=arguments.kill_one,
            tell=tell,
            round_timeout=arguments.round_timeout,
            patience=arguments.patience,
        )
    except (FederationError, KeyboardInterrupt) as error:
        stopped = isinstance(error, KeyboardInterrupt)
        print(f"fedtutor: {'stopped.' if stopped else error}", file=sys.stderr)
        if kept.exists():
            print(f"The last good global model is {kept}.", file=sys.stderr)
        return INTERRUPTED if stopped else STOPPED
    tell(f"AUC {summary['auc']['federated']:.3f} on the central test set")
    for name in ("summary.json", "global-model.keras"):
        tell(f"  {arguments.out / name}")
    return 0


def _check(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.machine import check_machine

    findings = check_machine()
    table = Table(show_header=False, box=None)
    for finding in findings:
        word = "ok" if finding.ok else "MISSING" if finding.needed else "note"
        table.add_row(word, finding.what, finding.found)
    console.print(table)
    for finding in findings:
        if not finding.ok:
            console.print(f"{finding.what}: {finding.fix}", soft_wrap=True, highlight=False)
    broken = [finding for finding in findings if finding.needed and not finding.ok]
    console.print(
        f"{len(broken)} needed things are missing."
        if broken
        else "This machine can run the course."
    )
    return 1 if broken else 0


def _datasets(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets import DATASETS, data_folder

    table = Table()
    table.add_column("name", no_wrap=True)  # is to be typed
    for column in ("what", "tasks or classes", "images", "pixels", "licence", "parts"):
        table.add_column(column)
    table.add_column("here")
    for info in DATASETS.values():
        here = "generated" if info.synthetic else "yes" if info.is_present() else "no"
        parts = list(info.parts)
        table.add_row(
            info.name,
            info.title,
            _some(info.tasks or info.classes),
            "" if info.images is None else f"{info.images:,}",
            str(info.size),
            info.licence,
            f"{parts[0]}-{parts[-1]}" if len(parts) > 4 else ", ".join(parts),
            here,
        )
    console.print(table)
    console.print(f"Data folder: {data_folder()} (FEDTUTOR_DATA moves it)", soft_wrap=True)
    return 0


def _some(words: Sequence[str], most: int = 4) -> str:
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest} more" if rest > 0 else "")


def _fetch(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets.fetch.fetching import fetch

    folder = fetch(
        arguments.name,
        parts=arguments.part,
        folder=arguments.to,
        keep_archives=arguments.keep_archives,
    )
    console.print(f"{arguments.name} is in {folder}", soft_wrap=True, highlight=False)
    what = arguments.name if arguments.to is None else folder
    console.print(f"Next: fedtutor run --dataset {what}", soft_wrap=True, highlight=False)
    return 0


def _mirror(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.datasets.fetch.fetching import mirror

    for file in mirror(arguments.directory, arguments.names, parts=arguments.part):
        console.print(f"  {file}", soft_wrap=True, highlight=False)
    console.print(
        f"Now set FEDTUTOR_MIRROR={arguments.directory.absolute()} on the laptops, or to the "
        "address of a web server that serves this folder.",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Returns
    -------
    The exit code: 0 done, 1 stopped half-way or check failed, 2 bad input, 130 Ctrl-C.
    """
    arguments = build_parser().parse_args(argv)
    commands = {
        "run": _run,
        "deploy": _deploy,
        "check": _check,
        "datasets": _datasets,
        "fetch": _fetch,
        "mirror": _mirror,
    }
    try:
        return commands[arguments.command](arguments, Console())
    except FedtutorError as error:
        print(f"fedtutor: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nfedtutor: stopped.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
