"""Wrong answers to the exercises of hospitals_non_iid; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.partition import label_divergence


def _share_out(members: np.ndarray, shares: np.ndarray) -> np.ndarray:
    ends = np.round(np.cumsum(shares) * len(members)).astype(int)
    return np.searchsorted(ends, np.arange(len(members)), side="right").clip(0, len(shares) - 1)


def _dealt(patients, labels, num_hospitals, rng, shares_of) -> np.ndarray:
    _, first, of_image = np.unique(patients, return_index=True, return_inverse=True)
    hospital_of = np.zeros(len(first), dtype=int)
    for k in range(labels.max() + 1):
        members = rng.permutation(np.flatnonzero(labels[first] == k))
        hospital_of[members] = _share_out(members, shares_of(k))
    return hospital_of[of_image]


@wrong("03.1")
def image_by_image(patients, labels, num_hospitals, alpha, rng):
    hospital_of = np.zeros(len(labels), dtype=int)
    for k in range(labels.max() + 1):
        members = rng.permutation(np.flatnonzero(labels == k))
        hospital_of[members] = _share_out(members, rng.dirichlet(np.full(num_hospitals, alpha)))
    return hospital_of


@wrong("03.1")
def one_draw_for_all_classes(patients, labels, num_hospitals, alpha, rng):
    shares = rng.dirichlet(np.full(num_hospitals, alpha))
    return _dealt(patients, labels, num_hospitals, rng, lambda k: shares)


@wrong("03.1")
def without_alpha(patients, labels, num_hospitals, alpha, rng):
    even = np.full(num_hospitals, 1 / num_hospitals)
    return _dealt(patients, labels, num_hospitals, rng, lambda k: even)


@wrong("03.1")
def alpha_is_fixed(patients, labels, num_hospitals, alpha, rng):
    return _dealt(
        patients, labels, num_hospitals, rng, lambda k: rng.dirichlet(np.full(num_hospitals, 0.1))
    )


@wrong("03.1")
def a_generator_of_its_own(patients, labels, num_hospitals, alpha, rng):
    rng = np.random.default_rng(0)
    return _dealt(
        patients, labels, num_hospitals, rng, lambda k: rng.dirichlet(np.full(num_hospitals, alpha))
    )


@wrong("03.1")
def a_number_for_each_patient(patients, labels, num_hospitals, alpha, rng):
    return rng.integers(0, num_hospitals, len(np.unique(patients)))


@wrong("03.1")
def counted_from_one(patients, labels, num_hospitals, alpha, rng):
    return 1 + _dealt(
        patients, labels, num_hospitals, rng, lambda k: rng.dirichlet(np.full(num_hospitals, alpha))
    )


def _mixtures(class_counts):
    return class_counts / class_counts.sum(axis=1, keepdims=True)


@wrong("03.2")
def not_halved(class_counts):
    return 2 * label_divergence(class_counts)


@wrong("03.2")
def every_hospital_counts_the_same(class_counts):
    common = class_counts.sum(axis=0) / class_counts.sum()
    return float((0.5 * np.abs(_mixtures(class_counts) - common).sum(axis=1)).mean())


@wrong("03.2")
def mean_of_the_mixtures(class_counts):
    mixtures = _mixtures(class_counts)
    away = 0.5 * np.abs(mixtures - mixtures.mean(axis=0)).sum(axis=1)
    return float(np.average(away, weights=class_counts.sum(axis=1)))


@wrong("03.2")
def away_from_an_even_mixture(class_counts):
    away = 0.5 * np.abs(_mixtures(class_counts) - 1 / class_counts.shape[1]).sum(axis=1)
    return float(np.average(away, weights=class_counts.sum(axis=1)))


@wrong("03.2")
def counts_instead_of_shares(class_counts):
    away = 0.5 * np.abs(class_counts - class_counts.mean(axis=0)).sum(axis=1)
    return float(np.average(away, weights=class_counts.sum(axis=1)))


@wrong("03.2")
def one_number_a_hospital(class_counts):
    common = class_counts.sum(axis=0) / class_counts.sum()
    return 0.5 * np.abs(_mixtures(class_counts) - common).sum(axis=1)
