"""How often a 95 % interval misses the truth, beside the percentile bootstrap; and how fast it is.

Test sets are drawn whose AUC is known: normal scores, higher for the ill, half of whose variance
an image shares with the patient's other images. ``python -m benchmarks.coverage --grid`` prints the
large table of benchmarks/README.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from benchmarks.harness import Row, from_pairs, print_rows, runs, side_by_side
from fedtutor.evaluation import estimate_auc, gain_interval, interval, mean_estimate

PROMISED = 5.0
"""Per cent of all intervals that may miss."""
SCANNERS = np.array([-0.6, -0.3, 0.0, 0.3, 0.6])
"""What each of five hospitals adds to all scores."""
SHARES = np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [0.4, 0.3, 0.1, 0.1, 0.1]])
"""Of the well, and of the ill, in each of the five."""
AS_BOOTSTRAP = "the promised 5 % (percentile bootstrap: {:.1f} %)"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Setting:
    """A kind of test set.

    ``aucs`` are the true ones, (models, classes); ``patients`` of each class, where of two only the
    second one is scored. With ``gain`` the first model's AUC minus the second's is asked for,
    otherwise the models' mean. ``images`` is the most that a patient has.
    """

    aucs: np.ndarray
    patients: tuple[int, ...]
    images: int = 3
    hospitals: int = 1
    gain: bool = False

    @property
    def truth(self) -> float:
        each = self.aucs.mean(axis=1)
        return float(each[0] - each[1] if self.gain else each.mean())


def single(auc: float, ill: int, well: int, images: int = 3, hospitals: int = 1) -> Setting:
    return Setting(np.array([[auc]]), (well, ill), images, hospitals)


@dataclass(frozen=True)
class TestSet:
    """Scores (models, images, classes), truth bool (images, classes), whose image each is."""

    scores: np.ndarray
    labels: np.ndarray
    patients: np.ndarray


@cache
def lift(auc: float, hospitals: int) -> float:
    """By how much the scores of the ill must be higher."""
    normal = NormalDist()
    if hospitals == 1:
        return normal.inv_cdf(auc) * 2**0.5
    low, high = 0.0, 9.0
    for _ in range(50):
        middle = (low + high) / 2
        pairs = (middle + SCANNERS - SCANNERS[:, None]) / 2**0.5  # the ill in columns
        reached = SHARES[0] @ np.vectorize(normal.cdf)(pairs) @ SHARES[1]
        low, high = (middle, high) if reached < auc else (low, middle)
    return middle


def draw(setting: Setting, rng: np.random.Generator) -> TestSet:
    models, classes = setting.aucs.shape
    kinds = np.repeat(np.arange(len(setting.patients)), setting.patients)
    patients = np.repeat(np.arange(len(kinds)), rng.integers(1, setting.images + 1, len(kinds)))
    labels = kinds[patients][:, None] == np.arange(len(setting.patients))[-classes:]

    def noise(models: int) -> np.ndarray:
        shape = (models, len(kinds), classes)
        of_image = rng.standard_normal((models, len(patients), classes))
        return (rng.standard_normal(shape)[:, patients] + of_image) * 0.5**0.5

    scores = 0.6**0.5 * noise(1) + 0.4**0.5 * noise(models)  # what is hard for one is for others
    lifts = np.vectorize(lift)(setting.aucs, setting.hospitals)
    scores += lifts[:, None] * labels
    if setting.hospitals > 1:
        of_kind = [rng.choice(5, len(kinds), p=shares) for shares in SHARES]
        scores += SCANNERS[np.where(kinds == 1, of_kind[1], of_kind[0])][patients][:, None]
    return TestSet(scores, labels.astype(np.uint8), patients)


def ours(setting: Setting, drawn: TestSet) -> Interval:
    found = [estimate_auc(s, drawn.labels, patients=drawn.patients) for s in drawn.scores]
    return gain_interval(*found) if setting.gain else interval(mean_estimate(found))


def percentile(
    setting: Setting, drawn: TestSet, rng: np.random.Generator, samples: int = 1000
) -> Interval:
    """Draw whole patients with replacement; the middle 95 % of the AUCs."""
    count = drawn.patients[-1] + 1
    times = rng.multinomial(count, np.full(count, 1 / count), size=samples)[:, drawn.patients]
    ill = drawn.labels.astype(bool)
    classes = range(ill.shape[1])
    aucs = np.mean(
        [[weighted_aucs(s[:, k], ill[:, k], times) for s in drawn.scores] for k in classes], axis=0
    )
    asked = aucs[0] - aucs[1] if setting.gain else aucs.mean(axis=0)
    low, high = np.nanpercentile(asked, [2.5, 97.5])
    return float(low), float(high)


def weighted_aucs(scores: np.ndarray, ill: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The AUC of each resample, (samples,), of scores without ties."""
    order = np.argsort(scores)
    weights, ill = times[:, order].astype(float), ill[order]
    below = np.cumsum(weights * ~ill, axis=1)
    with np.errstate(invalid="ignore"):
        return (weights * below)[:, ill].sum(axis=1) / weights[:, ill].sum(axis=1) / below[:, -1]


def missed(setting: Setting, sets: int, seed: int, *, bootstrap: bool = False) -> float:
    """Per cent of the intervals that do not hold the truth."""
    rng = np.random.default_rng(seed)
    misses = 0
    for _ in range(sets):
        drawn = draw(setting, rng)
        low, high = percentile(setting, drawn, rng) if bootstrap else ours(setting, drawn)
        misses += not low <= setting.truth <= high
    return 100 * misses / sets


SETTINGS = {
    "AUC 0.8, 100 of 200 ill": single(0.8, 100, 100),
    "AUC 0.95, 10 of 110 ill": single(0.95, 10, 100),
    "AUC 0.9, 6 of 66 ill": single(0.9, 6, 60),
    "AUC 0.97, 20 of 220 ill, five hospitals": single(0.97, 20, 200, hospitals=5),
    "AUC 0.99, 50 of 550 ill, one image each": single(0.99, 50, 500, images=1),
    "mean AUC 0.9 of three classes, 10, 30 and 100": Setting(
        np.array([[0.85, 0.9, 0.95]]), (10, 30, 100)
    ),
    "mean AUC 0.9 of five models, 20 of 120 ill": Setting(
        np.array([[0.86], [0.88], [0.9], [0.92], [0.94]]), (100, 20)
    ),
    "gain of 0.97 over 0.9, 20 of 120 ill": Setting(
        np.array([[0.97], [0.9]]), (100, 20), gain=True
    ),
}


def coverage_rows() -> list[Row]:
    rows = []
    for name, setting in SETTINGS.items():
        theirs = missed(setting, runs(400, 40), 0, bootstrap=True)
        batches = [missed(setting, runs(800, 100), seed) for seed in range(1, 6)]
        rows.append(
            from_pairs(
                f"missed: {name}",
                [(batch, PROMISED) for batch in batches],
                work=f"{5 * runs(800, 100):,} test sets of known AUC, {runs(400, 40)} for the "
                "bootstrap of 1,000 resamples; whole patients",
                beside=AS_BOOTSTRAP.format(theirs),
                target="≤ 1.4",
                unit="%",
            )
        )
    return rows


def time_row() -> Row:
    setting = Setting(np.array([[0.85, 0.9, 0.95]]), (400, 200, 130))
    drawn = draw(setting, np.random.default_rng(0))
    return side_by_side(
        "an interval",
        lambda: ours(setting, drawn),
        lambda: percentile(setting, drawn, np.random.default_rng(0)),
        work=f"{len(drawn.labels):,} images of 730 patients, three classes",
        beside="percentile bootstrap, 1,000 resamples at once",
        target="≥ 20",
    )


def grid(sets: int = 2000) -> None:
    """Print coverage in per cent by AUC and patients, ours and in brackets the bootstrap's."""
    aucs = (0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
    print("| ill + well | " + " | ".join(f"AUC {auc}" for auc in aucs) + " |")
    print("|---" * (len(aucs) + 1) + "|")
    for times in (1, 10):
        for ill in (6, 10, 20, 50, 100, 500):
            if times * ill > 1000:
                continue
            cells = []
            for auc in aucs:
                setting = single(auc, ill, times * ill)
                hold = 100 - missed(setting, sets, 1)
                few = max(100, min(400, 40_000 // (ill * (times + 1))))
                theirs = 100 - missed(setting, few, 2, bootstrap=True)
                cells.append(f"{hold:.1f} ({theirs:.0f})")
            print(f"| {ill} + {times * ill} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    if "--grid" in sys.argv:
        grid()
    else:
        print_rows([*coverage_rows(), time_row()])
