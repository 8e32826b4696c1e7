"""What notebook 03 checks: a Dirichlet partitioner, and the divergence of hospitals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, other_case
from fedtutor.partition import label_divergence

CLASSES, HOSPITALS = 3, 4


def _people(seed: int = 0, patients: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Draw (patient, class) of each image; a patient has one to three images, all of one class."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    classes = rng.choice(CLASSES, size=patients, p=[0.5, 0.3, 0.2])
    names = np.array([f"P{k:04d}" for k in range(patients)])
    order = rng.permutation(len(number))
    return names[number][order], classes[number][order]


def _counts(hospital_of: np.ndarray, labels: np.ndarray) -> np.ndarray:
    pairs = hospital_of * CLASSES + labels
    return np.bincount(pairs, minlength=HOSPITALS * CLASSES).reshape(HOSPITALS, CLASSES)


def deal_by_class(
    patients: np.ndarray, labels: np.ndarray, num_hospitals: int, alpha: float, rng: Generator
) -> np.ndarray:
    """Return the hospital of each image, int (n,): each class in shares from Dirichlet(alpha)."""
    _, first, of_image = np.unique(patients, return_index=True, return_inverse=True)
    classes = labels[first]
    hospital_of = np.empty(len(classes), dtype=int)
    for k in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == k))
        shares = rng.dirichlet(np.full(num_hospitals, alpha))
        ends = np.round(np.cumsum(shares) * len(members)).astype(int)
        for hospital, piece in enumerate(np.split(members, ends[:-1])):
            hospital_of[piece] = hospital
    return hospital_of[of_image]


@exercise(
    """03.1, a Dirichlet partition by patient
    More: shares = rng.dirichlet(np.full(num_hospitals, alpha)), for each class anew.""",
    reference=deal_by_class,
)
def dirichlet_partition(deal: Answer) -> None:
    patients, labels = _people()

    def dealt(alpha: float, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return _hospital_numbers(deal(patients, labels, HOSPITALS, alpha, rng), patients)

    hospital_of = dealt(0.3, 0)
    together = np.array([len(np.unique(hospital_of[patients == p])) for p in np.unique(patients)])
    if (together > 1).any():
        raise Wrong(f"""{(together > 1).sum()} patients have images in more than one hospital.
            Hint: deal out the patients, then give each image the hospital of its patient.
            More: np.unique(patients, return_index=True, return_inverse=True) tells all of it.""")
    uneven, even = (
        [_counts(dealt(alpha, seed), labels) for seed in range(12)] for alpha in (0.1, 1000.0)
    )
    if all(np.array_equal(uneven[0], other) for other in uneven[1:]):
        raise Wrong("""Whatever the random generator, the deal is the same.
            Hint: draw with the generator you are given, and only with that one.""")
    skew, rest = (
        np.mean([label_divergence(c[c.sum(axis=1) > 0]) for c in many]) for many in (uneven, even)
    )
    if skew < 0.15:
        _say_why_even(uneven)
    if rest > 0.1:
        raise Wrong("""At alpha = 1000 all should get nearly one mixture; yours differ much.
            Hint: where does alpha enter? Large values give even shares.""")
    sizes = np.mean([c.sum(axis=1) for c in even], axis=0)
    if sizes.max() > 1.3 * sizes.min():
        raise Wrong(f"""At alpha = 1000 one has {sizes.max() / sizes.sum():.0%}, and not a quarter.
            Hint: is somebody forgotten, or given to the first or the last hospital by default?
            More: np.cumsum(shares) * len(members), rounded, is where each hospital's part ends.""")


def _hospital_numbers(answer: object, patients: np.ndarray) -> np.ndarray:
    got = np.asarray(answer)
    of_each = got.shape == patients.shape and got.dtype.kind in "iu"
    if not of_each or not 0 <= got.min() <= got.max() < HOSPITALS:
        raise Wrong(f"""A hospital, 0 to 3, for each image, please, not {got.dtype} {got.shape}.
            Hint: an array of whole numbers, as long as `labels` and counted from 0.
            More: return hospital_of_patient[patient_of_image]""")
    return got


def _say_why_even(uneven: list[np.ndarray]) -> None:
    shares = [c.sum(axis=1) / c.sum() for c in uneven]
    if np.mean([s.max() for s in shares]) > 0.4:
        raise Wrong("""Your hospitals differ in size, but all have the same mixture of classes.
            Hint: each class is shared out by itself, in shares of its own.
            More: draw from rng.dirichlet anew for each class, inside the loop over the classes.""")
    raise Wrong("""At alpha = 0.1 most hospitals should lack a class; yours are nearly alike.
        Hint: the shares of a class are drawn from a Dirichlet distribution with alpha.""")


# The hospitals differ in size and in mixture, so that every wrong way gives a number of its own.
COUNTS = np.array([[60, 20, 0], [4, 4, 2], [6, 1, 3]])
RIGHT = label_divergence(COUNTS)


@exercise(
    """03.2, the divergence of the hospitals' mixtures
    More: np.average(0.5 * np.abs(mixtures - common).sum(axis=1), weights=sizes)""",
    reference=label_divergence,
)
def divergence_of_mixtures(divergence: Answer) -> None:
    hint = "first a number for each hospital, then their average."
    got = one_number(divergence(COUNTS.copy()), hint)
    mixtures = COUNTS / COUNTS.sum(axis=1, keepdims=True)
    common, sizes = COUNTS.sum(axis=0) / COUNTS.sum(), COUNTS.sum(axis=1)

    def away_from(middle: Any) -> np.ndarray:
        return 0.5 * np.abs(mixtures - middle).sum(axis=1)

    if np.isclose(got, 2 * RIGHT):
        raise Wrong("""That is twice as much: what one class has too much, others have too little.
            Hint: every difference is counted on both sides.""")
    if np.isclose(got, away_from(common).mean()):
        raise Wrong("""Your small hospitals count as much as the large one.
            Hint: average over the hospitals with their images as weights.""")
    if np.isclose(got, np.average(away_from(mixtures.mean(axis=0)), weights=sizes)):
        raise Wrong("""Your common mixture is the hospitals' mean, not that of all images together.
            Hint: add the hospitals' counts up first, then divide.
            More: common = class_counts.sum(axis=0) / class_counts.sum()""")
    if np.isclose(got, np.average(away_from(1 / CLASSES), weights=sizes)):
        raise Wrong("""You compare with a mixture in which every class is equally common.
            Hint: if all hospitals have the same mixture, however lopsided, the answer is 0.
            More: compare with common = class_counts.sum(axis=0) / class_counts.sum()""")
    if got > 1:
        raise Wrong("""A divergence of mixtures lies between 0 and 1; yours is larger.
            Hint: compare shares, not numbers of images.""")
    if not np.isclose(got, RIGHT, atol=1e-6):
        raise Wrong(f"""For the hospitals {COUNTS.tolist()} it is {RIGHT:.3f}; yours is {got:.3f}.
            Hint: mixture of each hospital, common mixture, half the sum of the differences.
            More: the first hospital: 0.5 * (|0.75 - 0.7| + |0.25 - 0.25| + |0 - 0.05|) = 0.05.""")
    other_case(np.isclose(divergence(np.array([[3, 1], [6, 2], [30, 10]])), 0, atol=1e-9))
