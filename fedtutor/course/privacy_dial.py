"""The privacy dial of notebook 09: noise, patients and batch size, and what they cost and hide."""

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
    own, others : the hospital's images, one a patient and at least as many as the last of
        ``PATIENTS``, and images of other patients.
    steps : of DP-SGD in each setting, of size 1, with gradients clipped to length 1.
    """

    NOISE: tuple[float, ...] = (0, 1, 2, 4)
    PATIENTS = (100, 200, 400)
    BATCH = (25, 50)
    DELTA = 1e-5

    def __init__(
        self, model: keras.Model, own: MedicalImages, others: MedicalImages, *, steps: int
    ) -> None:
        self._model, self._own, self._others, self._steps = model, own, others, steps
        self._start = model.get_weights()
        self._original = as_picture(standardise(own.images[:1]))
        self._trainer = PrivateTrainer(model, clipping_norm=1.0)
        self.looks = {at: self._look(*at) for at in product(self.NOISE, self.BATCH)}
        self.settings = {
            at: self._train(*at) for at in product(self.NOISE, self.PATIENTS, self.BATCH)
        }

    def _look(self, noise: float, batch: int) -> tuple[np.ndarray, float]:
        """Return what a server makes of the first step: its best picture of an image, and SSIM."""
        self._model.set_weights(self._start)
        images = standardise(self._own.images[:batch])
        total = self._trainer.clipped_sum(images, self._own.labels[:batch])
        kernel, bias = add_noise(total, noise, np.random.default_rng(0))[:2]
        guesses = [*inputs_of_units(kernel, bias), rank_one_input(kernel, bias)]
        pictures = as_picture(np.stack(guesses)).reshape(-1, *self._own.image_shape)
        best, score = best_guesses(self._original, pictures)
        return pictures[best[0]], float(score[0])

    def _train(self, noise: float, patients: int, batch: int) -> tuple[float, float, float]:
        """Return ε, the AUC on other patients and the AUC of the loss attack, after all steps."""
        self._model.set_weights(self._start)
        data = self._own.take(np.arange(patients))
        self._trainer.train(
            data, noise_multiplier=noise, batch_size=batch, steps=self._steps, learning_rate=1.0
        )
        own, others = (predict(self._model, d.images) for d in (data, self._others))
        found = judge_attack(
            loss_score(own, data.labels), loss_score(others, self._others.labels), bootstrap=0
        )
        coins = partial(epsilon, delta=self.DELTA, sampling="poisson")
        budget = coins(noise, self._steps, sampled=batch, population=patients)
        return budget, evaluate(others, self._others.labels).auc, found.auc

    def show(self, noise: float, patients: int, batch: int) -> tuple[Picture, str]:
        """Draw the original beside the server's picture, and say what the dials cost and hide."""
        picture, score = self.looks[noise, batch]
        budget, auc, attack = self.settings[noise, patients, batch]
        _, without, attack_without = self.settings[0, patients, batch]
        figure = Figure(figsize=(7.6, 2.5))
        *pair, gap, right = figure.subplots(1, 4, width_ratios=(1, 1, 0.3, 1.2))
        gap.set_visible(False)
        show(pair[0], self._original[0], "the patient", limits=(0, 1))
        show(pair[1], picture, f"rebuilt, SSIM {score:.2f}", limits=(0, 1))
        right.barh(["attack", "model"], [attack - 0.5, auc - 0.5], left=0.5, color=[ORANGE, BLUE])
        right.plot([attack_without, without], [0, 1], "k|", markersize=26)
        right.set_title("black strokes: without noise", fontsize=9)
        right.set_xlim(0.4, 1)
        right.axvline(0.5, color=GREY, linewidth=1)
        right.set_xlabel("AUC (0.5 is guessing)")
        tidy(right)
        figure.subplots_adjust(left=0.01, wspace=0.06, bottom=0.2)
        said = "no noise, so no ε" if math.isinf(budget) else f"ε = {budget:.1f}"
        sentence = (
            f"Noise {noise:g}, {patients} patients, batches of {batch}: {said} for one of them "
            f"after {self._steps} steps. The model's AUC is ≈{auc:.1f} (without noise "
            f"≈{without:.1f}) and the attack's ≈{attack:.1f} (≈{attack_without:.1f}); from one "
            f"step the server gets a picture of SSIM ≈{score:.1f}."
        )
        return Picture(figure, sentence, 0.1), sentence
