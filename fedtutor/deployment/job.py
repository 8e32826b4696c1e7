"""The course's app in other processes, as ``fedtutor deploy`` and in Flower's own simulation."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedtutor.cohort import Cohort, build_cohort
from fedtutor.deployment import DEFAULTS
from fedtutor.deployment.appfolder import write_app
from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.halves import PROGRESS, say_round
from fedtutor.deployment.private import make_private_folder
from fedtutor.deployment.server_settings import ServerSettings, run_config
from fedtutor.deployment.superlink import LocalSimulation, SuperLink, need_ray
from fedtutor.errors import FederationError
from fedtutor.settings import RunSettings
from fedtutor.summary import describe, describe_hospitals, versions
from fedtutor.support.output import (
    CHECKPOINT,
    LAST_GOOD,
    SUMMARY,
    check_writable,
    plain,
    set_aside,
    write_json,
    writing_to,
)
from fedtutor.support.system import patiently

Tell = Callable[[str], None]


def deploy(
    settings: RunSettings,
    out: Path,
    *,
    resume: bool = False,
    kill_one: bool = False,
    tell: Tell = print,
    round_timeout: float = DEFAULTS["round_timeout"],
    patience: float = DEFAULTS["patience"],
) -> dict:
    """Run a federation of processes here, and return its summary, as written to ``out``.

    Parameters
    ----------
    settings : as for :func:`fedtutor.experiment.run_experiment`.
    out : gets ``summary.json``, ``global-model.keras``, the server's ``progress.jsonl``, and in
        ``federation/`` the logs and certificates; keys and images are removed in the end.
    resume : go on after the last whole round of the run in ``out``, which had the same settings.
    kill_one : cut a hospital's power while it trains, in the middle of the run.
    tell : called with a line of text whenever something has happened.
    round_timeout, patience : see :class:`fedtutor.deployment.server_settings.ServerSettings`.

    Raises
    ------
    FederationError
        If the federation cannot be started or the run ends early; ``last-good-model.keras`` is
        then the global model after the last whole round.
    """
    began = time.monotonic()
    if kill_one and (resume or settings.rounds < 2):
        raise FederationError("to kill one in the middle there must be at least 2 rounds, all new.")
    out, cohort = _begin(out, settings, resume)
    names, middle = cohort.names, (settings.rounds + 1) // 2
    tell(f"{len(names)} hospitals, {len(cohort.train)} images; starting their processes")
    images = dict(zip(names, cohort.hospitals, strict=True))
    federation = LocalFederation(images, test=cohort.test, folder=_fresh(out / "federation"))

    def after_round(server_round: int) -> None:
        if kill_one and server_round == middle - 1:
            federation.wait_until_training(names[-1], middle)
            federation.kill_hospital(names[-1])
            tell(f"{names[-1]} was killed while it trained in round {middle}")

    with federation:
        tell(f"all are connected over TLS to the gate on port {federation.hospitals_port}")
        test_data = str(federation.test_data)
        server = ServerSettings(test_data, str(out), round_timeout, patience, resume=resume)
        known = replace(settings, hospitals=len(names))  # the server has no data set to count in
        ready = time.monotonic()
        last = _run(federation, known, server, tell, after_round)
    engine = "SuperLink and SuperNodes over TLS, as processes on one machine"
    return _write_summary(out, settings, cohort, last, engine, began, ready)


def simulate(
    settings: RunSettings, out: Path, *, resume: bool = False, cpus: int = 1, tell: Tell = print
) -> dict:
    """Run the app in Flower's Ray simulation, as ``flwr run`` does, and leave nothing running.

    Returns the summary and raises :class:`FederationError` as :func:`deploy`, or :func:`need_ray`.

    Parameters
    ----------
    settings, resume, tell : as for :func:`deploy`.
    out : gets ``summary.json``, ``global-model.keras`` and the server's ``progress.jsonl``.
    cpus : cores for each hospital that trains; as many train at a time as there are cores for.
    """
    need_ray()
    began = time.monotonic()
    path = Path(settings.dataset).expanduser()
    if path.exists():  # the app's own folder is another
        settings = replace(settings, dataset=str(path.absolute()))
    out, cohort = _begin(out, settings, resume)
    tell(f"{len(cohort.names)} hospitals, {len(cohort.train)} images; starting Ray")
    with LocalSimulation(len(cohort.names), cpus=cpus) as simulation:
        ready = time.monotonic()
        last = _run(simulation, settings, ServerSettings(out=str(out), resume=resume), tell)
    return _write_summary(out, settings, cohort, last, "Flower's Ray simulation", began, ready)


def _begin(out: Path, settings: RunSettings, resume: bool) -> tuple[Path, Cohort]:
    """Return the folder's absolute path, an older run set aside unless resumed, and the data."""
    out, cohort = check_writable(out), build_cohort(settings)
    if not resume:
        set_aside(out)
    elif not (out / CHECKPOINT).exists():
        raise FederationError(f"no run to resume: there is no {out / CHECKPOINT}.")
    else:
        (out / PROGRESS).unlink(missing_ok=True)  # its rounds are in the checkpoint
    return out, cohort


def _fresh(folder: Path) -> Path:
    """Return the folder, empty of what an earlier deployment of ours has left there."""
    mark = folder / "made-by-fedtutor-deploy"
    if folder.exists():
        if not mark.exists():
            raise FederationError(
                f"{folder} was not made by 'fedtutor deploy', which keeps its files under that "
                "name; choose another folder with --out."
            )
        with writing_to(folder):
            patiently(shutil.rmtree, folder)
    make_private_folder(folder)
    mark.touch()
    return folder


def _run(
    link: SuperLink,
    settings: RunSettings,
    server: ServerSettings,
    tell: Tell,
    after_round: Callable[[int], None] = lambda server_round: None,
) -> dict:
    """Run the app, tell what happens, and return the server's last event."""
    app = write_app(link.folder / "app", run_config(settings, server))
    running = link.run(app, Path(server.out) / PROGRESS)
    for event in running.follow():
        if event["event"] == "waiting":
            tell(event["text"])
        elif event["event"] == "round":
            tell(say_round(event, event["left_out"], settings.rounds))
            after_round(event["round"])
    return running.wait()


def _write_summary(
    out: Path,
    settings: RunSettings,
    cohort: Cohort,
    last: dict,
    engine: str,
    began: float,
    ready: float,
) -> dict:
    """Write the summary and give the model its name; ``began`` and ``ready`` are monotonic."""
    now = time.monotonic()
    seconds = {"start": ready - began, "federated": now - ready, "total": now - began}
    summary = plain(
        {
            **describe(settings, cohort),
            "hospitals": describe_hospitals(cohort),
            **{key: last[key] for key in ("auc", "accuracy", "class_auc", "auc_interval")},
            **{key: last[key] for key in ("rounds", "left_out")},
            "versions": versions(),
            "seconds": {step: round(took, 3) for step, took in seconds.items()},
            "engine": engine,
        }
    )
    write_json(out / SUMMARY, summary)
    patiently(os.replace, out / LAST_GOOD, out / "global-model.keras")
    (out / CHECKPOINT).unlink(missing_ok=True)
    return summary
