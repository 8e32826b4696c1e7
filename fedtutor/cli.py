"""The ``fedtutor`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedtutor import __version__
from fedtutor.errors import FederationError, FedtutorError

STOPPED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes; 130 is what a shell expects of a program stopped by Ctrl-C."""

EPILOG = """examples:
  fedtutor run                                   five synthetic hospitals, about a minute
  fedtutor run --size 128                        the same, with images of the mission's size
  fedtutor run --partition dirichlet --alpha 0.1 hospitals that see almost one class each
  fedtutor run --dataset ~/xrays --partition by:view
"""


RUN_OPTIONS = {
    "--dataset": (
        str,
        "chest-phantoms",
        "NAME_OR_PATH",
        "a name from 'fedtutor datasets', an .npz file or a folder",
    ),
    "--task": (
        str,
        None,
        "TEXT",
        "what to learn, where a set can be asked more than one thing (see 'fedtutor datasets')",
    ),
    "--hospitals": (int, None, "N", "how many (default: 5; with by:COLUMN one for each value)"),
    "--partition": (
        str,
        None,
        "SCHEME",
        "iid, dirichlet, shards, quantity or by:COLUMN, such as by:view "
        "(default: by:hospital if the set knows its hospitals, else dirichlet)",
    ),
    "--alpha": (
        float,
        0.5,
        "X",
        "evenness of dirichlet and quantity: 0.1 very uneven, 100 nearly even",
    ),
    "--rounds": (int, 12, "N", "rounds of federation"),
    "--local-epochs": (int, 1, "N", "passes a hospital makes over its own images in a round"),
    "--strategy": (
        str,
        "fedavg",
        "NAME",
        "how the server averages: fedavg, fedprox, fedavgm, fedadam, fedyogi, fedadagrad, "
        "fedmedian, fedtrimmedavg, krum, multikrum or bulyan",
    ),
    "--size": (int, None, "PIXELS", "side of the images (default: the set's own)"),
    "--seed": (int, 0, "N", "of everything random"),
    "--optimizer": (str, "adam", "NAME", "adam, sgd or momentum"),
    "--learning-rate": (float, 1e-3, "X", "step size"),
    "--schedule": (str, "constant", "NAME", "step size over the rounds: constant or cosine"),
    "--batch-size": (int, 8, "N", "images in a gradient step"),
    "--min-hospitals": (int, 1, "N", "stop if fewer send a usable update in a round"),
    "--out": (Path, Path("fedtutor-run"), "DIR", "folder for the results"),
}
"""Each option of ``fedtutor run``: type, default, placeholder, help."""


def build_parser() -> argparse.ArgumentParser:
    """The command line; ``fedtutor COMMAND --help`` shows what it says."""
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


def _add_run(commands) -> None:
    run = commands.add_parser(
        "run",
        help="train hospitals alone, federated and pooled, and compare them",
        description="Train each hospital alone, all of them federated, and one model on the\n"
        "pooled images, each image seen equally often; test all on patients that none\n"
        "of them saw; write summary.json, report.html and the global model, model.keras.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(run, RUN_OPTIONS)


def _add_options(parser: argparse.ArgumentParser, options: dict) -> None:
    for name, (kind, default, metavar, text) in options.items():
        if default is not None and "default" not in text:
            text += " (default: %(default)s)"
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=text)


DEPLOY_OPTIONS = RUN_OPTIONS | {
    "--hospitals": (int, 3, "N", "how many processes play a hospital"),
    "--rounds": (int, 3, "N", "rounds of federation"),
    "--size": (int, 32, "PIXELS", "side of the images"),
    "--out": (Path, Path("fedtutor-run"), "DIR", "folder for results, logs and keys"),
    "--round-timeout": (float, 180.0, "SECONDS", "how long a round waits for updates"),
    "--patience": (float, 10.0, "SECONDS", "how long it waits for hospitals not connected"),
}


def _add_deploy(commands) -> None:
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
    _add_options(deploy, DEPLOY_OPTIONS)
    deploy.add_argument(
        "--kill-one",
        action="store_true",
        help="kill a hospital while it trains; the others go on",
    )


PART_HELP = "which part, may be given several times; 'fedtutor datasets' lists them"


def _add_fetch(commands) -> None:
    fetch = commands.add_parser(
        "fetch",
        help="bring a data set here",
        description="Download a data set, check it and unpack it. What is here is not fetched\n"
        "again, a partial download is resumed. With FEDTUTOR_MIRROR, a folder or an\n"
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


def _add_mirror(commands) -> None:
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


def _settings(arguments: argparse.Namespace):
    from fedtutor.experiment import RunSettings
    from fedtutor.training import TrainingSettings

    return RunSettings(
        dataset=arguments.dataset,
        task=arguments.task,
        hospitals=arguments.hospitals,
        partition=arguments.partition,
        alpha=arguments.alpha,
        rounds=arguments.rounds,
        local_epochs=arguments.local_epochs,
        strategy=arguments.strategy,
        size=arguments.size,
        seed=arguments.seed,
        min_hospitals=arguments.min_hospitals,
        training=TrainingSettings(
            optimizer=arguments.optimizer,
            learning_rate=arguments.learning_rate,
            batch_size=arguments.batch_size,
            schedule=arguments.schedule,
        ),
    )


def _run(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.console import LiveProgress, print_table
    from fedtutor.experiment import run_experiment
    from fedtutor.report import page as report

    settings = _settings(arguments)
    report.check_writable(arguments.out)
    last_good = _LastGood(arguments.out)
    try:
        with LiveProgress(console) as progress:
            outcome = run_experiment(settings, progress, on_global_model=last_good.keep)
            progress.stage("writing the report")
            report.write(outcome, last_good.model, arguments.out)
    except FederationError as error:
        if not last_good.round:
            raise
        print(f"fedtutor: {error}\n{last_good.save()}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("\nfedtutor: stopped; no report was written.", file=sys.stderr)
        if last_good.round:
            print(last_good.save(), file=sys.stderr)
        return INTERRUPTED
    print_table(outcome.summary, console)
    console.print(report.verdict(outcome.summary))
    for name in ("report.html", "summary.json", "model.keras"):
        console.print(f"  {arguments.out / name}", soft_wrap=True, highlight=False)
    return 0


def _deploy(arguments: argparse.Namespace, console: Console) -> int:
    from fedtutor.deployment.job import LAST_GOOD, deploy

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
    tell(f"AUC {summary['auc']['fedavg']:.3f} on the central test set")
    for name in ("summary.json", "global-model.keras"):
        tell(f"  {arguments.out / name}")
    return 0


class _LastGood:
    """The global model after the last whole round, for when the run does not end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.model = None
        self.round = 0
        self._weights = None

    def keep(self, model, server_round: int) -> None:
        self.model, self.round, self._weights = model, server_round, model.get_weights()

    def save(self) -> str:
        from fedtutor.report import page as report

        path = self._folder / "last-good-model.keras"
        self.model.set_weights(self._weights)
        report.save_model(self.model, path)
        return f"The global model of round {self.round} is kept in {path}."


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
    for column in ("name", "what", "tasks or classes", "images", "pixels", "licence", "parts"):
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
    from fedtutor.datasets.download.commands import fetch

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
    from fedtutor.datasets.download.commands import mirror

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
