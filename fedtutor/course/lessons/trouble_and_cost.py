"""What notebook 11 needs: two figures, and its exercises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, other_case
from fedtutor.figures.charts import draw_rows, legend_above
from fedtutor.figures.picture import BLUE, GREY, RED, Picture, tidy


def krum_scores(updates: np.ndarray, liars: int) -> np.ndarray:
    """Score updates, float (hospitals, numbers), for Krum (Blanchard et al. 2017, section 4).

    The score of each is the sum of its squared distances to its ``n - liars - 2`` nearest others.
    """
    size = (updates**2).sum(axis=1)
    squared = size[:, None] + size - 2 * updates @ updates.T
    np.fill_diagonal(squared, np.inf)  # nobody is one's own neighbour
    return np.sort(squared, axis=1)[:, : len(updates) - liars - 2].sum(axis=1)


def send_largest(update: np.ndarray, memory: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` largest numbers of update and memory, by size, and what is left of both.

    (Stich et al. 2018, algorithm 1.)
    """
    wanted = update + memory
    places = np.argpartition(np.abs(wanted), len(wanted) - k)[-k:]
    sent = np.zeros_like(wanted)
    sent[places] = wanted[places]
    return sent, wanted - sent


def table_of_aucs(
    table: np.ndarray, rows: Sequence[str], columns: Sequence[str], promised: np.ndarray
) -> Picture:
    """Draw AUCs, float (rows, columns), darker where higher, framed where a theorem promises one.

    ``promised`` is bool (rows, columns). The frame goes around all the promised cells together.
    """
    figure = Figure(figsize=(2.2 + 0.95 * len(columns), 1.3 + 0.42 * len(rows)))
    axes = figure.add_subplot()
    axes.imshow(table, cmap="Blues", vmin=0.3, vmax=1.1, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        colour = "white" if value > 0.75 else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour)
    around = np.pad(promised, 1)
    edges = [
        *([(j, i), (j, i + 1)] for i, j in np.argwhere(np.diff(around, axis=1)[1:-1])),
        *([(j, i), (j + 1, i)] for i, j in np.argwhere(np.diff(around, axis=0)[:, 1:-1])),
    ]
    axes.add_collection(LineCollection(list(np.array(edges) - 0.5), colors=RED, linewidths=3))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlim(-0.55, len(columns) - 0.45)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_title("AUC (framed: the number of liars that a theorem allows)", fontsize=10)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    heads = [column.replace("\n", " ") for column in columns]
    said = [
        f"{row}: " + ", ".join(f"{value:.1f}{'*' * bool(kept)}" for value, kept in pairs)
        for row, pairs in zip(rows, map(zip, table, promised), strict=True)
    ]
    alt = f"AUC for {', '.join(heads)} (* where a theorem allows so many). {'; '.join(said)}."
    return Picture(figure, alt, 0.1)


def game(
    seen: np.ndarray,
    letters: Sequence[str],
    rejected: np.ndarray,
    scores: Mapping[str, Sequence[float]],
    measures: Sequence[str],
    roles: Sequence[str] | None,
) -> Picture:
    """Draw the game: left what the server sees of each update, right what the model has become.

    Parameters
    ----------
    seen : float (hospitals, 2), each update's length, and its cosine with their median.
    letters : one for each hospital.
    rejected : bool (hospitals,), who is sent home.
    scores : from the name of a model to its value of each of the ``measures``.
    roles : what each hospital is, or None while that is hidden.
    """
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for k, (x, y) in enumerate(seen):
        box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": BLUE}
        if rejected[k]:
            box |= {"edgecolor": GREY, "linestyle": ":"}
            left.plot([x], [y], "x", color=RED, markersize=22, zorder=4)
        left.text(x, y, letters[k], bbox=box, ha="center", va="center", zorder=3, fontsize=9)
        if roles and roles[k] != "usual":
            left.annotate(
                roles[k], (x, y), (0, 13), textcoords="offset points", ha="center", fontsize=9
            )
    left.set_xlim(-0.08 * seen[:, 0].max(), 1.12 * seen[:, 0].max())
    left.set_ylim(seen[:, 1].min() - 0.15, seen[:, 1].max() + 0.25)
    left.set_xlabel("length of the update")
    left.set_ylabel("cosine with the median update")
    tidy(left, "both")
    draw_rows(right, measures, scores)
    right.set_xlim(-0.05, 1.05)
    legend_above(right, 1)
    figure.subplots_adjust(wspace=0.5)
    home = ", ".join(letter for letter, out in zip(letters, rejected, strict=True) if out)
    said = "; ".join(
        f"{name}: " + ", ".join(f"{m} {v:.1f}" for m, v in zip(measures, values, strict=True))
        for name, values in scores.items()
    )
    who = ", ".join(f"{a} {role}" for a, role in zip(letters, roles or (), strict=False))
    alt = f"Sent home: {home or 'nobody'}. {said}." + (f" Who is who: {who}." if roles else "")
    return Picture(figure, alt, 0.1)


# Six hospitals, two numbers each: four near each other, one to the side, one far away.
SIX = np.array([[1.0, 2.0], [2.0, 0.0], [0.0, 1.0], [2.0, 3.0], [6.0, 1.0], [40.0, -30.0]])


def _by(updates: np.ndarray, first: int, last: int, power: float = 1.0) -> np.ndarray:
    """Sum each row's sorted squared distances, with oneself in front, from first to last."""
    squared = ((updates[:, None] - updates) ** 2).sum(axis=2) ** power
    return np.sort(squared, axis=1)[:, first:last].sum(axis=1)


@exercise(
    """11.1, the scores of Krum
    More: squared = ((updates[:, None] - updates) ** 2).sum(axis=2), sort each row, leave out its
    first number, the distance to itself, and add up the next len(updates) - liars - 2.""",
    reference=krum_scores,
)
def scores(answer: Answer) -> None:
    updates = SIX.copy()
    hint = "one score a hospital: sum over the neighbours, so that one axis is left."
    got = of_shape(answer(updates, 1), (6,), hint)
    if (updates != SIX).any():
        raise Wrong("""Your function changes the updates it was given.
            Hint: np.sort makes a new array, and .sort() works in the old one.""")
    if np.allclose(got, _by(SIX, 0, 3)):
        raise Wrong("""You count a hospital as its own nearest neighbour, at the distance 0.
            Hint: leave out the first of the sorted distances, and take as many as before.""")
    if np.allclose(got, _by(SIX, 1, 4, 0.5)):
        raise Wrong("""You add up the distances; Krum adds up their squares.
            Hint: leave out the square root, or np.linalg.norm.""")
    if np.allclose(got, _by(SIX, 3, 6)):
        raise Wrong("""You take the farthest; then one liar far away spoils every score.
            Hint: np.sort sorts from small to large.""")
    if np.allclose(got, _by(SIX, 1, 6)):
        raise Wrong("""You take all others. The liar's distance is in every score then.
            Hint: of n hospitals take the n - liars - 2 nearest others.""")
    if any(np.allclose(got, _by(SIX, 1, last)) for last in (3, 5)):
        raise Wrong("""You take one neighbour too many or too few.
            Hint: with six hospitals and one liar there are 6 - 1 - 2 = 3 of them.""")
    if np.allclose(got, ((SIX - SIX.mean(axis=0)) ** 2).sum(axis=1)):
        raise Wrong("""That is the distance to the mean, which the liar has pulled away.
            Hint: measure from each hospital to each other one.""")
    if not np.allclose(got, _by(SIX, 1, 4)):
        raise Wrong(f"""The first hospital's three nearest are at 5, 2 and 2: its score is 9, not
            {got[0]:.3g}.
            Hint: the squared distance is the sum of the squares over the numbers of the model.""")
    updates = np.random.default_rng(91).normal(size=(9, 4))
    for liars in (0, 2, 3):
        other_case(np.allclose(answer(updates.copy(), liars), _by(updates, 1, 8 - liars)))


UPDATE = np.array([0.9, -3.0, 0.1, 2.0, -0.4, 0.3])
MEMORY = np.array([1.5, 0.2, 0.0, -1.8, -0.3, 0.4])


@exercise(
    """11.2, the largest numbers, with a memory
    More: wanted = update + memory; places = np.argsort(np.abs(wanted))[-k:]; sent[places] =
    wanted[places]; memory = wanted - sent""",
    reference=send_largest,
)
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
