"""What notebook 09 needs: a rare disease, three figures, and the checks of its exercises."""

from __future__ import annotations

from fedtutor import federation  # first, as it tells Flower to be quiet

# isort: split
from collections.abc import Sequence

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.aggregation import update_norm
from fedtutor.course.exercises import Wrong, exercise
from fedtutor.errors import DataError
from fedtutor.federation.records import to_weights
from fedtutor.images import MedicalImages, patients_of
from fedtutor.model import Weights
from fedtutor.partition import partition
from fedtutor.report.figures import BLUE, GREY, RED, Picture

__all__ = [
    "copies",
    "Onlooker",
    "federation",
    "game",
    "grid_of_auc",
    "rare_disease",
    "side_by_side",
]


def rare_disease(
    data: MedicalImages, rare: int, num_hospitals: int, *, most: int, seed: int = 0
) -> list[MedicalImages]:
    """Hospitals alike but for one: the patients with class ``rare`` all go to the first.

    Parameters
    ----------
    most : images of those patients that are kept; the others are left out of the study.
    """
    patients = patients_of(data)
    ill = np.isin(patients, patients[data.labels == rare])
    if not ill.any() or ill.all():
        raise DataError(f"class {rare} must be that of some patients, and not of all.")
    theirs, others = np.flatnonzero(ill)[:most], np.flatnonzero(~ill)
    alike = partition(data.take(others), "iid", num_hospitals, seed=seed)
    positions = [others[own] for own in alike.indices]
    positions[0] = np.concatenate([positions[0], theirs])
    return [data.take(np.sort(own)) for own in positions]


def copies(data: MedicalImages, times: int) -> MedicalImages:
    """Every image so many times."""
    return data.take(np.tile(np.arange(len(data)), times))


class Onlooker:
    """A mod that looks at what leaves each hospital in the first round.

    Make it the outermost one, so that it sees what the server sees.
    """

    def __init__(self) -> None:
        self.updates: dict[int, Weights] = {}

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if int(message.content["config"]["server-round"]) == 1:
            sent = to_weights(message.content["arrays"])
            trained = to_weights(reply.content["arrays"])
            hospital = int(context.node_config["partition-id"])
            self.updates[hospital] = [w_k - w for w_k, w in zip(trained, sent, strict=True)]
        return reply

    def seen(self) -> np.ndarray:
        """What the server can tell of each update: float (hospitals, 2).

        Its length, and its cosine with the updates' median, number by number.
        """
        updates = [self.updates[k] for k in sorted(self.updates)]
        middle = [np.median(np.stack(arrays), axis=0) for arrays in zip(*updates, strict=True)]
        rows = []
        for update in updates:
            dot = sum(float((u * m).sum()) for u, m in zip(update, middle, strict=True))
            lengths = update_norm(update), update_norm(middle)
            rows.append((lengths[0], dot / max(lengths[0] * lengths[1], 1e-12)))
        return np.array(rows)


def grid_of_auc(
    table: np.ndarray, rows: Sequence[str], columns: Sequence[object], *, x: str, what: str
) -> Picture:
    """A table of numbers from 0 to 1, darker where higher: float (rows, columns)."""
    figure = Figure(figsize=(2.6 + 0.95 * len(columns), 1.0 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    axes.imshow(table, cmap="Blues", vmin=0.3, vmax=1.1, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        colour = "white" if value > 0.75 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), [str(column) for column in columns])
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel(x)
    axes.set_title(what, fontsize=10)
    axes.tick_params(length=0)
    said = [
        f"{row}: " + ", ".join(f"{value:.1f}" for value in values)
        for row, values in zip(rows, table, strict=True)
    ]
    return Picture(figure, f"{what} for {x} {', '.join(map(str, columns))}. {'; '.join(said)}.",
                   0.1)  # fmt: skip


def game(
    scores: dict[str, float], seen: np.ndarray, attackers: Sequence[int], success: float | None
) -> Picture:
    """The sabotage game: on the left how good the model is, on the right what the server sees.

    Parameters
    ----------
    scores : AUC by name, from top to bottom.
    seen : see :meth:`Onlooker.seen`.
    attackers : the numbers of those who lie.
    success : of the backdoor, for the title; None for the other attacks.
    """
    figure = Figure(figsize=(8.6, 2.7))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    _scores(left, scores)
    if success is not None:
        left.set_title(f"share of patches obeyed: {success:.2f}", fontsize=10)
    liars = np.isin(np.arange(len(seen)), list(attackers))
    for who, marker, colour, label in ((~liars, "o", BLUE, "honest"), (liars, "X", RED, "liar")):
        if who.any():
            right.scatter(*seen[who].T, s=70, marker=marker, color=colour, label=label, alpha=0.8)
    right.set_xscale("symlog", linthresh=0.1)
    right.set_xlim(-0.02, 200)
    right.set_ylim(-1.15, 1.15)
    right.set_xlabel("length of the update (round 1)")
    right.set_ylabel("cosine with the median")
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    _tidy(right)
    figure.subplots_adjust(wspace=0.35)
    said = ", ".join(f"{name} {value:.1f}" for name, value in scores.items())
    return Picture(
        figure,
        f"AUC: {said}. Beside it the length and direction of {len(seen)} updates, of which "
        f"{int(liars.sum())} are the liars'.",
        0.1,
    )


def _scores(axes: Axes, scores: dict[str, float]) -> None:
    marks = ((GREY, "s"), (RED, "X"), (BLUE, "o"))
    for row, ((name, value), (colour, marker)) in enumerate(
        zip(scores.items(), marks, strict=False)
    ):
        axes.plot([value], [row], marker, color=colour, markersize=10, label=name)
        side, ha = (-0.05, "right") if value > 0.6 else (0.05, "left")
        axes.text(value + side, row, f"{value:.2f}", ha=ha, va="center")
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("AUC on the test set (dotted: guessing)")
    _tidy(axes)


def side_by_side(left: np.ndarray, right: np.ndarray, one: str, other: str) -> Picture:
    """Pairs of images, uint8 (n, h, w, 1): the first of each kind, then the second, ..."""
    figure = Figure(figsize=(1.9 * 2 * len(left), 2.2))
    for column, pair in enumerate(zip(left, right, strict=True)):
        for place, (image, title) in enumerate(zip(pair, (one, other), strict=True)):
            axes = figure.add_subplot(1, 2 * len(left), 2 * column + place + 1)
            axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
            axes.set_title(title, fontsize=10)
            axes.set_axis_off()
    changed = float((left != right).any(axis=0).mean())
    return Picture(
        figure,
        f"{len(left)} images, each {one} and {other}; {100 * changed:.0f} % of the pixels differ.",
    )


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


# Eight hospitals, one number each; two lie, one upwards and one downwards.
EIGHT = np.array([1.0, 2.0, 900.0, 3.0, -700.0, 4.0, 5.0, 6.0])


@exercise("09.1", "a trimmed mean")
def trimmed(mean):
    got = np.asarray(mean([np.array([value, value]) for value in EIGHT], 1), dtype=float)
    if got.shape != (2,):
        raise Wrong(
            f"The result must be an array like a hospital's, of shape (2,); yours has {got.shape}.",
            hint="sort and average over the hospitals only, the first axis of np.stack(updates).",
            more="np.sort(np.stack(updates), axis=0)",
        )
    _check_ends(got[0])
    rng = np.random.default_rng(91)
    updates = list(rng.normal(size=(7, 3, 2)))
    before = [update.copy() for update in updates]
    got = np.asarray(mean(updates, 2), dtype=float)
    if any((a != b).any() for a, b in zip(updates, before, strict=True)):
        raise Wrong(
            "Your function changes the hospitals' updates themselves.",
            hint="`.sort()` sorts in place.",
            more="np.sort(np.stack(updates), axis=0) makes a new array.",
        )
    right = np.sort(np.stack(updates), axis=0)[2:-2].mean(axis=0)
    ends = np.sort(np.stack(updates), axis=0)[[2, -3]]
    if got.shape == right.shape and np.allclose(got, np.median(updates, axis=0)):
        raise Wrong(
            "That is the median, which looks at the middle only.",
            hint="the median is left if you cut as much as you can; use the argument `cut`.",
            more="np.sort(np.stack(updates), axis=0)[cut : len(updates) - cut].mean(axis=0)",
        )
    if got.shape == right.shape and np.allclose(got, np.clip(updates, *ends).mean(axis=0)):
        raise Wrong(
            "You pull the ends in (which is called winsorising); they still count.",
            hint="leave the smallest and the largest out altogether.",
            more="np.sort(np.stack(updates), axis=0)[cut : len(updates) - cut].mean(axis=0)",
        )
    if got.shape != right.shape or not np.allclose(got, right):
        raise Wrong(
            "With two left out at either end of seven, and several numbers a hospital, the result "
            "is another one.",
            hint="sort over the hospitals (axis 0), cut `cut` rows at both ends, average the rest.",
            more="np.sort(np.stack(updates), axis=0)[cut : len(updates) - cut].mean(axis=0)",
        )
    got = np.asarray(mean(updates, 0), dtype=float)
    if not np.allclose(got, np.mean(updates, axis=0)):
        raise Wrong(
            "With nothing left out it should be the plain mean.",
            hint="a slice [0:-0] is empty.",
            more="[cut : len(updates) - cut] works for cut = 0, too.",
        )


def _check_ends(got: float) -> None:
    """One liar at either end of :data:`EIGHT`, cut = 1: 1..6 remain, whose mean is 3.5."""
    ordered = np.sort(EIGHT)
    if np.isclose(got, 3.5):
        return
    if np.isclose(got, EIGHT.mean()):
        raise Wrong(
            "That is the plain mean; the liars are still in it.",
            hint="leave out the `cut` smallest and the `cut` largest before you average.",
            more="sort, then slice: [cut : len(updates) - cut].",
        )
    if np.isclose(got, ordered[:-1].mean()) or np.isclose(got, ordered[1:].mean()):
        raise Wrong(
            "You cut at one end only, and one liar is left.",
            hint="who knows whether a liar pushes up or down?",
            more="[cut : len(updates) - cut] cuts at both ends.",
        )
    if np.isclose(got, EIGHT[np.argsort(np.abs(EIGHT))[1:-1]].mean()):
        raise Wrong(
            "You leave out whole hospitals by the length of their updates, and the liar who pushes "
            "down is still there.",
            hint="each number of the model is sorted and trimmed by itself, with its sign.",
            more="np.sort(np.stack(updates), axis=0)",
        )
    raise Wrong(
        f"Of 1, 2, 900, 3, -700, 4, 5 and 6, with one left out at either end, 1 to 6 remain and "
        f"the mean is 3.5; yours is {got:.3g}.",
        hint="sort first: who is at the end is not who comes last in the list.",
        more="np.sort(np.stack(updates), axis=0)[cut:len(updates) - cut].mean(axis=0)",
    )


@trimmed.typical
def plain_mean(updates, cut):
    return np.mean(updates, axis=0)


@trimmed.typical
def top_only(updates, cut):
    return np.sort(np.stack(updates), axis=0)[: len(updates) - cut].mean(axis=0)


@trimmed.typical
def first_and_last_in_the_list(updates, cut):
    return np.mean(updates[cut : len(updates) - cut], axis=0)


@trimmed.typical
def whole_hospitals(updates, cut):
    order = np.argsort([np.linalg.norm(update) for update in updates])
    return np.mean([updates[k] for k in order[cut : len(updates) - cut]], axis=0)


@trimmed.typical
def all_numbers_in_one_heap(updates, cut):
    return np.sort(np.ravel(updates))[cut : np.size(updates) - cut].mean()


@trimmed.typical
def always_the_median(updates, cut):
    return np.median(updates, axis=0)


@trimmed.typical
def empty_without_a_cut(updates, cut):
    return np.sort(np.stack(updates), axis=0)[cut : -cut or len(updates) - 1].mean(axis=0)


@trimmed.typical
def clipped_to_the_ends(updates, cut):
    stack = np.stack(updates)
    ordered = np.sort(stack, axis=0)
    return np.clip(stack, ordered[cut], ordered[len(updates) - 1 - cut]).mean(axis=0)


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
CALLED = np.array([2, 2, 0, 1, 2, 1, 0, 2, 2, 1])


@exercise("09.2", "how often the patch is obeyed")
def obeyed(success):
    probabilities = np.full((10, 3), 0.2)
    probabilities[np.arange(10), CALLED] = 0.6
    got = success(probabilities.copy(), LABELS.copy(), 2)
    if np.ndim(got) != 0:
        raise Wrong(
            "One number is asked for.",
            hint="the mean of an array of True and False is the share of True.",
            more="(...).mean()",
        )
    got = float(got)
    if np.isclose(got, 3):
        raise Wrong(
            "You count images; a share is asked for.",
            hint="of how many could have been turned?",
            more="take the mean in place of the sum.",
        )
    if np.isclose(got, 5 / 10):
        raise Wrong(
            "You count the images that truly are of the target class, too. Calling them so is "
            "right, and happens without any attack.",
            hint="leave the images with labels == target aside.",
            more="others = labels != target; look at probabilities[others] only.",
        )
    if np.isclose(got, 2 / 3):
        raise Wrong(
            "That is the recall of the target class itself.",
            hint="the attack is about images of the *other* classes.",
            more="others = labels != target",
        )
    if np.isclose(got, (CALLED != LABELS)[LABELS != 2].mean()):
        raise Wrong(
            "You count every mistake. An attacker wants one certain mistake.",
            hint="how many are called `target`?",
            more="probabilities[others].argmax(axis=1) == target",
        )
    if np.isclose(got, 3 / 10):
        raise Wrong(
            "You count the right images, but divide by all.",
            hint="only those of other classes could be turned.",
            more="divide by the number of images with labels != target.",
        )
    if not np.isclose(got, 3 / 7):
        raise Wrong(
            f"Of seven images of other classes three are called 2, so it is {3 / 7:.2f}; "
            f"you have {got:.2f}.",
            hint="first choose the images, then ask what they are called.",
            more="(probabilities[labels != target].argmax(axis=1) == target).mean()",
        )
    if not np.isclose(float(success(probabilities.copy(), LABELS.copy(), 1)), 1 / 7 * 2):
        raise Wrong(
            "It fits target 2 and no other.",
            hint="use the argument `target`.",
            more="labels != target, and == target.",
        )


@obeyed.typical
def with_the_target_itself(probabilities, labels, target):
    return (probabilities.argmax(axis=1) == target).mean()


@obeyed.typical
def how_many(probabilities, labels, target):
    return (probabilities[labels != target].argmax(axis=1) == target).sum()


@obeyed.typical
def any_mistake(probabilities, labels, target):
    others = labels != target
    return (probabilities[others].argmax(axis=1) != labels[others]).mean()


@obeyed.typical
def recall_of_the_target(probabilities, labels, target):
    return (probabilities[labels == target].argmax(axis=1) == target).mean()


@obeyed.typical
def divided_by_all(probabilities, labels, target):
    return ((probabilities.argmax(axis=1) == target) & (labels != target)).mean()


@obeyed.typical
def mean_probability(probabilities, labels, target):
    return probabilities[labels != target, target].mean()


@obeyed.typical
def always_class_two(probabilities, labels, target):
    return (probabilities[labels != 2].argmax(axis=1) == 2).mean()


@obeyed.typical
def each_image(probabilities, labels, target):
    return probabilities[labels != target].argmax(axis=1) == target


UPDATE = np.array([0.9, -3.0, 0.1, 2.0, -0.4, 0.3])
MEMORY = np.array([1.5, 0.2, 0.0, -1.8, -0.3, 0.4])


@exercise("09.3", "the largest numbers, with a memory")
def largest(send):
    update, memory = UPDATE.copy(), MEMORY.copy()
    got = send(update, memory, 2)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(
            "Two arrays are asked for: what is sent, and what is remembered.",
            hint="end with `return sent, memory`.",
            more="sent has k numbers that are not 0; memory is what they leave out.",
        )
    sent, kept = (np.asarray(part, dtype=float) for part in got)
    if sent.shape != UPDATE.shape or kept.shape != UPDATE.shape:
        raise Wrong(
            f"Both arrays must be as long as the update, {len(UPDATE)}; yours are {sent.shape} "
            f"and {kept.shape}.",
            hint="send an array of zeros with the k chosen numbers in their places.",
            more="sent = np.zeros_like(update); sent[places] = wanted[places]",
        )
    if (update != UPDATE).any() or (memory != MEMORY).any():
        raise Wrong(
            "Your function changes the arrays it was given.",
            hint="`+=` and assigning to a slice write into the array itself.",
            more="wanted = update + memory makes a new one.",
        )
    wanted = UPDATE + MEMORY
    _check_sent(sent, kept, wanted)
    if not kept.any():
        raise Wrong(
            "Nothing is remembered: what was too small to be sent is lost for ever.",
            hint="what was to be said and was not goes into the memory.",
            more="memory = wanted - sent",
        )
    if not np.allclose(sent + kept, wanted):
        raise Wrong(
            "What is sent and what is remembered do not sum to update + memory, so something is "
            "lost for ever, or said twice.",
            hint="the new memory is what was to be said, minus what was sent.",
            more="memory = wanted - sent, with wanted = update + memory.",
        )
    sent, _ = send(UPDATE.copy(), MEMORY.copy(), 4)
    if np.count_nonzero(sent) != 4:
        raise Wrong(
            "With k = 4 it does not send four numbers.",
            hint="use the argument k.",
            more="places = np.argsort(np.abs(wanted))[-k:]",
        )


def _check_sent(sent: np.ndarray, kept: np.ndarray, wanted: np.ndarray) -> None:
    chosen = set(np.flatnonzero(sent).tolist())
    right = set(np.argsort(np.abs(wanted))[-2:].tolist())
    if chosen == right and np.allclose(sent[list(right)], wanted[list(right)]):
        return
    if chosen == right:
        raise Wrong(
            "The right places, but not the right numbers in them.",
            hint="send the sum of the update and the memory there.",
            more="sent[places] = wanted[places]",
        )
    if chosen == set(np.argsort(np.abs(UPDATE))[-2:].tolist()):
        if np.allclose(sent + kept, wanted):
            raise Wrong(
                "You remember, but nothing that is remembered is ever said.",
                hint="choose among update and memory together, not in the update alone.",
                more="wanted = update + memory, before anything else.",
            )
        raise Wrong(
            "You look at the update alone; what is remembered can never come to be sent.",
            hint="first add the memory, then choose the largest.",
            more="wanted = update + memory",
        )
    if chosen == set(np.argsort(wanted)[-2:].tolist()):
        raise Wrong(
            "You choose the largest numbers, and -2.8 is smaller than 0.7. But it moves the model "
            "more.",
            hint="it is the size that counts, not the sign.",
            more="np.argsort(np.abs(wanted))[-k:]",
        )
    if len(chosen) != 2:
        raise Wrong(
            f"Two numbers were to be sent; you send {len(chosen)}.",
            hint="k is how many, neither a share nor a threshold.",
            more="places = np.argsort(np.abs(wanted))[-k:]",
        )
    raise Wrong(
        "These are not the two largest numbers.",
        hint="np.argsort sorts from small to large.",
        more="places = np.argsort(np.abs(wanted))[-k:]",
    )


def _top(values: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    sent = np.zeros_like(values)
    sent[np.argsort(order)[-k:]] = values[np.argsort(order)[-k:]]
    return sent


@largest.typical
def without_the_memory(update, memory, k):
    sent = _top(update, np.abs(update), k)
    return sent, update - sent


@largest.typical
def memory_added_too_late(update, memory, k):
    sent = _top(update, np.abs(update), k)
    return sent, memory + update - sent


@largest.typical
def largest_and_not_by_size(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, wanted, k)
    return sent, wanted - sent


@largest.typical
def the_smallest(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, -np.abs(wanted), k)
    return sent, wanted - sent


@largest.typical
def the_update_s_numbers(update, memory, k):
    wanted = update + memory
    sent = np.where(_top(wanted, np.abs(wanted), k) != 0, update, 0)
    return sent, wanted - sent


@largest.typical
def memory_of_the_update_only(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, np.abs(wanted), k)
    return sent, update - sent


@largest.typical
def forgets(update, memory, k):
    wanted = update + memory
    return _top(wanted, np.abs(wanted), k), np.zeros_like(update)


@largest.typical
def written_into(update, memory, k):
    update += memory
    sent = _top(update, np.abs(update), k)
    return sent, update - sent


@largest.typical
def only_the_chosen(update, memory, k):
    wanted = update + memory
    places = np.argsort(np.abs(wanted))[-k:]
    return wanted[places], np.delete(wanted, places)


@largest.typical
def always_two(update, memory, k):
    wanted = update + memory
    sent = _top(wanted, np.abs(wanted), 2)
    return sent, wanted - sent


@largest.typical
def only_what_is_sent(update, memory, k):
    wanted = update + memory
    return _top(wanted, np.abs(wanted), k)
