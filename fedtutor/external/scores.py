"""What a model is worth on a test set: ranking, calibration, and what its alarms would mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedtutor import evaluation
from fedtutor.errors import DataError
from fedtutor.evaluation import FEWEST_PATIENTS, NORMAL_95, AucEstimate
from fedtutor.explaining import NUM_SHOWN, spread
from fedtutor.gradcam import grad_cam, mass_in_lesion
from fedtutor.images import MedicalImages, patients_of
from fedtutor.partition import column_values

if TYPE_CHECKING:
    import keras

MOST_MAPS = 128
"""Heat maps are drawn of so many images at most, spread evenly over the set."""
BORDER, CORNER = 0.15, 0.2
"""Of a side: how wide the border is, and how long the corners' sides are."""


@dataclass(frozen=True)
class Question:
    """What is asked of a model.

    Attributes
    ----------
    threshold : an image is called ill from this probability on, in 0..1.
    prevalence : how common the finding is where the model would be used, in 0..1; by default as
        common as in the test set.
    finding : which class the alarms are of; by default the second of two, else each by itself.
    by : columns of the table, such as "hospital" or "view", whose groups are scored one by one.
    """

    threshold: float = 0.5
    prevalence: float | None = None
    finding: str | None = None
    by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.threshold), ("prevalence", self.prevalence)):
            if value is not None and not 0 < value < 1:
                raise DataError(f"{name} must lie between 0 and 1; got {value}.")


def score(probabilities: np.ndarray, data: MedicalImages, question: Question) -> dict[str, Any]:
    """Score what a model says of a test set.

    Parameters
    ----------
    probabilities : float (n, classes).
    data : the n images; of its classes two at least.
    question : which threshold, finding, prevalence and groups.

    Returns
    -------
    How many; the AUC with its interval by patient; ``brier``, the Brier score (Brier 1950; summed
    over classes and, of two, halved; the mean over findings); the calibration curve; a row of
    threshold figures for each finding asked for; and a row for each group.
    """
    patients = patients_of(data)
    found = evaluation.evaluate(probabilities, data.labels, patients=patients)
    truth = _truth(data)
    brier = ((probabilities - truth) ** 2).mean(axis=0)
    scale = brier.mean() if data.multi_label else brier.sum() / (2 if truth.shape[1] == 2 else 1)
    curve = evaluation.calibration(probabilities, data.labels)
    return {
        "num_images": len(data),
        "num_patients": len(set(patients)),
        "class_counts": dict(zip(data.class_names, map(int, data.class_counts()), strict=True)),
        "auc": found.auc,
        "auc_interval": found.auc_interval,
        "class_auc": dict(zip(data.class_names, found.class_aucs, strict=True)),
        "accuracy": found.accuracy,
        "brier": scale,
        "calibration": vars(curve),
        "thresholds": [
            alarms(probabilities[:, k], truth[:, k], patients, question)
            | {"finding": data.class_names[k]}
            for k in asked_for(data, question)
            if truth[:, k].any() and not truth[:, k].all()
        ],
        "groups": {column: by_group(probabilities, data, column) for column in question.by},
    }


def _truth(data: MedicalImages) -> np.ndarray:
    """Whether an image is of a class: bool (n, classes)."""
    if data.multi_label:
        return data.labels.astype(bool)
    return data.labels[:, None] == np.arange(len(data.class_names))


def asked_for(data: MedicalImages, question: Question) -> list[int]:
    """Return the positions of the classes whose alarms are asked for."""
    names = data.class_names
    if question.finding is not None:
        if question.finding not in names:
            raise DataError(
                f"the finding {question.finding!r} is no class here; known: {', '.join(names)}."
            )
        return [names.index(question.finding)]
    if len(names) > 2 and question.prevalence is not None:
        raise DataError(
            f"a prevalence is of one finding; say which with --finding: {', '.join(names)}."
        )
    return [1] if len(names) == 2 and not data.multi_label else list(range(len(names)))


def alarms(
    probabilities: np.ndarray, ill: np.ndarray, patients: np.ndarray, question: Question
) -> dict[str, Any]:
    """Return sensitivity, specificity and predictive values at a threshold, with 95 % intervals.

    Each is (value, low, high). The images of one patient count as one answer for the intervals,
    as if they agreed: sensitivity and specificity have Wilson's (1927), and from their ends come
    those of the predictive values at the prevalence (MOVER for a ratio, Donner & Zou 2012). With
    fewer than five patients who are ill, or well, there are no bounds.

    Parameters
    ----------
    probabilities : float (n,) of the finding.
    ill : bool (n,), of both kinds.
    patients : (n,), who each image is of.
    """
    called = probabilities >= question.threshold
    counts = [len(set(patients[kind])) for kind in (ill, ~ill)]
    sensitivity = _wilson(float(called[ill].mean()), counts[0])
    specificity = _wilson(float((~called)[~ill].mean()), counts[1])
    prevalence = float(ill.mean()) if question.prevalence is None else question.prevalence
    odds = prevalence / (1 - prevalence)
    figures = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _predictive_value(sensitivity, _others(specificity), odds),
        "npv": _predictive_value(specificity, _others(sensitivity), 1 / odds),
    }
    if min(counts) < FEWEST_PATIENTS:
        figures = {name: (value, math.nan, math.nan) for name, (value, _, _) in figures.items()}
    return figures | {
        "threshold": question.threshold,
        "prevalence": prevalence,
        "prevalence_seen": float(ill.mean()),
        "patients_ill": counts[0],
        "patients_well": counts[1],
    }


Bounded = tuple[float, float, float]
"""A share, and the ends of its 95 % interval."""


def _others(share: Bounded) -> Bounded:
    value, low, high = share
    return 1 - value, 1 - high, 1 - low


def _wilson(share: float, count: int) -> Bounded:
    one = NORMAL_95**2 / count
    middle = (share + one / 2) / (1 + one)
    half = math.sqrt(share * (1 - share) * one + one**2 / 4) / (1 + one)
    return share, max(0.0, middle - half), min(1.0, middle + half)


def _predictive_value(right: Bounded, wrong: Bounded, odds: float) -> tuple[float, float, float]:
    """Return which share of those who are called so are so; NaN where nobody is called so.

    Parameters
    ----------
    right, wrong : the share of those who are, and of those who are not, that are called so.
    odds : of being so before anything is called.
    """
    (r, r_low, r_high), (w, w_low, w_high) = right, wrong
    value = r * odds / (r * odds + w) if r * odds + w else math.nan
    low = r_low * (2 * r - r_low)
    low /= r * w + math.sqrt(max(0, (r * w) ** 2 - low * w_high * (2 * w - w_high))) or math.inf
    below = w_low * (2 * w - w_low)
    root = math.sqrt(max(0, (r * w) ** 2 - r_high * (2 * r - r_high) * below))
    high = (r * w + root) / below if below else math.inf
    return value, 1 - 1 / (1 + low * odds), 1 - 1 / (1 + high * odds)


def enough_auc(probabilities: np.ndarray, data: MedicalImages) -> tuple[AucEstimate, list[str]]:
    """AUC over the classes of which there are enough patients, and which these are.

    Of a class that fewer than five patients have, or have not, an AUC is mostly chance.
    """
    truth, patients = _truth(data), patients_of(data)
    each = {
        name: evaluation.estimate_auc(
            np.stack([1 - probabilities[:, k], probabilities[:, k]], axis=1),
            truth[:, k].astype(np.int64),
            patients=patients,
        )
        for k, name in enumerate(data.class_names)
    }
    enough = {name: one for name, one in each.items() if one.fewest >= FEWEST_PATIENTS}
    if len(each) == 2 and not data.multi_label:
        return evaluation.mean_estimate(list(enough.values())[1:]), list(enough)
    return evaluation.mean_estimate(list(enough.values())), list(enough)


def by_group(
    probabilities: np.ndarray, data: MedicalImages, column: str
) -> dict[str, dict[str, Any]]:
    """Score each group of a column: images, patients, AUC and interval, and of which classes.

    Where too few patients are ill or well the AUC is NaN.
    """
    values, patients = column_values(data, column), patients_of(data)
    rows = {}
    for group in sorted(set(values)):
        own = np.flatnonzero(values == group)
        one, classes = enough_auc(probabilities[own], data.take(own))
        rows[group] = {
            "num_images": len(own),
            "num_patients": len(set(patients[own])),
            "auc": one.auc,
            "auc_interval": evaluation.interval(one),
            "classes": classes,
        }
    return rows


@dataclass(frozen=True)
class Looks:
    """Where a model looks.

    Attributes
    ----------
    numbers : shares of the heat (0..1, mean over the images) in the border and in the corners,
        beside the shares that an even heat would have, of which the maps' empty margin has none;
        ``outside_lesion``, NaN where no lesions are known.
    indices : of a few images to show.
    maps : float (indices, height, width), HiResCAM of these.
    """

    numbers: dict[str, Any]
    indices: np.ndarray
    maps: np.ndarray


def where_it_looks(
    cnn: keras.Model, data: MedicalImages, columns: np.ndarray | None = None
) -> Looks:
    """See where HiResCAM's heat lies: in the border, the corners, and off the lesions.

    The letters of a film marker stand in a corner. Heat there is a hint, and no proof, that the
    model reads the hospital and not the patient. Each map asks for what is true of its image: its
    class, or the rarest of its findings; images without a finding are left out. ``columns`` are the
    outputs that the classes of ``data`` have.
    """
    candidates = np.flatnonzero(data.strata < len(data.class_names))
    spaced = np.linspace(0, max(len(candidates) - 1, 0), min(MOST_MAPS, len(candidates)))
    chosen = candidates[spaced.astype(int)]
    seen, asked = data.take(chosen), data.strata[chosen]
    outputs = asked if columns is None else columns[asked]
    maps = grad_cam(cnn, np.asarray(seen.images), outputs, method="hirescam")
    border, corners = (np.broadcast_to(one, maps.shape) for one in _regions(*maps.shape[1:]))
    mapped = np.broadcast_to(np.outer(maps.any(axis=(0, 2)), maps.any(axis=(0, 1))), maps.shape)
    lesions, outside = np.flatnonzero(seen.has_lesion()), math.nan
    if seen.masks is not None and len(lesions):
        outside = 1 - mass_in_lesion(maps[lesions], np.asarray(seen.masks[lesions]))
    numbers = {
        "num_images": len(chosen),
        "border": mass_in_lesion(maps, border),
        "border_even": mass_in_lesion(mapped[:1], border[:1]),
        "corners": mass_in_lesion(maps, corners),
        "corners_even": mass_in_lesion(mapped[:1], corners[:1]),
        "outside_lesion": outside,
        "num_with_lesion": len(lesions),
    }
    shown = spread(seen, asked, NUM_SHOWN)
    return Looks(numbers, chosen[shown], maps[shown])


def _regions(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the border and the four corners: bool (height, width)."""
    y, x = np.ogrid[:height, :width]
    down, across = np.minimum(y, height - 1 - y) / height, np.minimum(x, width - 1 - x) / width
    return (down < BORDER) | (across < BORDER), (down < CORNER) & (across < CORNER)
