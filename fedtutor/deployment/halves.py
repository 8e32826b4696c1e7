"""The two halves of the course's Flower app: what a hospital does, and what the server does.

In a simulation each node deals the named data set out by itself and takes its own share; in a
deployment a hospital reads its own file, which its SuperNode names
(``--node-config 'data="..."'``).
"""

from __future__ import annotations

import json
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import Grid

from fedtutor import federation
from fedtutor.cohort import build_cohort
from fedtutor.deployment.hospital_file import read_hospital_file
from fedtutor.deployment.network_guard import NetworkGuard, OneByOne
from fedtutor.deployment.roll import Roll
from fedtutor.deployment.server_settings import ServerSettings, settings_of
from fedtutor.errors import DataError, FederationError, FedtutorError
from fedtutor.evaluation import Evaluation, evaluate
from fedtutor.external.card import make_card
from fedtutor.external.model_file import save_model
from fedtutor.federation.records import config_in
from fedtutor.images import MedicalImages, patients_of, say_shape
from fedtutor.model import Weights, create_model, predict
from fedtutor.settings import RunSettings
from fedtutor.support.output import LAST_GOOD, PROGRESS, plain

UNSEEN = "the hospitals' own images"
"""What a model was trained on, as far as the server knows."""

_cohort = lru_cache(maxsize=2)(build_cohort)
_own_images = lru_cache(maxsize=2)(read_hospital_file)


def images_of(context: Context) -> MedicalImages:
    """Return a hospital's images: its own file, or its share of a data set that all have."""
    settings, _ = settings_of(context.run_config)
    if "data" in context.node_config:
        path = Path(str(context.node_config["data"]))
        return _own_images(path, size=settings.size, colour=settings.colour == "rgb")
    return _share(context)[0]


def name_of(context: Context) -> str:
    """Return what its SuperNode calls a hospital, or the name of its share."""
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
            f"{node.get('num-partitions')} nodes. Give both the same number: flwr run . "
            f'--run-config "hospitals={count}" --federation-config "num-supernodes={count}"'
        )
    k = int(node["partition-id"])
    return cohort.hospitals[k], cohort.partition.names[k]


def check_classes(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Refuse to train if the server's classes or images are others than ours: a Flower mod."""
    if "config" in message.content:
        wanted: Any = config_in(message)
        ours = images_of(context)
        if list(wanted["class-names"]) != list(ours.class_names):
            raise DataError(
                f"the server's labels are {', '.join(wanted['class-names'])}, and this hospital's "
                f"{', '.join(ours.class_names)}; agree on the classes and their order."
            )
        if tuple(wanted["image-shape"]) != ours.image_shape:
            raise DataError(
                f"the server's model takes images of {say_shape(wanted['image-shape'])}, and this "
                f"hospital has {say_shape(ours.image_shape)}; agree on size and colour."
            )
    return call_next(message, context)


client_app = federation.make_client_app(images_of, name_of=name_of, mods=[check_classes])
"""The hospital's half."""


def lead(grid: Grid, context: Context) -> None:
    """Train as the run config says; print a line a round, and keep the last good model."""
    settings, server = settings_of(context.run_config)
    test = _test_images(settings, server)
    count = server.expected or settings.hospitals or len(_cohort(settings).hospitals)
    fewest = settings.min_hospitals
    journal = Journal(settings, test, Path(server.out) if server.out else None)
    strategy = federation.strategy_for(
        settings, count, min_train_nodes=fewest, min_available_nodes=fewest
    )
    roll = Roll(count, minimum=fewest, patience=server.patience, tell=journal.tell)
    config = federation.train_config(
        settings.training,
        num_rounds=settings.rounds,
        local_epochs=settings.local_epochs,
        seed=settings.seed,
    )
    config["class-names"], config["image-shape"] = list(test.class_names), list(test.image_shape)
    app = federation.make_server_app(
        journal.model.get_weights(),
        strategy,
        num_rounds=settings.rounds,
        config=config,
        min_hospitals=fewest,
        timeout=server.round_timeout,
        on_reply=journal.on_reply,
        on_round=journal.on_round,
        log=journal.log,
        guard=partial(
            NetworkGuard, max_ratio=server.max_update_ratio, registered=server.register(), roll=roll
        ),
    )
    try:
        if server.resume:
            journal.log.read(strategy)
        app(OneByOne(grid), context)
    except FedtutorError as error:
        journal.note("stopped", reason=str(error))
        raise
    journal.end()


def _test_images(settings: RunSettings, server: ServerSettings) -> MedicalImages:
    if server.test_data:
        colour = settings.colour == "rgb"
        return read_hospital_file(Path(server.test_data), size=settings.size, colour=colour)
    try:
        return _cohort(settings).test
    except DataError as error:
        raise FederationError(f"the server has no test set: {error}") from error


class Journal:
    """What the server sees of a run, told in lines and kept in ``progress.jsonl``.

    Parameters
    ----------
    settings : of the run.
    test : the central test set, of patients of no hospital.
    folder : where to keep the progress and the last good model; None for nowhere.
    """

    def __init__(self, settings: RunSettings, test: MedicalImages, folder: Path | None) -> None:
        self._settings, self._test, self._folder = settings, test, folder
        self._start, self._claims = time.monotonic(), dict[str, float]()
        self.log = federation.RoundLog(self._score, settings, folder)
        self.model = create_model(seed=settings.seed, **test.form)

    def tell(self, line: str) -> None:
        """Print a line and note it."""
        self.note("waiting", text=line)
        print(line, flush=True)

    def on_reply(self, server_round: int, hospital: str, metrics: dict) -> None:
        """Note a hospital's sound update, and at the first say how many images it claims."""
        if hospital not in self._claims:
            self._claims[hospital] = metrics["num-examples"]
            print(f"{hospital} says that it has {metrics['num-examples']:g} images", flush=True)
        self.note("reply", round=server_round, hospital=hospital, metrics=metrics)

    def on_round(
        self, server_round: int, weights: Weights, grid: federation.GuardedGrid
    ) -> dict[str, float]:
        """Judge the new global model, keep it, and say a line."""
        metrics = self.log.on_round(server_round, weights, grid)
        if self._folder and server_round:
            card = make_card(self._settings, self._test) | {"dataset": UNSEEN}
            save_model(self.model, self._folder / LAST_GOOD, card)  # without traces of them
        row, traffic = self.log.rounds[-1], grid.traffic.get(server_round, federation.Traffic())
        missed = [out for out in self.log.left_out if out["round"] == server_round]
        self.note("round", **row, names=traffic.hospitals, left_out=missed)
        if server_round:
            print(say_round(row, missed, self._settings.rounds), flush=True)
        return metrics

    def end(self) -> None:
        """Score the last global model in full; the last line of the journal."""
        self.model.set_weights(self.log.weights)
        test, probabilities = self._test, predict(self.model, self._test.images)
        scores = evaluate(probabilities, test.labels, patients=patients_of(test))
        self.note(
            "end",
            auc={"federated": scores.auc},
            accuracy={"federated": scores.accuracy},
            class_auc={"federated": scores.class_aucs},
            auc_interval={"federated": scores.auc_interval},
            rounds=self.log.rounds,
            left_out=self.log.left_out,
            claims=self._claims,
        )

    def note(self, event: str, **values: Any) -> None:
        """Add a line to the journal's file, with the seconds since its start."""
        if self._folder is None:
            return
        seconds = round(time.monotonic() - self._start, 3)
        line = json.dumps(plain({"event": event, "seconds": seconds, **values}), allow_nan=False)
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _score(self, weights: Weights) -> Evaluation:
        self.model.set_weights(weights)
        return evaluate(predict(self.model, self._test.images), self._test.labels)


def say_round(row: dict, missed: list[dict], num_rounds: int) -> str:
    """Say one line on a round: how good the model is, who trained, who was left out and why."""
    score = f"round {row['round']} of {num_rounds}: AUC {row['auc']:.3f}"
    left_out = "".join(f"; {out['hospital']} left out: {out['reason']}" for out in missed)
    return f"{score}, {row['hospitals']} hospitals trained{left_out}"
