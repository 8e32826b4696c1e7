"""Membership inference: tell whether a patient was among those the model was trained on.

By a threshold on the loss (Yeom et al. 2018, arXiv 1709.01604), or by LiRA (Carlini et al. 2022,
arXiv 2112.03570), which compares with models of the attacker's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

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
    auc, auc_interval : probability that a member scores above an outsider (0.5 is guessing), and
        its 95 % interval, see :func:`fedtutor.evaluation.interval`.
    tpr, tpr_interval : share of the members found while at most 1 % of the outsiders are accused
        (guessing finds 0.01), and its 95 % percentile interval; (NaN, NaN) without a bootstrap.
    """

    auc: float
    tpr: float
    auc_interval: tuple[float, float]
    tpr_interval: tuple[float, float]


def loss_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return minus each image's cross-entropy, float64 (n,): high where the model is at home."""
    right = np.asarray(probabilities, np.float64)[np.arange(len(labels)), labels]
    return np.log(np.maximum(right, SMALLEST))


def logit_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of the right class's probability, float64 (n,).

    Over models it is nearly normally distributed, which the loss is not (Carlini et al. 2022,
    section IV-C). The sum of the others is taken in place of 1 - p, as it keeps its digits.
    """
    others = np.array(probabilities, np.float64)
    others[np.arange(len(labels)), labels] = 0
    return loss_score(probabilities, labels) - np.log(np.maximum(others.sum(axis=1), SMALLEST))


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
    members: np.ndarray,
    others: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Attack:
    """Score an attack.

    Parameters
    ----------
    members, others : float (m,) and (n,), the attack's scores of images that were trained on and
        of images of the same kind that were not; higher means "member".
    patients : (m + n,), who each image is of, the members' first; by default each of somebody else.
        Both intervals draw patients, each with all of his or her images.
    bootstrap : resamples for the interval of ``tpr``; 0 leaves it at NaN.

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
    scores = np.concatenate([members, others])
    who = pd.factorize(np.arange(len(scores)) if patients is None else patients)[0]
    truth = np.arange(len(scores)) < len(members)
    auc = estimate_auc(scores[:, None], truth[:, None], patients=who)
    rng, count = np.random.default_rng(seed), who.max() + 1
    resampled = []
    for _ in range(bootstrap):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[who]
        drawn = [np.repeat(scores[kind], times[kind]) for kind in (truth, ~truth)]
        if all(map(len, drawn)):
            resampled.append(found_at(LOW_FPR, *drawn))
    low, high = np.percentile(resampled or [np.nan], [2.5, 97.5])
    tpr = found_at(LOW_FPR, members, others)
    return Attack(auc.auc, tpr, interval(auc), (float(low), float(high)))


def found_at(rate: float, members: np.ndarray, others: np.ndarray) -> float:
    """Return the share of members found while at most that share of outsiders is accused."""
    thresholds = np.append(-np.inf, np.sort(others))
    threshold = thresholds[len(others) - int(rate * len(others))]
    return float((members > threshold).mean())
