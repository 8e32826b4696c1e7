"""Wrong answers to the exercises of evaluation; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.course.lessons.evaluation import _rates, auc_of_pairs, predictive_values


def _differences(scores, ill):
    return scores[ill][:, None] - scores[~ill]


@wrong("06.1")
def the_other_way_round(scores, ill):
    return auc_of_pairs(-scores, ill)


@wrong("06.1")
def ties_count_nothing(scores, ill):
    return (_differences(scores, ill) > 0).mean()


@wrong("06.1")
def ties_count_as_wins(scores, ill):
    return (_differences(scores, ill) >= 0).mean()


@wrong("06.1")
def pairs_counted(scores, ill):
    return auc_of_pairs(scores, ill) * ill.sum() * (~ill).sum()


@wrong("06.1")
def accuracy(scores, ill):
    return ((scores >= 0.5) == ill).mean()


@wrong("06.1")
def how_far_ahead(scores, ill):
    return scores[ill].mean() - scores[~ill].mean()


@wrong("06.1")
def every_pair(scores, ill):
    return _differences(scores, ill) > 0


def _images_of(drawn, patients):
    return np.concatenate([np.flatnonzero(patients == patient) for patient in drawn])


@wrong("06.2")
def images_one_by_one(patients, rng):
    return rng.integers(len(patients), size=len(patients))


@wrong("06.2")
def without_replacement(patients, rng):
    return _images_of(rng.permutation(np.unique(patients)), patients)


@wrong("06.2")
def in_or_out(patients, rng):
    who = np.unique(patients)
    return np.flatnonzero(np.isin(patients, rng.choice(who, size=len(who))))


@wrong("06.2")
def as_many_as_images(patients, rng):
    return _images_of(rng.choice(np.unique(patients), size=len(patients)), patients)


@wrong("06.2")
def large_patients_more_often(patients, rng):
    return _images_of(rng.choice(patients, size=len(np.unique(patients))), patients)


@wrong("06.2")
def always_the_same(patients, rng):
    who = np.unique(patients)
    return _images_of(np.random.default_rng(0).choice(who, size=len(who)), patients)


@wrong("06.2")
def names_of_patients(patients, rng):
    who = np.unique(patients)
    return rng.choice(who, size=len(who))


@wrong("06.3")
def in_per_cent(matrix, k, prevalence):
    return tuple(100 * value for value in predictive_values(matrix, k, prevalence))


@wrong("06.3")
def other_order(matrix, k, prevalence):
    return predictive_values(matrix, k, prevalence)[::-1]


@wrong("06.3")
def sensitivity_and_specificity(matrix, k, prevalence):
    return _rates(matrix, k)


@wrong("06.3")
def precision_of_the_matrix(matrix, k, prevalence):
    return matrix[k, k] / matrix[:, k].sum(), predictive_values(matrix, k, prevalence)[1]


@wrong("06.3")
def everybody_may_be_a_false_alarm(matrix, k, prevalence):
    sensitivity, specificity = _rates(matrix, k)
    found = prevalence * sensitivity
    return found / (found + 1 - specificity), predictive_values(matrix, k, prevalence)[1]


@wrong("06.3")
def only_the_diagonal(matrix, k, prevalence):
    sensitivity, others = _rates(matrix, k)[0], matrix.sum() - matrix[k].sum()
    specificity = (np.trace(matrix) - matrix[k, k]) / others
    ill, well = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    return ill / (ill + well), (1 - prevalence) * specificity


@wrong("06.3")
def rows_for_columns(matrix, k, prevalence):
    return predictive_values(matrix.T, k, prevalence)


@wrong("06.3")
def specificity_for_npv(matrix, k, prevalence):
    return predictive_values(matrix, k, prevalence)[0], _rates(matrix, k)[1]


@wrong("06.3")
def one_class_only(matrix, k, prevalence):
    return predictive_values(matrix, 1, prevalence)


@wrong("06.3")
def ppv_only(matrix, k, prevalence):
    return predictive_values(matrix, k, prevalence)[0]
