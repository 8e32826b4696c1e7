"""The main job: train each hospital alone, all together, and on the pooled data; then compare.

The three share the cores: the federation and the pooled model train beside each other, and then the
hospitals alone, each on a core.

The budget is matched: every training image is seen ``rounds * local_epochs`` times in each of
the three ways, so the federation's gradient steps are, summed over its hospitals, those of the
hospitals alone, and those of the pooled model but for batches that span two hospitals.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flwr.serverapp.strategy import Strategy

from fedtutor import federation
from fedtutor.cohort import Cohort, build_cohort
from fedtutor.compiled_training import Trainer, trainer_for
from fedtutor.cores import side_by_side
from fedtutor.datasets.warned import heard_warnings
from fedtutor.errors import FedtutorError
from fedtutor.evaluation import Evaluation, evaluate
from fedtutor.explaining import Explained, explain
from fedtutor.external.card import make_card
from fedtutor.external.model_file import save_model
from fedtutor.external.validation import Elsewhere, Request, Validation
from fedtutor.federation.records import to_weights
from fedtutor.images import MedicalImages
from fedtutor.model import Weights, create_model
from fedtutor.settings import RunSettings
from fedtutor.summary import compare, describe, versions
from fedtutor.support.output import LAST_GOOD, RESULTS, plain, set_aside
from fedtutor.training import learning_rate_at

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Attributes
    ----------
    settings, cohort : what was asked for, and the data.
    summary : all numbers, as written to ``summary.json``.
    model : the final global model, a Keras model.
    probabilities : of the test images by each model: "federated", "pooled", "local 0", ...;
        float32 (images, classes).
    explained : a few test images with their heat maps.
    external : what the federated model is worth in other hospitals.
    """

    settings: RunSettings
    cohort: Cohort
    summary: dict
    model: keras.Model
    probabilities: dict[str, np.ndarray]
    explained: Explained
    external: Sequence[Validation] = ()


class Progress:
    """Hears how the main job goes, from several threads; this one keeps quiet."""

    def start(self, total: int) -> None:
        """Hear how much work there is."""

    def stage(self, text: str) -> None:
        """Hear what is being done."""

    def advance(self, images: int) -> None:
        """Hear that so many images more were trained on."""


def run_experiment(
    settings: RunSettings, progress: Progress | None = None, external: Request | None = None
) -> Outcome:
    """Run the main job.

    Parameters
    ----------
    settings : what is asked for.
    progress : told of every step; quiet by default.
    external : other hospitals to test on.

    Raises
    ------
    FedtutorError
        For input that cannot be used, or a round with too few sound updates.
    """
    return Experiment(settings, progress).run(external=external)


class Experiment:
    """One run of the main job; with a folder it keeps its state there after each round."""

    def __init__(
        self, settings: RunSettings, progress: Progress | None = None, folder: Path | None = None
    ) -> None:
        self.settings, self._folder = settings, folder
        self._progress = progress or Progress()
        self._seconds: dict[str, float] = {}
        self._log = federation.RoundLog(self._score, settings, folder)

    def run(self, *, resume: bool = False, external: Request | None = None) -> Outcome:
        """Run it, or what is left of it, to the same bits; see :func:`run_experiment`."""
        settings = self.settings
        with self._stage("load", "reading images"):
            self._cohort = cohort = build_cohort(settings)
            self._elsewhere = Elsewhere(external or Request(), settings, cohort.train)
            strategy = federation.strategy_for(settings, len(cohort.hospitals))
            if resume:
                self._log.read(strategy)
            elif self._folder:
                set_aside(self._folder)
        passes = 3 * settings.rounds - max(0, len(self._log.rounds) - 1)
        self._progress.start(passes * settings.local_epochs * len(cohort.train))
        with self._stage("import", "starting TensorFlow"):
            self._initial = self._new_model().get_weights()
        parts = {"federated": partial(self._federate, strategy)}
        parts["pooled"] = partial(self._train_alone, "pooled", "pooled", cohort.train, 0)
        for k, images in enumerate(cohort.hospitals):
            text = f"alone: {cohort.names[k]}"
            parts[f"local {k}"] = partial(self._train_alone, f"local {k}", text, images, k)
        tested = side_by_side(lambda train: train(), parts.values())  # the longest ones first
        probabilities = dict(zip(parts, tested, strict=True))
        with self._stage("evaluate", "evaluating"):
            scores = compare(cohort, probabilities)
        with self._stage("explain", "explaining"), heard_warnings() as late:
            model = self._new_model(self._log.weights)
            map_scores, explained = explain(model, cohort.test, probabilities["federated"])
            elsewhere, validations = self._elsewhere.judge(cohort, model, probabilities)
        summary = {
            **describe(settings, cohort),
            **scores,
            **elsewhere,
            "rounds": self._log.rounds,
            "left_out": self._log.left_out,
            "grad_cam": map_scores,
            "warnings": [*cohort.warnings, *self._elsewhere.warnings, *late],
            "seconds": self._seconds,
            "versions": versions(),
        }
        return Outcome(
            settings, cohort, plain(summary), model, probabilities, explained, validations
        )

    def keep(self) -> str:
        """Save the global model after the last whole round; say what is kept, "" for nothing."""
        if self._folder is None or len(self._log.rounds) < 2:
            return ""
        with suppress(FedtutorError):  # on a full disk the checkpoint is all there is
            card = make_card(self.settings, self._cohort.train)
            save_model(self._new_model(self._log.weights), self._folder / LAST_GOOD, card)
        kept = ", ".join(name for name in RESULTS if (self._folder / name).exists())
        last = f"round {self._log.rounds[-1]['round']} was the last whole one"
        return kept and f"{last}; kept in {self._folder}: {kept}; --resume goes on."

    def _federate(self, strategy: Strategy) -> np.ndarray:
        """Train on the in-process grid, images never leave a hospital; return what it says."""
        cohort, settings = self._cohort, self.settings
        sizes = dict(zip(cohort.names, map(len, cohort.hospitals), strict=True))

        def on_reply(server_round: int, hospital: str, metrics: dict) -> None:
            done = f"round {server_round} of {settings.rounds}, {hospital}"
            self._progress.stage(f"federated: {done}")
            self._progress.advance(sizes.get(hospital, 0) * settings.local_epochs)

        client_app = federation.make_client_app(
            lambda context: cohort.hospitals[int(context.node_config["partition-id"])]
        )
        server_app = federation.make_server_app(
            self._initial,
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
            on_round=self._log.on_round,
            log=self._log,
        )
        with self._stage("federated", "federated"):
            state = federation.run_in_process(server_app, client_app, cohort.names).state
            return self._test("federated", self._started(to_weights(state.array_records["arrays"])))

    def _train_alone(self, name: str, text: str, images: MedicalImages, k: int) -> np.ndarray:
        """Make as many passes over ``images`` as the federation makes, in one place, and test."""
        trainer = self._trainer(0.0)  # nobody to be pulled to
        with self._stage(name, text):
            for _ in round_by_round(trainer, self._initial, images, self.settings, k):
                self._progress.advance(len(images) * self.settings.local_epochs)
            return self._test(name, trainer)

    def _test(self, name: str, trainer: Trainer) -> np.ndarray:
        """Return what a trained model says of the test images, and have it heard elsewhere."""
        self._elsewhere.hear(name, trainer.predict)
        return trainer.predict(self._cohort.test.images)

    def _score(self, weights: Weights) -> Evaluation:
        """Score the global model of a round on the central test set."""
        test = self._cohort.test
        return evaluate(self._started(weights).predict(test.images), test.labels)

    def _started(self, weights: Weights) -> Trainer:
        trainer = self._trainer(self.settings.training.proximal_mu)
        trainer.start(weights)
        return trainer

    def _trainer(self, proximal_mu: float) -> Trainer:
        """Return the trainer of this thread."""
        settings = replace(self.settings.training, proximal_mu=proximal_mu)
        return trainer_for(settings=settings, **self._cohort.train.form)

    def _new_model(self, weights: Weights | None = None) -> keras.Model:
        model = create_model(seed=self.settings.seed, **self._cohort.train.form)
        if weights is not None:
            model.set_weights(weights)
        return model

    @contextmanager
    def _stage(self, name: str, text: str) -> Iterator[None]:
        self._progress.stage(text)
        start = time.perf_counter()
        yield
        self._seconds[name] = round(time.perf_counter() - start, 3)


def round_by_round(
    trainer: Trainer, initial: Weights, images: MedicalImages, settings: RunSettings, k: int
) -> Iterator[int]:
    """Train in one place as the federation does, and yield each round; ``k``: the hospital."""
    trainer.start(initial)
    for r in range(1, settings.rounds + 1):
        trainer.more(
            images,
            epochs=settings.local_epochs,
            seed=(settings.seed, r, k),
            learning_rate=learning_rate_at(settings.training, r, settings.rounds),
        )
        yield r
