"""How good a model is: AUC with an interval, accuracy, confusion, calibration, by group.

Labels are those of :class:`~fedtutor.images.MedicalImages`: int (n,), one class an image, or uint8
(n, k), multi-label, 1 where an image has the finding. Probabilities are then a softmax's, rows
summing to 1, or a sigmoid's, each finding by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedtutor.errors import DataError

BOOTSTRAP_SAMPLES = 1000
BLOCK = 100
"""Resamples scored at a time, so that a large test set and its resamples fit into memory."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on one test set.

    Attributes
    ----------
    auc : area under the ROC curve in 0..1, one class against the rest, the plain mean over the
        classes that the test set holds; NaN if it holds but one. Multi-label: the mean over the
        findings that some images of the test set have and others have not.
    class_aucs : what it is the mean of, see :func:`class_aucs`; NaN where there is none.
    auc_interval : its 95 % bootstrap interval, (NaN, NaN) if none was asked for.
    accuracy : fraction of images whose likeliest class is the right one. Multi-label: fraction of
        all answers on the right side of 0.5; no guide there, as a model that never finds anything
        is right nearly always where findings are rare.
    loss : mean cross-entropy in nats; multi-label: binary cross-entropy, the mean over all
        answers.
    num_examples : images in the test set.
    """

    auc: float
    class_aucs: tuple[float, ...]
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
    probabilities : float (n, classes).
    labels : int (n,) or uint8 (n, classes), the truth.
    patients : (n,), who each image is of; whole patients are then drawn for the interval.
    bootstrap : number of resamples for the interval; 0 leaves it at NaN.
    seed : of the resamples.
    """
    if len(labels) == 0 or probabilities.shape[0] != len(labels):
        raise DataError(
            f"{probabilities.shape[0]} predictions for {len(labels)} labels; "
            "give one prediction for each label, and at least one."
        )
    if labels.ndim > 1 and probabilities.shape != labels.shape:
        raise DataError(
            f"predictions of {probabilities.shape[1]} findings for labels of {labels.shape[1]}."
        )
    if not np.isfinite(probabilities).all():
        raise DataError("the predictions contain NaN: training diverged; lower the learning rate.")
    resampled = np.empty(0)
    if bootstrap:
        resampled = bootstrap_aucs(
            probabilities, labels, patients=patients, samples=bootstrap, seed=seed
        )
    if labels.ndim > 1:
        right = (probabilities > 0.5) == labels
        of_truth = np.where(labels, probabilities, 1 - probabilities)
    else:
        right = probabilities.argmax(axis=1) == labels
        of_truth = probabilities[np.arange(len(labels)), labels]
    aucs = class_aucs(probabilities, labels)
    return Evaluation(
        auc=_mean_auc(aucs, labels),
        class_aucs=tuple(aucs.tolist()),
        auc_interval=interval(resampled),
        accuracy=float(right.mean()),
        loss=float(-np.log(np.clip(of_truth.astype(np.float64), 1e-7, 1.0)).mean()),
        num_examples=len(labels),
    )


def class_aucs(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """AUC of each class against the rest, or of each finding: float64 (classes,).

    NaN where all images of the set, or none of them, are of the class.
    """
    from sklearn import metrics  # not above: who only trains need not wait a second for it

    truth = _truth(labels, probabilities.shape[1])
    return np.array(
        [
            metrics.roc_auc_score(of_class, scores) if 0 < of_class.mean() < 1 else math.nan
            for of_class, scores in zip(truth.T, probabilities.T, strict=True)
        ]
    )


def auc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Macro AUC: the mean of :func:`class_aucs` without those that are NaN; NaN if all are."""
    return _mean_auc(class_aucs(probabilities, labels), labels)


def _truth(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Which image is of which class, bool (n, classes)."""
    if labels.ndim > 1:
        return labels.astype(bool)
    return labels[:, None] == np.arange(num_classes)


def _mean_auc(aucs: np.ndarray, labels: np.ndarray) -> float:
    counted = aucs[_counted(labels, len(aucs))]
    counted = counted[np.isfinite(counted)]
    return float(counted.mean()) if len(counted) else math.nan


def _counted(labels: np.ndarray, num_classes: int) -> slice:
    """Return the classes whose AUCs are averaged; of two exclusive ones the second says all."""
    return slice(1, 2) if labels.ndim == 1 and num_classes == 2 else slice(None)


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
    num_classes = probabilities.shape[1]
    truth = _truth(labels, num_classes)
    classes = np.arange(num_classes)[_counted(labels, num_classes)]
    aucs = np.stack([_weighted_auc(probabilities[:, k], truth[:, k], weights) for k in classes])
    # A resample may lack a class; its AUC is then the mean over the others.
    known = np.isfinite(aucs)
    total = np.where(known, aucs, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), math.nan)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap samples; (NaN, NaN) if none is a number."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return (math.nan, math.nan)
    low, high = np.percentile(samples, [2.5, 97.5])
    return (float(low), float(high))


def _resample_counts(
    num_images: int, patients: np.ndarray | None, samples: int, seed: int
) -> np.ndarray:
    """How often each image is in each resample: float32 (samples, num_images)."""
    groups = np.arange(num_images) if patients is None else pd.factorize(patients)[0]
    num_groups = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=samples)
    return counts.astype(np.float32)[:, groups]


def _weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC under each row of weights, (samples,): the Mann-Whitney count with ties as one half.

    As ``sklearn.metrics.roc_auc_score(..., sample_weight=row)``, for all rows at once.
    """
    order = np.argsort(scores, kind="stable")
    own = scores[positive]
    first, last = (np.searchsorted(scores[order], own, side) for side in ("left", "right"))
    aucs = []
    for start in range(0, len(weights), BLOCK):
        block = np.ascontiguousarray(weights[start : start + BLOCK].T, np.float64)
        lower = np.zeros((len(scores) + 1, block.shape[1]))  # weight of the i lowest scores
        np.cumsum(block[order], axis=0, out=lower[1:])
        ups = block[positive].sum(axis=0)
        # Twice the pairs won, the other positives and oneself as ties among the losers.
        pairs = (block[positive] * (lower[first] + lower[last])).sum(axis=0)
        with np.errstate(invalid="ignore"):
            aucs.append(0.5 * (pairs - ups**2) / (ups * (lower[-1] - ups)))
    return np.concatenate(aucs)


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
    """Confusion matrix, int64 (classes, classes): rows the truth, columns the likeliest class.

    Raises
    ------
    DataError
        For multi-label data, where there is no such thing as the class.
    """
    from sklearn import metrics

    if labels.ndim > 1:
        raise DataError(
            "a confusion matrix needs one class an image, and these images have several findings; "
            "ask for one finding k: p = probabilities[:, k]; "
            "confusion(np.stack([1 - p, p], axis=1), labels[:, k])."
        )
    classes = np.arange(probabilities.shape[1])
    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=classes)


@dataclass(frozen=True)
class Calibration:
    """A reliability curve: in each bin how sure the model was and how often it was right.

    Multi-label: what probability it gave a finding and how often the finding was there.

    ``confidence`` and ``accuracy`` are (bins,) in 0..1, ``counts`` (bins,) images; empty bins are
    left out. ``error`` is the expected calibration error (Guo et al. 2017, eq. 3).
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    error: float


def calibration(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 10) -> Calibration:
    """Compare the probability of the likeliest class with how often that class is right.

    Multi-label: the probability of each finding with how often it is there, all findings in one
    curve; ``counts`` are then answers, k an image.
    """
    if labels.ndim > 1:
        sure, right = probabilities.ravel().astype(np.float64), labels.ravel()
    else:
        sure = probabilities.max(axis=1).astype(np.float64)
        right = probabilities.argmax(axis=1) == labels
    which = np.clip((sure * bins).astype(int), 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    filled = counts > 0
    confidence = np.bincount(which, sure, bins)[filled] / counts[filled]
    accuracy = np.bincount(which, right, bins)[filled] / counts[filled]
    error = np.average(np.abs(confidence - accuracy), weights=counts[filled])
    return Calibration(confidence, accuracy, counts[filled], float(error))
