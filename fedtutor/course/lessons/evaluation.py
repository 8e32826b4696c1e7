"""What notebook 06 needs: a cohort of hospitals, four figures, and the checks of its exercises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from matplotlib.axes import Axes
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


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Picture:
    """Draw a confusion matrix, rows the truth, as per cent of each row."""
    figure = Figure(figsize=(1.6 + 1.35 * len(class_names), 0.9 + 0.75 * len(class_names)))
    axes = figure.add_subplot()
    counts = matrix.sum(axis=1).tolist()
    rows = [f"{name} ({n:,})" for name, n in zip(class_names, counts, strict=True)]
    shares = _shares(axes, matrix, rows, class_names)
    axes.set_xlabel("the model says")
    axes.set_ylabel("truth (images)")
    said = []
    for row, line in zip(rows, shares, strict=True):
        called = [
            f"{100 * s:.0f} % were called {c}" for s, c in zip(line, class_names, strict=True)
        ]
        said.append(f"of {row} {', '.join(called)}")
    return Picture(figure, f"Confusion matrix. {'; '.join(said)}.", 0.01)


def cut(scores: np.ndarray, ill: np.ndarray, threshold: float, name: str) -> tuple[Picture, str]:
    """Draw what a threshold does to one class against the rest: (picture, sentence).

    Parameters
    ----------
    scores : float (n,), the probability of the class.
    ill : bool (n,), the truth.
    """
    called = scores >= threshold
    matrix = np.array([[(row & called).sum(), (row & ~called).sum()] for row in (ill, ~ill)])
    figure = Figure(figsize=(8.6, 3.1))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    rows = [f"{name} ({ill.sum():,})", f"all others ({(~ill).sum():,})"]
    shares = _shares(right, matrix, rows, [f"called {name}", "not called so"])
    sensitivity, specificity = shares.diagonal()
    right.set_title(f"threshold {threshold:.2f}", fontsize=10)
    left.plot(*_roc(scores, ill), color=BLUE)
    left.plot([1 - specificity], [sensitivity], "D", color=ORANGE, markersize=9)
    left.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    left.set_xlabel("false alarms (1 - specificity)")
    left.set_ylabel("sensitivity")
    tidy(left, "both")
    figure.subplots_adjust(wspace=0.55)
    sentence = (
        f"{name}, called from {100 * threshold:.0f} % on: sensitivity "
        f"≈{100 * sensitivity:.0f} %, specificity ≈{100 * specificity:.0f} %."
    )
    words = f"ROC curve with one point marked, and a confusion matrix. {sentence}"
    return Picture(figure, words, 0.01), sentence


def _roc(scores: np.ndarray, ill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (false alarm rates, sensitivities) at 51 rates, where nobody is ill as well."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(ill[order]) / max(ill.sum(), 1)
    alarms = np.cumsum(~ill[order]) / max((~ill).sum(), 1)
    grid = np.linspace(0, 1, 51)
    return grid, np.interp(grid, np.r_[0, alarms], np.r_[0, found])


def _shares(
    axes: Axes, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> np.ndarray:
    """Draw a matrix as shares of its rows, the darker the more, and return them."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        colour = "white" if share > 0.65 else "black"
        axes.text(j, i, f"≈{100 * share:.0f} %", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    return shares


# Five patients with one to five images each, in no order.
PATIENTS = np.array(list("bcabdbfcbdbdf"))


@exercise("""06.1, a bootstrap that draws patients
    More: who = np.unique(patients); drawn = rng.choice(who, size=len(who)), with the `rng` that is
    given; np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])""")
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


def _rates(matrix: np.ndarray, k: int) -> tuple[float, float]:
    found, ill = matrix[k, k], matrix[k].sum()
    alarms, others = matrix[:, k].sum() - found, matrix.sum() - ill
    return found / ill, 1 - alarms / others


@exercise("""06.2, sensitivity and specificity
    More: found is matrix[k, k], the ill are matrix[k].sum(), those called matrix[:, k].sum(), and
    false alarms those called without those found.""")
def sensitivity_and_specificity(rates: Answer) -> None:
    hint = "end with `return sensitivity, specificity`."
    got = of_shape(rates(MATRIX.copy(), 1), (2,), hint)
    sensitivity, specificity = _rates(MATRIX, 1)
    column = MATRIX[1, 1] / MATRIX[:, 1].sum()
    if np.allclose(got, [100 * sensitivity, 100 * specificity]):
        raise Wrong("""Right, but in per cent.
            Hint: shares lie between 0 and 1.""")
    if np.allclose(got, [specificity, sensitivity]):
        raise Wrong("""You have both, in the other order.
            Hint: sensitivity first: the share of the ill who are found.""")
    if np.isclose(got[0], column):
        raise Wrong("""Your first number is the share of the *calls* that are right (the precision).
            Hint: sensitivity is about the ill, and the truth is in the rows.""")
    if not np.isclose(got[0], sensitivity):
        raise Wrong(f"""Of 40 ill 30 are found, which is {sensitivity:.2f}; you have {got[0]:.2f}.
            Hint: row k holds the images that truly are of class k.""")
    diagonal = (np.trace(MATRIX) - MATRIX[1, 1]) / (MATRIX.sum() - MATRIX[1].sum())
    if np.isclose(got[1], diagonal):
        raise Wrong("""You count it as a mistake if one *other* class is taken for another.
            Hint: for class k against the rest it only matters whether class k was called.""")
    if np.isclose(got[1], 1 - specificity):
        raise Wrong("""Your second number is the share of false alarms.
            Hint: specificity is the share *without* a false alarm.""")
    if not np.isclose(got[1], specificity):
        raise Wrong(f"""Of 80 others 69 are not called so: {specificity:.2f}, not {got[1]:.2f}.
            Hint: take the whole matrix without row k; of that, leave out column k.""")
    other_case(np.allclose(rates(MATRIX.copy(), 2), _rates(MATRIX, 2)))


@exercise("""06.3, the threshold for a specificity
    More: np.quantile(scores[~ill], specificity)""")
def threshold_for_specificity(choose: Answer) -> None:
    rng = np.random.default_rng(63)
    ill = np.arange(600) % 3 == 0
    scores = np.where(ill, rng.beta(4, 2, 600), rng.beta(2, 4, 600))
    for wanted in (0.9, 0.75):
        answer = choose(scores.copy(), ill.copy(), wanted)
        got = one_number(answer, "np.quantile of one list and one share is one number.")
        if not _cleared(scores[~ill], got, wanted):
            _say_why(scores, ill, got, wanted)


def _cleared(scores: np.ndarray, threshold: float, share: float) -> bool:
    """Tell whether that share of the scores lies below the threshold, give or take two."""
    return bool(abs((scores < threshold).mean() - share) <= 2 / len(scores))


def _say_why(scores: np.ndarray, ill: np.ndarray, threshold: float, wanted: float) -> NoReturn:
    """Say what a threshold that gives another specificity than the wanted one is."""
    if np.isclose(threshold, wanted):
        raise Wrong("""A specificity is a share of patients, a threshold is a probability.
            Hint: look at the scores of the patients who do not have it.""")
    specificity = (scores[~ill] < threshold).mean()
    if _cleared(scores[~ill], threshold, 1 - wanted):
        raise Wrong(f"""You clear {specificity:.2f} of the others, and not {wanted:.2f}.
            Hint: do 90 % of the others lie below the threshold, or above it?""")
    if _cleared(scores, threshold, wanted):
        raise Wrong("""You took all patients together, the ill ones too.
            Hint: specificity is about those who do not have the disease, only.""")
    if any(_cleared(scores[ill], threshold, share) for share in (wanted, 1 - wanted)):
        raise Wrong("""You looked at the ill patients, which fixes the sensitivity.
            Hint: specificity is about those who do not have the disease.""")
    raise Wrong(f"""Wanted is a specificity of {wanted:.2f}; your threshold gives {specificity:.2f}.
        Hint: sort the scores of those who do not have it: where do 90 % of them lie below?""")
