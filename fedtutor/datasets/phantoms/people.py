"""Who the phantoms are: hospitals, their patients, and what each patient has."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from fedtutor.errors import DataError

MIN_SIZE, MAX_SIZE, MAX_HOSPITALS = 16, 1024, 1000
IMAGES_PER_PATIENT = (0.5, 0.3, 0.15, 0.05)  # the chance of one, two, three and four
GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly over 0..1 for any count

PLACES = (
    "Harbour", "St Synth", "Phantom Valley", "Northmoor", "Castle Hill", "Riverbend",
    "Lakeside", "Mockingham", "Old Mill", "Westhaven", "Pine Ridge", "Queensbury", "Silverdale",
    "Mistfield", "St Elsewhere", "Greywater", "Orchard Park", "Stonebridge", "Larkspur",
    "Whitecliff", "Seafield",
)  # fmt: skip


@dataclass(frozen=True)
class Scanner:
    """How a hospital's machine renders the same body.

    Attributes
    ----------
    gain : factor on the brightness, about 1.
    gamma : exponent of the brightness; above 1 darkens the mid-tones.
    blur : standard deviation of the blur, as a share of the image's width.
    noise : standard deviation of the noise on the 0..1 brightness scale.
    collimation : black border, as a share of the image's width.
    marker : letters in an upper corner ("R", "L", "AP", ...); empty for none.
    marker_on_left : which upper corner of the image holds the marker.
    """

    gain: float = 1.0
    gamma: float = 1.0
    blur: float = 0.005
    noise: float = 0.02
    collimation: float = 0.0
    marker: str = ""
    marker_on_left: bool = True


@dataclass(frozen=True)
class Shortcut:
    """A planted flaw: one hospital's film marker appears if and only if the class is ``label``."""

    hospital: int = 0
    label: int = 2


@dataclass(frozen=True)
class Hospital:
    """Who comes to a hospital, and the scanner waiting there.

    Attributes
    ----------
    kind : the second half of its name, as in "Harbour *General*".
    prevalence : share of each class among its images, summing to 1.
    share : its share of all images, relative to the other hospitals.
    age : mean and standard deviation of the age in years.
    women : share of women.
    second_view : share of the second view (AP of the chest, OS of the eyes).
    """

    kind: str
    scanner: Scanner
    prevalence: tuple[float, ...]
    share: float = 1.0
    age: tuple[float, float] = (55.0, 18.0)
    women: float = 0.5
    second_view: float = 0.5
    name: str = ""


@dataclass(frozen=True)
class Cohort:
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

    def take(self, rows: np.ndarray | slice) -> Cohort:
        """The cohort's images at ``rows``."""
        return Cohort(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})


def found_hospitals(
    profiles: tuple[Hospital, ...], count: int, prevalence: np.ndarray | None
) -> tuple[Hospital, ...]:
    """``count`` named hospitals: the profiles in turn, each further round a little different."""
    hospitals = [_vary(profiles[i % len(profiles)], i, len(profiles)) for i in range(count)]
    if prevalence is not None:
        table = _checked_prevalence(prevalence, count, len(profiles[0].prevalence))
        pairs = zip(hospitals, table, strict=True)
        hospitals = [replace(hospital, prevalence=tuple(row)) for hospital, row in pairs]
    return tuple(hospitals)


def _vary(profile: Hospital, index: int, num_profiles: int) -> Hospital:
    """The hospital number ``index``: named, and from the second round on a variation."""
    # No common divisor of places and profiles, so a name comes back only after all pairs.
    name, all_pairs = f"{PLACES[index % len(PLACES)]} {profile.kind}", len(PLACES) * num_profiles
    if index >= all_pairs:
        name += f" {index // all_pairs + 1}"
    if index < num_profiles:
        return replace(profile, name=name)
    wobble = (index * GOLDEN) % 1.0 - 0.5
    scanner, evenly = profile.scanner, 1.0 / len(profile.prevalence)
    gain, gamma = scanner.gain * (1 + 0.15 * wobble), scanner.gamma * (1 - 0.2 * wobble)
    mix = 0.2 * (wobble + 0.5)
    return replace(
        profile,
        name=name,
        scanner=replace(scanner, gain=gain, gamma=gamma),
        prevalence=tuple((1 - mix) * share + mix * evenly for share in profile.prevalence),
        age=(profile.age[0] * (1 + 0.15 * wobble), profile.age[1]),
    )


def _checked_prevalence(prevalence: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    table = np.asarray(prevalence, dtype=np.float64)
    if table.shape != (count, num_classes):
        raise DataError(
            f"prevalence must have one row for each of the {count} hospitals and one column for "
            f"each of the {num_classes} classes; got shape {table.shape}."
        )
    if not np.isfinite(table).all() or table.min() < 0:
        raise DataError("prevalence must hold shares from 0 to 1; got one that is negative or nan.")
    sums = table.sum(axis=1)
    if np.abs(sums - 1).max() > 1e-6:
        row = int(np.abs(sums - 1).argmax())
        raise DataError(f"each row of prevalence must sum to 1; row {row} sums to {sums[row]:.4g}.")
    return table


def check_request(
    num_images: int,
    size: int,
    hospitals: int,
    seed: int,
    severity: tuple[float, float],
    shortcut: Shortcut | None,
    class_names: tuple[str, ...],
) -> None:
    """Raise :class:`DataError` for a set of phantoms that cannot be drawn."""
    whole = {"num_images": num_images, "size": size, "hospitals": hospitals, "seed": seed}
    for name, value in whole.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise DataError(f"{name} must be a whole number; got {value!r}.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"size must lie in {MIN_SIZE}..{MAX_SIZE} pixels; got {size}.")
    if not 1 <= hospitals <= MAX_HOSPITALS:
        raise DataError(f"hospitals must lie in 1..{MAX_HOSPITALS}; got {hospitals}.")
    if num_images < hospitals:
        raise DataError(
            f"{num_images} images cannot be spread over {hospitals} hospitals; "
            "give num_images of at least the number of hospitals."
        )
    if seed < 0:
        raise DataError(f"seed must be 0 or more; got {seed}.")
    if np.shape(severity) != (2,) or not 0 <= severity[0] <= severity[1] <= 1:
        raise DataError(
            "severity must be a pair (lowest, highest) with 0 <= lowest <= highest <= 1; "
            f"got {severity}."
        )
    if shortcut is not None:
        _check_shortcut(shortcut, hospitals, class_names)


def _check_shortcut(shortcut: Shortcut, hospitals: int, class_names: tuple[str, ...]) -> None:
    if shortcut.hospital not in range(hospitals):
        raise DataError(
            f"the shortcut's hospital must lie in 0..{hospitals - 1}; got {shortcut.hospital}."
        )
    if shortcut.label not in range(len(class_names)):
        raise DataError(
            f"the shortcut's label must lie in 0..{len(class_names) - 1} "
            f"({', '.join(class_names)}); got {shortcut.label}."
        )


def enrol(
    hospitals: tuple[Hospital, ...], num_images: int, severity: tuple[float, float], seed: int
) -> Cohort:
    """Draw the patients of all hospitals: who they are, what they have, how ill they are."""
    rng = np.random.default_rng([seed, 0])
    shares = np.array([h.share for h in hospitals])
    # One image each first, so that no hospital stays empty.
    counts = 1 + apportion(num_images - len(hospitals), shares)
    patients = [
        _draw_patients(rng, apportion(count, np.array(site.prevalence)))
        for site, count in zip(hospitals, counts, strict=True)
    ]
    label, sizes = (np.concatenate(part) for part in zip(*patients, strict=True))
    hospital = np.repeat(np.arange(len(hospitals)), [len(labels) for labels, _ in patients])
    return _describe(hospitals, hospital, label, sizes, severity, rng)


def _describe(
    hospitals: tuple[Hospital, ...],
    hospital: np.ndarray,
    label: np.ndarray,
    sizes: np.ndarray,
    severity: tuple[float, float],
    rng: np.random.Generator,
) -> Cohort:
    """Sex, age, body and lesion of each patient, and the view and pose of each image."""
    people = len(sizes)
    age_mean, age_sd = np.array([h.age for h in hospitals]).T[:, hospital]
    age = np.clip(np.rint(rng.normal(age_mean, age_sd)), 1, 95).astype(np.int64)
    female = rng.random(people) < np.array([h.women for h in hospitals])[hospital]
    ill = severity[0] + (severity[1] - severity[0]) * rng.random(people)
    body = rng.standard_normal((people, 12), dtype=np.float32)
    lesion = rng.standard_normal((people, 40), dtype=np.float32)
    who = np.repeat(np.arange(people), sizes)
    view_share = np.array([h.second_view for h in hospitals])[hospital[who]]
    second_view = rng.random(len(who)) < view_share
    pose = rng.standard_normal((len(who), 8), dtype=np.float32)
    return Cohort(
        hospital[who], who, label[who], female[who], age[who], second_view,
        ill[who].astype(np.float32), body[who], lesion[who], pose,
    )  # fmt: skip


def _draw_patients(rng: np.random.Generator, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(label, number of images) of each patient, so that class c has ``counts[c]`` images."""
    sizes = []
    for count in counts:
        drawn = rng.choice(4, size=count, p=IMAGES_PER_PATIENT) + 1
        before = np.cumsum(drawn) - drawn
        sizes.append(np.minimum(drawn, count - before)[before < count])
    label = np.repeat(np.arange(len(counts)), [len(part) for part in sizes])
    order = rng.permutation(len(label))
    return label[order], np.concatenate(sizes)[order]


def apportion(total: int, shares: np.ndarray) -> np.ndarray:
    """Whole numbers summing to ``total`` in proportion to ``shares`` (largest remainders)."""
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts


def describe_table(
    cohort: Cohort, hospitals: tuple[Hospital, ...], views: tuple[str, str]
) -> pd.DataFrame:
    """The columns patient, hospital, sex, age and view, one row an image."""
    names = np.array([h.name for h in hospitals], dtype=object)
    first_of_site = np.searchsorted(cohort.hospital, np.arange(len(hospitals)))
    number = cohort.patient - cohort.patient[first_of_site][cohort.hospital]
    patient = [f"H{h}-P{p:04d}" for h, p in zip(cohort.hospital, number, strict=True)]
    return pd.DataFrame({
        "patient": patient,
        "hospital": names[cohort.hospital],
        "sex": np.where(cohort.female, "F", "M"),
        "age": cohort.age,
        "view": np.where(cohort.second_view, views[1], views[0]),
    })  # fmt: skip
