"""``fedtutor deploy``: the course's app on a local federation, from dealing out to the summary."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fedtutor.cohort import Cohort, build_cohort
from fedtutor.deployment.app import PROGRESS, say_round
from fedtutor.deployment.appfolder import write_app
from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.running import Running
from fedtutor.errors import FederationError, FedtutorError
from fedtutor.output import LAST_GOOD
from fedtutor.settings import RunSettings, ServerSettings, run_config
from fedtutor.summary import describe, plain, versions

ROUND_TIMEOUT = 180.0
PATIENCE = 10.0
"""Short ones: who is gone from this machine will not come back by itself."""


def deploy(
    settings: RunSettings,
    out: Path,
    *,
    kill_one: bool = False,
    tell: Callable[[str], None] = print,
    round_timeout: float = ROUND_TIMEOUT,
    patience: float = PATIENCE,
) -> dict:
    """Run a federation of processes on this machine and write what came of it to ``out``.

    Parameters
    ----------
    settings : as for :func:`fedtutor.experiment.run_experiment`.
    out : gets ``summary.json``, ``global-model.keras``, the server's ``progress.jsonl``, and in
        ``federation/`` the logs, certificates and each hospital's folder.
    kill_one : cut a hospital's power while it trains, in the middle of the run.
    tell : called with a line of text whenever something has happened.
    round_timeout, patience : see :class:`fedtutor.deployment.app.ServerSettings`.

    Returns
    -------
    The summary, as written to ``summary.json``.

    Raises
    ------
    FederationError
        If the federation cannot be started or the run ends early; ``last-good-model.keras`` is
        then the global model after the last whole round.
    """
    start = time.monotonic()
    if kill_one and settings.rounds < 2:
        raise FederationError("to kill one in the middle there must be at least 2 rounds.")
    out = _writable(out)
    for name in ("summary.json", "global-model.keras", LAST_GOOD, PROGRESS):
        (out / name).unlink(missing_ok=True)  # an older run's must not pass for this one's
    cohort = build_cohort(settings)
    names = cohort.partition.names
    tell(f"{len(names)} hospitals, {len(cohort.train)} images; starting their processes")
    federation = LocalFederation(
        dict(zip(names, cohort.hospitals, strict=True)),
        test=cohort.test,
        folder=_fresh(out / "federation"),
    )
    with federation:
        tell(f"all are connected over TLS to the SuperLink on port {federation.port}")
        server = ServerSettings(
            test_data=str(federation.test_data),
            out=str(out),
            round_timeout=round_timeout,
            patience=patience,
        )
        app = write_app(out / "federation" / "app", run_config(settings, server))
        ready = time.monotonic()
        running = federation.run(app, out / PROGRESS)
        last = _watch(running, settings, tell, federation, names[-1] if kill_one else None)
        trained = time.monotonic()
    summary = _summary(settings, cohort, last)
    summary["seconds"] = {
        "start": round(ready - start, 3),
        "federated": round(trained - ready, 3),
        "total": round(time.monotonic() - start, 3),
    }
    summary["engine"] = "SuperLink and SuperNodes over TLS, as processes on one machine"
    os.replace(out / LAST_GOOD, out / "global-model.keras")
    _write_whole(out / "summary.json", json.dumps(plain(summary), indent=2, allow_nan=False) + "\n")
    return plain(summary)


def _writable(folder: Path) -> Path:
    # Not that of fedtutor.report.page, which loads matplotlib, which writes to the user's home.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.absolute()
    except OSError as error:
        raise FedtutorError(
            f"cannot write to {folder} ({error.strerror}); choose another folder with --out."
        ) from error


def _fresh(folder: Path) -> Path:
    """The folder, empty of what an earlier deployment of ours has left there."""
    mark = folder / "made-by-fedtutor-deploy"
    if folder.exists():
        if not mark.exists():
            raise FederationError(
                f"{folder} was not made by 'fedtutor deploy', which keeps its files under that "
                "name; choose another folder with --out."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    mark.touch()
    return folder


def _watch(
    running: Running,
    settings: RunSettings,
    tell: Callable[[str], None],
    federation: LocalFederation,
    victim: str | None,
) -> dict:
    """Tell what happens, kill the victim in the middle, and return the last event."""
    middle = (settings.rounds + 1) // 2
    for event in running.follow(float("inf")):
        if event["event"] == "waiting":
            tell(event["text"])
        elif event["event"] == "round":
            tell(say_round(event, event["left_out"], settings.rounds))
            if victim and event["round"] == middle - 1:
                federation.wait_until_training(victim, middle)
                federation.kill_hospital(victim)
                tell(f"{victim} was killed while it trained in round {middle}")
        elif event["event"] == "end":
            running.wait_for_exit()
            return event
    raise FederationError(f"the run ended early: {running.why()}")


def _summary(settings: RunSettings, cohort: Cohort, last: dict) -> dict:
    counts = cohort.partition.class_counts(cohort.train)
    hospitals = [
        {"id": k, "name": name, "num_examples": len(images), "class_counts": counts[k]}
        for k, (name, images) in enumerate(
            zip(cohort.partition.names, cohort.hospitals, strict=True)
        )
    ]
    scores = {key: last[key] for key in ("auc", "accuracy", "class_auc", "auc_interval")}
    return {
        **describe(settings, cohort),
        "hospitals": hospitals,
        **scores,
        "rounds": last["rounds"],
        "left_out": last["left_out"],
        "versions": versions(),
    }


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".unfinished-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
