"""What notebook 12 checks, its hospitals, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.course.bowls import Bowl, Way, lowest
from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, other_case
from fedtutor.datasets import load
from fedtutor.datasets.phantoms import chest_phantoms, oct_phantoms
from fedtutor.figures.charts import name_rows
from fedtutor.figures.picture import BLUE, GREEN, GREY, ORANGE, PURPLE, Picture, tidy
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.partition import Partition

PHANTOMS = {
    "chest-phantoms": (chest_phantoms, (0.4, 0.3, 0.3)),
    "oct-phantoms": (oct_phantoms, (0.25, 0.25, 0.25, 0.25)),
}
"""How to draw them, and the mixture of classes in every hospital."""


def cohort(
    dataset: str, seed: int, *, images: int = 720, size: int = 20, test: float = 2 / 3
) -> tuple[MedicalImages, MedicalImages]:
    """Draw (train, test), new patients for each seed and no patient on both sides.

    Of phantoms every hospital sees one and the same mixture of classes, so that by themselves the
    hospitals differ in scanner, age and sex only. Of another data set it is a random part.
    """
    if dataset in PHANTOMS:
        draw, mixture = PHANTOMS[dataset]
        data = draw(images, size=size, seed=seed, prevalence=np.tile(mixture, (5, 1)))
    else:
        data = load(dataset, size=size)
        data = data.take(np.random.default_rng(seed).permutation(len(data))[:images])
    return split_by_patient(data, test, seed=seed)


GAMMAS = (0.5, 0.75, 1.0, 1.4, 2.0)


def other_machines(data: MedicalImages, parts: Partition) -> MedicalImages:
    """Put the same bodies on machines further apart, each with a contrast curve of its own.

    From hospital to hospital the mid-tones get darker (exponents of :data:`GAMMAS`); the last one
    also stores negatives, as X-ray machines that write DICOM's MONOCHROME1 do.
    """
    images = np.array(data.images)
    for k, own in enumerate(parts.indices):
        brightness = (images[own] / np.float32(255)) ** np.float32(GAMMAS[k % len(GAMMAS)])
        if k == len(parts) - 1:
            brightness = 1 - brightness
        images[own] = np.round(255 * brightness).astype(np.uint8)
    return replace(data, images=images)


VIEW = np.linspace(-1.7, 1.5, 60), np.linspace(-1.4, 1.0, 50)
HOSPITALS = ((GREEN, "s"), (PURPLE, "^"))


def drift(
    bowls: Sequence[Bowl], fedavg: Way, corrected: Way, server_round: int
) -> tuple[Picture, str]:
    """Draw both ways up to a round, with what the hospitals did in it, and say how far they got.

    Parameters
    ----------
    bowls : two hospitals.
    fedavg, corrected : of :func:`walk`, from one start.
    server_round : 1..rounds.
    """
    goal = lowest(bowls)
    figure = Figure(figsize=(9, 3.9))
    figure.subplots_adjust(wspace=0.08, top=0.8)
    pair = figure.subplots(1, 2, sharey=True)
    far = []
    for axes, name, way in zip(pair, ("FedAvg", "SCAFFOLD"), (fedavg, corrected), strict=True):
        _draw_way(axes, bowls, way, server_round)
        axes.plot(*goal, "*", color="black", markersize=13, label="lowest mean loss", zorder=2)
        axes.set_title(name, fontsize=11)
        far.append(float(np.linalg.norm(way.models[server_round] - goal)))
    pair[0].set_ylabel("second weight")
    figure.legend(
        *pair[0].get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False, fontsize=9
    )
    words = (
        f"After round {server_round} FedAvg is {far[0]:.2f} from the lowest point and SCAFFOLD "
        f"{far[1]:.2f}."
    )
    return Picture(figure, f"Two bowls seen from above, with both ways down. {words}", 0.01), words


def _draw_way(axes: Axes, bowls: Sequence[Bowl], way: Way, server_round: int) -> None:
    across, up = VIEW
    points = np.stack(np.meshgrid(across, up), axis=-1)
    height = np.mean([bowl.loss(points) for bowl in bowls], axis=0)
    levels = height.min() + (np.linspace(0.05, 1, 9) ** 2) * (height.max() - height.min())
    axes.contour(across, up, height, levels=levels, colors="#cccccc", linewidths=0.8, zorder=1)
    for k, (bowl, (colour, marker)) in enumerate(zip(bowls, HOSPITALS, strict=True)):
        name, path = f"hospital {k + 1}", way.local[server_round - 1, k]
        best, own = f"{name}'s best", f"{name}, this round"
        axes.plot(*bowl.best, marker, color=colour, markersize=10, fillstyle="none", label=best)
        axes.plot(*path.T, f"-{marker}", color=colour, markersize=4, label=own, zorder=4)
    models = way.models[: server_round + 1]
    axes.plot(*models.T, "o--", color=BLUE, markersize=4.5, label="global model", zorder=5)
    axes.set_xlabel("first weight")
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    tidy(axes)


T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26, 12: 2.20}
"""From a number of values to Student's t that holds 95 % (n - 1 degrees of freedom)."""


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Return (mean, low, high): the mean and its 95 % interval by Student's t; n is in T_95."""
    mean = float(np.mean(values))
    half = T_95[len(values)] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def mean_by_patient(values: np.ndarray, patients: np.ndarray) -> tuple[float, float, float]:
    """Return (mean, low, high) of one value an image, float (n,), by a bootstrap of patients."""
    codes = np.unique(patients, return_inverse=True)[1]
    counts = np.bincount(codes)
    sums = np.bincount(codes, values)
    drawn = np.random.default_rng(0).multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), size=1000
    )
    low, high = np.percentile((drawn @ sums) / (drawn @ counts), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def gaps(differences: Mapping[str, Mapping[str, Sequence[float]]], *, x: str) -> Picture:
    """Draw differences to a reference: a panel a setting, a row an algorithm.

    Parameters
    ----------
    differences : from a setting to {algorithm: one difference a seed}.
    x : what the differences are of.
    """
    names = list(next(iter(differences.values())))
    places = np.arange(len(names))
    figure = Figure(figsize=(9.6, 1.5 + 0.4 * len(names)))
    grid = figure.subplots(1, len(differences), sharey=True, sharex=True, squeeze=False)[0]
    said = []
    for axes, (setting, rows) in zip(grid, differences.items(), strict=True):
        each = np.array(list(rows.values()))
        mean, low, high = np.transpose([mean_interval(values) for values in each])
        axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
        axes.hlines(places, low, high, color=BLUE, linewidth=3, alpha=0.45)
        axes.plot(mean, places, "o", color=BLUE, markersize=8, label="mean")
        seeds = np.repeat(places, each.shape[1])
        axes.plot(each.ravel(), seeds, "D", color=ORANGE, markersize=4, label="each seed")
        axes.set_title(setting, fontsize=10)
        name_rows(axes, names)
        tidy(axes, grid="both")
        rows_said = [
            f"{name} {mean[k]:+.2f} ({low[k]:+.2f} to {high[k]:+.2f})"
            for k, name in enumerate(names)
        ]
        said.append(f"{setting}: {', '.join(rows_said)}")
    figure.supxlabel(x, fontsize=10)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92), h_pad=0.3)
    return Picture(figure, f"{x}, with 95 % intervals over the seeds. {'; '.join(said)}.", 0.01)


@exercise("""12.1, a corrected step
    More: return weights - learning_rate * (gradient - own + common)""")
def corrected_step(step: Answer) -> None:
    weights, gradient = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    common, own, rate = np.array([0.2, -0.1]), np.array([-0.4, 0.3]), 0.1
    before = weights.copy()
    hint = "all names are arrays of one shape, but for the learning rate."
    got = of_shape(step(weights, gradient, common, own, rate), (2,), hint)
    if not np.array_equal(weights, before):
        raise Wrong("""The weights you were given have changed under your hands.
            Hint: `w -= ...` writes into the array; `w - ...` makes a new one.""")
    along = (weights - got) / rate  # the direction that was gone
    outside = (own - common) / rate
    if np.allclose(along, gradient + outside) or np.allclose(along, gradient - outside):
        raise Wrong("""The correction is not multiplied by the learning rate.
            Hint: it belongs to the gradient, inside the brackets.""")
    if np.allclose(along, -(gradient - own + common)):
        raise Wrong("""That step goes uphill.
            Hint: a gradient points to where the loss grows.""")
    found = np.linalg.solve(np.stack([own, common], axis=1), along - gradient)
    if not np.allclose(found, [-1, 1]):
        of_own, of_common = found.round(2) + 0.0  # which has no -0
        raise Wrong(f"""Your step goes along gradient {of_own:+g} * own {of_common:+g} * common.
            Hint: take the hospital's own direction away, and put the common one in its place.""")


@exercise("""12.2, the hospital's own direction
    More: own - common + (sent - trained) / (num_steps * learning_rate)""")
def own_direction(control: Answer) -> None:
    gradients = np.array([[3.0, 1.0], [1.0, 0.5], [0.5, -0.3]])
    common, own, rate = np.array([0.2, -0.1]), np.array([-0.4, 0.3]), 0.1
    sent, right = np.array([1.0, -2.0]), gradients.mean(axis=0)
    way = rate * (gradients - own + common).sum(axis=0)
    got = np.asarray(control(own, common, sent, sent - way, 3, rate))
    known = {
        "That is the mean of the corrected steps: the correction is still in it.": 0,
        "The common direction is still in it.": own,
        "The correction is taken out with the wrong sign.": common - own,
    }
    for sentence, added in known.items():
        if np.allclose(got, added + way / (3 * rate)):
            raise Wrong(f"{sentence}\nHint: each step went along gradient - own + common.")
    if not np.allclose(got, right):
        divisor = way[0] / np.ravel(got - own + common)[0]
        raise Wrong(f"""The mean of the plain gradients was {right.round(2).tolist()}; yours is
            {got.round(2).tolist()}, as if the way were divided by {divisor:.2g}, not by 0.3.
            Hint: how many steps was it, and how much of its gradient was each?""")
    trained = sent - 0.5 * 4 * (right - own + common)
    other_case(np.allclose(control(own, common, sent, trained, 4, 0.5), right))


OF_BATCH_NORM = [f"batchnorm/{k}" for k in ("gamma", "beta", "moving_mean", "moving_variance")]
NAMES = ["conv/kernel", "conv/bias", *OF_BATCH_NORM, "dense/kernel", "dense/bias"]


@exercise("""12.4, what stays at home
    More: [k for k, name in enumerate(names) if 'batchnorm' in name]""")
def at_home(places: Answer) -> None:
    got = places(list(NAMES))
    if np.asarray(got).dtype.kind not in "iu":
        raise Wrong("""Positions in the list are asked for, as whole numbers.
            Hint: `enumerate(names)` gives each position with its name.""")
    got, right = sorted(got), [2, 3, 4, 5]
    if got == right[2:]:
        raise Wrong("""Only the statistics stay; that is SiloBN. In FedBN the whole layer stays.
            Hint: which other two arrays does a batch-norm layer have?""")
    if got == right[:2]:
        raise Wrong("""You average the statistics, where scanners differ most.
            Hint: which other two arrays does a batch-norm layer have?""")
    if got == [k for k in range(len(NAMES)) if k not in right]:
        raise Wrong("""Those are the arrays that travel.
            Hint: turn it round: which ones never leave the hospital?""")
    if got == list(range(len(NAMES))):
        raise Wrong("""If all stays at home, nobody learns from anybody.
            Hint: which layers see the scanner most?""")
    if got != right:
        raise Wrong(f"""Of the {len(NAMES)} arrays {len(right)} are a batch norm's; yours are {got}.
            Hint: the name of the layer stands before the slash.""")
    if sorted(places([*NAMES[2:6], *NAMES[:2], *NAMES[6:]])) != [0, 1, 2, 3]:
        raise Wrong("""With the layers in another order it is wrong.
            Hint: look at the names, not at fixed positions.""")
    if sorted(places([*NAMES, *NAMES])) != [2, 3, 4, 5, 10, 11, 12, 13]:
        raise Wrong("""With a second batch norm in the model one of the two is forgotten.
            Hint: `names.index` finds only the first.""")


@exercise("""12.3, an interval from a few seeds
    More: half = T_95[n] * differences.std(ddof=1) / np.sqrt(n); mean - half, mean + half""")
def few_seeds(my_interval: Answer) -> None:
    values = np.array([0.01, 0.03, 0.08])
    low, high = got = of_shape(my_interval(values), (2,), "return low, high")
    mean, *right = mean_interval(values)
    if not np.isclose((high + low) / 2, mean):
        raise Wrong(f"""The mean is {mean:.3f}; your interval is around {(high + low) / 2:.3f}.
            Hint: the mean, and the same half on either side of it.""")
    half, one = (high - low) / 2, values.std(ddof=1) / np.sqrt(3)  # a standard error
    if np.isclose(half, 1.96 * one):
        raise Wrong("""1.96 is for many seeds; with three the spread itself is hardly known.
            Hint: look the factor up in T_95.""")
    if np.isclose(half, T_95[3] * values.std() / np.sqrt(3)):
        raise Wrong("""NumPy's std divides by n; for a few seeds that is too small.
            Hint: std has an argument ddof.""")
    if not np.allclose(got, right):
        raise Wrong(f"""Of {values.tolist()} it is {right[0]:.3f} to {right[1]:.3f}, 4.30 standard
            errors of the mean on either side; yours has {half / one:.2f} of them.
            Hint: a mean varies less than one seed, by the root of n; and std has a ddof.""")
    five = np.array([0.01, 0.03, 0.08, -0.02, 0.05])
    if not np.allclose(my_interval(five), mean_interval(five)[1:]):
        raise Wrong("""With three seeds it is right, with five it is not.
            Hint: the fewer the seeds, the larger t.""")
