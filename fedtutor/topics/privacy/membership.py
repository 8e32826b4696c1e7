"""Membership inference: tell whether a patient was among those the model was trained on.

Two attacks, both on nothing but the model's answers: a threshold on the loss (Yeom et al. 2018,
"Privacy risk in machine learning"), and LiRA (Carlini et al. 2022, "Membership inference attacks
from first principles"), which compares with models of the attacker's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from fedtutor.errors import DataError
from fedtutor.evaluation import estimate_auc, interval

LOW_FPR = 0.01
"""The share of outsiders that may be wrongly accused."""

SMALLEST = 1e-12
"""Keeps the logarithm of a probability finite."""


@dataclass(frozen=True)
class Attack:
    """How well scores tell members from others.

    Attributes
    ----------
    auc : probability that a member scores above an outsider; 0.5 is guessing.
    tpr : share of the members found while at most 1 % of the outsiders are wrongly accused;
        guessing finds 0.01.
    auc_interval : its 95 % interval, see :func:`fedtutor.evaluation.interval`.
    tpr_interval : 95 % percentile interval of a bootstrap; (NaN, NaN) if none was asked for.
    """

    auc: float
    tpr: float
    auc_interval: tuple[float, float]
    tpr_interval: tuple[float, float]


def true_class(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return what the model gives the right class: float64 (n,) of probabilities (n, classes)."""
    return np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]


def loss_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return minus each image's cross-entropy, float64 (n,): high where the model is at home."""
    return np.log(np.maximum(true_class(probabilities, labels), SMALLEST))


def logit_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of the right class's probability, float64 (n,).

    Over models it is nearly normally distributed, which the loss is not (Carlini et al. 2022,
    section IV-C). The sum of the others is taken in place of 1 - p, as it keeps its digits.
    """
    right = true_class(probabilities, labels)
    others = np.asarray(probabilities, np.float64).copy()
    others[np.arange(len(labels)), labels] = 0
    return np.log(np.maximum(right, SMALLEST)) - np.log(np.maximum(others.sum(axis=1), SMALLEST))


def lira(scores: np.ndarray, shadow_scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return LiRA's log-likelihood ratio for each image, float64 (n,): high for members.

    A normal distribution is fitted to each image's scores in the shadow models that were trained
    with it, another to those without; with few models the two deviations are taken over all
    images (Carlini et al. 2022, algorithm 1 and section VI-B).

    Parameters
    ----------
    scores : float (n,), :func:`logit_score` by the attacked model.
    shadow_scores : float (models, n), by the attacker's own models.
    inside : bool (models, n), whether the model was trained with the image.

    Raises
    ------
    DataError
        If some image is in all shadow models or in none.
    """
    count = inside.sum(axis=0)
    if shadow_scores.shape != inside.shape or not ((count > 0) & (count < len(inside))).all():
        raise DataError(
            f"{len(inside)} shadow models: every image must be in some of them and missing in "
            "others; draw half of the images for each of at least eight models."
        )
    ratio = np.zeros(len(scores))
    for members, sign in ((inside, 1), (~inside, -1)):
        mean = np.where(members, shadow_scores, 0).sum(axis=0) / members.sum(axis=0)
        spread = max(np.sqrt(np.mean((shadow_scores - mean)[members] ** 2)), SMALLEST)
        ratio += sign * (-0.5 * ((scores - mean) / spread) ** 2 - np.log(spread))
    return ratio


def judge_attack(
    members: np.ndarray, others: np.ndarray, *, bootstrap: int = 1000, seed: int = 0
) -> Attack:
    """Score an attack.

    Parameters
    ----------
    members, others : float (m,) and (n,), the attack's scores of images that were trained on and
        of images of the same kind that were not; higher means "member".
    bootstrap : resamples of both for the interval of ``tpr``; 0 leaves it at NaN.

    Raises
    ------
    DataError
        If one of the two is empty or has NaN.
    """
    members, others = np.asarray(members, np.float64), np.asarray(others, np.float64)
    if not len(members) or not len(others) or np.isnan([*members, *others]).any():
        raise DataError(
            f"{len(members)} members and {len(others)} others; give at least one finite score each."
        )
    scores = np.concatenate([members, others])[:, None]
    auc = estimate_auc(scores, np.arange(len(scores))[:, None] < len(members))
    rng = np.random.default_rng(seed)
    found = partial(found_at, LOW_FPR)
    resampled = [
        found(rng.choice(members, len(members)), rng.choice(others, len(others)))
        for _ in range(bootstrap)
    ]
    low, high = np.percentile(resampled or [np.nan], [2.5, 97.5])
    return Attack(auc.auc, found(members, others), interval(auc), (float(low), float(high)))


def found_at(rate: float, members: np.ndarray, others: np.ndarray) -> float:
    """Return the share of members found while at most that share of outsiders is accused."""
    thresholds = np.append(-np.inf, np.sort(others))
    threshold = thresholds[len(others) - int(rate * len(others))]
    return float((members > threshold).mean())
