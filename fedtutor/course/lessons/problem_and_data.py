"""What notebook 01 checks, its figures, and the small study on which a split is put to the test."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, other_case
from fedtutor.datasets import load
from fedtutor.errors import DataError
from fedtutor.figures.charts import name_rows
from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture, tidy
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
    """Give each patient heads or tails instead of a diagnosis, and keep the images.

    As many patients have heads as tails, so that guessing is right in half of the cases.
    """
    who, of_image = np.unique(patients_of(data), return_inverse=True)
    flips = np.random.default_rng(seed).permutation(np.arange(len(who)) % 2)
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


def two_splits(data: MedicalImages, in_test: dict[str, np.ndarray]) -> Picture:
    """Show six patients' images, a row each, and on which side of each split they are.

    ``in_test`` is from a split's name to bool (n,), True for its test images. Two of the patients
    shown are those with test images in the last split.
    """
    of_image = patients_of(data)
    last = list(in_test.values())[-1]
    tested = list(dict.fromkeys(of_image[last]))[:2]
    others = [p for p in dict.fromkeys(of_image[~last]) if p not in tested]
    chosen = sorted([*tested, *others[: 6 - len(tested)]])
    figure = Figure(figsize=(8.6, 0.72 * len(chosen) + 0.7))
    said = []
    for axes, (name, test) in zip(figure.subplots(1, len(in_test)), in_test.items(), strict=True):
        torn = _rows_of_patients(axes, data, chosen, test)
        axes.set_title(name)
        said.append(f"{name}: {torn} of them have images on both sides")
    figure.tight_layout(w_pad=2)
    words = "test images have a dashed frame and the word test"
    alt = f"The images of {len(chosen)} patients, a row each; {words}. {'; '.join(said)}."
    return Picture(figure, alt)


def _rows_of_patients(
    axes: Axes, data: MedicalImages, chosen: list[str], in_test: np.ndarray
) -> int:
    """Draw them, and count the rows that are torn apart."""
    of_image, size, torn = patients_of(data), data.image_shape[0], 0
    step = size + max(3, size // 6)
    rows = [np.flatnonzero(of_image == patient) for patient in chosen]
    width = max(map(len, rows))
    wall = np.full((step * len(rows), step * width), 255, np.uint8)
    for r, row in enumerate(rows):
        torn += len(set(in_test[row])) > 1
        for c, index in enumerate(row):
            x, y = c * step, r * step
            wall[y : y + size, x : x + size] = data.images[index, ..., 0]
            _frame(axes, x, y, size, bool(in_test[index]))
    axes.imshow(wall, cmap="gray", vmin=0, vmax=255)
    axes.set_yticks(np.arange(len(rows)) * step + size / 2, chosen, fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_xlim(-3, step * width)
    axes.set_ylim(step * len(rows), -3)
    axes.spines[:].set_visible(False)
    return torn


def _frame(axes: Axes, x: int, y: int, size: int, in_test: bool) -> None:
    colour, dash, word, ink = (
        (ORANGE, "--", "test", "black") if in_test else (BLUE, "-", "train", "white")
    )
    box = {"facecolor": colour, "edgecolor": "none", "pad": 1.2}
    corner = (x - 0.5, y - 0.5)
    frame = Rectangle(corner, size, size, fill=False, edgecolor=colour, linestyle=dash, lw=2.5)
    axes.add_patch(frame)
    middle, low = x + size / 2, y + 0.95 * size
    axes.text(middle, low, word, ha="center", va="bottom", fontsize=7, color=ink, bbox=box)


def split_scores(scores: dict[str, dict[str, list[float]]], guessing: dict[str, float]) -> Picture:
    """Draw the share of right answers by split, a row each.

    A small mark is a repetition, the large one their mean.

    ``scores`` is from a title to {split: one share a repetition}; ``guessing`` from a title to the
    share that somebody gets right who never looks at an image.
    """
    figure = Figure(figsize=(8.6, 1.15 + 1.3 * len(scores)))
    panels = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    said = []
    for axes, (title, by_split) in zip(panels, scores.items(), strict=True):
        styled = zip(by_split.items(), (ORANGE, BLUE), ("D", "o"), strict=False)
        for y, ((name, values), colour, marker) in enumerate(styled):
            axes.plot(values, np.full(len(values), y), "|", color="black", markersize=12)
            axes.plot(np.mean(values), y, marker, color=colour, markersize=11)
            said.append(f"{title}, {name}: mean {np.mean(values):.2f}")
        axes.axvline(guessing[title], color=GREY, linestyle=":", linewidth=2)
        name_rows(axes, list(by_split))
        axes.set_title(title, fontsize=10, loc="left")
        tidy(axes, "x")
    panels[-1].set_xlim(0.25, 1.0)
    panels[-1].set_xlabel("share of right answers on the test set (dotted: never looking)")
    figure.tight_layout()
    # Single repetitions have 50 test images, and a few of those fall otherwise elsewhere.
    return Picture(figure, f"Share of right answers. {'; '.join(said)}.", 0.1)


@exercise("""01.1, patients on both sides
    More: len(set(train_patients) & set(test_patients))""")
def shared_patients(count: Answer) -> None:
    train = np.array(["A", "A", "A", "C", "E", "B", "C"])
    test = np.array(["B", "B", "C", "D", "B", "C", "F"])
    got = count(train.copy(), test.copy())
    if isinstance(got, (set, list, np.ndarray)):
        raise Wrong("""You give back the patients themselves; asked for is how many they are.
            Hint: `len` counts what is in a set or a list.""")
    one_number(got)
    if got == 6:
        raise Wrong("""Those are all patients; asked for are those who are on both sides.
            Hint: for sets, `|` means in one or the other. What means in both?""")
    if got in (3, 5):
        raise Wrong("""You count images, so somebody with two images counts twice.
            Hint: each patient once: that is what a `set` is for.""")
    if got != 2:
        raise Wrong(f"""Here two patients, B and C, have images on both sides; you count {got}.
            Hint: make a set of each side's patients, and look at what the two have in common.""")
    other_case(count(np.array(["A", "B"]), np.array(["C"])) == 0)


@exercise("""01.2, a split by patient
    More: return np.isin(patients, drawn)""")
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
