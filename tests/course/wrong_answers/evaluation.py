"""Wrong answers to the exercises of evaluation; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.course.lessons.evaluation import _rates


def _images_of(drawn, patients):
    return np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])


@wrong("06.1")
def images_one_by_one(patients, rng):
    return rng.integers(len(patients), size=len(patients))


@wrong("06.1")
def without_replacement(patients, rng):
    return _images_of(rng.permutation(np.unique(patients)), patients)


@wrong("06.1")
def in_or_out(patients, rng):
    who = np.unique(patients)
    return np.flatnonzero(np.isin(patients, rng.choice(who, size=len(who))))


@wrong("06.1")
def as_many_as_images(patients, rng):
    return _images_of(rng.choice(np.unique(patients), size=len(patients)), patients)


@wrong("06.1")
def large_patients_more_often(patients, rng):
    return _images_of(rng.choice(patients, size=len(np.unique(patients))), patients)


@wrong("06.1")
def always_the_same(patients, rng):
    who = np.unique(patients)
    return _images_of(np.random.default_rng(0).choice(who, size=len(who)), patients)


@wrong("06.1")
def names_of_patients(patients, rng):
    who = np.unique(patients)
    return rng.choice(who, size=len(who))


@wrong("06.2")
def in_per_cent(matrix, k):
    return tuple(100 * rate for rate in _rates(matrix, k))


@wrong("06.2")
def other_order(matrix, k):
    return _rates(matrix, k)[::-1]


@wrong("06.2")
def precision(matrix, k):
    return matrix[k, k] / matrix[:, k].sum(), _rates(matrix, k)[1]


@wrong("06.2")
def accuracy_as_sensitivity(matrix, k):
    return np.trace(matrix) / matrix.sum(), _rates(matrix, k)[1]


@wrong("06.2")
def only_the_diagonal(matrix, k):
    cleared = np.trace(matrix) - matrix[k, k]
    return _rates(matrix, k)[0], cleared / (matrix.sum() - matrix[k].sum())


@wrong("06.2")
def false_alarms(matrix, k):
    sensitivity, specificity = _rates(matrix, k)
    return sensitivity, 1 - specificity


@wrong("06.2")
def one_class_only(matrix, k):
    return _rates(matrix, 1)


@wrong("06.2")
def one_number(matrix, k):
    return _rates(matrix, k)[0]


@wrong("06.3")
def the_share_itself(scores, ill, specificity):
    return specificity


@wrong("06.3")
def the_other_end(scores, ill, specificity):
    return np.quantile(scores[~ill], 1 - specificity)


@wrong("06.3")
def everybody(scores, ill, specificity):
    return np.quantile(scores, specificity)


@wrong("06.3")
def the_ill(scores, ill, specificity):
    return np.quantile(scores[ill], 1 - specificity)


@wrong("06.3")
def always_a_half(scores, ill, specificity):
    return 0.5


@wrong("06.3")
def all_scores_back(scores, ill, specificity):
    return np.sort(scores[~ill])
