"""The course's Flower app: what ``flwr run .`` starts, and what hospitals run in a deployment.

``[tool.flwr.app]`` in ``pyproject.toml`` names :data:`client_app` and :data:`server_app`, and
lists the run config with its defaults. In a simulation each node deals the named data set out by
itself and takes its own share; in a deployment a hospital reads its own file, which its SuperNode
names (``--node-config 'data="..."'``).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedtutor import federation
from fedtutor.deployment.hospital_file import read_images
from fedtutor.errors import DataError, FederationError
from fedtutor.experiment import Cohort, RunSettings, build_cohort
from fedtutor.images import MedicalImages
from fedtutor.training import TrainingSettings

PROGRESS, LAST_GOOD = "progress.jsonl", "last-good-model.keras"


@dataclass(frozen=True)
class ServerSettings:
    """The part of the run config that is about the server and not about the experiment.

    Attributes
    ----------
    test_data : the file of the central test set; "" to deal the data set out here, too.
    out : an absolute folder for the progress and the last good model; "" for none.
    round_timeout : seconds a round waits for replies.
    patience : seconds it waits for hospitals that are not connected.
    max_update_ratio : an update longer than so many times the round's median one is left out.
    """

    test_data: str = ""
    out: str = ""
    round_timeout: float = 600.0
    patience: float = 120.0
    max_update_ratio: float = 10.0


def run_config(settings: RunSettings, server: ServerSettings) -> dict[str, str | int | float]:
    """Both as a Flower run config, where what is not given is "" or 0."""
    return {
        "dataset": str(settings.dataset),
        "task": settings.task or "",
        "hospitals": settings.hospitals or 0,
        "partition": settings.partition or "",
        "size": settings.size or 0,
        **{
            name.replace("_", "-"): getattr(settings, name)
            for name in ("alpha", "rounds", "local_epochs", "strategy", "seed", "min_hospitals")
        },
        **{
            name.replace("_", "-"): getattr(settings.training, name)
            for name in ("optimizer", "learning_rate", "batch_size", "schedule")
        },
        **{name.replace("_", "-"): value for name, value in vars(server).items()},
    }


def settings_of(config: dict) -> tuple[RunSettings, ServerSettings]:
    """The other way round, from a run config."""
    given = {name.replace("-", "_"): value for name, value in config.items()}
    server = {name: given.pop(name) for name in vars(ServerSettings())}
    training = {
        name: given.pop(name) for name in ("optimizer", "learning_rate", "batch_size", "schedule")
    }
    for name in ("task", "hospitals", "partition", "size"):
        given[name] = given[name] or None
    return RunSettings(**given, training=TrainingSettings(**training)), ServerSettings(**server)


@lru_cache(maxsize=2)
def _cohort(settings: RunSettings) -> Cohort:
    return build_cohort(settings)


@lru_cache(maxsize=2)
def _own_images(path: str, size: int | None) -> MedicalImages:
    return read_images(Path(path), size=size)


def images_of(context: Context) -> MedicalImages:
    """A hospital's images: its own file, or its share of the data set that all can deal out."""
    settings, _ = settings_of(context.run_config)
    if "data" in context.node_config:
        return _own_images(str(context.node_config["data"]), settings.size)
    return _share(context)[0]


def name_of(context: Context) -> str:
    """What its SuperNode calls a hospital, or the name of its share."""
    if "name" in context.node_config:
        return str(context.node_config["name"])
    if "data" in context.node_config:
        return Path(str(context.node_config["data"])).stem
    return _share(context)[1]


def _share(context: Context) -> tuple[MedicalImages, str]:
    settings, _ = settings_of(context.run_config)
    cohort, node = _cohort(settings), context.node_config
    count = len(cohort.hospitals)
    if node.get("num-partitions") != count or "partition-id" not in node:
        raise FederationError(
            f"the data set was dealt out to {count} hospitals and the federation has "
            f"{node.get('num-partitions')} nodes. {_same_number(count)}"
        )
    k = int(node["partition-id"])
    return cohort.hospitals[k], cohort.partition.names[k]


def _same_number(count: int) -> str:
    return (
        f'Give both the same number: flwr run . --run-config "hospitals={count}" '
        f'--federation-config "num-supernodes={count}"'
    )


client_app = federation.make_client_app(images_of, name_of=name_of)
"""The hospital's half."""

server_app = ServerApp()
"""The server's half."""


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train as the run config says; print a line a round, and keep the last good model."""
    settings, server = settings_of(context.run_config)
    test = _test_images(settings, server)
    count = settings.hospitals or len(_cohort(settings).hospitals)
    journal = Journal(settings, test, Path(server.out) if server.out else None)
    strategy = federation.make_strategy(
        settings.strategy,
        count,
        min_train_nodes=settings.min_hospitals,
        min_available_nodes=settings.min_hospitals,
    )
    app = federation.make_server_app(
        journal.model.get_weights(),
        strategy,
        num_rounds=settings.rounds,
        config=federation.train_config(
            settings.training,
            num_rounds=settings.rounds,
            local_epochs=settings.local_epochs,
            seed=settings.seed,
            class_names=test.class_names,
        ),
        min_hospitals=settings.min_hospitals,
        timeout=server.round_timeout,
        on_reply=journal.on_reply,
        on_round=journal.on_round,
        max_ratio=server.max_update_ratio,
        roll=federation.Roll(
            count,
            minimum=settings.min_hospitals,
            patience=server.patience,
            tell=journal.tell,
        ),
    )
    try:
        app(grid, context)
    except FederationError as error:
        journal.note("stopped", reason=str(error))
        raise
    journal.end()


def _test_images(settings: RunSettings, server: ServerSettings) -> MedicalImages:
    if server.test_data:
        return read_images(Path(server.test_data), size=settings.size)
    try:
        return _cohort(settings).test
    except DataError as error:
        raise FederationError(f"the server has no test set: {error}") from error


class Journal:
    """What the server sees of a run, told in lines and kept in ``progress.jsonl``.

    Parameters
    ----------
    test : the central test set, of patients of no hospital.
    folder : where to keep the progress and the last good model; None for nowhere.
    """

    def __init__(self, settings: RunSettings, test: MedicalImages, folder: Path | None) -> None:
        from fedtutor.model import create_model

        self._settings, self._test, self._folder = settings, test, folder
        self._start = time.monotonic()
        self._rounds: list[dict] = []
        self._left_out: list[dict] = []
        self.model = create_model(
            test.image_shape,
            len(test.class_names),
            multi_label=test.multi_label,
            seed=settings.seed,
        )

    def tell(self, line: str) -> None:
        self.note("waiting", text=line)
        print(line, flush=True)

    def on_reply(self, server_round: int, hospital: str, metrics: dict) -> None:
        self.note("reply", round=server_round, hospital=hospital, metrics=metrics)

    def on_round(self, server_round: int, weights, grid) -> dict[str, float]:
        """Judge the new global model, keep it, and say a line."""
        from fedtutor.evaluation import evaluate
        from fedtutor.model import predict
        from fedtutor.report.page import save_model

        self.model.set_weights(weights)
        scores = evaluate(predict(self.model, self._test.images), self._test.labels)
        traffic = grid.traffic.get(server_round, federation.Traffic())
        if self._folder and server_round:
            save_model(self.model, self._folder / LAST_GOOD)
        self._left_out = [vars(out) for out in grid.left_out]
        row = {
            "round": server_round,
            "auc": scores.auc,
            "accuracy": scores.accuracy,
            "loss": scores.loss,
            "bytes_down": traffic.bytes_down,
            "bytes_up": traffic.bytes_up,
            "hospitals": len(traffic.hospitals),
        }
        self._rounds.append(row)
        missed = [out for out in self._left_out if out["round"] == server_round]
        self.note("round", **row, names=traffic.hospitals, left_out=missed)
        if server_round:
            print(say_round(row, missed, self._settings.rounds), flush=True)
        return {"auc": scores.auc, "loss": scores.loss}

    def end(self) -> None:
        """Score the last global model in full; the last line of the journal."""
        from fedtutor.evaluation import bootstrap_aucs, evaluate, interval
        from fedtutor.images import patients_of
        from fedtutor.model import predict

        probabilities = predict(self.model, self._test.images)
        scores = evaluate(probabilities, self._test.labels)
        samples = bootstrap_aucs(
            probabilities,
            self._test.labels,
            patients=patients_of(self._test),
            seed=self._settings.seed,
        )
        self.note(
            "end",
            auc={"fedavg": scores.auc},
            accuracy={"fedavg": scores.accuracy},
            class_auc={"fedavg": scores.class_aucs},
            auc_interval={"fedavg": interval(samples)},
            rounds=self._rounds,
            left_out=self._left_out,
        )

    def note(self, event: str, **values) -> None:
        """Add a line to the journal's file, with the seconds since its start."""
        if self._folder is None:
            return
        from fedtutor.summary import plain

        seconds = round(time.monotonic() - self._start, 3)
        line = json.dumps(plain({"event": event, "seconds": seconds, **values}), allow_nan=False)
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def say_round(row: dict, missed: list[dict], num_rounds: int) -> str:
    """One line on a round: how good the model is, who trained, who was left out and why."""
    text = (
        f"round {row['round']} of {num_rounds}: AUC {row['auc']:.3f}, "
        f"{row['hospitals']} hospitals trained"
    )
    return text + "".join(f"; {out['hospital']} left out: {out['reason']}" for out in missed)
