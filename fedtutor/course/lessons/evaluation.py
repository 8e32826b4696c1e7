"""What notebook 06 needs: a cohort of hospitals, four figures, and the checks of its exercises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.course.exercises import Wrong, exercise
from fedtutor.datasets import load
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.partition import partition
from fedtutor.report.figures import BLUE, GREY, ORANGE, Picture

MOST_IMAGES = 2000
HEALTHY = ("normal", "no finding")
MARKS = ((BLUE, "o", "-"), (ORANGE, "D", "--"))


def hospital_images(
    dataset: str | Path, *, size: int = 32, most: int = MOST_IMAGES, seed: int = 0
) -> MedicalImages:
    """At most ``most`` small images, each with a hospital and one class.

    Where the data set does not say which hospital an image is from, its patients are dealt out to
    five (Dirichlet, alpha 1). Of several findings an image it is asked whether there is any.
    """
    data = load(dataset, size=size, seed=seed)
    if len(data) > most:
        data = data.take(np.random.default_rng(seed).permutation(len(data))[:most])
    if "hospital" not in data.table:
        parts = partition(data, "dirichlet", 5, alpha=1.0, seed=seed)
        names = np.empty(len(data), dtype=object)
        for name, own in zip(parts.names, parts.indices, strict=True):
            names[own] = name
        data = replace(data, table=data.table.assign(hospital=names))
    if data.multi_label:
        found = data.labels.any(axis=1).astype(np.int64)
        data = replace(data, labels=found, class_names=("No finding", "Some finding"))
    return data


def three_parts(
    data: MedicalImages, *, seed: int = 0
) -> tuple[MedicalImages, MedicalImages, MedicalImages]:
    """(train, validation, test), no patient in two of them.

    Two thirds of the patients, or the official test set, are for the test: intervals are to be
    short enough to say something. A quarter of the others is for validation.
    """
    rest, test = split_by_patient(data, 0.65, seed=seed)
    rest = replace(rest, table=rest.table.drop(columns="split", errors="ignore"))
    train, validation = split_by_patient(rest, 0.25, seed=seed)
    return train, validation, test


def commonest_disease(data: MedicalImages) -> int:
    """The number of the class with the most images, those without a disease left aside."""
    healthy = [name.lower() in HEALTHY for name in data.class_names]
    return int(np.where(healthy, -1, data.class_counts()).argmax())


Estimates = Sequence[tuple[float, tuple[float, float]]]


def intervals(
    names: Sequence[str],
    series: Mapping[str, Estimates],
    *,
    x: str,
    zero: bool = False,
    step: float = 0.01,
) -> Picture:
    """One row a name, in it a mark and an interval for each series.

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
    for (name, rows), shift, (colour, mark, dash) in zip(
        series.items(), shifts, MARKS, strict=False
    ):
        y = np.arange(len(rows)) + shift
        value, low, high = np.array([(v, *bounds) for v, bounds in rows], dtype=float).T
        for ends in (low, high):
            axes.plot(ends, y, "|", color=colour, markersize=9, markeredgewidth=2)
        axes.hlines(y, low, high, color=colour, linestyle=dash, linewidth=2, alpha=0.8)
        axes.plot(value, y, mark, color=colour, markersize=7, label=name)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(x)
    _tidy(axes, "x")
    if len(series) > 1:
        _legend(axes, len(series))
    said = [
        f"{row}: " + ", ".join(f"{name} {_estimate(rows[k])}" for name, rows in series.items())
        for k, row in enumerate(names)
    ]
    return Picture(figure, f"{x}. {'; '.join(said)}.", step)


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Picture:
    """A confusion matrix, rows the truth, as per cent of each row."""
    figure = Figure(figsize=(1.6 + 1.35 * len(class_names), 0.9 + 0.75 * len(class_names)))
    axes = figure.add_subplot()
    rows = [
        f"{name} ({n:,})" for name, n in zip(class_names, matrix.sum(axis=1).tolist(), strict=True)
    ]
    _shares(axes, matrix, rows, class_names)
    axes.set_xlabel("the model says")
    axes.set_ylabel("truth (images)")
    shares = _row_shares(matrix)
    said = [
        f"of {row} "
        + ", ".join(
            f"{100 * s:.0f} % were called {c}" for s, c in zip(line, class_names, strict=True)
        )
        for row, line in zip(rows, shares, strict=True)
    ]
    return Picture(figure, f"Confusion matrix. {'; '.join(said)}.", 0.01)


def cut(scores: np.ndarray, ill: np.ndarray, threshold: float, name: str) -> tuple[Picture, str]:
    """What a threshold does to one class against the rest: (picture, sentence).

    Parameters
    ----------
    scores : float (n,), the probability of the class.
    ill : bool (n,), the truth.
    """
    called = scores >= threshold
    matrix = np.array([[(row & called).sum(), (row & ~called).sum()] for row in (ill, ~ill)])
    sensitivity, specificity = (
        float(matrix[0, 0] / max(ill.sum(), 1)),
        float(matrix[1, 1] / max((~ill).sum(), 1)),
    )
    figure = Figure(figsize=(8.6, 3.1))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    false_alarms, found = _roc(scores, ill)
    left.plot(false_alarms, found, color=BLUE)
    left.plot([1 - specificity], [sensitivity], "D", color=ORANGE, markersize=9)
    left.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    left.set_xlabel("false alarms (1 - specificity)")
    left.set_ylabel("sensitivity")
    _tidy(left, "both")
    rows = [f"{name} ({ill.sum():,})", f"all others ({(~ill).sum():,})"]
    _shares(right, matrix, rows, [f"called {name}", "not called so"])
    right.set_title(f"threshold {threshold:.2f}", fontsize=10)
    figure.subplots_adjust(wspace=0.55)
    sentence = (
        f"{name}, called from {100 * threshold:.0f} % on: sensitivity "
        f"≈{100 * sensitivity:.0f} %, specificity ≈{100 * specificity:.0f} %."
    )
    return Picture(figure, f"ROC curve with one point marked, and a confusion matrix. {sentence}",
                   0.01), sentence  # fmt: skip


def _roc(scores: np.ndarray, ill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false alarm rates, sensitivities) at every threshold, from the highest to the lowest."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(ill[order]) / max(ill.sum(), 1)
    alarms = np.cumsum(~ill[order]) / max((~ill).sum(), 1)
    grid = np.linspace(0, 1, 51)
    return grid, np.interp(grid, np.r_[0, alarms], np.r_[0, found])


def _shares(axes: Axes, matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw a matrix as per cent of its rows; darker is more, and the number says how much."""
    shares = _row_shares(matrix)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        colour = "white" if share > 0.65 else "black"
        axes.text(j, i, f"≈{100 * share:.0f} %", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)


def _row_shares(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def _legend(axes: Axes, entries: int) -> None:
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=entries, frameon=False)


def _tidy(axes: Axes, grid: str) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def _estimate(estimate: tuple[float, tuple[float, float]]) -> str:
    value, (low, high) = estimate
    return f"{value:.2f} (95 % interval {low:.2f} to {high:.2f})"


# Five patients with one to five images each, in no order.
PATIENTS = np.array(list("bcabdbfcbdbdf"))


@exercise("06.1", "a bootstrap that draws patients")
def resample_patients(draw):
    rng = np.random.default_rng(6)
    who, count = np.unique(PATIENTS, return_inverse=True)
    draws = [_positions(draw(PATIENTS.copy(), rng)) for _ in range(300)]
    times = np.stack([np.bincount(drawn, minlength=len(PATIENTS)) for drawn in draws])
    first = np.array([np.flatnonzero(name == PATIENTS)[0] for name in who])
    if not (times == times[:, first][:, count]).all():
        raise Wrong("""Some patients came along with only a part of their images.
            Hint: draw patients, then take *all* images of each patient you drew.
            More: np.flatnonzero(patients == patient) are the positions of one patient's images;
            np.concatenate joins such lists.""")
    of_patient = times[:, first]
    if (of_patient == 1).all():
        raise Wrong("""Every patient is drawn exactly once each time, so every resample is the test
            set.
            Hint: a bootstrap draws with replacement.
            More: rng.choice(np.unique(patients), size=...) draws with replacement.""")
    if of_patient.max() == 1:
        raise Wrong("""No patient is ever in a resample twice.
            Hint: who is drawn twice must count twice: `np.isin` only knows in or out.
            More: go through the drawn patients one by one and join their images with
            np.concatenate.""")
    if (of_patient.sum(axis=1) != len(who)).any():
        raise Wrong(f"""There are {len(who)} patients, and you drew {of_patient[0].sum()}.
            Hint: a resample has as many patients as the test set, not as many as it has images.
            More: the size is len(np.unique(patients)).""")
    if (of_patient == of_patient[0]).all():
        raise Wrong("""All resamples are the same.
            Hint: a generator made inside the function begins anew at each call.
            More: use the `rng` that the function is given.""")
    if np.abs(of_patient.mean(axis=0) - 1).max() > 0.4:
        raise Wrong("""A patient with many images is drawn more often than one with a single image.
            Hint: `patients` names a patient once for each image.
            More: draw from np.unique(patients), where each patient is once.""")


def _positions(drawn: object) -> np.ndarray:
    """The answer as positions of images."""
    drawn = np.asarray(drawn)
    if drawn.dtype.kind in "USO":
        raise Wrong("""You give back patients; asked for are the positions of their images.
            Hint: np.flatnonzero(patients == patient) finds the images of one patient.
            More: join them for all drawn patients with np.concatenate.""")
    if drawn.dtype.kind == "b":
        raise Wrong("""You give back True or False for each image, which cannot say that one counts
            twice.
            Hint: give back positions: whole numbers, some of them more than once.
            More: np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])""")
    if drawn.ndim != 1 or drawn.dtype.kind not in "iu":
        raise Wrong(f"""A list of whole numbers is asked for; yours is {drawn.dtype} of shape
            {drawn.shape}.
            Hint: np.concatenate joins lists of different lengths to one.
            More: np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])""")
    if len(drawn) and not 0 <= drawn.min() <= drawn.max() < len(PATIENTS):
        raise Wrong(f"""There are {len(PATIENTS)} images, at positions 0 to {len(PATIENTS) - 1}; you
            also give others.
            Hint: positions of images are asked for, not numbers of patients.
            More: np.flatnonzero(patients == patient)""")
    return drawn


# Rows are the truth; every wrong reading of it gives another number.
MATRIX = np.array([[50, 8, 2], [6, 30, 4], [1, 3, 16]])


def _rates(matrix, k):
    found, ill = matrix[k, k], matrix[k].sum()
    alarms, others = matrix[:, k].sum() - found, matrix.sum() - ill
    return found / ill, 1 - alarms / others


@exercise("06.2", "sensitivity and specificity")
def rates_of_matrix(rates):
    got = rates(MATRIX.copy(), 1)
    if not isinstance(got, (tuple, list, np.ndarray)) or len(got) != 2:
        raise Wrong("""Two numbers are asked for.
            Hint: end with `return sensitivity, specificity`.
            More: sensitivity is found / ill, specificity is cleared / not ill.""")
    got = np.asarray(got, dtype=float)
    sensitivity, specificity = _rates(MATRIX, 1)
    column = MATRIX[1, 1] / MATRIX[:, 1].sum()
    if np.allclose(got, [100 * sensitivity, 100 * specificity]):
        raise Wrong("""Right, but in per cent.
            Hint: shares lie between 0 and 1.
            More: do not times 100.""")
    if np.allclose(got, [specificity, sensitivity]):
        raise Wrong("""You have both, in the other order.
            Hint: sensitivity first: the share of the ill who are found.
            More: swap the two in your `return`.""")
    if np.isclose(got[0], column):
        raise Wrong("""Your first number is the share of the *calls* that are right (the precision).
            Hint: sensitivity is about the ill, and the truth is in the rows.
            More: divide matrix[k, k] by the sum of row k: matrix[k].sum().""")
    if not np.isclose(got[0], sensitivity):
        raise Wrong(f"""Of {MATRIX[1].sum()} ill {MATRIX[1, 1]} are found, a sensitivity of
            {sensitivity:.2f}; you have {got[0]:.2f}.
            Hint: row k holds the images that truly are of class k.
            More: matrix[k, k] / matrix[k].sum()""")
    diagonal = (np.trace(MATRIX) - MATRIX[1, 1]) / (MATRIX.sum() - MATRIX[1].sum())
    if np.isclose(got[1], diagonal):
        raise Wrong("""You count somebody well as a mistake if the model takes one *other* class for
            another.
            Hint: for class k against the rest it only matters whether class k was called.
            More: of all outside row k, those outside column k are rightly cleared.""")
    if np.isclose(got[1], 1 - specificity):
        raise Wrong("""Your second number is the share of false alarms.
            Hint: specificity is the share *without* a false alarm.
            More: 1 minus what you have.""")
    if not np.isclose(got[1], specificity):
        raise Wrong(f"""Of {MATRIX.sum() - MATRIX[1].sum()} who are not of class 1, 69 are not
            called so, a specificity of {specificity:.2f}; you have {got[1]:.2f}.
            Hint: take the whole matrix without row k; of that, leave out column k.
            More: false alarms are matrix[:, k].sum() - matrix[k, k].""")
    if not np.allclose(rates(MATRIX.copy(), 2), _rates(MATRIX, 2)):
        raise Wrong("""It fits class 1 and no other.
            Hint: use the argument k, not its value.
            More: matrix[k, k], matrix[k].sum(), matrix[:, k].sum()""")


@exercise("06.3", "the threshold for a specificity")
def threshold_for_specificity(choose):
    rng = np.random.default_rng(63)
    ill = np.arange(600) % 3 == 0
    scores = np.where(ill, rng.beta(4, 2, 600), rng.beta(2, 4, 600))
    well, sick = scores[~ill], scores[ill]
    for wanted in (0.9, 0.75):
        got = choose(scores.copy(), ill.copy(), wanted)
        if np.ndim(got) != 0:
            raise Wrong("""One threshold is asked for, a single number.
                Hint: np.quantile of one list and one share is one number.
                More: np.quantile(scores[...], specificity)""")
        got = float(got)
        specificity = (well < got).mean()
        if abs(specificity - wanted) <= 2 / len(well):
            continue
        if np.isclose(got, wanted):
            raise Wrong("""A specificity is a share of patients, a threshold is a probability.
                Hint: look at the scores of the patients who do not have it.
                More: np.quantile(scores[~ill], ...)""")
        if abs(specificity - (1 - wanted)) <= 2 / len(well):
            raise Wrong(f"""With your threshold {100 * specificity:.0f} % of the others are cleared,
                not {100 * wanted:.0f} %.
                Hint: do 90 % of the others lie below the threshold, or above it?
                More: np.quantile(well, specificity), not 1 - specificity.""")
        if abs((scores < got).mean() - wanted) <= 2 / len(scores):
            raise Wrong("""You took all patients together, the ill ones too.
                Hint: specificity is about those who do not have the disease, only.
                More: scores[~ill] are theirs.""")
        if min(abs((sick < got).mean() - share) for share in (wanted, 1 - wanted)) <= 2 / len(sick):
            raise Wrong("""You looked at the ill patients, which fixes the sensitivity.
                Hint: specificity is about those who do not have the disease.
                More: scores[~ill] are theirs.""")
        raise Wrong(f"""Wanted is a specificity of {wanted:.2f}; your threshold gives
            {specificity:.2f}.
            Hint: sort the scores of those who do not have it: where do 90 % of them lie below?
            More: np.quantile(scores[~ill], specificity)""")
