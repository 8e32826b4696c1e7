"""What notebook 01 checks, its figures, and the small study on which a split is put to the test."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, other_case
from fedtutor.datasets import load
from fedtutor.errors import DataError
from fedtutor.figures.picture import Picture
from fedtutor.images import MedicalImages, patients_of
from fedtutor.support.places import material

FEWEST_PATIENTS = 20


def card(name: str, *points: str) -> str:
    """Return the card of a data set, or some of its points, such as "Traps"."""
    path = material() / "datasets" / name / "README.md"
    if not path.is_file():
        known = ", ".join(sorted(folder.parent.name for folder in path.parents[1].glob("*/*.md")))
        raise DataError(f"there is no card of {name!r}; there are: {known or 'none'}.")
    text = path.read_text(encoding="utf-8")
    if not points:
        return text.strip()
    parts = re.split(r"^- \*\*(.+?):\*\* ", text, flags=re.M)
    of = dict(zip(parts[1::2], parts[2::2], strict=True))
    return "\n".join(f"{point}: {' '.join(of[point].split())}" for point in points)


def study_images(data: MedicalImages) -> MedicalImages:
    """Draw a small study at random: four images of each of 50 patients.

    Where the set has too few known patients with so many, the chest phantoms stand in.
    """
    of_image = patients_of(data)
    who, counts = np.unique(of_image, return_counts=True)
    if (counts >= 4).sum() < FEWEST_PATIENTS or data.multi_label:
        return study_images(load("chest-phantoms", size=data.image_shape[0]))
    drawn = np.random.default_rng(0).permutation(who[counts >= 4])[:50]
    return data.take(np.concatenate([np.flatnonzero(of_image == p)[:4] for p in drawn]))


def coin_flips(data: MedicalImages, *, seed: int) -> MedicalImages:
    """Flip a coin for each patient, heads or tails instead of a diagnosis, and keep the images."""
    who, of_image = np.unique(patients_of(data), return_inverse=True)
    flips = np.random.default_rng(seed).integers(2, size=len(who))
    return replace(data, labels=flips[of_image], class_names=("heads", "tails"))


def gallery(data: MedicalImages, *, columns: int = 6) -> Picture:
    """Show up to two rows of images, an image a patient, each under its patient, sex, age and view.

    The hospitals take turns, so that the first images are not all from one.
    """
    _, first = np.unique(patients_of(data), return_index=True)
    data = data.take(np.sort(first))
    if "hospital" in data.table:
        turn = data.table.groupby("hospital").cumcount().to_numpy()
        data = data.take(np.argsort(turn, kind="stable"))
    shown, size = min(len(data), 2 * columns), data.image_shape[0]
    across, down = round(1.06 * size), round(1.32 * size)
    figure = Figure(figsize=(1.5 * columns, 1.5 * 2 * down / across))
    axes = figure.add_axes((0, 0, 1, 1))  # one wall of images is drawn sooner than twelve axes
    axes.set_axis_off()
    wall = np.full((2 * down, columns * across), 255, np.uint8)
    for k in range(shown):
        x, y = k % columns * across, k // columns * down + down - size
        wall[y : y + size, x : x + size] = data.images[k, ..., 0]
        axes.text(x + size / 2, y - 2, _caption(data, k), ha="center", va="bottom", fontsize=8)
    axes.imshow(wall, cmap="gray", vmin=0, vmax=255)
    kind = "synthetic images" if data.synthetic else "images"
    said = "; ".join(_caption(data, k).replace("\n", ", ") for k in range(shown))
    return Picture(figure, f"{shown} {kind}: {said}." if shown else "There is no such image.")


def _caption(data: MedicalImages, index: int) -> str:
    row = data.table.iloc[index]
    first = str(row["patient"]) if "patient" in row else ""
    second = ", ".join(
        str(row[name]) for name in ("sex", "age", "view") if name in row and row[name] == row[name]
    )
    return "\n".join(filter(None, (first, second)))


def draw_patients(patients: np.ndarray, test_fraction: float, seed: int) -> np.ndarray:
    """Return which images are of the share of patients that is drawn: bool (n,)."""
    names = np.unique(patients)
    drawn = np.random.default_rng(seed).permutation(names)[: round(test_fraction * len(names))]
    return np.isin(patients, drawn)


def two_rates(says_ill: np.ndarray, is_ill: np.ndarray) -> tuple[float, float]:
    """Return sensitivity and specificity of answers, both bool (n,)."""
    return float(np.mean(says_ill[is_ill])), float(np.mean(~says_ill[~is_ill]))


@exercise(
    """01.1, a split by patient
    More: return np.isin(patients, drawn)""",
    reference=draw_patients,
)
def split_by_patient(split: Answer) -> None:
    names = np.array([f"P{k:03d}" for k in range(40)])
    patients = np.random.default_rng(12).permutation(np.repeat(names, [1, 2, 3, 4] * 10))

    def in_test(fraction: float, seed: int) -> np.ndarray:
        return _mask(split(patients.copy(), fraction, seed), patients)

    got = in_test(0.25, 0)
    if not got.any() or got.all():
        raise Wrong("""One of the two sides is empty.
            Hint: True means: this image goes into the test set.""")
    torn = set(patients[got]) & set(patients[~got])
    if torn:
        raise Wrong(f"""{len(torn)} patients have images on both sides.
            Hint: draw among the *patients*, each once, and not among the images.
            More: names = np.unique(patients); draw from `names`; then np.isin(patients, drawn).""")
    share = len(set(patients[got])) / 40
    if abs(share - 0.75) < 0.06:
        raise Wrong("""Three quarters of the patients are in your test set, and not a quarter.
            Hint: True means test.
            More: perhaps a `~` too many, or one too few.""")
    half = in_test(0.5, 0)
    if abs(share - 0.25) > 0.06 or abs(len(set(patients[half])) / 40 - 0.5) > 0.06:
        raise Wrong("""The share of patients in the test set is not `test_fraction`.
            Hint: how many patients are there, and how many of them are to be drawn?
            More: count = round(test_fraction * len(names))""")
    if not (got == in_test(0.25, 0)).all():
        raise Wrong("""Called twice with the same seed, it gives two different splits.
            Hint: make your random numbers from the seed.
            More: rng = np.random.default_rng(seed)""")
    if all((got == in_test(0.25, seed)).all() for seed in (1, 2, 3)):
        raise Wrong("""With any seed it draws the same patients: those that come first.
            Hint: patients are often sorted, say by date, so the first are not like the rest.
            More: np.random.default_rng(seed).permutation(names) puts them in random order.""")


def _mask(answer: object, patients: np.ndarray) -> np.ndarray:
    got = np.asarray(answer)
    if got.shape != patients.shape or got.dtype != bool:
        raise Wrong(f"""{len(patients)} times True or False, please, not {got.dtype} {got.shape}.
            Hint: having drawn test patients, ask of each image whether its patient is drawn.""")
    return got


@exercise(
    """01.2, sensitivity and specificity
    More: return np.mean(says_ill[is_ill]), np.mean(~says_ill[~is_ill])""",
    reference=two_rates,
)
def sensitivity_and_specificity(rates: Answer) -> None:
    is_ill = np.array([True, True, True, True, False, False, False, False, False, False])
    says_ill = np.array([True, True, True, False, True, True, False, False, False, False])
    got = of_shape(rates(says_ill.copy(), is_ill.copy()), (2,), "two numbers: return one, two")
    for numbers, wrong in {
        (4 / 6, 3 / 4): """You have the two the other way round.
            Hint: the sensitivity is about the ill, and comes first.""",
        (3 / 5, 4 / 5): """You divide by how many were *called* ill, and healthy.
            Hint: of those who *are* ill, how many are called so?
            More: says_ill[is_ill] are the answers about the ill.""",
        (3 / 4, 2 / 6): """The second number is the share of false alarms.
            Hint: the specificity is the share of the healthy who are called healthy.""",
        (3 / 10, 4 / 10): """You divide by all images.
            Hint: each of the two numbers looks at one kind of people only.""",
        (3, 4): """Those are numbers of images; shares are asked for.
            Hint: divide each by how many people of its kind there are.""",
    }.items():
        if np.allclose(got, numbers):
            raise Wrong(wrong)
    if not np.allclose(got, (3 / 4, 4 / 6)):
        raise Wrong(f"""Of 4 who are ill 3 are found, of 6 who are healthy 4 are called so; yours
            are {got[0]:.2f} and {got[1]:.2f}.
            Hint: np.mean of True and False is the share of True.""")
    other_case(np.allclose(rates(is_ill, is_ill), (1, 1)))
