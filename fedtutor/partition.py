"""Dealing one data set out to hospitals, evenly or not.

Every partitioner deals out patients, never single images; every image goes to exactly one
hospital, and no hospital is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import pandas as pd
from numpy.random import Generator

from fedtutor.errors import PartitionError, check_whole, visible
from fedtutor.images import MedicalImages, count_classes, patients_of
from fedtutor.settings import check_alpha

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
        return self._counts(data.labels, len(data.class_names))

    def strata_counts(self, data: MedicalImages) -> np.ndarray:
        """Images of each stratum, int64 of shape (hospitals, strata); rows sum to the images.

        One class an image: the same as :meth:`class_counts`. Otherwise an image counts once, for
        its rarest finding, or as one without a finding: see ``MedicalImages.strata``.
        """
        return self._counts(data.strata, len(data.strata_names))

    def _counts(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        return np.stack([count_classes(labels[own], num_classes) for own in self.indices])

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
    scheme: str | None = None,
    num_hospitals: int | None = None,
    *,
    alpha: float = 0.5,
    seed: int = 0,
) -> Partition:
    """Deal ``data`` out by the name of a scheme, as the command line does.

    Parameters
    ----------
    scheme : "iid", "dirichlet", "shards", "quantity" or "by:COLUMN", such as "by:view"; by default
        "by:hospital" where the set knows its hospitals, else "dirichlet".
    num_hospitals : how many; by default five, or, for "by:COLUMN", one for each value.
    alpha : concentration of "dirichlet" and "quantity", > 0; small is uneven. A hospital that
        stays empty is given one patient of the largest; otherwise none is too small.

    Raises
    ------
    PartitionError
        For an unknown scheme, alpha <= 0, a number or a seed that is not a whole number, or more
        hospitals than patients.
    """
    if scheme is None:
        scheme = "by:hospital" if "hospital" in data.table else "dirichlet"
    if str(scheme).startswith("by:"):
        return _by_column(data, scheme[3:], num_hospitals, seed)
    if str(scheme) not in DEALS:
        known = ", ".join([*DEALS, "by:COLUMN"])
        raise PartitionError(f"unknown partition {scheme!r}; known: {known}.")
    check_alpha(alpha)
    count = 5 if num_hospitals is None else num_hospitals
    of_image, strata, rng = _patients(data, count, seed)
    order, owners = DEALS[scheme](strata, len(data.strata_names), np.full(count, alpha), rng)
    return _deal(of_image, order, owners, [f"Hospital {k + 1}" for k in range(count)])


Dealt = tuple[np.ndarray, np.ndarray]
"""Patients in some order, and the hospital of each; both int64 (patients,)."""


def _iid(strata: np.ndarray, num_strata: int, alphas: np.ndarray, rng: Generator) -> Dealt:
    """Deal patients out at random, as many to each hospital: the easy case, met nowhere."""
    return rng.permutation(len(strata)), np.arange(len(strata)) % len(alphas)


def _dirichlet(strata: np.ndarray, num_strata: int, alphas: np.ndarray, rng: Generator) -> Dealt:
    """Deal with label skew: each class in proportions drawn from Dirichlet(alpha).

    At alpha = 0.1 most hospitals see one or two classes, at 100 nearly the same mixture
    (Yurochkin et al. 2019; Li et al. 2022, NIID-Bench). Hsu, Qi & Brown 2019 draw a mixture for
    each hospital instead. Of several findings an image is dealt out by its rarest one.
    """
    order, owners = [], []
    for stratum in range(num_strata):
        order.append(rng.permutation(np.flatnonzero(strata == stratum)))
        owners.append(_in_proportion(len(order[-1]), rng.dirichlet(alphas)))
    return np.concatenate(order), np.concatenate(owners)


def _shards(strata: np.ndarray, num_strata: int, alphas: np.ndarray, rng: Generator) -> Dealt:
    """Deal with pathological skew: sort by class, cut into shards, give each hospital two.

    Of several findings an image is sorted by its rarest one (McMahan et al. 2017, section 3).
    """
    # Shuffled first, so that which patients share a shard is chance but for their class.
    order = rng.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    num_shards = min(2 * len(alphas), len(strata))
    owner = rng.permutation(np.arange(num_shards) % len(alphas))
    sizes = [len(shard) for shard in np.array_split(order, num_shards)]
    return order, np.repeat(owner, sizes)


def _quantity(strata: np.ndarray, num_strata: int, alphas: np.ndarray, rng: Generator) -> Dealt:
    """Deal with quantity skew: the same mixture everywhere, sizes from Dirichlet(alpha).

    At alpha = 0.1 some hospitals have next to nobody; see :func:`partition` on the empty ones.
    """
    return rng.permutation(len(strata)), _in_proportion(len(strata), rng.dirichlet(alphas))


DEALS = {"iid": _iid, "dirichlet": _dirichlet, "shards": _shards, "quantity": _quantity}
"""By name: from patients' strata, how many there can be, an alpha a hospital, and chance."""


def _by_column(data: MedicalImages, column: str, num_hospitals: int | None, seed: int) -> Partition:
    """One hospital for each value of a column of the table: hospital, sex, view, age, ...

    Ages are put into the bands 0-17, 18-39, 40-64 and 65+. A patient with several values goes
    where most of his or her images are. With ``num_hospitals`` above the number of values the
    largest hospital is halved until there are enough, below it the two smallest are merged.
    """
    values = column_values(data, column)
    of_image, _, rng = _patients(data, 1 if num_hospitals is None else num_hospitals, seed)
    commonest = pd.crosstab(of_image, values).idxmax(axis=1).to_numpy()
    groups = {str(value): np.flatnonzero(commonest == value) for value in np.unique(commonest)}
    count = len(groups) if num_hospitals is None else num_hospitals
    while len(groups) > count:
        _merge_smallest(groups)
    while len(groups) < count:
        _halve_largest(groups, rng)
    owners = np.repeat(np.arange(len(groups)), [len(members) for members in groups.values()])
    return _deal(of_image, np.concatenate(list(groups.values())), owners, list(groups))


def own_test_images(scheme: str, hospital: str, test: MedicalImages) -> np.ndarray:
    """Which test images are of one hospital's kind: bool (n,), all False where nobody can tell.

    Only a "by:COLUMN" scheme leaves a trace on the test set: the column's own value.
    """
    if not scheme.startswith("by:"):
        return np.zeros(len(test), dtype=bool)
    return column_values(test, scheme[3:]) == hospital


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


def _patients(
    data: MedicalImages, num_hospitals: int, seed: int
) -> tuple[np.ndarray, np.ndarray, Generator]:
    """Return the patient of each image, the stratum of each patient's first image, and chance.

    int64 (images,) and int64 (patients,); patients are dealt out, and never single images.
    """
    check_whole("the number of hospitals", num_hospitals, 1, PartitionError)
    check_whole("seed", seed, 0, PartitionError)
    of_image, _ = pd.factorize(patients_of(data))
    _, first = np.unique(of_image, return_index=True)
    if num_hospitals > len(first):
        what = "patients" if "patient" in data.table.columns else "images"
        raise PartitionError(
            f"{num_hospitals} hospitals cannot share the {len(first)} {what} of {data.name}; "
            f"ask for at most {len(first)}."
        )
    return of_image, data.strata[first], np.random.default_rng(seed)


def _deal(
    of_image: np.ndarray, order: np.ndarray, owners: np.ndarray, names: list[str]
) -> Partition:
    """Return the images of each hospital; patient ``order[i]`` goes to ``owners[i]``."""
    hospital_of = _fill_empty(owners[np.argsort(order)], len(names))[of_image]
    indices = [np.flatnonzero(hospital_of == k) for k in range(len(names))]
    return Partition(tuple(names), tuple(indices))


def _in_proportion(count: int, shares: np.ndarray) -> np.ndarray:
    """``count`` hospital numbers in ascending order, each as often as its share says."""
    ends = np.round(np.cumsum(shares) * count).astype(np.int64)
    ends[-1] = count
    return np.repeat(np.arange(len(shares)), np.diff(ends, prepend=0))


def _fill_empty(hospital_of: np.ndarray, num_hospitals: int) -> np.ndarray:
    """Give each empty hospital one patient of the largest one."""
    sizes = np.bincount(hospital_of, minlength=num_hospitals)
    for empty in np.flatnonzero(sizes == 0):
        largest = sizes.argmax()
        hospital_of[np.flatnonzero(hospital_of == largest)[0]] = empty
        sizes[largest] -= 1
        sizes[empty] += 1
    return hospital_of


def column_values(data: MedicalImages, column: str) -> np.ndarray:
    """Return the column as text that can be shown, ages in bands, gaps as "unknown".

    A name from a table enters here, so that it is the same in every output.
    """
    values = pd.Series(data.column(column))
    if column == "age":
        years = pd.to_numeric(values, errors="coerce")
        if (wrong := values[years.isna() & values.notna()]).any():
            raise PartitionError(
                f"{data.name}: the age {wrong.iloc[0]!r} is not a number of years."
            )
        bounds = [*AGE_BANDS.values(), np.inf]
        values = pd.cut(years, bounds, right=False, labels=list(AGE_BANDS))
    known = values.astype(object).where(values.notna(), "unknown")
    return np.array([visible(str(value)) for value in known], dtype=object)


def _merge_smallest(groups: dict[str, np.ndarray]) -> None:
    first, second = sorted(groups, key=lambda name: len(groups[name]))[:2]
    members = np.concatenate([groups.pop(first), groups.pop(second)])
    groups[_unused(f"{first} + {second}", groups)] = members


def _halve_largest(groups: dict[str, np.ndarray], rng: Generator) -> None:
    largest = max(groups, key=lambda name: len(groups[name]))
    members = rng.permutation(groups[largest])
    half = len(members) // 2
    whole = largest.split(" #")[0]
    groups[_unused(whole if whole in groups else largest, groups)] = members[:half]
    groups[largest] = members[half:]


def _unused(name: str, groups: dict[str, np.ndarray]) -> str:
    """Return the name, or with the first number from 2 on that makes it a new one."""
    numbered = (f"{name} #{number}" for number in count(2))
    return next(new for new in chain([name], numbered) if new not in groups)
