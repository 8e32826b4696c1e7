"""The hospitals of the phantoms: who comes there, which scanner waits, what may be asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedtutor.errors import DataError, check_whole

MIN_SIZE, MAX_SIZE, MAX_HOSPITALS = 16, 1024, 1000
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
    cast : factors on red, green and blue, of images in colour.
    """

    gain: float
    gamma: float
    blur: float
    noise: float
    collimation: float
    marker: str = ""
    marker_on_left: bool = True
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)


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
    share: float
    age: tuple[float, float]
    women: float
    second_view: float
    name: str = ""


def name_hospitals(
    profiles: tuple[Hospital, ...], count: int, prevalence: np.ndarray | None
) -> tuple[Hospital, ...]:
    """Return ``count`` named hospitals: the profiles in turn, and then variations of them.

    Raises :class:`DataError` if ``prevalence`` is not a share of each class for each hospital.
    """
    hospitals = tuple(_vary(profiles[i % len(profiles)], i, len(profiles)) for i in range(count))
    if prevalence is None:
        return hospitals
    table = _checked_prevalence(prevalence, count, len(profiles[0].prevalence))
    pairs = zip(hospitals, table, strict=True)
    return tuple(replace(hospital, prevalence=tuple(row)) for hospital, row in pairs)


def _vary(profile: Hospital, index: int, num_profiles: int) -> Hospital:
    """Return hospital number ``index``: named, and from the second round on a variation."""
    # Places and profiles have no common divisor, so a name comes back only after all pairs.
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
    row = int(np.abs(sums - 1).argmax())
    if abs(sums[row] - 1) > 1e-6:
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
        check_whole(name, value, least=0)
    planted = shortcut or Shortcut(hospital=0, label=0)
    rules = (
        (MIN_SIZE <= size <= MAX_SIZE,
         f"size must lie in {MIN_SIZE}..{MAX_SIZE} pixels; got {size}."),
        (1 <= hospitals <= MAX_HOSPITALS,
         f"hospitals must lie in 1..{MAX_HOSPITALS}; got {hospitals}."),
        (num_images >= hospitals,
         f"{num_images} images cannot be spread over {hospitals} hospitals; "
         "give num_images of at least the number of hospitals."),
        (np.shape(severity) == (2,) and 0 <= severity[0] <= severity[1] <= 1,
         "severity must be a pair (lowest, highest) with 0 <= lowest <= highest <= 1; "
         f"got {severity}."),
        (planted.hospital in range(hospitals),
         f"the shortcut's hospital must lie in 0..{hospitals - 1}; got {planted.hospital}."),
        (planted.label in range(len(class_names)),
         f"the shortcut's label must lie in 0..{len(class_names) - 1} "
         f"({', '.join(class_names)}); got {planted.label}."),
    )  # fmt: skip
    for is_kept, message in rules:
        if not is_kept:
            raise DataError(message)
