"""What notebook 12 checks, its hospitals, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from fedtutor.course.bowls import (  # noqa: F401  the notebook takes them from here
    BOWLS,
    Bowl,
    Way,
    fedavg_limit,
    lowest,
    walk,
    walk_in_flower,
)
from fedtutor.course.exercises import Wrong, exercise
from fedtutor.datasets import load
from fedtutor.datasets.phantoms import chest_phantoms, oct_phantoms
from fedtutor.evaluation import interval
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.partition import Partition
from fedtutor.report.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, Picture

# Hospitals of phantoms that differ in one way only

PHANTOMS = {
    "chest-phantoms": (chest_phantoms, (0.4, 0.3, 0.3)),
    "oct-phantoms": (oct_phantoms, (0.25, 0.25, 0.25, 0.25)),
}
"""How to draw them, and the mixture of classes in every hospital."""


def cohort(
    dataset: str, seed: int, *, images: int = 720, size: int = 20, test: float = 2 / 3
) -> tuple[MedicalImages, MedicalImages]:
    """(train, test) of new patients for each seed, no patient on both sides.

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
    """The same bodies on machines further apart: each hospital with a contrast curve of its own.

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


# Figures

VIEW = np.linspace(-1.7, 1.5, 60), np.linspace(-1.4, 1.0, 50)
HOSPITALS = ((GREEN, "s"), (PURPLE, "^"))


def drift(
    bowls: Sequence[Bowl], fedavg: Way, corrected: Way, server_round: int
) -> tuple[Picture, str]:
    """Both ways up to a round, with what the hospitals did in it; and in words, how far they got.

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


def _draw_way(axes, bowls: Sequence[Bowl], way: Way, server_round: int) -> None:
    across, up = VIEW
    points = np.stack(np.meshgrid(across, up), axis=-1)
    height = sum(bowl.loss(points) for bowl in bowls) / len(bowls)
    levels = height.min() + (np.linspace(0.05, 1, 9) ** 2) * (height.max() - height.min())
    axes.contour(across, up, height, levels=levels, colors="#cccccc", linewidths=0.8, zorder=1)
    for k, (bowl, (colour, marker)) in enumerate(zip(bowls, HOSPITALS, strict=True)):
        name = f"hospital {k + 1}"
        axes.plot(
            *bowl.best,
            marker,
            color=colour,
            markersize=10,
            fillstyle="none",
            label=f"{name}'s best",
        )
        path = way.local[server_round - 1, k]
        axes.plot(
            *path.T, "-", marker=marker, color=colour, markersize=4, linewidth=1.4,
            label=f"{name}, this round", zorder=4,
        )  # fmt: skip
    axes.plot(
        *way.models[: server_round + 1].T, "o--", color=BLUE, markersize=4.5, linewidth=1,
        label="global model", zorder=5,
    )  # fmt: skip
    axes.set_xlabel("first weight")
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26, 12: 2.20}
"""From a number of values to Student's t that holds 95 % (n - 1 degrees of freedom)."""


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): the mean and its 95 % interval by Student's t; n must be in T_95."""
    values = np.asarray(values, np.float64)
    half = T_95[len(values)] * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def mean_by_patient(
    values: np.ndarray, patients: np.ndarray, *, samples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high) of one value an image, float (n,), by a bootstrap of whole patients."""
    codes = np.unique(patients, return_inverse=True)[1]
    counts = np.bincount(codes)
    sums = np.bincount(codes, values)
    drawn = np.random.default_rng(seed).multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), size=samples
    )
    low, high = interval((drawn @ sums) / (drawn @ counts))
    return float(values.mean()), low, high


def gaps(differences: Mapping[str, Mapping[str, Sequence[float]]], *, x: str) -> Picture:
    """Differences to a reference: a panel a setting, a row an algorithm.

    Parameters
    ----------
    differences : from a setting to {algorithm: one difference a seed}.
    x : what the differences are of.
    """
    names = list(next(iter(differences.values())))
    figure = Figure(figsize=(9.6, 1.5 + 0.4 * len(names)))
    grid = figure.subplots(1, len(differences), sharey=True, sharex=True, squeeze=False)[0]
    said = []
    for axes, (setting, rows) in zip(grid, differences.items(), strict=True):
        axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
        found = np.array([mean_interval(values) for values in rows.values()])
        places = range(len(names))
        axes.hlines(places, found[:, 1], found[:, 2], color=BLUE, linewidth=3, alpha=0.45)
        axes.plot(found[:, 0], places, "o", color=BLUE, markersize=8, label="mean")
        each = np.array(list(rows.values()))
        axes.plot(
            each.ravel(), np.repeat(places, each.shape[1]), "D", color=ORANGE, markersize=4,
            label="each seed",
        )  # fmt: skip
        axes.set_title(setting, fontsize=10)
        axes.set_yticks(places, names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        rows_said = [
            f"{name} {mean:+.2f} ({low:+.2f} to {high:+.2f})"
            for name, (mean, low, high) in zip(names, found, strict=True)
        ]
        said.append(f"{setting}: {', '.join(rows_said)}")
    figure.supxlabel(x, fontsize=10)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92), h_pad=0.3)
    return Picture(figure, f"{x}, with 95 % intervals over the seeds. {'; '.join(said)}.", 0.01)


# Exercises


def _close(got, right) -> bool:
    return np.shape(got) == np.shape(right) and np.allclose(got, right, atol=1e-9)


@exercise("12.1", "a corrected step")
def corrected_step(step):
    weights, gradient = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    common, own, rate = np.array([0.2, -0.1]), np.array([-0.4, 0.3]), 0.1
    before = weights.copy()
    got = step(weights, gradient, common, own, rate)
    if not np.array_equal(weights, before):
        raise Wrong(
            "The weights you were given have changed under your hands.",
            hint="`w -= ...` writes into the array; `w - ...` makes a new one.",
            more="return weights - learning_rate * (...)",
        )
    if np.shape(got) != (2,):
        raise Wrong(
            "New weights are asked for, an array like the old ones.",
            hint="all names are arrays of one shape, but for the learning rate.",
            more="return weights - learning_rate * (...)",
        )
    for wrong, sentence, hint, more in (
        (weights - rate * gradient, "That is the plain step of FedAvg, without a correction.",
         "where do `common` and `own` come in?", "the gradient becomes gradient - own + common."),
        (weights - rate * (gradient + own - common), "The correction points the wrong way: it "
         "makes the hospital drift twice as much.", "take away the hospital's own direction, "
         "put the common one in its place.", "gradient - own + common"),
        (weights - rate * gradient - own + common, "The correction is not multiplied by the "
         "learning rate.", "it belongs to the gradient, inside the brackets.",
         "weights - learning_rate * (gradient - own + common)"),
        (weights - rate * gradient + own - common, "The correction is not multiplied by the "
         "learning rate.", "it belongs to the gradient, inside the brackets.",
         "weights - learning_rate * (gradient - own + common)"),
        (weights - rate * (gradient - own), "The hospital's own direction is taken away and "
         "nothing is put in its place.", "where does everybody go?", "... - own + common"),
        (weights - rate * (gradient + common), "The common direction is added, and the hospital's "
         "own is still there.", "what is to be taken away?", "... - own + common"),
        (weights + rate * (gradient - own + common), "That step goes uphill.",
         "a gradient points to where the loss grows.", "weights - learning_rate * (...)"),
    ):  # fmt: skip
        if _close(got, wrong):
            raise Wrong(sentence, hint=hint, more=more)
    if not _close(got, weights - rate * (gradient - own + common)):
        raise Wrong(
            "For weight 1, gradient 0.5, common 0.2, own -0.4 and learning rate 0.1 the new weight "
            f"is 0.89; yours is {float(np.ravel(got)[0]):.4g}.",
            hint="first the corrected gradient, then an ordinary step.",
            more="0.5 + 0.4 + 0.2 = 1.1, and 1 - 0.1 * 1.1 = 0.89.",
        )


@corrected_step.typical
def plain_step(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * gradient


@corrected_step.typical
def the_wrong_way(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * (gradient + own - common)


@corrected_step.typical
def outside_the_brackets(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * gradient - own + common


@corrected_step.typical
def nothing_in_its_place(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * (gradient - own)


@corrected_step.typical
def own_still_there(weights, gradient, common, own, learning_rate):
    return weights - learning_rate * (gradient + common)


@corrected_step.typical
def uphill(weights, gradient, common, own, learning_rate):
    return weights + learning_rate * (gradient - own + common)


@corrected_step.typical
def in_place(weights, gradient, common, own, learning_rate):
    weights -= learning_rate * (gradient - own + common)
    return weights


@corrected_step.typical
def one_number(weights, gradient, common, own, learning_rate):
    return float((weights - learning_rate * (gradient - own + common)).sum())


@exercise("12.2", "the hospital's own direction")
def own_direction(control):
    gradients = np.array([[3.0, 1.0], [1.0, 0.5], [0.5, -0.3]])
    common, own, rate = np.array([0.2, -0.1]), np.array([-0.4, 0.3]), 0.1
    sent = np.array([1.0, -2.0])
    trained = sent - rate * (gradients - own + common).sum(axis=0)
    got = control(own, common, sent, trained, 3, rate)
    if np.shape(got) != (2,):
        raise Wrong(
            "A direction is asked for, an array like the weights.",
            hint="(sent - trained) is one; what must it be divided by?",
            more="own - common + (sent - trained) / (num_steps * learning_rate)",
        )
    way, right = sent - trained, gradients.mean(axis=0)
    for wrong, sentence, hint, more in (
        (own - common - way / (3 * rate), "That points the other way.",
         "gradient steps go against the gradient.", "sent - trained, not trained - sent."),
        (way / (3 * rate), "That is the mean of the corrected steps: the correction is still in "
         "it.", "each step went along gradient - own + common.", "add own and take away common."),
        (own - common + way / rate, "That is the sum over the steps, not their mean.",
         "the more steps, the larger yours would be.", "divide by num_steps * learning_rate."),
        (own - common + way / 3, "That is the mean way of a step, and not yet a gradient.",
         "a step is the gradient times something.", "divide by num_steps * learning_rate."),
        (own - common + way, "That is the whole way, and not the mean gradient along it.",
         "how many steps was it, and how long is each?", "divide by num_steps * learning_rate."),
        (own + way / (3 * rate), "The common direction is still in it.",
         "each step went along gradient - own + common.", "take away common, too."),
        (common - own + way / (3 * rate), "The correction is taken out with the wrong sign.",
         "each step went along gradient - own + common.", "own - common + ..."),
    ):  # fmt: skip
        if _close(got, wrong):
            raise Wrong(sentence, hint=hint, more=more)
    if not _close(got, right):
        raise Wrong(
            f"The mean of the hospital's plain gradients was {right.round(2).tolist()}; yours is "
            f"{np.round(got, 2).tolist()}.",
            hint="from the way travelled back to the mean step, and from that to the gradient.",
            more="own - common + (sent - trained) / (num_steps * learning_rate)",
        )
    trained = sent - 0.5 * 4 * (right - own + common)
    if not _close(control(own, common, sent, trained, 4, 0.5), right):
        raise Wrong(
            "It fits three steps of 0.1, and no others.",
            hint="use the arguments, not their values.",
            more="num_steps * learning_rate",
        )


@own_direction.typical
def the_other_way(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (trained - sent) / (num_steps * learning_rate)


@own_direction.typical
def still_corrected(own, common, sent, trained, num_steps, learning_rate):
    return (sent - trained) / (num_steps * learning_rate)


@own_direction.typical
def the_sum(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained) / learning_rate


@own_direction.typical
def the_way_of_a_step(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained) / num_steps


@own_direction.typical
def the_whole_way(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained)


@own_direction.typical
def common_still_there(own, common, sent, trained, num_steps, learning_rate):
    return own + (sent - trained) / (num_steps * learning_rate)


@own_direction.typical
def signs_swapped(own, common, sent, trained, num_steps, learning_rate):
    return common - own + (sent - trained) / (num_steps * learning_rate)


@own_direction.typical
def three_tenths(own, common, sent, trained, num_steps, learning_rate):
    return own - common + (sent - trained) / 0.3


KINDS_OF_ARRAY = ("gamma", "beta", "moving_mean", "moving_variance")
NAMES = (
    "conv/kernel", "conv/bias", *(f"batchnorm/{kind}" for kind in KINDS_OF_ARRAY), "dense/kernel",
    "dense/bias",
)  # fmt: skip


@exercise("12.4", "what stays at home")
def at_home(places):
    got = places(list(NAMES))
    try:
        got = sorted(int(place) for place in got)
    except (TypeError, ValueError):
        raise Wrong(
            "Positions in the list are asked for, as whole numbers.",
            hint="`enumerate(names)` gives each position with its name.",
            more="[k for k, name in enumerate(names) if ...]",
        ) from None
    right = [2, 3, 4, 5]
    if got == right[2:]:
        raise Wrong(
            "Only the statistics stay; that is SiloBN. In FedBN the whole layer stays.",
            hint="which other two arrays does a batch-norm layer have?",
            more="gamma and beta, too.",
        )
    if got == right[:2]:
        raise Wrong(
            "Scale and shift stay, and the statistics, where scanners differ most, are averaged.",
            hint="which other two arrays does a batch-norm layer have?",
            more="moving_mean and moving_variance, too.",
        )
    if got == [k for k in range(len(NAMES)) if k not in right]:
        raise Wrong(
            "Those are the arrays that travel.",
            hint="the others, please.",
            more="those with batchnorm in their name.",
        )
    if got == list(range(len(NAMES))):
        raise Wrong(
            "If all stays at home, nobody learns from anybody.",
            hint="which layers see the scanner most?",
            more="only those with batchnorm in their name.",
        )
    if got != right:
        raise Wrong(
            f"Of the {len(NAMES)} arrays {len(right)} are a batch norm's; yours are {got}.",
            hint="the name of the layer stands before the slash.",
            more="'batchnorm' in name",
        )
    turned = places([*NAMES[2:6], *NAMES[:2], *NAMES[6:]])
    if sorted(int(place) for place in turned) != [0, 1, 2, 3]:
        raise Wrong(
            "With the layers in another order it is wrong.",
            hint="look at the names, not at fixed positions.",
            more="[k for k, name in enumerate(names) if ...]",
        )
    longer = places([*NAMES, *NAMES])
    if sorted(int(place) for place in longer) != [2, 3, 4, 5, 10, 11, 12, 13]:
        raise Wrong(
            "With a second batch norm in the model one of the two is forgotten.",
            hint="`names.index` finds only the first.",
            more="go through all names with enumerate.",
        )


at_home.typical_value("statistics_only", lambda names: _where(names, "moving"))
at_home.typical_value(
    "affine_only", lambda names: [*_where(names, "gamma"), *_where(names, "beta")]
)
at_home.typical_value(
    "what_travels", lambda names: [k for k in range(len(names)) if "norm" not in names[k]]
)
at_home.typical_value("everything", lambda names: list(range(len(names))))
at_home.typical_value("names_not_places", lambda names: [n for n in names if "norm" in n])
at_home.typical_value("fixed_places", lambda names: [2, 3, 4, 5])
at_home.typical_value("mean_only", lambda names: _where(names, "moving_mean"))
at_home.typical_value(
    "the_first_of_each", lambda names: [names.index(f"batchnorm/{kind}") for kind in KINDS_OF_ARRAY]
)


def _where(names: list[str], part: str) -> list[int]:
    return [k for k, name in enumerate(names) if part in name]


@exercise("12.3", "an interval from a few seeds")
def few_seeds(my_interval):
    values = np.array([0.01, 0.03, 0.08])
    got = my_interval(values)
    try:
        low, high = map(float, got)
    except (TypeError, ValueError):
        raise Wrong(
            "Two numbers are asked for, the lower and the upper end.",
            hint="return low, high",
            more="return mean - half, mean + half",
        ) from None
    mean, low_right, high_right = mean_interval(values)
    root = np.sqrt(len(values))
    if np.isclose(low, low_right) and np.isclose(high, high_right):
        five = np.array([0.01, 0.03, 0.08, -0.02, 0.05])
        if not np.allclose(my_interval(five), mean_interval(five)[1:]):
            raise Wrong(
                "With three seeds it is right, with five it is not.",
                hint="the fewer the seeds, the larger t.",
                more="T_95[len(differences)]",
            )
        return
    half = (high - low) / 2
    if not np.isclose((high + low) / 2, mean):
        raise Wrong(
            f"An interval for the mean lies around the mean, {mean:.3f}; the middle of yours is "
            f"{(high + low) / 2:.3f}.",
            hint="the mean, and the same half on either side of it.",
            more="return mean - half, mean + half",
        )
    for factor, sentence, hint, more in (
        (1.96 * values.std(ddof=1) / root, "1.96 is for many seeds; with three the spread itself "
         "is hardly known.", "look the factor up in T_95.", "T_95[len(differences)] is 4.30."),
        (1.96 * values.std() / root, "1.96 is for many seeds; with three the spread itself is "
         "hardly known.", "look the factor up in T_95, and use ddof=1.",
         "T_95[len(differences)] is 4.30."),
        (T_95[3] * values.std() / root, "NumPy's std divides by n; for a few seeds that is too "
         "small.", "std has an argument ddof.", "differences.std(ddof=1)"),
        (T_95[3] * values.std(ddof=1), "That is where a single seed would lie, not their mean.",
         "a mean of n values varies less than one of them.", "divide by the square root of n."),
        (T_95[3] * values.std(ddof=1) / len(values), "Divided by n; that is too much.",
         "the spread of a mean falls with the square root of n.", "np.sqrt(len(differences))"),
        (values.std(ddof=1) / root, "One standard error covers the truth far less often than 95 "
         "times in a hundred.", "look the factor up in T_95.", "T_95[len(differences)] is 4.30."),
    ):  # fmt: skip
        if np.isclose(half, factor):
            raise Wrong(sentence, hint=hint, more=more)
    raise Wrong(
        f"Of {values.tolist()} it is {low_right:.3f} to {high_right:.3f}; yours is {low:.3f} to "
        f"{high:.3f}.",
        hint="mean plus and minus t * s / sqrt(n).",
        more="half = T_95[n] * differences.std(ddof=1) / np.sqrt(n)",
    )


def _around(values, half) -> tuple[float, float]:
    return values.mean() - half, values.mean() + half


few_seeds.typical_value("as_for_many", lambda v: _around(v, 1.96 * v.std(ddof=1) / len(v) ** 0.5))
few_seeds.typical_value("as_for_many_and_n", lambda v: _around(v, 1.96 * v.std() / len(v) ** 0.5))
few_seeds.typical_value("divided_by_n", lambda v: _around(v, 4.30 * v.std() / len(v) ** 0.5))
few_seeds.typical_value("of_one_seed", lambda v: _around(v, 4.30 * v.std(ddof=1)))
few_seeds.typical_value("no_root", lambda v: _around(v, 4.30 * v.std(ddof=1) / len(v)))
few_seeds.typical_value("one_error", lambda v: _around(v, v.std(ddof=1) / len(v) ** 0.5))
few_seeds.typical_value("always_430", lambda v: _around(v, 4.30 * v.std(ddof=1) / len(v) ** 0.5))
few_seeds.typical_value("smallest_and_largest", lambda v: (v.min(), v.max()))
few_seeds.typical_value("half_only", lambda v: 4.30 * v.std(ddof=1) / len(v) ** 0.5)
