"""What notebook 12 checks, its images, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.course.bowls import Bowl, Way, lowest, scaffold_round
from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, other_case, same_arrays
from fedtutor.datasets import load
from fedtutor.datasets.phantoms import CHEST_CLASSES, OCT_CLASSES, chest_phantoms, oct_phantoms
from fedtutor.figures.picture import BLUE, GREEN, PURPLE, Picture, tidy
from fedtutor.images import MedicalImages
from fedtutor.model import standardise

PHANTOMS = {
    "chest-phantoms": (chest_phantoms, len(CHEST_CLASSES)),
    "oct-phantoms": (oct_phantoms, len(OCT_CLASSES)),
}


def thumbnails(images: np.ndarray, factor: int = 4) -> np.ndarray:
    """Turn images into a row of features each, float64 (n, pixels + 1): coarse pixels and a 1.

    uint8 (n, h, w, 1) is standardised and averaged over squares of ``factor`` pixels a side.
    """
    n, height, width, _ = images.shape
    squares = (n, height // factor, factor, width // factor, factor)
    coarse = standardise(images).reshape(squares).mean(axis=(2, 4)).reshape(n, -1)
    return np.hstack([coarse / math.sqrt(coarse.shape[1]), np.ones((n, 1))])


def pool(dataset: str, images: int, size: int, seed: int = 7) -> MedicalImages:
    """Draw phantoms of five hospitals that see all classes equally often.

    They differ in scanner, age and sex only. Of another data set it is a random part, and whoever
    has no hospital gets one of five by lot.
    """
    rng = np.random.default_rng(seed)
    if dataset in PHANTOMS:
        draw, count = PHANTOMS[dataset]
        return draw(images, size=size, seed=seed, prevalence=np.full((5, count), 1 / count))
    data = load(dataset, size=size)
    data = data.take(rng.permutation(len(data))[:images])
    lot = rng.integers(1, 6, len(data)).astype(str)
    return replace(data, table=data.table.assign(hospital=data.table.get("hospital", lot)))


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


def gain_maps(
    gains: Mapping[str, np.ndarray],
    interval: Callable[[np.ndarray], tuple[float, float]],
    *,
    rows: Mapping[str, Sequence[str]],
    columns: Mapping[str, Sequence[str]],
    limit: float = 0.12,
) -> Picture:
    """Draw a map a name: colour and number are the mean gain, the mark its verdict.

    Parameters
    ----------
    gains : from a name to float (rows, columns, seeds), paired differences.
    interval : from one cell's differences to (low, high) of their mean.
    rows, columns : one axis's {label: names}, each with one entry.
    limit : the gain at which the colours end.
    """
    (y, row_names), (x, column_names) = *rows.items(), *columns.items()
    down = -(-len(gains) // 2)
    figure = Figure(figsize=(9.4, (0.6 + 0.5 * len(row_names)) * down + 0.6), layout="constrained")
    grid = figure.subplots(down, 2, sharex=True, sharey=True, squeeze=False)
    said = []
    for axes, (name, values) in zip(grid.ravel(), gains.items(), strict=False):
        means = values.mean(axis=-1)
        axes.imshow(means, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for place in np.ndindex(means.shape):
            low, high = interval(values[place])
            mark = "\u25b2" if low > 0 else "\u25bc" if high < 0 else "\u00b7"
            colour = "white" if abs(means[place]) > 0.7 * limit else "black"
            words = f"{means[place]:+.2f} {mark}"
            axes.text(*place[::-1], words, ha="center", va="center", color=colour, fontsize=11)
            if mark != "\u00b7":
                said.append(f"{name}, {row_names[place[0]]}, {column_names[place[1]]}: {words}")
        axes.set_title(name, fontsize=11)
        axes.set_xticks(range(len(column_names)), column_names)
        axes.set_yticks(range(len(row_names)), row_names)
    for axes in grid[-1]:
        axes.set_xlabel(x)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)
    alt = f"Maps of gains; those whose interval excludes 0: {'; '.join(said) or 'none'}."
    return Picture(figure, alt, 0.01)


def adam_step(
    model: np.ndarray, mean: np.ndarray, momentum: np.ndarray, spread: np.ndarray, eta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (model, momentum, spread) after FedAdam's step (Reddi et al. 2021, algorithm 2).

    With their beta_1 = 0.9, beta_2 = 0.99 and tau = 0.001.
    """
    update = mean - model
    momentum = 0.9 * momentum + 0.1 * update
    spread = 0.99 * spread + 0.01 * update**2
    return model + eta * momentum / (np.sqrt(spread) + 1e-3), momentum, spread


def adjusted(probabilities: np.ndarray, own: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Return probabilities (n, classes) for other class shares (Saerens et al. 2002)."""
    weighted = probabilities * own / common
    return weighted / weighted.sum(axis=1, keepdims=True)


@exercise(
    """12.1, a hospital's round of SCAFFOLD
    More: in the loop trained = trained - learning_rate * (gradient(trained) - own + common);
    after it own - common + (weights - trained) / (num_steps * learning_rate)""",
    reference=scaffold_round,
)
def hospital_round(answer: Answer) -> None:
    start, own, common = np.array([1.0, -2.0]), np.array([-0.4, 0.3]), np.array([0.2, -0.1])
    before, seen = (start.copy(), own.copy(), common.copy()), []

    def gradient(weights: np.ndarray) -> np.ndarray:
        seen.append(np.array(weights))
        return weights * [1.0, 0.5] + [0.3, 1.0]

    def tried(steps: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
        seen.clear()
        got = answer(start, own, common, gradient, steps, rate)
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong("""Two things are asked for.
                Hint: return the trained weights and the new own direction.""")
        hint = "all are arrays of one shape, but for the number of steps and the rate."
        return of_shape(got[0], (2,), hint), of_shape(got[1], (2,), hint)

    trained, new = tried(3, 0.1)
    if not same_arrays(before, (start, own, common)):
        raise Wrong("""The arrays you were given have changed under your hands.
            Hint: `w -= ...` writes into the array; `w = w - ...` makes a new one.""")
    if len(seen) != 3:
        raise Wrong(f"""The gradient was asked for {len(seen)} times in 3 steps.
            Hint: once in each step, as each call looks at the next batch of images.""")
    if np.array_equal(seen[1], start):
        raise Wrong("""Every step takes its gradient at the weights that were sent.
            Hint: ask for the gradient at where you are by now.""")
    right_steps = scaffold_round(start, own, common, gradient, 3, 0.1)
    first = (start - seen[1]) / 0.1 - gradient(start)  # what was added to the first gradient
    known = {
        "The steps are FedAvg's: nothing is taken out and nothing put in.": 0 * own,
        "The correction has the wrong sign.": own - common,
        "The hospital's own direction goes out, and nothing comes in its place.": -own,
        "The common direction comes in, and the own one has stayed.": common,
        "The correction is not multiplied by the learning rate.": (common - own) / 0.1,
        "That goes uphill.": (start - (start + 0.1 * (gradient(start) - own + common))) / 0.1
        - gradient(start),
    }
    for sentence, added in known.items():
        if np.allclose(first, added):
            raise Wrong(f"{sentence}\nHint: each step goes along gradient - own + common.")
    if not np.allclose(trained, right_steps[0]):
        raise Wrong("""The trained weights are wrong.
            Hint: each step goes along gradient - own + common.""")
    mean = right_steps[1]
    ways = {
        "The own direction stays what it was.": own,
        "That is the mean of the corrected steps: the correction is still in it.": mean
        - own
        + common,
        "The common direction is still in it.": mean + common,
        "The correction is taken out with the wrong sign.": mean - 2 * (own - common),
        "That is the last gradient, not the mean of all.": gradient(seen[2]),
    }
    for sentence, found in ways.items():
        if np.allclose(new, found):
            raise Wrong(f"""{sentence}
                Hint: solve the equation of the way for the mean gradient.""")
    if not np.allclose(new, mean):
        raise Wrong(f"""The mean of the plain gradients was {mean.round(2).tolist()}; your new own
            direction is {new.round(2).tolist()}.
            Hint: how many steps was it, and how much of its gradient was each?""")
    other = scaffold_round(start, own, common, gradient, 4, 0.5)
    other_case(same_arrays(tried(4, 0.5), other))


@exercise(
    """12.2, the server's step of FedAdam
    More: update = mean - model; momentum = 0.9 * momentum + 0.1 * update; spread = 0.99 * spread
    + 0.01 * update**2; return model + eta * momentum / (np.sqrt(spread) + 1e-3), momentum, spread
    """,
    reference=adam_step,
)
def server_step(answer: Answer) -> None:
    model, mean = np.array([1.0, -2.0]), np.array([1.5, -2.1])
    momentum, spread = np.array([0.2, -0.1]), np.array([0.04, 0.09])
    given = model, mean, momentum, spread
    before = [array.copy() for array in given]
    got = answer(*given, 0.3)
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise Wrong("""Three things are asked for.
            Hint: return model, momentum, spread.""")
    got = [of_shape(array, (2,), "all are arrays of the model's shape.") for array in got]
    if not same_arrays(before, given):
        raise Wrong("""The arrays you were given have changed under your hands.
            Hint: `m *= ...` writes into the array; `m = ...` makes a new one.""")
    right = adam_step(*given, 0.3)
    if np.allclose(got[1], 0.9 * momentum - 0.1 * (mean - model)):
        raise Wrong("""The update points back from the mean to the model.
            Hint: the server wants to go where the hospitals went, mean - model.""")
    if np.allclose(got[1], 0.9 * momentum + 0.1 * mean):
        raise Wrong("""Momentum is kept of the models, not of the updates.
            Hint: first work out update = mean - model.""")
    if not np.allclose(got[1], right[1]):
        raise Wrong("""The momentum is wrong.
            Hint: nine tenths of the old one and a tenth of the update.""")
    if not np.allclose(got[2], right[2]):
        raise Wrong("""The spread is wrong.
            Hint: 0.99 of the old one and 0.01 of the update *squared*.""")
    if np.allclose(got[0], mean + (right[0] - model)):
        raise Wrong("""The step begins at the mean, so that the update counts twice.
            Hint: it begins at the old model.""")
    if np.allclose(got[0], model + 0.3 * right[1] / (right[2] + 1e-3)):
        raise Wrong("""The momentum is divided by the spread itself.
            Hint: the spread is of squares; take its root.""")
    if np.allclose(got[0], 2 * model - right[0]):
        raise Wrong("""The step goes backwards.
            Hint: an update is no gradient; it is added.""")
    if not np.allclose(got[0], right[0]):
        raise Wrong("""Momentum and spread are right, the model is not.
            Hint: model + eta * momentum / (root of the spread + 0.001).""")
    zeros = np.zeros(2)
    expected = adam_step(model, mean, zeros, zeros, 1.0)
    other_case(same_arrays(answer(model, mean, zeros, zeros, 1.0), expected))


@exercise(
    """12.3, probabilities for a hospital's own mixture
    More: weighted = probabilities * own / common; weighted / weighted.sum(axis=1, keepdims=True)
    """,
    reference=adjusted,
)
def prior_adjustment(answer: Answer) -> None:
    said = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    own, common = np.array([0.2, 0.2, 0.6]), np.array([0.5, 0.3, 0.2])
    got = of_shape(answer(said.copy(), own, common), (2, 3), "one row an image, as they came.")
    right = adjusted(said, own, common)
    if np.allclose(got, right):
        other_case(np.allclose(answer(said[:1], common, own), adjusted(said[:1], common, own)))
        return
    if np.allclose(got, said):
        raise Wrong("""The probabilities are as they came.
            Hint: what does this hospital see more often than all together?""")
    if np.allclose(got, said * own / common):
        raise Wrong("""The rows no longer add up to 1.
            Hint: divide each by its sum.""")
    if np.allclose(got, adjusted(said, common, own)):
        raise Wrong("""The wrong way round: it makes this hospital's common classes rarer.
            Hint: times own, divided by common.""")
    if np.allclose(got, adjusted(said, own, np.ones(3))):
        raise Wrong("""The mixture that the model was trained on is still in it.
            Hint: divide by it.""")
    weighted = said * own / common
    for axis, where in ((None, "over all images"), (0, "down each column")):
        if np.allclose(got, weighted / weighted.sum(axis=axis)):
            raise Wrong(f"""The sum is taken {where}, not along each row.
                Hint: .sum(axis=1, keepdims=True).""")
    raise Wrong("""These are not the probabilities of Bayes' rule.
        Hint: each is multiplied by own / common, and then each row by what makes its sum 1.""")
