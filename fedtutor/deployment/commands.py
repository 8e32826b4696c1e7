"""``fedtutor deploy`` and ``simulate``: their options, and what they say."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rich.console import Console

from fedtutor.deployment import DEFAULTS
from fedtutor.deployment.server_settings import ServerSettings
from fedtutor.errors import FederationError
from fedtutor.options import INTERRUPTED, STOPPED, add_out, add_settings, settings_from
from fedtutor.settings import RunSettings, TrainingSettings
from fedtutor.support.output import LAST_GOOD

FURTHER = ("resume", "kill_one", "round_timeout", "patience")  # not a run's settings, but a job's


def add_commands(commands: Any) -> None:
    """Add both to the command line."""
    deploy = commands.add_parser(
        "deploy",
        help="rehearse a deployment: a server and hospitals as processes, over TLS",
        description="Start a Flower SuperLink and a SuperNode for each hospital on this machine,\n"
        "with TLS and a key for each hospital, run the course's app on them, end them\n"
        "all, and write summary.json and global-model.keras. Hospitals reach the\n"
        "SuperLink through a gate that lets nobody start an app. All listen on 127.0.0.1\n"
        "only, where other users of this machine can still pass the gate by: trust them.",
        epilog="examples:\n"
        "  fedtutor deploy                                three hospitals, three rounds\n"
        "  fedtutor deploy --kill-one                     one loses its power half-way\n"
        "  fedtutor deploy --dataset ~/xrays --size 64    images of your own\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_settings(deploy, (RunSettings, TrainingSettings), DEFAULTS)
    add_settings(deploy, (ServerSettings,), DEFAULTS, only=("round_timeout", "patience"))
    add_out(deploy, "folder for results, logs and certificates; keys and images are removed")
    deploy.add_argument(
        "--kill-one", action="store_true", help="kill a hospital while it trains; the others go on"
    )
    deploy.set_defaults(run=_run)
    simulate = commands.add_parser(
        "simulate",
        help="run the same app in Flower's Ray simulation, and end all that it started",
        description="Run the course's app on Flower's own engine, Ray, a node for each hospital,\n"
        "as 'flwr run' does, and leave nothing running. Writes summary.json and\n"
        'global-model.keras. Needs Ray: pip install "fedtutor[ray]".',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_settings(simulate, (RunSettings, TrainingSettings), DEFAULTS)
    add_out(simulate, "folder for the results")
    simulate.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, console: Console) -> int:
    """Run the job that was asked for, tell what happens, and return the exit code."""
    from fedtutor.deployment import job as jobs

    further = {name: value for name, value in vars(arguments).items() if name in FURTHER}
    job = getattr(jobs, arguments.command)

    def tell(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    kept = arguments.out / LAST_GOOD
    try:
        summary = job(settings_from(arguments), arguments.out, tell=tell, **further)
    except (FederationError, KeyboardInterrupt) as error:
        stopped = isinstance(error, KeyboardInterrupt)
        print(f"fedtutor: {'stopped.' if stopped else error}", file=sys.stderr)
        if kept.exists():
            print(f"The last good global model is {kept}; --resume goes on.", file=sys.stderr)
        return INTERRUPTED if stopped else STOPPED
    tell(f"AUC {summary['auc']['federated']:.3f} on the central test set")
    for name in ("summary.json", "global-model.keras"):
        tell(f"  {arguments.out / name}")
    return 0
