"""Wrong answers to the exercises of problem_and_data; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong


@wrong("01.1")
def images_of_shared_patients(train_patients, test_patients):
    return sum(patient in train_patients for patient in test_patients)


@wrong("01.1")
def the_patients_themselves(train_patients, test_patients):
    return set(train_patients) & set(test_patients)


@wrong("01.1")
def everybody(train_patients, test_patients):
    return len(set(train_patients) | set(test_patients))


@wrong("01.1")
def yes_or_no(train_patients, test_patients):
    return bool(set(train_patients) & set(test_patients))


@wrong("01.1")
def row_by_row(train_patients, test_patients):
    return sum(a == b for a, b in zip(train_patients, test_patients, strict=False))


@wrong("01.1")
def a_fixed_number(train_patients, test_patients):
    return 2


@wrong("01.2")
def by_image(patients, test_fraction, seed):
    return np.random.default_rng(seed).random(len(patients)) < test_fraction


@wrong("01.2")
def the_drawn_patients(patients, test_fraction, seed):
    names = np.unique(patients)
    return np.random.default_rng(seed).permutation(names)[: round(test_fraction * len(names))]


@wrong("01.2")
def the_first_patients(patients, test_fraction, seed):
    names = np.unique(patients)
    return np.isin(patients, names[: round(test_fraction * len(names))])


@wrong("01.2")
def another_each_time(patients, test_fraction, seed):
    names = np.unique(patients)
    drawn = np.random.default_rng().permutation(names)[: round(test_fraction * len(names))]
    return np.isin(patients, drawn)


@wrong("01.2")
def always_a_quarter(patients, test_fraction, seed):
    names = np.unique(patients)
    return np.isin(patients, np.random.default_rng(seed).permutation(names)[: len(names) // 4])


@wrong("01.2")
def the_wrong_way_round(patients, test_fraction, seed):
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).permutation(names)[: round(test_fraction * len(names))]
    return ~np.isin(patients, drawn)


@wrong("01.2")
def zeros_and_ones(patients, test_fraction, seed):
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).permutation(names)[: round(test_fraction * len(names))]
    return np.isin(patients, drawn).astype(int)


@wrong("01.2")
def nobody(patients, test_fraction, seed):
    return np.zeros(len(patients), bool)
