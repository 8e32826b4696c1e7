"""The privacy dial of notebook 08: noise, clipping and batch size, and what they cost and hide."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from fedtutor.evaluation import evaluate
from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture
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


class Dial:
    """A hospital that trains by DP-SGD, in every setting of three dials, computed beforehand.

    Parameters
    ----------
    model : begins with a dense layer, see :func:`~fedtutor.topics.privacy.models.dense_model`.
    own, others : the hospital's images, and images of other patients.
    steps : of DP-SGD in each setting; its step size is ``1 / clip``, so that clipping shows only
        in what it bends.
    """

    NOISE = (0, 1, 2, 4)
    CLIP = (0.3, 1, 3)
    BATCH = (1, 5, 25)
    DELTA = 1e-3

    def __init__(self, model, own: MedicalImages, others: MedicalImages, *, steps: int) -> None:
        self._model, self._own, self._others, self._steps = model, own, others, steps
        self._start = model.get_weights()
        self._original = as_picture(standardise(own.images[:1]))
        self.settings = {}
        for clip in self.CLIP:
            trainer = PrivateTrainer(model, clip)
            for noise in self.NOISE:
                for batch in self.BATCH:
                    picture, score = self._look(trainer, noise, clip, batch)
                    auc, attack = self._train(trainer, noise, clip, batch)
                    self.settings[noise, clip, batch] = (picture, score, auc, attack)
        self._budgets = {
            (noise, batch): epsilon(
                noise,
                steps,
                delta=self.DELTA,
                sampled=batch,
                population=len(own),
                sampling="poisson",
            )
            for noise in self.NOISE
            for batch in self.BATCH
        }

    def _look(self, trainer: PrivateTrainer, noise: float, clip: float, batch: int):
        """What a server makes of the first step: its best picture of the first image, and SSIM."""
        self._model.set_weights(self._start)
        images = standardise(self._own.images[:batch])
        total = trainer.clipped_sum(images, self._own.labels[:batch])
        kernel, bias = add_noise(total, noise * clip, np.random.default_rng(0))[:2]
        guesses = [*inputs_of_units(kernel, bias), rank_one_input(kernel, bias)]
        pictures = as_picture(np.stack(guesses)).reshape(-1, *self._own.image_shape)
        best, score = best_guesses(self._original, pictures)
        return pictures[best[0]], float(score[0])

    def _train(self, trainer: PrivateTrainer, noise: float, clip: float, batch: int):
        """(AUC on other patients, AUC of the loss attack) after all steps."""
        self._model.set_weights(self._start)
        trainer.train(
            self._own,
            noise_multiplier=noise,
            batch_size=batch,
            steps=self._steps,
            learning_rate=1 / clip,
        )
        seen, unseen = (predict(self._model, d.images) for d in (self._own, self._others))
        found = judge_attack(
            loss_score(seen, self._own.labels),
            loss_score(unseen, self._others.labels),
            bootstrap=0,
        )
        return evaluate(unseen, self._others.labels).auc, found.auc

    def show(self, noise: float, clip: float, batch: int) -> tuple[Picture, str]:
        """The original beside the server's picture, and what the dials cost and protect."""
        picture, score, auc, attack = self.settings[noise, clip, batch]
        budget = self._budgets[noise, batch]
        figure = Figure(figsize=(7.6, 2.5))
        left, middle, gap, right = figure.subplots(1, 4, width_ratios=(1, 1, 0.3, 1.2))
        gap.set_visible(False)
        for axes, image, title in (
            (left, self._original[0], "the patient"),
            (middle, picture, f"rebuilt, SSIM {score:.2f}"),
        ):
            axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
        right.barh(["attack", "model"], [attack - 0.5, auc - 0.5], left=0.5, color=[ORANGE, BLUE])
        right.set_xlim(0.4, 1)
        right.axvline(0.5, color=GREY, linewidth=1)
        right.set_xlabel("AUC (0.5 is guessing)")
        for side in ("top", "right"):
            right.spines[side].set_visible(False)
        figure.subplots_adjust(left=0.01, wspace=0.06, bottom=0.2)
        said = "no noise, so no ε" if math.isinf(budget) else f"ε = {budget:.1f}"
        sentence = (
            f"Noise {noise:g}, clipping norm {clip:g}, batches of {batch}: {said} for one image "
            f"after {self._steps} steps. The model's AUC is ≈{auc:.1f} and the attack's "
            f"≈{attack:.1f}; from one step the server gets a picture of SSIM ≈{score:.1f}."
        )
        return Picture(figure, sentence, 0.1), sentence
