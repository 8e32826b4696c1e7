"""How good a model is: AUC with an interval, accuracy, confusion, calibration, by group.

Labels are those of :class:`~fedtutor.images.MedicalImages`: int (n,), one class an image, or uint8
(n, k), multi-label, 1 where an image has the finding. Probabilities are then a softmax's, rows
summing to 1, or a sigmoid's, each finding by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd

from fedtutor.errors import DataError

NORMAL_95 = 1.96  # standard errors to either side
FEWEST_PATIENTS = 5
"""With fewer who are ill, or well, no interval holds the truth as often as it says."""
TOO_FEW = "too few patients to tell how sure"


@dataclass(frozen=True)
class AucEstimate:
    """An AUC, or a mean of several, and what it owes to the patients who happened to come.

    Attributes
    ----------
    auc : in 0..1; NaN where all images, or none, are of the class.
    shifts : float64 (patients,), how far each patient moves it; what is true of AUCs on the same
        patients, a mean or a difference, is true of their shifts. The squares add up to the
        variance (DeLong et al. 1988; by patient, Obuchowski 1997).
    size : 1 / (1 / patients who are ill + 1 / patients who are well).
    fewest : patients who are ill, or well, whichever is less.
    """

    auc: float
    shifts: np.ndarray
    size: float
    fewest: int


@dataclass(frozen=True)
class Evaluation(AucEstimate):
    """Scores of one model on one test set; what :class:`AucEstimate` has is of its AUC.

    Attributes
    ----------
    auc : area under the ROC curve in 0..1, one class against the rest, the plain mean over the
        classes that the test set holds; NaN if it holds but one. Multi-label: the mean over the
        findings that some images of the test set have and others have not.
    class_aucs : what it is the mean of, one a class; NaN where all or no images are of it.
    auc_interval : its 95 % interval, see :func:`interval`.
    accuracy : fraction of images whose likeliest class is the right one. Multi-label: fraction of
        all answers on the right side of 0.5; no guide there, as a model that never finds anything
        is right nearly always where findings are rare.
    loss : mean cross-entropy in nats; multi-label: binary cross-entropy, the mean over all
        answers.
    num_examples : images in the test set.
    """

    class_aucs: tuple[float, ...]
    auc_interval: tuple[float, float]
    accuracy: float
    loss: float
    num_examples: int


def evaluate(
    probabilities: np.ndarray, labels: np.ndarray, *, patients: np.ndarray | None = None
) -> Evaluation:
    """Score predictions.

    Parameters
    ----------
    probabilities : float (n, classes).
    labels : int (n,) or uint8 (n, classes), the truth.
    patients : (n,), who each image is of, for the interval; by default each of somebody else.
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
    if labels.ndim > 1:
        right = (probabilities > 0.5) == labels
        of_truth = np.where(labels, probabilities, 1 - probabilities)
    else:
        right = probabilities.argmax(axis=1) == labels
        of_truth = probabilities[np.arange(len(labels)), labels]
    by_class, overall = _estimates(probabilities, labels, patients)
    return Evaluation(
        **vars(overall),
        class_aucs=tuple(one.auc for one in by_class),
        auc_interval=interval(overall),
        accuracy=float(right.mean()),
        loss=float(-np.log(np.clip(of_truth.astype(np.float64), 1e-7, 1.0)).mean()),
        num_examples=len(labels),
    )


def auc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Macro AUC: the ``auc`` of :func:`evaluate`, also of scores that are no probabilities."""
    return estimate_auc(probabilities, labels).auc


def estimate_auc(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    pairwise: bool = False,
) -> AucEstimate:
    """:func:`auc` with what :func:`interval` and :func:`gain_interval` need.

    Images of one patient resemble each other; taken one by one they would promise too much.
    ``pairwise``: one class against one other, the mean over all pairs (Hand & Till 2001); unlike
    one against the rest it can be compared where the classes are mixed otherwise.
    """
    return _estimates(probabilities, labels, patients, pairwise)[1]


def mean_estimate(estimates: Sequence[AucEstimate]) -> AucEstimate:
    """Average AUCs on the same patients, of classes or of models; those that are NaN aside."""
    known = [one for one in estimates if math.isfinite(one.auc)]
    if not known:
        return AucEstimate(math.nan, np.empty(0), math.nan, 0)
    each = np.stack([one.shifts for one in known])
    shifts = each.mean(axis=0)
    # From 1, if all go up and down together, to 1 / k, if each does by itself.
    together = (shifts @ shifts) / np.mean(np.sum(each**2, axis=1)) if each.any() else 1.0
    size = float(1 / np.mean([1 / one.size for one in known]) / max(together, 1 / len(known)))
    value = float(np.mean([one.auc for one in known]))
    return AucEstimate(value, shifts, size, min(one.fewest for one in known))


def interval(estimate: AucEstimate) -> tuple[float, float]:
    """Return the 95 % interval of an AUC; (NaN, NaN) with too few patients, or without an AUC.

    An AUC is a share, of pairs that are in the right order. It is worth as much as a share of n
    independent answers that has the same variance, and the interval is that of such a share (Wilson
    1927): it stays within 0..1, and is not a point when all pairs are in order.
    """
    if estimate.fewest < FEWEST_PATIENTS:
        return (math.nan, math.nan)
    for_one = NORMAL_95**2 / _answers(estimate)
    middle = (estimate.auc + for_one / 2) / (1 + for_one)
    half = math.sqrt(estimate.auc * (1 - estimate.auc) * for_one + for_one**2 / 4) / (1 + for_one)
    return (max(0.0, middle - half), min(1.0, middle + half))


def gain_interval(one: AucEstimate, other: AucEstimate) -> tuple[float, float]:
    """Return the 95 % interval of one AUC minus another on the same patients, or (NaN, NaN).

    What makes a patient hard for both models does not widen it.
    """
    if min(one.fewest, other.fewest) < FEWEST_PATIENTS:
        return (math.nan, math.nan)
    lengths = float(np.linalg.norm(one.shifts) * np.linalg.norm(other.shifts))
    alike = float(one.shifts @ other.shifts) / lengths if lengths else 0.0
    a, b = _standard_error(one), _standard_error(other)
    half = NORMAL_95 * math.sqrt(max(0.0, a * a + b * b - 2 * alike * a * b))
    return (one.auc - other.auc - half, one.auc - other.auc + half)


def _answers(estimate: AucEstimate) -> float:
    """How many independent answers have the AUC's variance, auc (1 - auc) / n.

    What the patients show of it, weighted by ``size``, is averaged with what four more would show
    if the model guessed: ranks are then uniform, of variance 1 / 12, which is auc (1 - auc) / 3.
    """
    of_one = estimate.auc * (1 - estimate.auc)
    seen = float(estimate.shifts @ estimate.shifts) / of_one if of_one else 0.0
    return (estimate.size + 4) / (estimate.size * seen + 4 / 3 / estimate.size)


def _standard_error(estimate: AucEstimate) -> float:
    """Of the AUC in the middle of the interval, as at 1 there would be none."""
    middle = sum(interval(estimate)) / 2
    return math.sqrt(middle * (1 - middle) / _answers(estimate))


def _estimates(
    probabilities: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray | None = None,
    pairwise: bool = False,
) -> tuple[list[AucEstimate], AucEstimate]:
    """Of each class (or pair), and of all; of two exclusive classes the second says all."""
    codes = np.arange(len(labels)) if patients is None else pd.factorize(patients)[0]
    exclusive, classes = labels.ndim == 1, probabilities.shape[1]
    truth = labels[:, None] == np.arange(classes) if exclusive else labels.astype(bool)
    kinds = permutations(truth.T, 2) if pairwise else zip(truth.T, ~truth.T, strict=True)
    scores = np.repeat(probabilities.T, classes - 1 if pairwise else 1, axis=0)
    each = [_of_class(one, *both, codes) for one, both in zip(scores, kinds, strict=True)]
    return each, mean_estimate(each[1:] if exclusive and classes == 2 else each)


def _of_class(
    scores: np.ndarray, ill: np.ndarray, well: np.ndarray, codes: np.ndarray
) -> AucEstimate:
    """One AUC: which images are of either kind is bool (n,), who each is of int (n,)."""
    if not well.any() or not ill.any():
        return AucEstimate(math.nan, np.empty(0), math.nan, 0)
    # The share of the other kind that each image is in the right order with; a tie is one half.
    right = np.where(ill, _share_below(scores, scores[well]), 1 - _share_below(scores, scores[ill]))
    value = float(right[ill].mean())
    shifts, counts = np.zeros(codes.max() + 1), []
    for kind in (ill, well):
        count = len(np.unique(codes[kind]))
        moved = np.bincount(codes[kind], right[kind] - value, len(shifts)) / kind.sum()
        shifts += moved * math.sqrt(count / max(count - 1, 1))
        counts.append(count)
    return AucEstimate(value, shifts, 1 / sum(1 / n for n in counts), min(counts))


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    others = np.sort(others)
    below, not_above = (np.searchsorted(others, scores, side) for side in ("left", "right"))
    return (below + not_above) / (2 * len(others))


def by_group(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    patients: np.ndarray | None = None,
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
    if labels.ndim > 1:
        raise DataError(
            "a confusion matrix needs one class an image, and these images have several findings; "
            "ask for one finding k: p = probabilities[:, k]; "
            "confusion(np.stack([1 - p, p], axis=1), labels[:, k])."
        )
    classes = probabilities.shape[1]
    cells = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


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
