"""Dealing one data set out to hospitals, evenly or not.

Every partitioner deals out patients, never single images; every image goes to exactly one
hospital, and no hospital is empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedtutor.errors import PartitionError
from fedtutor.images import MedicalImages, count_classes, patients_of
from fedtutor.settings import check_alpha

SCHEMES = ("iid", "dirichlet", "shards", "quantity", "by:COLUMN")
AGE_BANDS = {"0-17": 0, "18-39": 18, "40-64": 40, "65+": 65}


@dataclass(frozen=True)
class Partition:
    """Who has which images.

    Attributes
    ----------
    names : one name a hospital.
    indices : for each hospital the int64 positions of its images in the data set, ascending.
    """

    names: tuple[str, ...]
    indices: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def hospitals(self, data: MedicalImages) -> list[MedicalImages]:
        """Return the images of each hospital."""
        return [data.take(own) for own in self.indices]

    def class_counts(self, data: MedicalImages) -> np.ndarray:
        """Images of each class, or with each finding, int64 of shape (hospitals, classes)."""
        return np.stack(
            [count_classes(data.labels[own], len(data.class_names)) for own in self.indices]
        )

    def strata_counts(self, data: MedicalImages) -> np.ndarray:
        """Images of each stratum, int64 of shape (hospitals, strata); rows sum to the images.

        One class an image: the same as :meth:`class_counts`. Otherwise an image counts once, for
        its rarest finding, or as one without a finding: see ``MedicalImages.strata``.
        """
        strata = data.strata
        return np.stack(
            [count_classes(strata[own], len(data.strata_names)) for own in self.indices]
        )

    def summary(self, data: MedicalImages) -> pd.DataFrame:
        """Return a table, one row a hospital: images, patients, images of each class or finding."""
        table = pd.DataFrame(
            self.class_counts(data), columns=list(data.class_names), index=list(self.names)
        )
        table.insert(0, "images", [len(own) for own in self.indices])
        patients = patients_of(data)
        table.insert(1, "patients", [len(np.unique(patients[own])) for own in self.indices])
        return table


def partition(
    data: MedicalImages,
    scheme: str,
    num_hospitals: int | None = None,
    *,
    alpha: float = 0.5,
    seed: int = 0,
) -> Partition:
    """Deal ``data`` out by the name of a scheme, as the command line does.

    Parameters
    ----------
    scheme : "iid", "dirichlet", "shards", "quantity" or "by:COLUMN", such as "by:view".
    num_hospitals : how many; by default five, or, for "by:COLUMN", one for each value.
    alpha : concentration of "dirichlet" and "quantity", > 0; small is uneven.

    Raises
    ------
    PartitionError
        For an unknown scheme, alpha <= 0, or more hospitals than patients.
    """
    count = 5 if num_hospitals is None else num_hospitals
    if scheme.startswith("by:"):
        return by_column(data, num_hospitals, column=scheme[3:], seed=seed)
    if scheme in ("iid", "shards"):
        return {"iid": iid, "shards": shards}[scheme](data, count, seed=seed)
    if scheme in ("dirichlet", "quantity"):
        deal = dirichlet if scheme == "dirichlet" else quantity
        return deal(data, count, alpha=alpha, seed=seed)
    raise PartitionError(f"unknown partition {scheme!r}; known: {', '.join(SCHEMES)}.")


def iid(data: MedicalImages, num_hospitals: int, *, seed: int = 0) -> Partition:
    """Deal patients out at random, as many to each hospital: the easy case, met nowhere."""
    patients = _Patients.of(data, num_hospitals)
    order = np.random.default_rng(seed).permutation(len(patients))
    hospital_of = np.empty(len(patients), dtype=np.int64)
    hospital_of[order] = np.arange(len(patients)) % num_hospitals
    return patients.deal(hospital_of, num_hospitals)


def dirichlet(
    data: MedicalImages, num_hospitals: int, *, alpha: float = 0.5, seed: int = 0
) -> Partition:
    """Deal with label skew: each class in proportions drawn from Dirichlet(alpha).

    At alpha = 0.1 most hospitals see one or two classes, at 100 nearly the same mixture
    (Hsu, Qi & Brown 2019). Of several findings an image is dealt out by its rarest one.
    """
    check_alpha(alpha)
    patients = _Patients.of(data, num_hospitals)
    rng = np.random.default_rng(seed)
    hospital_of = np.empty(len(patients), dtype=np.int64)
    for stratum in range(len(data.strata_names)):
        members = rng.permutation(np.flatnonzero(patients.strata == stratum))
        shares = rng.dirichlet(np.full(num_hospitals, alpha))
        hospital_of[members] = _in_proportion(len(members), shares)
    return patients.deal(hospital_of, num_hospitals)


def shards(
    data: MedicalImages, num_hospitals: int, *, shards_per_hospital: int = 2, seed: int = 0
) -> Partition:
    """Deal with pathological skew: sort by class, cut into shards, give each hospital a few.

    Of several findings an image is sorted by its rarest one (McMahan et al. 2017, section 3).
    """
    if shards_per_hospital < 1:
        raise PartitionError(f"shards_per_hospital must be at least 1; got {shards_per_hospital}.")
    patients = _Patients.of(data, num_hospitals)
    rng = np.random.default_rng(seed)
    # Shuffled first, so that which patients share a shard is chance but for their class.
    order = rng.permutation(len(patients))
    order = order[np.argsort(patients.strata[order], kind="stable")]
    num_shards = min(num_hospitals * shards_per_hospital, len(patients))
    owner = rng.permutation(np.arange(num_shards) % num_hospitals)
    hospital_of = np.empty(len(patients), dtype=np.int64)
    for shard, members in enumerate(np.array_split(order, num_shards)):
        hospital_of[members] = owner[shard]
    return patients.deal(hospital_of, num_hospitals)


def quantity(
    data: MedicalImages, num_hospitals: int, *, alpha: float = 0.5, seed: int = 0
) -> Partition:
    """Deal with quantity skew: the same mixture everywhere, sizes from Dirichlet(alpha)."""
    check_alpha(alpha)
    patients = _Patients.of(data, num_hospitals)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(patients))
    hospital_of = np.empty(len(patients), dtype=np.int64)
    shares = rng.dirichlet(np.full(num_hospitals, alpha))
    hospital_of[order] = _in_proportion(len(patients), shares)
    return patients.deal(hospital_of, num_hospitals)


def by_column(
    data: MedicalImages, num_hospitals: int | None = None, *, column: str, seed: int = 0
) -> Partition:
    """One hospital for each value of a column of the table: hospital, sex, view, age, ...

    Ages are put into the bands 0-17, 18-39, 40-64 and 65+. A patient with several values goes
    where most of his or her images are. With ``num_hospitals`` above the number of values the
    largest hospital is halved until there are enough, below it the two smallest are merged.
    """
    values = _column_values(data, column)
    patients = _Patients.of(data, 1 if num_hospitals is None else num_hospitals)
    codes, names = pd.factorize(values, sort=True)
    hospital_of = patients.most_frequent(codes, len(names))
    groups = {
        str(name): members
        for k, name in enumerate(names)
        if len(members := np.flatnonzero(hospital_of == k))
    }
    rng = np.random.default_rng(seed)
    while num_hospitals is not None and len(groups) > num_hospitals:
        groups = _merge_smallest(groups)
    while num_hospitals is not None and len(groups) < num_hospitals:
        groups = _halve_largest(groups, rng)
    for k, members in enumerate(groups.values()):
        hospital_of[members] = k
    return patients.deal(hospital_of, len(groups), tuple(groups))


def own_test_images(scheme: str, hospital: str, test: MedicalImages) -> np.ndarray:
    """Which test images are of one hospital's kind: bool (n,), all False where nobody can tell.

    Only a "by:COLUMN" scheme leaves a trace on the test set: the column's own value.
    """
    if not scheme.startswith("by:"):
        return np.zeros(len(test), dtype=bool)
    return _column_values(test, scheme[3:]) == hospital


def label_divergence(class_counts: np.ndarray) -> float:
    """How far the hospitals' class mixtures are from the common one, 0 (the same) to below 1.

    The mean over hospitals, weighted by their images, of the total variation distance
    ``0.5 * sum(abs(p_k - p))``; ``class_counts`` is (hospitals, classes), each image counted once
    (:meth:`Partition.strata_counts`).
    """
    sizes = class_counts.sum(axis=1)
    mixtures = class_counts / sizes[:, None]
    common = class_counts.sum(axis=0) / sizes.sum()
    return float(np.average(0.5 * np.abs(mixtures - common).sum(axis=1), weights=sizes))


@dataclass(frozen=True)
class _Patients:
    """What is dealt out: patients, each with a stratum, and the patient of each image."""

    of_image: np.ndarray  # int64 (images,): which patient
    strata: np.ndarray  # int64 (patients,): ``MedicalImages.strata`` of the patient's first image

    @classmethod
    def of(cls, data: MedicalImages, num_hospitals: int) -> _Patients:
        if "patient" in data.table.columns:
            of_image, _ = pd.factorize(patients_of(data))
        else:
            of_image = np.arange(len(data))
        _, first = np.unique(of_image, return_index=True)
        if num_hospitals < 1:
            raise PartitionError(
                f"the number of hospitals must be at least 1; got {num_hospitals}."
            )
        if num_hospitals > len(first):
            raise PartitionError(
                f"{num_hospitals} hospitals cannot share the {len(first)} patients of {data.name}; "
                f"ask for at most {len(first)}."
            )
        return cls(of_image, data.strata[first])

    def __len__(self) -> int:
        return len(self.strata)

    def most_frequent(self, codes: np.ndarray, num_codes: int) -> np.ndarray:
        """For each patient the commonest code (int, 0..num_codes-1) among his or her images."""
        counts = np.zeros((len(self), num_codes), dtype=np.int64)
        np.add.at(counts, (self.of_image, codes), 1)
        return counts.argmax(axis=1)

    def deal(
        self, hospital_of: np.ndarray, num_hospitals: int, names: tuple[str, ...] | None = None
    ) -> Partition:
        """From the hospital of each patient to the images of each hospital."""
        hospital_of = _fill_empty(hospital_of, num_hospitals)
        of_image = hospital_of[self.of_image]
        order = np.argsort(of_image, kind="stable")
        ends = np.cumsum(np.bincount(of_image, minlength=num_hospitals))[:-1]
        names = names or tuple(f"Hospital {k + 1}" for k in range(num_hospitals))
        return Partition(names, tuple(np.split(order, ends)))


def _in_proportion(count: int, shares: np.ndarray) -> np.ndarray:
    """``count`` hospital numbers in ascending order, each as often as its share says."""
    ends = np.round(np.cumsum(shares) * count).astype(np.int64)
    ends[-1] = count
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0))


def _fill_empty(hospital_of: np.ndarray, num_hospitals: int) -> np.ndarray:
    """Give each empty hospital one patient of the largest one."""
    hospital_of = hospital_of.copy()
    sizes = np.bincount(hospital_of, minlength=num_hospitals)
    for empty in np.flatnonzero(sizes == 0):
        largest = sizes.argmax()
        hospital_of[np.flatnonzero(hospital_of == largest)[0]] = empty
        sizes[largest] -= 1
        sizes[empty] += 1
    return hospital_of


def _column_values(data: MedicalImages, column: str) -> np.ndarray:
    """Return the column as strings, ages in bands, gaps as "unknown"."""
    values = pd.Series(data.column(column))
    if column == "age":
        values = _age_bands(values, data.name)
    return values.astype(object).where(values.notna(), "unknown").astype(str).to_numpy()


def _age_bands(ages: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(ages, errors="coerce")
    if (wrong := ages[numbers.isna() & ages.notna()]).any():
        raise PartitionError(f"{name}: the age {wrong.iloc[0]!r} is not a number of years.")
    return pd.cut(numbers, [*AGE_BANDS.values(), np.inf], right=False, labels=list(AGE_BANDS))


def _merge_smallest(groups: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    first, second = sorted(groups, key=lambda name: len(groups[name]))[:2]
    rest = {name: members for name, members in groups.items() if name not in (first, second)}
    return rest | {f"{first} + {second}": np.concatenate([groups[first], groups[second]])}


def _halve_largest(
    groups: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    largest = max(groups, key=lambda name: len(groups[name]))
    members = rng.permutation(groups[largest])
    base, number = largest.split(" #")[0], 2
    while f"{base} #{number}" in groups:
        number += 1
    half = len(members) // 2
    return groups | {largest: members[half:], f"{base} #{number}": members[:half]}
