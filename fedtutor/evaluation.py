"""How good a model is: AUC with an interval, accuracy, confusion, calibration, by group."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn import metrics

from fedtutor.errors import DataError

BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on one test set.

    Attributes
    ----------
    auc : area under the ROC curve in 0..1, one class against the rest, the plain mean over the
        classes that the test set holds; NaN if it holds but one.
    auc_interval : its 95 % bootstrap interval, (NaN, NaN) if none was asked for.
    accuracy : fraction of images whose likeliest class is the right one.
    loss : mean cross-entropy in nats.
    num_examples : images in the test set.
    """

    auc: float
    auc_interval: tuple[float, float]
    accuracy: float
    loss: float
    num_examples: int


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Score predictions.

    Parameters
    ----------
    probabilities : float (n, classes), rows summing to 1.
    labels : int (n,), the truth.
    patients : (n,), who each image is of; whole patients are then drawn for the interval.
    bootstrap : number of resamples for the interval; 0 leaves it at NaN.
    seed : of the resamples.
    """
    if len(labels) == 0 or probabilities.shape[0] != len(labels):
        raise DataError(
            f"{probabilities.shape[0]} predictions for {len(labels)} labels; "
            "give one prediction for each label, and at least one."
        )
    if not np.isfinite(probabilities).all():
        raise DataError("the predictions contain NaN: training diverged; lower the learning rate.")
    resampled = np.empty(0)
    if bootstrap:
        resampled = bootstrap_aucs(
            probabilities, labels, patients=patients, samples=bootstrap, seed=seed
        )
    right_class = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return Evaluation(
        auc=auc(probabilities, labels),
        auc_interval=interval(resampled),
        accuracy=float(metrics.accuracy_score(labels, probabilities.argmax(axis=1))),
        loss=float(-np.log(np.clip(right_class, 1e-7, 1.0)).mean()),
        num_examples=len(labels),
    )


def auc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Macro one-vs-rest AUC over the classes present; NaN if there is but one."""
    present = np.unique(labels)
    if len(present) < 2:
        return math.nan
    if probabilities.shape[1] == 2:
        return float(metrics.roc_auc_score(labels, probabilities[:, 1]))
    return float(
        np.mean([metrics.roc_auc_score(labels == k, probabilities[:, k]) for k in present])
    )


def bootstrap_aucs(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """:func:`auc` on resampled test sets: float64 (samples,), drawing patients where known.

    Images of one patient resemble each other; drawing them one by one would make intervals too
    narrow. With the same seed two models meet the same resamples, so that the difference of
    their arrays is a paired bootstrap of the difference.
    """
    weights = _resample_counts(len(labels), patients, samples, seed)
    classes = [1] if probabilities.shape[1] == 2 else np.unique(labels)
    aucs = np.stack([_weighted_auc(probabilities[:, k], labels == k, weights) for k in classes])
    # A resample may lack a class; its AUC is then the mean over the others.
    known = np.isfinite(aucs)
    total = np.where(known, aucs, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), math.nan)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap samples; (NaN, NaN) if none is a number."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return (math.nan, math.nan)
    low, high = np.percentile(samples, [2.5, 97.5])
    return (float(low), float(high))


def _resample_counts(
    num_images: int, patients: np.ndarray | None, samples: int, seed: int
) -> np.ndarray:
    """How often each image is in each resample: float64 (samples, num_images)."""
    groups = np.arange(num_images) if patients is None else pd.factorize(patients)[0]
    num_groups = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=samples)
    return counts[:, groups].astype(np.float64)


def _weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC under each row of weights, (samples,): the Mann-Whitney count with ties as one half.

    As ``sklearn.metrics.roc_auc_score(..., sample_weight=row)``, for all rows at once.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    weights, positive = weights[:, order], positive[order]
    ups = np.add.reduceat(weights * positive, starts, axis=1)
    downs = np.add.reduceat(weights * ~positive, starts, axis=1)
    below = np.cumsum(downs, axis=1) - 0.5 * downs
    with np.errstate(invalid="ignore"):
        return (ups * below).sum(axis=1) / (ups.sum(axis=1) * downs.sum(axis=1))


def by_group(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Evaluation]:
    """:func:`evaluate` on the images of each group, such as a hospital, a sex or a view.

    ``groups`` is (n,); the result is in the groups' sorted order.
    """
    groups = groups.astype(str)
    return {
        str(group): evaluate(
            probabilities[own := groups == group],
            labels[own],
            patients=None if patients is None else patients[own],
            bootstrap=bootstrap,
            seed=seed,
        )
        for group in np.unique(groups)
    }


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confusion matrix, int64 (classes, classes): rows the truth, columns the likeliest class."""
    classes = np.arange(probabilities.shape[1])
    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=classes)


@dataclass(frozen=True)
class Calibration:
    """A reliability curve: in each bin how sure the model was and how often it was right.

    ``confidence`` and ``accuracy`` are (bins,) in 0..1, ``counts`` (bins,) images; empty bins are
    left out. ``error`` is the expected calibration error (Guo et al. 2017, eq. 3).
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    error: float


def calibration(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 10) -> Calibration:
    """Compare the probability of the likeliest class with how often that class is right."""
    sure = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    which = np.clip((sure * bins).astype(int), 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    filled = counts > 0
    confidence = np.bincount(which, sure, bins)[filled] / counts[filled]
    accuracy = np.bincount(which, right, bins)[filled] / counts[filled]
    error = np.average(np.abs(confidence - accuracy), weights=counts[filled])
    return Calibration(confidence, accuracy, counts[filled], float(error))
