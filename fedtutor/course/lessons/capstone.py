"""What notebook 14 needs: a consortium of one's own, its checks, its memo, and the exercises."""

from __future__ import annotations

import hashlib
import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fedtutor.compiled_training import trainer_for
from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, other_case
from fedtutor.course.lessons.evaluation import HEALTHY, Estimates, hospital_images, intervals
from fedtutor.course.lessons.evaluation import three_parts as parts_of_images
from fedtutor.errors import DataError
from fedtutor.evaluation import AucEstimate, estimate_auc, gain_interval, mean_estimate
from fedtutor.figures.picture import RED, Picture
from fedtutor.images import MedicalImages, patients_of
from fedtutor.model import Weights, create_model
from fedtutor.settings import TrainingSettings
from fedtutor.topics.tables import (
    HEART,
    PatientTable,
    create_table_model,
    heart_disease,
    table_trainer_for,
)

Patients = MedicalImages | PatientTable
AGE_AND_SEX = ("age", "sex")
BENIGN = {"naevus", "benign keratosis", "dermatofibroma", "vascular lesion"}
BENIGN |= {"nv", "bkl", "df", "vasc"}
"""Of skin, what is neither cancer nor on the way to it."""


@dataclass(frozen=True)
class Consortium:
    """Hospitals, each with patients of its own who are ill (label 1) or not.

    Attributes
    ----------
    names : of the hospitals.
    train, validation, test : of each hospital; no patient is in two of them.
    everybody : all training patients in one place, and all validation patients.
    start : the first weights; ``trainer_for`` what trains them, as ``make_client_app`` takes it.
    settings : how a hospital trains in the federation.
    """

    names: tuple[str, ...]
    train: list[Any]
    validation: list[Any]
    test: list[Any]
    everybody: tuple[Any, Any]
    start: Weights
    trainer_for: Callable[..., Any]
    settings: TrainingSettings

    @property
    def synthetic(self) -> bool:
        """Whether nobody was ever examined."""
        return bool(getattr(self.train[0], "synthetic", False))

    def trainer(self) -> Any:
        """Return this thread's trainer."""
        return self.trainer_for(settings=self.settings, **self.train[0].form)

    def answers(self, weights: Weights) -> list[np.ndarray]:
        """Return what a model says of the test patients: float (n, 2) for each hospital."""
        trainer = self.trainer()
        trainer.start(weights)
        return [trainer.predict(patients.images) for patients in self.test]


def consortium(dataset: str = "chest-phantoms", *, by: str = "hospital") -> Consortium:
    """Make a consortium of a data set: ill or not, in one hospital for each value of a column.

    Parameters
    ----------
    dataset : "fed-heart-disease", or any name or path of images, read at 28 pixels, at most 2,000.
    by : the column of the table that says where a patient was examined, such as "view".
    """
    data, parts = _tables() if dataset == HEART else _images(dataset, by)
    names = tuple(sorted(set(parts[0].column(by).astype(str))))
    train, validation, test = (
        [part.take(np.flatnonzero(part.column(by).astype(str) == name)) for name in names]
        for part in parts
    )
    if empty := [
        name
        for name, *own in zip(names, train, validation, test, strict=True)
        if not all(map(len, own))
    ]:
        raise DataError(f"{', '.join(empty)}: too few patients to train, validate and test on.")
    everybody = parts[:2]
    if isinstance(data, PatientTable):  # each hospital scales by its own means, which stay there
        test = [own.normalised(like) for own, like in zip(test, train, strict=True)]
        validation = [own.normalised(like) for own, like in zip(validation, train, strict=True)]
        train = [own.normalised(own) for own in train]
        everybody = _together(train), _together(validation)
        start = create_table_model(data.rows.shape[1])
        kind: Callable[..., Any] = table_trainer_for
        settings = TrainingSettings("sgd", 0.02, 4, schedule="cosine")
    else:
        start, kind = create_model(data.image_shape, 2).get_weights(), trainer_for
        settings = TrainingSettings("adam", 4e-3, 16, schedule="cosine")
    return Consortium(names, train, validation, test, everybody, start, kind, settings)


def _images(dataset: str, by: str) -> tuple[Any, tuple[Any, ...]]:
    data = hospital_images(dataset, size=28)
    well = [name.lower() in (*HEALTHY, *BENIGN) for name in data.class_names]
    if not any(well):
        raise DataError(f"{data.name} has no class {' or '.join(HEALTHY)} to tell the ill from.")
    ill = np.where(np.array(well)[data.labels], 0, 1)
    data = replace(data, labels=ill, class_names=("well", "ill"))
    return data, parts_of_images(data)


def _tables() -> tuple[Any, tuple[Any, ...]]:
    data = heart_disease()
    test = data.column("split") == "test"
    aside = np.random.default_rng(0).random(len(data)) < 0.25
    return data, tuple(map(data.take, (~test & ~aside, ~test & aside, test)))


def _together(tables: Sequence[PatientTable]) -> PatientTable:
    rows, labels = (np.concatenate([getattr(t, of) for t in tables]) for of in ("rows", "labels"))
    table = pd.concat([one.table for one in tables], ignore_index=True)
    return replace(tables[0], rows=rows, labels=labels, table=table)


def estimates(of: Consortium, answers: Sequence[Sequence[np.ndarray]]) -> list[AucEstimate]:
    """Return a model's AUC within each hospital, the mean over its training seeds.

    ``answers`` has, for each seed, what :meth:`Consortium.answers` gives.
    """
    found = []
    for k, patients in enumerate(of.test):
        who = patients_of(patients) if isinstance(patients, MedicalImages) else None
        each = [estimate_auc(one[k], patients.labels, patients=who) for one in answers]
        found.append(mean_estimate(each))
    return found


Gain = tuple[float, tuple[float, float]]


def gain(ours: Sequence[AucEstimate], rivals: Sequence[AucEstimate]) -> Gain:
    """Return how much higher an AUC is, the mean over hospitals, with its 95 % interval.

    The patients of two hospitals are different people, so that the variances add up. Hospitals
    with too few ill or well patients are left out; (NaN, (NaN, NaN)) if none is left.
    """
    bounds = [gain_interval(a, b) for a, b in zip(ours, rivals, strict=True)]
    known = np.array([one for one in bounds if math.isfinite(one[0])]).reshape(-1, 2)
    if not len(known):
        return math.nan, (math.nan, math.nan)
    value = float(known.mean())
    half = float(np.linalg.norm(known[:, 1] - known[:, 0])) / 2 / len(known)
    return value, (value - half, value + half)


def gains(names: Sequence[str], series: Mapping[str, Estimates], least: float) -> Picture:
    """Draw gains with their intervals, and where a gain begins to be useful."""
    picture = intervals(names, series, x="gain in AUC by joining", zero=True)
    (axes,) = picture.figure.axes
    axes.axvline(least, color=RED, linewidth=1.5, linestyle="--")
    axes.text(least, len(names) - 0.6, " useful from here on", color=RED, fontsize=8)
    alt = f"{picture.alt} A dashed line at {least:g} says where a gain begins to be useful."
    return replace(picture, alt=alt)


def leaks(of: Consortium) -> dict[str, int]:
    """Count what would make a test score too good: the same on both sides, of any hospital."""
    sides = [of.train + of.validation, of.test]
    seen = [{one.tobytes() for part in side for one in part.images} for side in sides]
    found = {"the same in training and test, to the last number": len(seen[0] & seen[1])}
    if "patient" in of.test[0].table.columns:
        people = [set().union(*map(patients_of, side)) for side in sides]
        found["patients in both training and test"] = len(people[0] & people[1])
    return found


def blinded(of: Consortium) -> Consortium:
    """Return the same with nothing left in the test set that the question is about.

    Of images the middle is painted over with their mean, so that only a frame is left; of a table
    all but age and sex are set to the hospital's mean, which is 0.
    """
    return replace(of, test=[_blinded(patients) for patients in of.test])


def _blinded(patients: Patients) -> Patients:
    if isinstance(patients, PatientTable):
        return replace(patients, rows=patients.rows * np.isin(patients.features, AGE_AND_SEX))
    images = np.array(patients.images)
    side = images.shape[1]
    middle = slice(round(0.12 * side), round(0.88 * side))
    means = images.mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    images[:, middle, middle] = means
    return replace(patients, images=images, masks=None)


def threshold_for(probabilities: np.ndarray, labels: np.ndarray, sensitivity: float) -> float:
    """Return the highest threshold at which that share of the ill is still called ill."""
    ill = np.sort(probabilities[labels == 1, 1])
    return float(ill[len(ill) - math.ceil(round(sensitivity * len(ill), 9))])


def called(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return which share of the ill, and which of the well, are called ill; NaN of nobody."""
    above = probabilities[:, 1] >= threshold
    return tuple(  # type: ignore[return-value]
        float(above[labels == k].mean()) if (labels == k).any() else math.nan for k in (1, 0)
    )


def memo(title: str, facts: Sequence[tuple[str, str]], limits: Sequence[str]) -> str:
    """Lay out a decision memo: one page, a paragraph for each fact, and what it does not show."""
    lines = [title, "=" * len(title)]
    for head, text in facts:
        lines += ["", *_wrapped(f"{head}: {text}")]
    lines += ["", "What this does not show"]
    for limit in limits:
        lines += _wrapped(f"- {limit}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 92, subsequent_indent="  ", break_long_words=False)


def limits_of(of: Consortium) -> list[str]:
    """Say what no figure of the notebook can show, of these patients and of any."""
    fewest = [min(np.bincount(one.labels, minlength=2)) for one in of.test]
    few = ", ".join(name for name, n in zip(of.names, fewest, strict=True) if n < 20)
    limits = ["Anything about patients: these are drawn by a program."] if of.synthetic else []
    limits += [f"Much about {few}: fewer than 20 ill, or well, to test on."] if few else []
    return [
        *limits,
        "What happens with other seeds than those trained, another split, or next year's patients.",
        "Whether anybody is better off: a higher AUC is no diagnosis, treatment or outcome.",
        "Who is missed: groups within a hospital (age, sex, a rare disease) were not looked at.",
        "That nothing leaks from the updates (notebooks 08 to 10), and that the law allows it.",
    ]


def seal_of(plan: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a plan, in hex: of its JSON with the keys in order."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


PLAN = {"question": "ill?", "metric": "AUC", "useful gain": 0.02, "seeds": [0, 1]}


@exercise(
    """14.1, a seal for the plan
    More: text = json.dumps(plan, sort_keys=True); hashlib.sha256(text.encode()).hexdigest()""",
    reference=seal_of,
)
def seal(make: Answer) -> None:
    got, other = make(dict(PLAN)), make(dict(reversed(PLAN.items())))
    text = json.dumps(PLAN, sort_keys=True).encode()
    if isinstance(got, bytes) or not isinstance(got, str):
        raise Wrong(f"""A text of 64 signs is asked for; yours is a {type(got).__name__}.
            Hint: `hash()` of a text is another number in every process; SHA-256 is the same in
            all, and .hexdigest() gives it as a text.""")
    if got != other:
        raise Wrong("""The same plan, written down in another order, has another seal.
            Hint: `json.dumps` can sort the keys.""")
    if make({**PLAN, "useful gain": 0.01}) == got or make({**PLAN, "seeds": [0, 2]}) == got:
        raise Wrong("""A changed number does not break your seal.
            Hint: the seal must come from the keys and *all* values, those in a list, too.""")
    if len(got) != 64:
        raise Wrong(f"""Your seal has {len(got)} signs, and one of SHA-256 has 64.
            Hint: hashlib.sha256, and all of its .hexdigest().""")
    if got != hashlib.sha256(text).hexdigest():
        raise Wrong("""It is a seal, but not one that others could check.
            Hint: all must write the plan the same way: `json.dumps(plan, sort_keys=True)`, encoded,
            and nothing else.""")


def share_by_hospital(
    train_hospital: np.ndarray, train_ill: np.ndarray, test_hospital: np.ndarray
) -> np.ndarray:
    """Score each test patient by the share of ill training patients in the same hospital."""
    shares = {h: train_ill[train_hospital == h].mean() for h in np.unique(train_hospital)}
    return np.array([shares.get(h, train_ill.mean()) for h in test_hospital])


WHERE = np.array(list("aaaabbbbbccc"))
WHO = np.array([1, 0, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0])
COMES = np.array(list("cabbad"))


@exercise(
    """14.2, a model that knows only the hospital
    More: for each h in test_hospital: train_ill[train_hospital == h].mean(), and train_ill.mean()
    where no training patient is of h.""",
    reference=share_by_hospital,
)
def only_the_hospital(scores: Answer) -> None:
    got = of_shape(
        scores(WHERE.copy(), WHO.copy(), COMES.copy()), COMES.shape, "one score a test patient."
    )
    right, known = share_by_hospital(WHERE, WHO, COMES), COMES != "d"
    if np.isnan(got[~known]).any():
        raise Wrong("""For a hospital without training patients your score is NaN.
            Hint: without anything known of it, take the share among all training patients.""")
    if np.allclose(got, WHO.mean()):
        raise Wrong("""Everybody gets the same score.
            Hint: only the training patients of the patient's own hospital count.""")
    if np.allclose(got[known], [(WHO[h == WHERE]).sum() for h in COMES[known]]):
        raise Wrong("""You count the ill; a large hospital would have a high score for its size.
            Hint: a share, ill among all of the hospital.""")
    if np.allclose(got[known], [(h == WHERE).mean() for h in COMES[known]]):
        raise Wrong("""That is how large the hospital is, not how ill its patients are.
            Hint: train_ill[train_hospital == h]""")
    if np.allclose(got[known], 1 - right[known]):
        raise Wrong("""Your scores are high where most are well.
            Hint: a high score should mean ill.""")
    if np.allclose(got[known], right[known] > 0.5):
        raise Wrong("""You say ill or well, and throw away how sure one may be.
            Hint: give back the share itself.""")
    if not np.allclose(got[known], right[known]):
        raise Wrong(f"""Of hospital b's five training patients four are ill; your score for its
            patients is {got[2]:.2f}.
            Hint: look up each test patient's hospital among the training patients.""")
    if not np.allclose(got, right):
        raise Wrong(f"""The known hospitals are right. Hospital d, with no training patient, should
            get the share among all, {WHO.mean():.2f}; yours is {got[-1]:.2f}.
            Hint: what would you expect of a patient of whom you know nothing?""")
    flipped = 1 - WHO
    other_case(np.allclose(scores(WHERE, flipped, COMES), share_by_hospital(WHERE, flipped, COMES)))


VERDICTS = ("useful gain", "no useful gain", "loses", "cannot tell")


def verdict_of(low: float, high: float, least: float) -> str:
    """Judge a gain whose 95 % interval is low to high, if ``least`` is the least useful one."""
    if low >= least:
        return "useful gain"
    if high <= -least:
        return "loses"
    return "no useful gain" if high < least else "cannot tell"


@exercise(
    """14.3, the verdict
    More: first low >= least, then high <= -least, then high < least; what is left, NaN too,
    cannot be told.""",
    reference=verdict_of,
)
def verdict(judge: Answer) -> None:
    cases = [(0.03, 0.08), (-0.01, 0.06), (0.01, 0.06), (0.001, 0.015), (-0.01, 0.01)]
    cases += [(-0.06, -0.03), (math.nan, math.nan), (0.02, 0.03), (-0.015, -0.005)]
    wrong = [(c, said) for c in cases if (said := judge(*c, 0.02)) != verdict_of(*c, 0.02)]
    if not wrong:
        return other_case(all(judge(*c, 0.05) == verdict_of(*c, 0.05) for c in cases))
    (low, high), said = wrong[0]
    if said not in VERDICTS:
        raise Wrong(f"""{said!r} is none of the four verdicts.
            Hint: give back one of {", ".join(VERDICTS)}, as a text.""")
    failed = [case for case, _ in wrong]
    if failed == [cases[6]]:
        raise Wrong(f"""Where there is no interval, NaN, you say {said!r}.
            Hint: every comparison with NaN is False; so ask what is true, and let "cannot tell" be
            what is left.""")
    if failed == [cases[7]]:
        raise Wrong("""An interval that begins just at the least useful gain is a useful gain.
            Hint: >=""")
    if failed == [cases[5]]:
        raise Wrong("""An interval that lies below -least whole is more than "no useful gain".
            Hint: who is worse off for sure should be told so: ask for that first.""")
    if failed == [cases[8]]:
        raise Wrong("""You call it a loss as soon as it is below zero.
            Hint: a loss may be sure and too small to matter; compare with `-least`.""")
    if {cases[2], cases[3]} <= set(failed) and said == "useful gain":
        raise Wrong("""You call it useful as soon as it is above zero.
            Hint: a gain may be sure and too small to be worth it; compare with `least`.""")
    if (0.01, 0.06) in failed and said == "useful gain":
        raise Wrong("""You judge by the middle of the interval.
            Hint: the *whole* interval must be on one side.""")
    if all(said == "cannot tell" for _, said in wrong):
        raise Wrong("""You give up too early: that a gain is surely too small is known, too.
            Hint: what if the interval's upper end lies below `least`?""")
    raise Wrong(f"""For a gain between {low:g} and {high:g}, with 0.02 the least that is useful, you
        say {said!r}.
        Hint: it is {verdict_of(low, high, 0.02)!r}; where does the whole interval lie?""")
