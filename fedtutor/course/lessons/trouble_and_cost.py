"""What notebook 11 needs: a rare disease, three figures, and the checks of its exercises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, one_number, other_case
from fedtutor.errors import DataError
from fedtutor.federation.records import to_weights
from fedtutor.figures.charts import legend_above, name_rows
from fedtutor.figures.picture import BLUE, GREY, RED, Picture, row_of_images, tidy
from fedtutor.images import MedicalImages, patients_of
from fedtutor.partition import partition


def rare_disease(
    data: MedicalImages, rare: int, num_hospitals: int, *, most: int, seed: int = 0
) -> list[MedicalImages]:
    """Deal hospitals alike but for one: the patients with class ``rare`` all go to the first.

    Of their images ``most`` are kept; the others are left out of the study.
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
    """Repeat every image so many times."""
    return data.take(np.tile(np.arange(len(data)), times))


class Onlooker:
    """A mod that looks at what leaves each hospital in the first round.

    Make it the outermost one, so that it sees what the server sees.
    """

    def __init__(self) -> None:
        self.updates: dict[int, np.ndarray] = {}

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Pass the reply on, and keep the update of the first round."""
        reply = call_next(message, context)
        if message.content.config_records["config"]["server-round"] == 1:
            sent, trained = (
                np.concatenate([np.ravel(a) for a in to_weights(m.content.array_records["arrays"])])
                for m in (message, reply)
            )
            self.updates[int(context.node_config["partition-id"])] = trained - sent
        return reply

    def seen(self) -> np.ndarray:
        """Return what the server can tell of each update: float (hospitals, 2).

        Its length, and its cosine with the updates' median, number by number.
        """
        updates = np.stack([self.updates[k] for k in sorted(self.updates)]).astype(np.float64)
        middle = np.median(updates, axis=0)
        lengths = np.linalg.norm(updates, axis=1)
        cosines = updates @ middle / np.maximum(lengths * np.linalg.norm(middle), 1e-12)
        return np.stack([lengths, cosines], axis=1)


def grid_of_auc(
    table: np.ndarray, rows: Sequence[str], columns: Sequence[object], *, x: str, what: str
) -> Picture:
    """Draw a table of numbers from 0 to 1, float (rows, columns), darker where higher."""
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
    alt = f"{what} for {x} {', '.join(map(str, columns))}. {'; '.join(said)}."
    return Picture(figure, alt, 0.1)


def game(
    scores: dict[str, float], seen: np.ndarray, attackers: Sequence[int], success: float | None
) -> Picture:
    """Draw the sabotage game: left how good the model is, right what the server sees.

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
    legend_above(right, 2)
    tidy(right, grid="both")
    figure.subplots_adjust(wspace=0.35)
    said = ", ".join(f"{name} {value:.1f}" for name, value in scores.items())
    updates = f"{len(seen)} updates, of which {int(liars.sum())} are the liars'"
    alt = f"AUC: {said}. Beside it the length and direction of {updates}."
    return Picture(figure, alt, 0.1)


def _scores(axes: Axes, scores: dict[str, float]) -> None:
    marks = ((GREY, "s"), (RED, "X"), (BLUE, "o"))
    for row, (name, value) in enumerate(scores.items()):
        colour, marker = marks[row]
        axes.plot([value], [row], marker, color=colour, markersize=10, label=name)
        side, ha = (-0.05, "right") if value > 0.6 else (0.05, "left")
        axes.text(value + side, row, f"{value:.2f}", ha=ha, va="center")
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
    name_rows(axes, list(scores))
    axes.set_xlim(0, 1)
    axes.set_xlabel("AUC on the test set (dotted: guessing)")
    tidy(axes, grid="both")


def side_by_side(left: np.ndarray, right: np.ndarray, one: str, other: str) -> Picture:
    """Draw pairs of images, uint8 (n, h, w, 1): the first of each kind, then the second, ..."""
    images = [image for pair in zip(left, right, strict=True) for image in pair]
    changed = float((left != right).any(axis=0).mean())
    alt = f"{len(left)} images, each {one} and {other}; {100 * changed:.0f} % of the pixels differ."
    return row_of_images(images, [one, other] * len(left), alt, limits=(0, 255), width=1.9)


# Eight hospitals, one number each; two lie, one upwards and one downwards.
EIGHT = np.array([1.0, 2.0, 900.0, 3.0, -700.0, 4.0, 5.0, 6.0])


@exercise("""11.1, a trimmed mean
    More: np.sort(np.stack(updates), axis=0)[cut : len(updates) - cut].mean(axis=0)""")
def trimmed(mean: Answer) -> None:
    hint = "sort and average over the hospitals only, the first axis of np.stack(updates)."
    got = of_shape(mean([np.array([value, value]) for value in EIGHT], 1), (2,), hint)
    ordered, by_length = np.sort(EIGHT), EIGHT[np.argsort(np.abs(EIGHT))]
    if np.isclose(got[0], EIGHT.mean()):
        raise Wrong("""That is the plain mean; the liars are still in it.
            Hint: leave out the `cut` smallest and the `cut` largest before you average.""")
    if np.isclose(got[0], [ordered[:-1].mean(), ordered[1:].mean()]).any():
        raise Wrong("""You cut at one end only, and one liar is left.
            Hint: who knows whether a liar pushes up or down?""")
    if np.isclose(got[0], by_length[1:-1].mean()):
        raise Wrong("""You leave out the longest, and the liar who pushes down is still there.
            Hint: each number of the model is sorted and trimmed by itself, with its sign.""")
    if not np.isclose(got[0], 3.5):
        raise Wrong(f"""Of 1, 2, 900, 3, -700, 4, 5, 6 there remain 1 to 6: 3.5, not {got[0]:.3g}.
            Hint: sort first: who is at the end is not who comes last in the list.""")
    _check_two_of_seven(mean)


def _check_two_of_seven(mean: Answer) -> None:
    updates = np.random.default_rng(91).normal(size=(7, 3, 2))
    got = np.asarray(mean(list(updates.copy()), 2), dtype=float)
    ordered = np.sort(updates, axis=0)
    if np.allclose(got, np.median(updates, axis=0)):
        raise Wrong("""That is the median, which looks at the middle only.
            Hint: the median is left if you cut as much as you can; use the argument `cut`.""")
    if np.allclose(got, np.clip(updates, ordered[2], ordered[-3]).mean(axis=0)):
        raise Wrong("""You pull the ends in (which is called winsorising); they still count.
            Hint: leave the smallest and the largest out altogether.""")
    if not np.allclose(got, ordered[2:-2].mean(axis=0)):
        raise Wrong("""With seven hospitals and several numbers each the result is wrong.
            Hint: sort over the hospitals (axis 0), cut `cut` rows at both ends, average.""")
    if not np.allclose(mean(list(updates), 0), updates.mean(axis=0)):
        raise Wrong("""With nothing left out it should be the plain mean.
            Hint: a slice [0:-0] is empty.""")


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
CALLED = np.array([2, 2, 0, 1, 2, 1, 0, 2, 2, 1])


@exercise("""11.2, how often the patch is obeyed
    More: (probabilities[labels != target].argmax(axis=1) == target).mean()""")
def obeyed(success: Answer) -> None:
    probabilities = np.full((10, 3), 0.2)
    probabilities[np.arange(10), CALLED] = 0.6
    got = one_number(success(probabilities.copy(), LABELS.copy(), 2), "what is the share of True?")
    if np.isclose(got, 3):
        raise Wrong("""You count images; a share is asked for.
            Hint: of how many could have been turned?""")
    if np.isclose(got, 5 / 10):
        raise Wrong("""You count images that truly are of the target class; that is no success.
            Hint: leave the images with labels == target aside.""")
    if np.isclose(got, 2 / 3):
        raise Wrong("""That is the recall of the target class itself.
            Hint: the attack is about images of the *other* classes.""")
    if np.isclose(got, (CALLED != LABELS)[LABELS != 2].mean()):
        raise Wrong("""You count every mistake. An attacker wants one certain mistake.
            Hint: how many are called `target`?""")
    if np.isclose(got, 3 / 10):
        raise Wrong("""You count the right images, but divide by all.
            Hint: only those of other classes could be turned.""")
    if not np.isclose(got, 3 / 7):
        raise Wrong(f"""Three of seven others are called 2, so it is 0.43; you have {got:.2f}.
            Hint: first choose the images, then ask what they are called.""")
    other_case(np.isclose(success(probabilities, LABELS, 1), 2 / 7))


UPDATE = np.array([0.9, -3.0, 0.1, 2.0, -0.4, 0.3])
MEMORY = np.array([1.5, 0.2, 0.0, -1.8, -0.3, 0.4])


@exercise("""11.3, the largest numbers, with a memory
    More: wanted = update + memory; places = np.argsort(np.abs(wanted))[-k:]; sent[places] =
    wanted[places]; memory = wanted - sent""")
def largest(send: Answer) -> None:
    update, memory, wanted = UPDATE.copy(), MEMORY.copy(), UPDATE + MEMORY
    got = send(update, memory, 2)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong("""Two arrays are asked for: what is sent, and what is remembered.
            Hint: end with `return sent, memory`.""")
    hint = "send an array of zeros with the k chosen numbers in their places."
    sent, kept = (of_shape(part, UPDATE.shape, hint) for part in got)
    if (update != UPDATE).any() or (memory != MEMORY).any():
        raise Wrong("""Your function changes the arrays it was given.
            Hint: `+=` and assigning to a slice write into the array itself.""")
    places = np.flatnonzero(sent)
    if set(np.argsort(np.abs(UPDATE))[-2:]) == set(places):
        if np.allclose(sent + kept, wanted):
            raise Wrong("""You remember, but nothing that is remembered is ever said.
                Hint: choose among update and memory together, not in the update alone.""")
        raise Wrong("""You look at the update alone; what is remembered can never come to be sent.
            Hint: first add the memory, then choose the largest.""")
    if set(np.argsort(np.abs(wanted))[-2:]) != set(places):
        raise Wrong(f"""Of update and memory, {wanted.round(1).tolist()}, you send those at
            {places.tolist()}, and they do not move the model most.
            Hint: size counts, not the sign; and np.argsort sorts from small to large.""")
    if not np.allclose(sent[places], wanted[places]):
        raise Wrong("""The right places, but not the right numbers in them.
            Hint: send the sum of the update and the memory there.""")
    if not kept.any():
        raise Wrong("""Nothing is remembered: what was too small to be sent is lost for ever.
            Hint: what was to be said and was not goes into the memory.""")
    if not np.allclose(sent + kept, wanted):
        raise Wrong("""Sent + remembered is not update + memory: something is lost, or said twice.
            Hint: the new memory is what was to be said, minus what was sent.""")
    other_case(np.count_nonzero(send(UPDATE.copy(), MEMORY.copy(), 4)[0]) == 4)
