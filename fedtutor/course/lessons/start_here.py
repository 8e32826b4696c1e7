"""What notebook 00 checks, and its figure: the story of the course."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, other_case
from fedtutor.experiment import Outcome
from fedtutor.figures.charts import legend_above
from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture, show
from fedtutor.figures.results import draw_aucs, draw_counts
from fedtutor.images import MedicalImages

WAYS = (
    ("one hospital alone\n(mean)", "local_mean", ORANGE, "D"),
    ("federated", "federated", BLUE, "o"),
    ("pooled\n(not allowed)", "pooled", GREY, "s"),
)


def story(outcome: Outcome, images: MedicalImages | None = None) -> Picture:
    """Draw four images, who has what, and three ways to train, in one figure.

    The four are of ``images``, such as the same set with more pixels, or else those trained on.
    """
    cohort, summary = outcome.cohort, outcome.summary
    images = cohort.train if images is None else images
    figure = Figure(figsize=(8.6, 6.6))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.55)).flat
    shown = _four(images)
    for axes, index in zip(top.subplots(1, 4), shown, strict=False):
        title = images.strata_names[images.strata[index]]
        if "hospital" in images.table:
            title += f"\n{images.table['hospital'].iloc[index]}"
        show(axes, images.images[index], title)
    top.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.82, wspace=0.08)
    left, right = bottom.subplots(1, 2, width_ratios=(1, 1.05))
    names = [textwrap.fill(name, 16) for name in cohort.partition.names]
    counts = cohort.partition.strata_counts(cohort.train)
    draw_counts(left, names, counts, cohort.train.strata_names)
    left.tick_params(axis="y", labelsize=8)
    legend_above(left, 2, middle=0.35, fontsize=8)
    draw_aucs(right, summary, WAYS, decimals=2)
    right.set_xlabel("AUC on the test patients\n(line: 95 % interval)")
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
    """Choose images of each class in turn, of different hospitals if possible."""
    hospitals = data.table.get("hospital")
    where = np.zeros(len(data)) if hospitals is None else hospitals.factorize()[0]
    chosen: list[int] = []
    for turn in range(4):
        wanted = np.flatnonzero(data.strata == turn % max(1, len(data.class_names)))
        left = [i for i in wanted if i not in chosen]
        new = [i for i in left if where[i] not in where[chosen]]
        chosen += [int(i) for i in (new or left)[:1]]
    return chosen


@exercise("""00.1, how many images travel
    More: look at the last column of the table above.""")
def images_that_travel(answer: object) -> None:
    got = one_number(answer)
    if got == 5:
        raise Wrong("""Five is the number of hospitals; each sends something, but not an image.
            Hint: what does a hospital send after it has trained: images, or what it has learned?
            More: weights travel, and nothing else but a few counts. How many images, then?""")
    if got != 0:
        raise Wrong(f"""You let {got:,} images leave their hospital; that would be pooling.
            Hint: look at the row `federated` of the table, last column.
            More: in federated learning the model travels, and the images stay. All of them.""")


@exercise("""00.2, the share of the gap that federation closes
    More: (federated - alone) / (pooled - alone)""")
def share_of_the_gap(share: Answer) -> None:
    got = one_number(share(0.60, 0.90, 1.00))
    if np.isclose(got, 0.30):
        raise Wrong("""That is the gain itself; asked for is its share of the possible gain.
            Hint: how much could have been gained at most?""")
    if np.isclose(got, 0.90):
        raise Wrong("""That compares federated with pooled and forgets one hospital alone.
            Hint: the gap begins at `alone`, not at zero.""")
    if np.isclose(got, 0.25):
        raise Wrong("""That is the share of the gap that is still open.
            Hint: it should be 1 when federated is as good as pooled.""")
    if np.isclose(got, 75):
        raise Wrong("""Right, but in per cent; asked for is a share.
            Hint: 1 stands for the whole gap.""")
    if not np.isclose(got, 0.75):
        raise Wrong(f"""From 0.60 to 1.00, 0.90 closes 0.75 of the gap; yours says {got:.3g}.
            Hint: draw a line from `alone` to `pooled`; how far along it is `federated`?""")
    other_case(np.isclose(share(0.50, 0.60, 0.90), 0.25))
    if not np.isclose(share(0.80, 0.75, 0.90), -0.5):
        raise Wrong("""Here federation is worse than a hospital alone, and your share hides that.
            Hint: a loss is a negative share; let it be negative.
            More: leave out max, min, abs and clip.""")
