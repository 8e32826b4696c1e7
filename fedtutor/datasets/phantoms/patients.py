"""The patients of the phantoms: who they are, what they have and how ill they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedtutor.datasets.phantoms.hospitals import Hospital

IMAGES_PER_PATIENT = (0.5, 0.3, 0.15, 0.05)  # the chance of one, two, three and four


@dataclass(frozen=True)
class Population:
    """One row an image, ordered by hospital; every array is of shape (n,) or (n, k).

    ``body`` and ``lesion`` are a patient's own standard normal numbers, the same in each of his
    or her images; ``pose`` is drawn anew for each image. ``severity`` is the lesion's contrast.
    """

    hospital: np.ndarray
    patient: np.ndarray
    label: np.ndarray
    female: np.ndarray
    age: np.ndarray
    second_view: np.ndarray
    severity: np.ndarray
    body: np.ndarray
    lesion: np.ndarray
    pose: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def enrol(
    hospitals: tuple[Hospital, ...], num_images: int, severity: tuple[float, float], seed: int
) -> Population:
    """Draw the patients of all hospitals and the views and poses of their images."""
    rng = np.random.default_rng([seed, 0])
    # One image each first, so that no hospital stays empty.
    counts = 1 + apportion(num_images - len(hospitals), np.array([h.share for h in hospitals]))
    diagnoses = [
        _diagnose(rng, apportion(count, np.array(site.prevalence)))
        for site, count in zip(hospitals, counts, strict=True)
    ]
    label, num_of_each = (np.concatenate(part) for part in zip(*diagnoses, strict=True))
    hospital = np.repeat(np.arange(len(hospitals)), [len(labels) for labels, _ in diagnoses])
    people = len(label)
    age_mean, age_sd = np.array([h.age for h in hospitals]).T[:, hospital]
    age = np.clip(np.rint(rng.normal(age_mean, age_sd)), 1, 95).astype(np.int64)
    female = rng.random(people) < np.array([h.women for h in hospitals])[hospital]
    ill = severity[0] + (severity[1] - severity[0]) * rng.random(people)
    body = rng.standard_normal((people, 12), dtype=np.float32)
    lesion = rng.standard_normal((people, 40), dtype=np.float32)
    who = np.repeat(np.arange(people), num_of_each)
    second_view_share = np.array([h.second_view for h in hospitals])[hospital[who]]
    return Population(
        hospital=hospital[who],
        patient=who,
        label=label[who],
        female=female[who],
        age=age[who],
        second_view=rng.random(len(who)) < second_view_share,
        severity=ill[who].astype(np.float32),
        body=body[who],
        lesion=lesion[who],
        pose=rng.standard_normal((len(who), 8), dtype=np.float32),
    )


def _diagnose(rng: np.random.Generator, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw (label, number of images) of each patient; class c has ``counts[c]`` images."""
    sizes = []
    for count in counts:
        drawn = rng.choice(4, size=count, p=IMAGES_PER_PATIENT) + 1
        before = np.cumsum(drawn) - drawn
        sizes.append(np.minimum(drawn, count - before)[before < count])
    label = np.repeat(np.arange(len(counts)), [len(part) for part in sizes])
    order = rng.permutation(len(label))
    return label[order], np.concatenate(sizes)[order]


def apportion(total: int, shares: np.ndarray) -> np.ndarray:
    """Return whole numbers that sum to ``total``, by ``shares`` (largest remainders)."""
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts


def describe(
    people: Population, hospitals: tuple[Hospital, ...], views: tuple[str, str]
) -> pd.DataFrame:
    """Return the columns patient, hospital, sex, age and view, one row an image."""
    names = np.array([h.name for h in hospitals], dtype=object)
    first_of_site = np.searchsorted(people.hospital, np.arange(len(hospitals)))
    number = people.patient - people.patient[first_of_site][people.hospital]
    patient = [f"H{h}-P{p:04d}" for h, p in zip(people.hospital, number, strict=True)]
    return pd.DataFrame({
        "patient": patient,
        "hospital": names[people.hospital],
        "sex": np.where(people.female, "F", "M"),
        "age": people.age,
        "view": np.where(people.second_view, views[1], views[0]),
    })  # fmt: skip
