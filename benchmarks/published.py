"""Our numbers beside published ones; writes published.md from what it has trained.

    FEDTUTOR_TEST_DATA=../shared/data python -m benchmarks.published [heart] [arasteh] [pneumonia]

Needs UCI Heart Disease and ``pneumoniamnist.npz`` in that folder; some ten minutes on two cores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.__main__ import machine
from fedtutor import federation
from fedtutor.cores import side_by_side
from fedtutor.course.lessons import capstone
from fedtutor.evaluation import evaluate
from fedtutor.experiment import run_experiment
from fedtutor.federation.records import to_weights
from fedtutor.model import Weights
from fedtutor.settings import RunSettings, TrainingSettings
from fedtutor.topics.tables import (
    PatientTable,
    TableTrainer,
    create_table_model,
    heart_disease,
    table_trainer_for,
)

PAGE = Path(__file__).with_name("published.md")
DATA = Path(os.environ.get("FEDTUTOR_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

FLAMBY = {
    "pooled": (0.795, 0.003),
    "FedAvg": (0.748, 0.027),
    "Cleveland alone": (0.784, 0.007),
    "Budapest alone": (0.727, 0.013),
    "Zürich and Basel alone": (0.483, 0.045),
    "Long Beach VA alone": (0.611, 0.039),
}
"""Mean and standard deviation over seeds 42 to 46 of "Pooled Test" in the files
``flamby/results/results_benchmark_fed_heart_disease/heart_seed*.csv`` of github.com/owkin/FLamby at
commit edacf54."""


MEDMNIST = (
    ("ResNet-18 at 28 pixels, MedMNIST v2 (Yang et al., Scientific Data 2023)", 0.944, 0.854),
    ("ResNet-50 at 224 pixels, the same", 0.962, 0.884),
    ("Google AutoML Vision, the same", 0.991, 0.946),
)
"""AUC and accuracy on PneumoniaMNIST's test images."""


def table(*rows: Sequence[str]) -> list[str]:
    """The lines of a Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1))


def said(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} ± {pair[1]:.3f}"


def federate(
    app, start: Weights, names: Sequence[str], settings: TrainingSettings, rounds: int, seed: int
) -> Weights:
    """FedAvg in this process; the final weights."""
    server = federation.make_server_app(
        start,
        federation.make_strategy("fedavg", len(names)),
        num_rounds=rounds,
        config=federation.train_config(settings, num_rounds=rounds, seed=seed),
    )
    state = federation.run_in_process(server, app, names).state
    return to_weights(state.array_records["arrays"])


def heart() -> Iterator[tuple[str, list[float]]]:
    """Each way of FLamby's on its pooled test patients: accuracy, one value a seed."""
    data = heart_disease(DATA / "heart_disease")
    train, test = (data.take(data.column("split") == split) for split in ("train", "test"))
    names = list(pd.unique(data.column("hospital")))
    own = [train.take(train.column("hospital") == name) for name in names]
    hospitals = [one.normalised(one) for one in own]
    pooled, everybody = train.normalised(train), test.normalised(train)
    adam, sgd = (TrainingSettings(name, 1e-3, 4) for name in ("adam", "sgd"))
    app = federation.make_client_app(
        lambda context: hospitals[int(context.node_config["partition-id"])],
        trainer_for=partial(table_trainer_for, updates=100),
    )

    def accuracy(weights: Weights) -> float:
        trainer = TableTrainer(settings=sgd, **data.form)
        trainer.start(weights)
        return evaluate(trainer.predict(everybody.rows), everybody.labels).accuracy

    def alone(patients: PatientTable, seed: int) -> float:
        trainer = TableTrainer(settings=adam, **data.form)
        start = create_table_model(len(data.features), seed=seed)
        return accuracy(trainer.train(start, patients, epochs=50, seed=seed)[0])

    seeds = range(42, 62)
    yield "pooled", [alone(pooled, seed) for seed in seeds]
    start = partial(create_table_model, len(data.features))
    found = [federate(app, start(seed=seed), names, sgd, 15, seed) for seed in seeds]
    yield "FedAvg", [accuracy(weights) for weights in found]
    for name, patients in zip(names, hospitals, strict=True):
        yield f"{name} alone", [alone(patients, seed) for seed in seeds]


def heart_section() -> list[str]:
    rows = [("trained", "FLamby", "ours", "agrees")]
    for name, values in heart():
        ours, theirs = mean_and_spread(values), FLAMBY[name]
        apart = abs(ours[0] - theirs[0])
        agrees = "yes" if apart <= 2 * max(theirs[1], 0.005) else f"no, {apart:.3f} apart"
        rows.append((name, said(theirs), said(ours), agrees))
    return table(*rows)


def pneumonia_section() -> list[str]:
    """MedMNIST's official split at 28 pixels, three seeds: the main job, as the command runs it."""
    training = TrainingSettings("adam", 1e-3, 32)
    settings = RunSettings(str(DATA / "pneumoniamnist.npz"), rounds=20, training=training)
    found = [run_experiment(replace(settings, seed=seed)).summary for seed in range(3)]
    rows = [(name, f"{auc:.3f}", f"{right:.3f}") for name, auc, right in MEDMNIST]
    ways = {"pooled": "pooled", "FedAvg, five hospitals (Dirichlet 0.5)": "federated"}
    for way, key in ways.items():
        scores = ([summary[score][key] for summary in found] for score in ("auc", "accuracy"))
        rows.append((f"ours, {way}", *(said(mean_and_spread(values)) for values in scores)))
    return table(("trained", "AUC", "accuracy"), *rows)


def arasteh_section() -> list[str]:
    """Chest phantoms: each hospital alone and the federation, at home and away, three seeds."""
    us, passes = capstone.consortium(), 20
    everybody = range(len(us.names))

    def alone(job: tuple[int, int]) -> list[np.ndarray]:
        k, seed = job
        rate = us.settings.learning_rate / 2  # as in notebook 14
        trainer = us.trainer()
        weights, _ = trainer.train(
            us.start, us.train[k], epochs=passes, seed=seed, learning_rate=rate
        )
        return us.answers(weights)

    app = federation.make_client_app(
        lambda context: us.train[int(context.node_config["partition-id"])],
        trainer_for=us.trainer_for,
    )
    found = [federate(app, us.start, us.names, us.settings, passes, seed) for seed in range(3)]
    joined = capstone.estimates(us, [us.answers(weights) for weights in found])
    jobs = [(k, seed) for k in everybody for seed in range(3)]
    said_alone = list(side_by_side(alone, jobs))
    side = ("alone", "federated", "gain (95 %)")
    rows = [("hospital", *(f"{where}: {what}" for where in ("home", "away") for what in side))]
    for k in sorted(everybody, key=lambda k: -len(us.train[k])):
        own = capstone.estimates(us, said_alone[3 * k : 3 * k + 3])
        others = [j for j in everybody if j != k]
        cells = [f"{us.names[k]} ({len(us.train[k])})"]
        for where in ([k], others):
            ours, rivals = ([one[j] for j in where] for one in (joined, own))
            gain, (low, high) = capstone.gain(ours, rivals)
            aucs = [np.mean([one.auc for one in one_side]) for one_side in (rivals, ours)]
            cells += [
                f"{aucs[0]:.2f}",
                f"{aucs[1]:.2f}",
                f"{gain:+.2f} ({low:+.2f} to {high:+.2f})",
            ]
        rows.append(tuple(cells))
    return table(*rows)


def write(name: str, lines: Sequence[str]) -> None:
    """Put lines between the marks of that name on the page."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    page = "\n".join([before + begin, *lines, end]) + rest.split(end)[1]
    PAGE.write_text(page, encoding="utf-8", newline="\n")


SECTIONS = {"heart": heart_section, "arasteh": arasteh_section, "pneumonia": pneumonia_section}


def main() -> int:
    """Run the sections that are named, or all, and write the rows of each when it is done."""
    for name in sys.argv[1:] or SECTIONS:
        write(name, SECTIONS[name]())
        write("machine", ["", f"Last run on {machine()}, {date.today()}."])
    return 0


if __name__ == "__main__":
    sys.exit(main())
