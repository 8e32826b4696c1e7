"""The privacy dial of notebook 09: noise, clipping and batch size, and what they cost and hide."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from fedtutor.evaluation import evaluate
from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture, show, tidy
from fedtutor.images import MedicalImages
from fedtutor.model import predict, standardise
from fedtutor.topics.privacy.differential import PrivateTrainer, add_noise, epsilon
from fedtutor.topics.privacy.membership import judge_attack, loss_score
from fedtutor.topics.privacy.reconstruction import (
    as_picture,
    best_guesses,
    inputs_of_units,
    rank_one_input,
)

if TYPE_CHECKING:
    import keras


class Dial:
    """A hospital that trains by DP-SGD, in every setting of three dials, computed beforehand.

    Parameters
    ----------
    model : begins with a dense layer, see :func:`~fedtutor.topics.privacy.models.dense_model`.
    own, others : the hospital's images, and images of other patients.
    steps : of DP-SGD in each setting, of size ``1 / clip``: clipping shows in what it bends.
    """

    NOISE = (0, 1, 2, 4)
    CLIP = (0.3, 1, 3)
    BATCH = (1, 5, 25)
    DELTA = 1e-3

    def __init__(
        self, model: keras.Model, own: MedicalImages, others: MedicalImages, *, steps: int
    ) -> None:
        self._model, self._own, self._others, self._steps = model, own, others, steps
        self._start = model.get_weights()
        self._original = as_picture(standardise(own.images[:1]))
        budget = partial(epsilon, delta=self.DELTA, population=len(own), sampling="poisson")
        self._budgets: dict[tuple[float, int], float] = {
            (noise, batch): budget(noise, steps, sampled=batch)
            for noise, batch in product(self.NOISE, self.BATCH)
        }
        self.settings: dict[tuple[float, float, int], tuple[np.ndarray, float, float, float]] = {}
        for clip in self.CLIP:
            trainer = PrivateTrainer(model, clip)
            for noise, batch in product(self.NOISE, self.BATCH):
                picture, score = self._look(trainer, noise, clip, batch)
                auc, attack = self._train(trainer, noise, clip, batch)
                self.settings[noise, clip, batch] = picture, score, auc, attack

    def _look(
        self, trainer: PrivateTrainer, noise: float, clip: float, batch: int
    ) -> tuple[np.ndarray, float]:
        """Return what a server makes of the first step: its best picture of an image, and SSIM."""
        self._model.set_weights(self._start)
        images = standardise(self._own.images[:batch])
        total = trainer.clipped_sum(images, self._own.labels[:batch])
        kernel, bias = add_noise(total, noise * clip, np.random.default_rng(0))[:2]
        guesses = [*inputs_of_units(kernel, bias), rank_one_input(kernel, bias)]
        pictures = as_picture(np.stack(guesses)).reshape(-1, *self._own.image_shape)
        best, score = best_guesses(self._original, pictures)
        return pictures[best[0]], float(score[0])

    def _train(
        self, trainer: PrivateTrainer, noise: float, clip: float, batch: int
    ) -> tuple[float, float]:
        """Return the AUC on other patients and the AUC of the loss attack, after all steps."""
        self._model.set_weights(self._start)
        trainer.train(
            self._own,
            noise_multiplier=noise,
            batch_size=batch,
            steps=self._steps,
            learning_rate=1 / clip,
        )
        own, others = (predict(self._model, d.images) for d in (self._own, self._others))
        found = judge_attack(
            loss_score(own, self._own.labels), loss_score(others, self._others.labels), bootstrap=0
        )
        return evaluate(others, self._others.labels).auc, found.auc

    def show(self, noise: float, clip: float, batch: int) -> tuple[Picture, str]:
        """Draw the original beside the server's picture, and say what the dials cost and hide."""
        picture, score, auc, attack = self.settings[noise, clip, batch]
        budget = self._budgets[noise, batch]
        figure = Figure(figsize=(7.6, 2.5))
        *pair, gap, right = figure.subplots(1, 4, width_ratios=(1, 1, 0.3, 1.2))
        gap.set_visible(False)
        show(pair[0], self._original[0], "the patient", limits=(0, 1))
        show(pair[1], picture, f"rebuilt, SSIM {score:.2f}", limits=(0, 1))
        right.barh(["attack", "model"], [attack - 0.5, auc - 0.5], left=0.5, color=[ORANGE, BLUE])
        right.set_xlim(0.4, 1)
        right.axvline(0.5, color=GREY, linewidth=1)
        right.set_xlabel("AUC (0.5 is guessing)")
        tidy(right)
        figure.subplots_adjust(left=0.01, wspace=0.06, bottom=0.2)
        said = "no noise, so no ε" if math.isinf(budget) else f"ε = {budget:.1f}"
        sentence = (
            f"Noise {noise:g}, clipping norm {clip:g}, batches of {batch}: {said} for one image "
            f"after {self._steps} steps. The model's AUC is ≈{auc:.1f} and the attack's "
            f"≈{attack:.1f}; from one step the server gets a picture of SSIM ≈{score:.1f}."
        )
        return Picture(figure, sentence, 0.1), sentence
