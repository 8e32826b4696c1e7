"""What notebook 06 needs: a cohort of hospitals, two figures, and its exercises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, one_number, other_case
from fedtutor.datasets import load
from fedtutor.evaluation import TOO_FEW
from fedtutor.figures.charts import STYLES, legend_above, name_rows
from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture, tidy
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.partition import partition

HEALTHY = ("normal", "no finding")


def hospital_images(dataset: str | Path, *, size: int = 32, most: int = 2000) -> MedicalImages:
    """At most ``most`` small images, each with a hospital and one class.

    Where the data set does not say which hospital an image is from, its patients are dealt out to
    five (Dirichlet, alpha 1). Of several findings an image it is asked whether there is any.
    """
    data = load(dataset, size=size)
    if len(data) > most:
        data = data.take(np.random.default_rng(0).permutation(len(data))[:most])
    if "hospital" not in data.table:
        parts = partition(data, "dirichlet", 5, alpha=1.0)
        names = np.empty(len(data), dtype=object)
        for name, own in zip(parts.names, parts.indices, strict=True):
            names[own] = name
        data = replace(data, table=data.table.assign(hospital=names))
    if data.multi_label:
        found = data.labels.max(axis=1).astype(np.int64)
        data = replace(data, labels=found, class_names=("No finding", "Some finding"))
    return data


def three_parts(data: MedicalImages) -> tuple[MedicalImages, MedicalImages, MedicalImages]:
    """(train, validation, test), no patient in two of them.

    Two thirds of the patients, or the official test set, are for the test: intervals are to be
    short enough to say something. A quarter of the others is for validation.
    """
    rest, test = split_by_patient(data, 0.65)
    rest = replace(rest, table=rest.table.drop(columns="split", errors="ignore"))
    train, validation = split_by_patient(rest, 0.25)
    return train, validation, test


def commonest_disease(data: MedicalImages) -> int:
    """Return the number of the class with the most images, of those that are a disease."""
    healthy = [name.lower() in HEALTHY for name in data.class_names]
    return int(np.where(healthy, -1, data.class_counts()).argmax())


Estimates = Sequence[tuple[float, tuple[float, float]]]


def intervals(
    names: Sequence[str], series: Mapping[str, Estimates], *, x: str, zero: bool = False
) -> Picture:
    """Draw one row a name, in it a mark and an interval for each series.

    Parameters
    ----------
    names : of the rows, from top to bottom.
    series : from a name to one (value, (low, high)) a row; NaN leaves a gap.
    zero : whether to draw a line at zero, for differences.
    """
    figure = Figure(figsize=(8, 1.2 + (0.26 + 0.14 * len(series)) * len(names)))
    axes = figure.add_subplot()
    if zero:
        axes.axvline(0, color=GREY, linewidth=1)
    shifts = np.linspace(-0.17, 0.17, len(series)) if len(series) > 1 else [0.0]
    styled = zip(series.items(), shifts, STYLES, strict=False)
    for (name, rows), shift, (colour, mark, dash) in styled:
        y = np.arange(len(rows)) + shift
        value, low, high = np.array([(v, *bounds) for v, bounds in rows], dtype=float).T
        for ends in (low, high):
            axes.plot(ends, y, "|", color=colour, markersize=9, markeredgewidth=2)
        axes.hlines(y, low, high, color=colour, linestyle=dash, linewidth=2, alpha=0.8)
        axes.plot(value, y, mark, color=colour, markersize=7, label=name)
    name_rows(axes, names)
    axes.set_xlabel(x)
    tidy(axes, "x")
    if len(series) > 1:
        legend_above(axes, len(series), middle=0.4)

    def estimate(value: float, bounds: tuple[float, float]) -> str:
        between = f"95 % interval {bounds[0]:.2f} to {bounds[1]:.2f}"
        return f"{value:.2f} ({TOO_FEW if np.isnan(bounds[0]) else between})"

    said = [
        f"{row}: " + ", ".join(f"{name} {estimate(*rows[k])}" for name, rows in series.items())
        for k, row in enumerate(names)
    ]
    return Picture(figure, f"{x}. {'; '.join(said)}.", 0.01)


def three_views(
    roc: np.ndarray, calibration: np.ndarray, benefit: Mapping[str, np.ndarray], threshold: float
) -> Figure:
    """Draw what stands still and what moves with the prevalence, in one row of three.

    Parameters
    ----------
    roc : (2, n), false alarms and sensitivity; the last point is that of the threshold.
    calibration : (2, bins), the predicted probability and how often it is so.
    benefit : from a name to a curve (2, n), thresholds and the net benefit there.
    """
    figure = Figure(figsize=(9.6, 3.1))
    left, middle, right = figure.subplots(1, 3, gridspec_kw={"wspace": 0.35})
    left.plot(*roc[:, :-1], color=BLUE)
    left.plot(*roc[:, -1:], "D", color=ORANGE, markersize=9)
    left.set(xlabel="false alarms (1 - specificity)", ylabel="sensitivity", title="ROC curve")
    left.set(xlim=(-0.02, 1), ylim=(0, 1.03), yticks=(0, 0.5, 1))
    middle.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    middle.plot(*calibration, "o-", color=BLUE)
    middle.set(xlabel="what the model says", ylabel="how often it is so", title="calibration")
    middle.set(yticks=(0, 0.5, 1))
    for (name, curve), (colour, _, dash) in zip(benefit.items(), STYLES, strict=False):
        right.plot(*curve, dash, color=colour, label=name)
    right.axvline(threshold, color=ORANGE, linewidth=1)
    right.set(xlabel="threshold", ylabel="net benefit", title="decision curve")
    best = max(curve[1].max() for curve in benefit.values())
    right.set(xlim=(0, 1), ylim=(-0.4 * best, 1.15 * best))
    right.legend(frameon=False, fontsize=8)
    for axes in (left, middle, right):
        axes.set_xticks((0, 0.5, 1))  # a figure of few ticks is drawn faster
        tidy(axes, "both")
    return figure


def auc_of_pairs(scores: np.ndarray, ill: np.ndarray) -> float:
    """Return the share of pairs, one ill and one not, in which the ill one has the higher score."""
    difference = scores[ill][:, None] - scores[~ill]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


SCORES = np.array([0.9, 0.8, 0.8, 0.55, 0.3, 0.8, 0.55, 0.4, 0.35, 0.3, 0.2, 0.1])
ILL = np.arange(len(SCORES)) < 5


@exercise(
    """06.1, the AUC from pairs
    More: difference = scores[ill][:, None] - scores[~ill] holds every pair; (difference > 0).mean()
    plus half of (difference == 0).mean().""",
    reference=auc_of_pairs,
)
def auc_by_pairs(auc: Answer) -> None:
    got = one_number(auc(SCORES.copy(), ILL.copy()), "a share of pairs is one number.")
    right, difference = auc_of_pairs(SCORES, ILL), SCORES[ILL][:, None] - SCORES[~ILL]
    if np.isclose(got, 1 - right):
        raise Wrong("""You count the pairs in which the one who is *not* ill is ahead.
            Hint: the ill one should have the higher score.""")
    if np.isclose(got, (difference > 0).mean()):
        raise Wrong("""A tie counts nothing in your AUC.
            Hint: a model that gives everybody the same score should have 0.5.""")
    if np.isclose(got, (difference >= 0).mean()):
        raise Wrong("""A tie counts as a win in your AUC.
            Hint: it counts one half.""")
    if np.isclose(got, right * difference.size):
        raise Wrong(f"""You counted {got:g} pairs, and did not divide by their number.
            Hint: a share lies between 0 and 1.""")
    if np.isclose(got, ((SCORES >= 0.5) == ILL).mean()):
        raise Wrong("""That is an accuracy, with a threshold of one half.
            Hint: the AUC needs no threshold; it compares two scores.""")
    if not np.isclose(got, right):
        raise Wrong(f"""For 5 ill and 7 others it is {right:.3f}; yours is {got:.3f}.
            Hint: 35 pairs, each one ill and one other image. In how many is the ill one ahead?""")
    other_case(np.isclose(auc(-SCORES, ILL), 1 - right) and auc(0 * SCORES, ~ILL) == 0.5)


def draw_patients(patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many patients as there are, with replacement; return where their images are."""
    who = np.unique(patients)
    drawn = rng.choice(who, size=len(who))
    return np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])


# Five patients with one to five images each, in no order.
PATIENTS = np.array(list("bcabdbfcbdbdf"))


@exercise(
    """06.2, a bootstrap that draws patients
    More: who = np.unique(patients); drawn = rng.choice(who, size=len(who)), with the `rng` that is
    given; np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])""",
    reference=draw_patients,
)
def bootstrap_of_patients(draw: Answer) -> None:
    rng = np.random.default_rng(6)
    who, count = np.unique(PATIENTS, return_inverse=True)
    draws = [_positions(draw(PATIENTS.copy(), rng)) for _ in range(300)]
    times = np.stack([np.bincount(drawn, minlength=len(PATIENTS)) for drawn in draws])
    first = np.array([np.flatnonzero(name == PATIENTS)[0] for name in who])
    if not (times == times[:, first][:, count]).all():
        raise Wrong("""Some patients came along with only a part of their images.
            Hint: draw patients, then take *all* images of each patient you drew.""")
    of_patient = times[:, first]
    if (of_patient == 1).all():
        raise Wrong("""Every patient is drawn once each time: every resample is the test set.
            Hint: a bootstrap draws with replacement.""")
    if of_patient.max() == 1:
        raise Wrong("""No patient is ever in a resample twice.
            Hint: who is drawn twice must count twice: `np.isin` only knows in or out.""")
    if (of_patient.sum(axis=1) != len(who)).any():
        raise Wrong(f"""There are {len(who)} patients, and you drew {of_patient[0].sum()}.
            Hint: a resample has as many patients as the test set, not as many as it has images.""")
    if (of_patient == of_patient[0]).all():
        raise Wrong("""All resamples are the same.
            Hint: a generator made inside the function begins anew at each call.""")
    if np.abs(of_patient.mean(axis=0) - 1).max() > 0.4:
        raise Wrong("""A patient with many images is drawn more often than one with a single image.
            Hint: `patients` names a patient once for each image.""")


def _positions(answer: object) -> np.ndarray:
    """Return the answer as positions of images."""
    drawn = np.asarray(answer)
    if drawn.dtype.kind in "USO":
        raise Wrong("""You give back patients; asked for are the positions of their images.
            Hint: np.flatnonzero(patients == patient) finds the images of one patient.""")
    last = len(PATIENTS) - 1
    if drawn.ndim != 1 or drawn.dtype.kind not in "iu" or not np.isin(drawn, range(last + 1)).all():
        raise Wrong(f"""Positions from 0 to {last} are asked for, not {drawn.dtype} {drawn.shape}.
            Hint: not True or False for each image, which cannot say that one counts twice.""")
    return drawn


# Rows are the truth; every wrong reading of it gives another number.
MATRIX = np.array([[50, 8, 2], [6, 30, 4], [1, 3, 16]])


def predictive_values(matrix: np.ndarray, k: int, prevalence: float) -> tuple[float, float]:
    """Return PPV and NPV of class k against the rest where that share of the patients has it."""
    sensitivity, specificity = _rates(matrix, k)
    ill, well = prevalence, 1 - prevalence
    ppv = ill * sensitivity / (ill * sensitivity + well * (1 - specificity))
    npv = well * specificity / (well * specificity + ill * (1 - sensitivity))
    return float(ppv), float(npv)


def _rates(matrix: np.ndarray, k: int) -> tuple[float, float]:
    found, ill = matrix[k, k], matrix[k].sum()
    alarms, others = matrix[:, k].sum() - found, matrix.sum() - ill
    return found / ill, 1 - alarms / others


@exercise(
    """06.3, predictive values at another prevalence
    More: found = matrix[k, k], the ill are matrix[k].sum(), false alarms matrix[:, k].sum() - found
    of matrix.sum() - matrix[k].sum() others; of all patients, prevalence * sensitivity are called
    rightly, (1 - prevalence) * (1 - specificity) wrongly.""",
    reference=predictive_values,
)
def values_at_a_prevalence(values: Answer) -> None:
    share, hint = 0.1, "end with `return ppv, npv`."
    got = of_shape(values(MATRIX.copy(), 1, share), (2,), hint)
    ppv, npv = predictive_values(MATRIX, 1, share)
    sensitivity, specificity = _rates(MATRIX, 1)
    if np.allclose(got, [100 * ppv, 100 * npv]):
        raise Wrong("""Right, but in per cent.
            Hint: shares lie between 0 and 1.""")
    if np.allclose(got, [npv, ppv]):
        raise Wrong("""You have both, in the other order.
            Hint: PPV first: of those who are called ill, the share who are.""")
    if np.allclose(got, [sensitivity, specificity]):
        raise Wrong("""These are sensitivity and specificity.
            Hint: they begin with the ill and the others; a predictive value, with those called so.
            More: ppv = prevalence * sensitivity / (all who are called ill)""")
    if np.isclose(got[0], MATRIX[1, 1] / MATRIX[:, 1].sum()):
        raise Wrong("""Your PPV is that of the matrix, in which 40 of 120 have it, not one in ten.
            Hint: take sensitivity and specificity from the matrix, then mix them anew.""")
    if np.isclose(got[0], share * sensitivity / (share * sensitivity + 1 - specificity)):
        raise Wrong("""Your false alarms come from everybody, the ill among them.
            Hint: only 1 - prevalence of the patients can be a false alarm.""")
    diagonal = (np.trace(MATRIX) - MATRIX[1, 1]) / (MATRIX.sum() - MATRIX[1].sum())
    if np.isclose(got[0], share * sensitivity / (share * sensitivity + 0.9 * (1 - diagonal))):
        raise Wrong("""You count it as a false alarm if one *other* class is taken for another.
            Hint: for class k against the rest it only matters whether class k was called.""")
    if not np.isclose(got[0], ppv):
        raise Wrong(f"""Of 1000 patients 100 have it, and 75 of these are found; of 900 others 124
            are called so: PPV {ppv:.2f}, not {got[0]:.2f}.
            Hint: row k holds the images that truly are of class k, column k those called so.""")
    if not np.isclose(got[1], npv):
        raise Wrong(f"""Your PPV is right. The NPV is {npv:.3f}, not {got[1]:.3f}.
            Hint: of those who are *not* called ill, the share who do not have it.""")
    other_case(np.allclose(values(MATRIX.copy(), 2, 0.4), predictive_values(MATRIX, 2, 0.4)))
