"""The main job: train each hospital alone, all together, and on the pooled data; then compare.

The budget is matched: every training image is seen ``rounds * local_epochs`` times in each of
the three ways, so the federation's gradient steps are, summed over its hospitals, those of the
hospitals alone, and those of the pooled model but for batches that span two hospitals.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fedtutor import gradcam
from fedtutor.compiled_training import Trainer, trainer_for
from fedtutor.datasets import load
from fedtutor.datasets.duplicates import remove_across
from fedtutor.errors import DataError, FederationError
from fedtutor.evaluation import Evaluation, evaluate
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.model import Weights, create_model, predict
from fedtutor.partition import Partition, check_alpha, partition
from fedtutor.summary import compare, describe, plain, versions
from fedtutor.training import TrainingSettings, learning_rate_at

NUM_EXPLAINED = 6


@dataclass(frozen=True)
class RunSettings:
    """What ``fedtutor run`` was asked for; see its help for the meaning of each."""

    dataset: str | Path = "chest-phantoms"
    task: str | None = None
    hospitals: int | None = None
    partition: str | None = None
    alpha: float = 0.5
    rounds: int = 12
    local_epochs: int = 1
    strategy: str = "fedavg"
    size: int | None = None
    seed: int = 0
    min_hospitals: int = 1
    training: TrainingSettings = TrainingSettings(learning_rate=1e-3)

    def __post_init__(self) -> None:
        for name in ("hospitals", "rounds", "local_epochs", "min_hospitals"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name.replace('_', ' ')} must be at least 1; got {value}.")
        if self.seed < 0:
            raise DataError(f"seed must be 0 or more; got {self.seed}.")
        check_alpha(self.alpha)


class Progress:
    """Hears how the main job goes; this one keeps quiet. Work is counted in images trained on."""

    def start(self, total: int) -> None: ...

    def stage(self, text: str) -> None: ...

    def advance(self, images: int) -> None: ...


@dataclass(frozen=True)
class Cohort:
    """The data of one run: what each hospital has, and the test set that none of them saw."""

    train: MedicalImages
    test: MedicalImages
    partition: Partition
    hospitals: list[MedicalImages]
    scheme: str


@dataclass
class Outcome:
    """What a run found: the summary as written to ``summary.json``, and what the figures need."""

    cohort: Cohort
    summary: dict
    probabilities: dict[str, np.ndarray]
    global_weights: Weights
    explained: Explained


@dataclass(frozen=True)
class Explained:
    """A few test images with their heat maps, and the class each map asks for; in one order."""

    indices: np.ndarray
    classes: np.ndarray
    grad_cam: np.ndarray
    hirescam: np.ndarray


def build_cohort(settings: RunSettings) -> Cohort:
    """Load the data, set the test patients aside and deal the others out to the hospitals."""
    data = load(
        settings.dataset,
        size=settings.size,
        task=settings.task,
        hospitals=settings.hospitals or 5,
        seed=settings.seed,
    )
    train, test = split_by_patient(data, seed=settings.seed)
    if not data.synthetic:  # a twin of a test image among the training images would flatter
        train, test, _ = remove_across(train, test)
    knows_hospitals = "hospital" in data.table.columns
    scheme = settings.partition or ("by:hospital" if knows_hospitals else "dirichlet")
    parts = partition(train, scheme, settings.hospitals, alpha=settings.alpha, seed=settings.seed)
    return Cohort(train, test, parts, parts.hospitals(train), scheme)


def run_experiment(
    settings: RunSettings,
    progress: Progress | None = None,
    *,
    on_global_model=None,
) -> Outcome:
    """Run the main job.

    Parameters
    ----------
    progress : told of every step; quiet by default.
    on_global_model : called with (model, round) after each round, for whoever wants to keep the
        last good one.

    Raises
    ------
    FedtutorError
        For input that cannot be used, or a round with too few sound updates.
    """
    progress = progress or Progress()
    clock = _Clock()
    with clock.stage("load", progress, "reading images"):
        cohort = build_cohort(settings)
        strategy = _make_strategy(settings, len(cohort.hospitals))
    passes = settings.rounds * settings.local_epochs
    progress.start(3 * passes * len(cohort.train))
    with clock.stage("import", progress, "starting TensorFlow"):
        shape, num_classes = cohort.train.image_shape, len(cohort.train.class_names)
        multi_label = cohort.train.multi_label
        trainer = trainer_for(shape, num_classes, settings.training, multi_label=multi_label)
        initial = create_model(
            shape, num_classes, multi_label=multi_label, seed=settings.seed
        ).get_weights()
    with clock.stage("federated", progress, "federated"):
        fed = _federate(settings, cohort, strategy, trainer, initial, progress, on_global_model)
    weights = {"fedavg": fed.weights}
    with clock.stage("local", progress, "alone"):
        for k, images in enumerate(cohort.hospitals):
            progress.stage(f"alone: {cohort.partition.names[k]}")
            weights[f"local {k}"] = _train_alone(settings, trainer, initial, images, k, progress)
    with clock.stage("pooled", progress, "pooled: all images in one place"):
        weights["pooled"] = _train_alone(settings, trainer, initial, cohort.train, 0, progress)
    with clock.stage("evaluate", progress, "evaluating"):
        probabilities = {}
        for name, values in weights.items():
            trainer.model.set_weights(values)
            probabilities[name] = trainer.predict(cohort.test.images)
        scores = compare(cohort, probabilities, settings.seed)
    with clock.stage("explain", progress, "explaining"):
        trainer.model.set_weights(fed.weights)
        grad_cam_scores, explained = _explain(trainer.model, cohort.test, probabilities["fedavg"])
    summary = {
        **describe(settings, cohort),
        **scores,
        "rounds": fed.rounds,
        "left_out": fed.left_out,
        "grad_cam": grad_cam_scores,
        "seconds": clock.seconds,
        "versions": versions(),
    }
    return Outcome(cohort, plain(summary), probabilities, fed.weights, explained)


@dataclass
class _Federated:
    weights: Weights
    rounds: list[dict] = field(default_factory=list)
    left_out: list[dict] = field(default_factory=list)


def _make_strategy(settings: RunSettings, num_hospitals: int):
    """The strategy, asked for before the long work begins."""
    from fedtutor import federation

    if settings.min_hospitals > num_hospitals:
        raise DataError(
            f"min hospitals is {settings.min_hospitals} but there are only {num_hospitals}."
        )
    return federation.make_strategy(settings.strategy, num_hospitals)


def _federate(
    settings: RunSettings,
    cohort: Cohort,
    strategy,
    trainer: Trainer,
    initial: Weights,
    progress: Progress,
    on_global_model,
) -> _Federated:
    """The federated part, on the in-process grid; its images and labels never leave a hospital."""
    from fedtutor import federation

    sizes = dict(zip(cohort.partition.names, map(len, cohort.hospitals), strict=True))
    found = _Federated(initial)

    def on_reply(server_round: int, hospital: str, metrics: dict) -> None:
        progress.stage(f"federated: round {server_round} of {settings.rounds}, {hospital}")
        progress.advance(sizes[hospital] * settings.local_epochs)

    def on_round(server_round: int, weights: Weights, grid) -> dict[str, float]:
        trainer.model.set_weights(weights)
        scores = _score_round(server_round, trainer.model, cohort.test)
        traffic = grid.traffic.get(server_round, federation.Traffic())
        found.weights = weights
        found.rounds.append(
            {
                "round": server_round,
                "auc": scores.auc,
                "accuracy": scores.accuracy,
                "loss": scores.loss,
                "bytes_down": traffic.bytes_down,
                "bytes_up": traffic.bytes_up,
                "hospitals": len(traffic.hospitals),
            }
        )
        found.left_out = [vars(out) for out in grid.left_out]
        if on_global_model and server_round:
            on_global_model(trainer.model, server_round)
        return {"auc": scores.auc, "loss": scores.loss}

    client_app = federation.make_client_app(
        lambda context: cohort.hospitals[context.node_config["partition-id"]]
    )
    server_app = federation.make_server_app(
        initial,
        strategy,
        num_rounds=settings.rounds,
        config=federation.train_config(
            settings.training,
            num_rounds=settings.rounds,
            local_epochs=settings.local_epochs,
            seed=settings.seed,
        ),
        min_hospitals=settings.min_hospitals,
        on_reply=on_reply,
        on_round=on_round,
    )
    federation.run_in_process(server_app, client_app, cohort.partition.names)
    return found


def _score_round(server_round: int, model, test: MedicalImages) -> Evaluation:
    probabilities = predict(model, test.images)
    if not np.isfinite(probabilities).all():
        raise FederationError(
            f"round {server_round}: the global model answers NaN, so training has diverged; "
            "lower the learning rate (--learning-rate)."
        )
    return evaluate(probabilities, test.labels)


def _train_alone(
    settings: RunSettings, trainer, initial: Weights, images: MedicalImages, k: int, progress
) -> Weights:
    """As many passes over ``images`` as the federation makes, in one place."""
    trainer.start(initial)
    for server_round in range(1, settings.rounds + 1):
        trainer.more(
            images,
            epochs=settings.local_epochs,
            seed=(settings.seed, server_round, k),
            learning_rate=learning_rate_at(settings.training, server_round, settings.rounds),
        )
        progress.advance(len(images) * settings.local_epochs)
    return trainer.weights()


def _explain(model, test: MedicalImages, probabilities: np.ndarray) -> tuple[dict, Explained]:
    """Grad-CAM and HiResCAM of rightly found disease; scored where the lesion is known.

    Multi-label: of images with findings, asking for the one of them that the model finds
    likeliest. It need not be above 0.5, which a rare finding seldom is.
    """
    if test.multi_label:
        classes = np.where(test.labels, probabilities, -1).argmax(axis=1)
        worth_a_map = test.labels.any(axis=1)
    else:
        classes = test.labels
        worth_a_map = probabilities.argmax(axis=1) == test.labels
    candidates = np.flatnonzero(worth_a_map)
    lesions = test.has_lesion()
    with_lesion = lesions[candidates]
    scored, others = candidates[with_lesion], candidates[~with_lesion]
    chosen = np.concatenate([scored, others[: max(0, NUM_EXPLAINED - len(scored))]])
    maps = {
        method: gradcam.grad_cam(model, test.images[chosen], classes[chosen], method=method)
        for method in gradcam.METHODS
    }
    scores: dict = {"lesions_known": bool(lesions.any()), "num_images": len(scored)}
    if len(scored):
        masks, known = test.masks[scored], slice(len(scored))
        scores |= {
            "pointing_game": gradcam.pointing_game(maps["grad_cam"][known], masks),
            "pointing_game_hirescam": gradcam.pointing_game(maps["hirescam"][known], masks),
            "pointing_game_random": gradcam.pointing_game_random(masks),
            "mass_in_lesion": gradcam.mass_in_lesion(maps["grad_cam"][known], masks),
            "mass_in_lesion_hirescam": gradcam.mass_in_lesion(maps["hirescam"][known], masks),
        }
    shown = _spread(test.take(chosen), classes[chosen], NUM_EXPLAINED)
    return scores, Explained(
        chosen[shown],
        classes[chosen][shown],
        maps["grad_cam"][shown],
        maps["hirescam"][shown],
    )


def _spread(data: MedicalImages, classes: np.ndarray, count: int) -> np.ndarray:
    """Up to ``count`` positions, the classes in turn and each from as many hospitals as can be."""
    table = pd.DataFrame({"label": classes, "hospital": data.table.get("hospital", "")})
    table["turn"] = table.groupby(["label", "hospital"]).cumcount()
    table = table.sort_values(["turn", "hospital"], kind="stable")
    table["rank"] = table.groupby("label").cumcount()
    return table.sort_values(["rank", "label"], kind="stable").index.to_numpy()[:count]


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, progress: Progress, text: str) -> Iterator[None]:
        progress.stage(text)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
