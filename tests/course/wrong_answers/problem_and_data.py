"""Wrong answers to the exercises of problem_and_data; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong


@wrong("01.1")
def by_image(patients, test_fraction, seed):
    return np.random.default_rng(seed).random(len(patients)) < test_fraction


@wrong("01.1")
def the_drawn_patients(patients, test_fraction, seed):
    names = np.unique(patients)
    return np.random.default_rng(seed).permutation(names)[: round(test_fraction * len(names))]


@wrong("01.1")
def the_first_patients(patients, test_fraction, seed):
    names = np.unique(patients)
    return np.isin(patients, names[: round(test_fraction * len(names))])


@wrong("01.1")
def another_each_time(patients, test_fraction, seed):
    names = np.unique(patients)
    drawn = np.random.default_rng().permutation(names)[: round(test_fraction * len(names))]
    return np.isin(patients, drawn)


@wrong("01.1")
def always_a_quarter(patients, test_fraction, seed):
    names = np.unique(patients)
    return np.isin(patients, np.random.default_rng(seed).permutation(names)[: len(names) // 4])


@wrong("01.1")
def the_wrong_way_round(patients, test_fraction, seed):
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).permutation(names)[: round(test_fraction * len(names))]
    return ~np.isin(patients, drawn)


@wrong("01.1")
def zeros_and_ones(patients, test_fraction, seed):
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).permutation(names)[: round(test_fraction * len(names))]
    return np.isin(patients, drawn).astype(int)


@wrong("01.1")
def nobody(patients, test_fraction, seed):
    return np.zeros(len(patients), bool)


@wrong("01.2")
def the_other_way_round(says_ill, is_ill):
    return np.mean(~says_ill[~is_ill]), np.mean(says_ill[is_ill])


@wrong("01.2")
def of_those_called_so(says_ill, is_ill):
    return np.mean(is_ill[says_ill]), np.mean(~is_ill[~says_ill])


@wrong("01.2")
def false_alarms(says_ill, is_ill):
    return np.mean(says_ill[is_ill]), np.mean(says_ill[~is_ill])


@wrong("01.2")
def of_all(says_ill, is_ill):
    return np.mean(says_ill & is_ill), np.mean(~says_ill & ~is_ill)


@wrong("01.2")
def counts(says_ill, is_ill):
    return np.sum(says_ill & is_ill), np.sum(~says_ill & ~is_ill)


@wrong("01.2")
def right_answers(says_ill, is_ill):
    return np.mean(says_ill == is_ill)


@wrong("01.2")
def right_answers_twice(says_ill, is_ill):
    return np.mean(says_ill == is_ill), np.mean(says_ill == is_ill)


@wrong("01.2")
def fixed_numbers(says_ill, is_ill):
    return 3 / 4, 4 / 6
