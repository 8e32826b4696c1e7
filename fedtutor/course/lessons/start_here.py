"""What notebook 00 checks, and its figure: the story of the course."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fedtutor.course.exercises import Wrong, exercise
from fedtutor.experiment import Outcome
from fedtutor.images import MedicalImages
from fedtutor.report.figures import BLUE, CLASS_COLOURS, GREY, HATCHES, ORANGE, Picture

WAYS = (
    ("one hospital alone\n(mean)", "local_mean", ORANGE, "D"),
    ("federated", "fedavg", BLUE, "o"),
    ("pooled\n(not allowed)", "pooled", GREY, "s"),
)


def story(outcome: Outcome, images: MedicalImages | None = None) -> Picture:
    """Four images, who has what, and three ways to train, in one figure.

    The four are of ``images``, such as the same set with more pixels, or else those trained on.
    """
    cohort, summary = outcome.cohort, outcome.summary
    images = cohort.train if images is None else images
    figure = Figure(figsize=(8.6, 6.6))
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.55))
    shown = _four(images)
    for axes, index in zip(top.subplots(1, 4), shown, strict=False):
        axes.imshow(images.images[index, ..., 0], cmap="gray", vmin=0, vmax=255)
        axes.set_title(_title(images, index), fontsize=9)
        axes.set_axis_off()
    top.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.82, wspace=0.08)
    left, right = bottom.subplots(1, 2, width_ratios=(1, 1.05))
    _who_has_what(left, outcome)
    _three_ways(right, summary)
    bottom.subplots_adjust(left=0.2, right=0.98, bottom=0.14, top=0.84, wspace=0.55)
    said = [f"{label} {summary['auc'][key]:.2f}" for label, key, _, _ in WAYS]
    kind = "synthetic X-rays" if images.synthetic else "images"
    return Picture(
        figure,
        f"Above, {len(shown)} {kind}. Below left, how many images of each class each of the "
        f"{len(cohort.hospitals)} hospitals has. Below right, the AUC on patients that nobody "
        f"trained on: {'; '.join(said).replace(chr(10), ' ')}.",
        0.01,
    )


def _four(data: MedicalImages) -> list[int]:
    """An image of each class, and more until there are four, of different hospitals if possible."""
    strata = data.strata
    hospitals = data.table.get("hospital")
    where = np.zeros(len(data)) if hospitals is None else hospitals.factorize()[0]
    chosen: list[int] = []
    for turn in range(4):
        wanted = np.flatnonzero(strata == turn % max(1, len(data.class_names)))
        left = [i for i in wanted if i not in chosen]
        new = [i for i in left if where[i] not in where[chosen]]
        chosen += [int(i) for i in (new or left)[:1]]
    return chosen


def _title(data: MedicalImages, index: int) -> str:
    title = data.strata_names[data.strata[index]]
    if "hospital" in data.table:
        title += f"\n{data.table['hospital'].iloc[index]}"
    return title


def _who_has_what(axes, outcome: Outcome) -> None:
    cohort = outcome.cohort
    names = [_folded(name) for name in cohort.partition.names]
    counts = cohort.partition.strata_counts(cohort.train)
    left = np.zeros(len(names))
    for k, label in enumerate(cohort.train.strata_names):
        style = {"color": CLASS_COLOURS[k % 8], "hatch": HATCHES[(k + k // 8) % 8]}
        axes.barh(names, counts[:, k], left=left, label=label, edgecolor="white", **style)
        left += counts[:, k]
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("training images")
    axes.legend(loc="lower center", bbox_to_anchor=(0.35, 1.0), ncols=2, frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _folded(name: str) -> str:
    """A long name on two lines."""
    words = name.split()
    half = (len(words) + 1) // 2
    return "\n".join([" ".join(words[:half]), " ".join(words[half:])]) if len(words) > 2 else name


def _three_ways(axes, summary: dict) -> None:
    for y, (_, key, colour, marker) in enumerate(WAYS):
        low, high = summary["auc_interval"][key]
        value = summary["auc"][key]
        axes.plot([value if b is None else b for b in (low, high)], [y, y], color=colour, lw=3)
        axes.plot(value, y, marker, color=colour, markersize=10)
        axes.annotate(f"{value:.2f}", (value, y), (0, 10), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(WAYS)), [label for label, *_ in WAYS], fontsize=9)
    axes.set_ylim(len(WAYS) - 0.5, -0.5)
    axes.set_xlabel("AUC on the test patients\n(line: 95 % interval)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


@exercise("00.1", "how many images travel")
def images_that_travel(answer):
    got = answer() if callable(answer) else answer
    if isinstance(got, bool) or not isinstance(got, (int, float, np.number)):
        raise Wrong(f"""A number of images is asked for; yours is a {type(got).__name__}.
            Hint: write a plain number, such as `my_answer = 12`.
            More: the number is in the last column of the table above.""")
    if got < 0:
        raise Wrong("""There cannot be fewer than no images.
            Hint: count images that leave the hospital they belong to.
            More: what is the smallest number of images there can be?""")
    if got == 5:
        raise Wrong("""Five is the number of hospitals; each sends something, but not an image.
            Hint: what does a hospital send after it has trained: images, or what it has learned?
            More: weights travel, and nothing else but a few counts. How many images, then?""")
    if got != 0:
        raise Wrong(f"""You let {got:,} images leave their hospital; that would be pooling.
            Hint: look at the row `federated` of the table, last column.
            More: in federated learning the model travels, and the images stay. All of them.""")


@exercise("00.2", "the share of the gap that federation closes")
def gap_closed(share):
    got = share(0.60, 0.90, 1.00)
    if not isinstance(got, (int, float, np.number)):
        raise Wrong(f"""One number is asked for; yours is a {type(got).__name__}.
            Hint: return a fraction of two differences.
            More: return (federated - alone) / (...)""")
    got = float(got)
    if np.isclose(got, 0.30):
        raise Wrong("""That is the gain itself; the question is what share of the possible gain it
            is.
            Hint: how much could have been gained at most?
            More: divide by pooled - alone.""")
    if np.isclose(got, 0.90) or np.isclose(got, 0.90 - 0.5):
        raise Wrong("""That compares federated with pooled and forgets where one hospital alone
            stands.
            Hint: the gap begins at `alone`, not at zero.
            More: subtract `alone` above and below the line.""")
    if np.isclose(got, 0.25):
        raise Wrong("""That is the share of the gap that is still open.
            Hint: it should be 1 when federated is as good as pooled.
            More: above the line goes federated - alone.""")
    if np.isclose(got, 75):
        raise Wrong("""Right, but in per cent; asked for is a share.
            Hint: 1 stands for the whole gap.
            More: leave out the factor of 100.""")
    if not np.isclose(got, 0.75):
        raise Wrong(f"""From 0.60 alone to 1.00 pooled, 0.90 closes 0.75 of the gap; yours says
            {got:.3g}.
            Hint: draw a line from `alone` to `pooled`; how far along it is `federated`?
            More: (federated - alone) / (pooled - alone)""")
    if not np.isclose(float(share(0.50, 0.60, 0.90)), 0.25):
        raise Wrong("""It fits one set of numbers, and no others.
            Hint: use the three arguments, not their values.
            More: (federated - alone) / (pooled - alone)""")
    if not np.isclose(float(share(0.80, 0.75, 0.90)), -0.5):
        raise Wrong("""Here federation is worse than a hospital alone, and your share hides that.
            Hint: a loss is a negative share; let it be negative.
            More: leave out max, min, abs and clip.""")
