"""External validation: a finished model on patients of a hospital that had no part in it.

A model is excellent where it was made and may be worthless next door (Zech et al. 2018; DeGrave et
al. 2021), which no test set from its own hospitals can show.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedtutor.cohort import Cohort
from fedtutor.datasets import load
from fedtutor.datasets.warned import heard_warnings, warn_of_small_test_set
from fedtutor.errors import DataError
from fedtutor.evaluation import estimate_auc, interval
from fedtutor.external.away import home_and_away
from fedtutor.external.card import Card, make_card
from fedtutor.external.classes import match_classes
from fedtutor.external.scores import Looks, Question, asked_for, score, where_it_looks
from fedtutor.external.traces import Traces
from fedtutor.images import Images, MedicalImages, patients_of, say_shape
from fedtutor.partition import column_values
from fedtutor.settings import RunSettings

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Which other hospitals to test on, and what to ask there.

    Attributes
    ----------
    sources : names of data sets, .npz files or folders.
    mapping : from their name of a class to the model's, "" to leave one out.
    question : which threshold, finding, prevalence and groups.
    task : of the data set, where it has several.
    other_patients : True if equal ids are of different people.
    """

    sources: Sequence[str | Path] = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    question: Question = field(default_factory=Question)
    task: str | None = None
    other_patients: bool = False


@dataclass(frozen=True)
class Abroad:
    """Another hospital's images, ready for a model: its classes, its size, nobody it knows.

    ``columns`` are the outputs that the classes of ``data`` have; ``facts`` are for the summary.
    """

    data: MedicalImages
    columns: np.ndarray
    facts: dict[str, Any]
    warnings: Sequence[str]


@dataclass(frozen=True)
class Validation:
    """What a model is worth on one set: in numbers, and what the pictures of it need."""

    numbers: dict[str, Any]
    data: MedicalImages
    looks: Looks


def prepare(request: Request, card: Card, traces: Traces | None, *, seed: int = 0) -> list[Abroad]:
    """Load each source and make it fit, before any work is done.

    Parameters
    ----------
    card : of the model that is to be tested.
    traces : of the images that it was trained on; None if nobody knows, which is warned of.
    seed : of phantoms, which are drawn on the spot.

    Raises
    ------
    DataError
        If classes, size or colour do not match, all patients were trained on, or nothing is left to
        tell apart.
    """
    return [_prepare(str(source), request, card, traces, seed) for source in request.sources]


def _prepare(source: str, request: Request, card: Card, traces: Traces | None, seed: int) -> Abroad:
    with heard_warnings() as heard:
        size, _, channels = card.image_shape
        data = load(source, size=size, task=request.task, colour=channels == 3, seed=seed)
        if data.image_shape != card.image_shape:
            raise DataError(
                f"the model takes images of {say_shape(card.image_shape)}, and {data.name} has "
                f"{say_shape(data.image_shape)}; give a set of the same kind."
            )
        strict = len(request.sources) == 1
        matched = match_classes(
            data, card.classes, card.multi_label, request.mapping, strict=strict
        )
        kept, removed = _without_seen(matched.data, traces, other=request.other_patients)
        _check_kinds(kept)
        for column in request.question.by:
            column_values(kept, column)
        asked_for(kept, request.question)
        warn_of_small_test_set(kept, kept.name)
    facts = {
        "dataset": kept.name,
        "synthetic": kept.synthetic,
        "patients_known": "patient" in kept.table.columns,
        "classes": matched.names,
        "num_of_dropped_classes": matched.dropped,
        **removed,
    }
    return Abroad(kept, matched.columns, facts, heard)


def _without_seen(
    data: MedicalImages, traces: Traces | None, *, other: bool
) -> tuple[MedicalImages, dict[str, Any]]:
    """Leave out whoever was trained on: by id, or as an image or its twin was."""
    if traces is None:
        logger.warning(
            "%s: the model does not say whom it was trained on, so that nobody can tell whether "
            "some of these patients were.",
            data.name,
        )
        return data, {"overlap_known": False, "removed_known": 0, "removed_twins": 0}
    known = np.zeros(len(data), bool) if other else traces.patients_in(data)
    twins, patients = traces.images_in(data) & ~known, patients_of(data)
    of_twins = np.isin(patients, patients[twins]) & ~known
    seen = known | of_twins
    if seen.any():
        logger.warning(
            "%s: %d of %d images are left out: %d of patients with the id of one who was trained "
            "on, %d that were trained on or have a twin that was, or of the same patients.",
            data.name,
            seen.sum(),
            len(data),
            known.sum(),
            of_twins.sum(),
        )
    if seen.all():
        raise DataError(
            f"{data.name}: the model was trained on all {len(set(patients))} of these patients; "
            "give others. If equal ids are of different people here, say --other-patients."
        )
    counts = {"removed_known": int(known.sum()), "removed_twins": int(of_twins.sum())}
    return data.take(np.flatnonzero(~seen)), {"overlap_known": True, **counts}


def _check_kinds(data: MedicalImages) -> None:
    counts = data.class_counts()
    told = (counts > 0) & (counts < len(data)) if data.multi_label else counts > 0
    if told.sum() < (1 if data.multi_label else 2):
        found = [f"{n} {name}" for n, name in zip(counts, data.class_names, strict=True) if n]
        raise DataError(
            f"{data.name} has {len(data)} images that can be used, {', '.join(found) or 'none'}: "
            "nothing to tell apart; give a set with two classes of the model at least."
        )


def judge(
    abroad: Abroad,
    cnn: keras.Model,
    said: Mapping[str, np.ndarray],
    home: Mapping[str, Any] | None,
    question: Question,
) -> Validation:
    """Score models on another hospital's patients, the first of them in full.

    Parameters
    ----------
    cnn : the first model, for its heat maps.
    said : by name, what each model says of the images: float (images, classes).
    home : the first model's scores at home, as :func:`score` has them.
    """
    data, patients = abroad.data, patients_of(abroad.data)
    own = {name: p[:, abroad.columns] for name, p in said.items()}
    looks = where_it_looks(cnn, data, abroad.columns)
    scores = score(next(iter(own.values())), data, question)
    each = {name: estimate_auc(p, data.labels, patients=patients) for name, p in own.items()}
    models = {name: {"auc": one.auc, "auc_interval": interval(one)} for name, one in each.items()}
    further = {"models": models, "looks": looks.numbers, "from_home": _difference(scores, home)}
    return Validation({**abroad.facts, **scores, **further}, data, looks)


def _difference(there: Mapping[str, Any], home: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Return how much higher the AUC is than at home, with its 95 % interval.

    From the two intervals, as the patients are different ones (Zou & Donner 2008).
    """
    nothing = (math.nan,) * 3
    if home is None or home["auc"] is None:
        return nothing
    (a, (a_low, a_high)), (b, (b_low, b_high)) = (
        (one["auc"], [math.nan if end is None else end for end in one["auc_interval"]])
        for one in (there, home)
    )
    low, high = math.hypot(a - a_low, b_high - b), math.hypot(a_high - a, b - b_low)
    return (a - b, a - b - low, a - b + high)


class Elsewhere:
    """The other hospitals of a run, made fit before it begins.

    Phantoms are drawn with the next seed, so that they are others.

    Parameters
    ----------
    request : which, and what to ask there.
    settings, train : of the run.
    """

    def __init__(self, request: Request, settings: RunSettings, train: MedicalImages) -> None:
        self._question, self._said = request.question, dict[str, list[np.ndarray]]()
        card, traces = Card.from_json(make_card(settings, train)), None
        if request.sources:
            traces = Traces.of(train)
        self._abroad = prepare(request, card, traces, seed=settings.seed + 1)
        self.warnings = [warning for one in self._abroad for warning in one.warnings]

    def hear(self, name: str, predict: Callable[[Images], np.ndarray]) -> None:
        """Note what a model of the run says of all images."""
        self._said[name] = [predict(one.data.images) for one in self._abroad]

    def judge(
        self, cohort: Cohort, cnn: keras.Model, probabilities: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], list[Validation]]:
        """Return a run's scores at home, abroad, and between its hospitals.

        Parameters
        ----------
        cnn : the federated model.
        probabilities : of the central test set by each model, the federated one first.

        Returns
        -------
        The parts ``home``, ``external`` and ``home_and_away`` of the summary, and the validations.
        """
        known = cohort.test.table.columns
        there = tuple(column for column in self._question.by if column in known)
        home = score(probabilities["federated"], cohort.test, replace(self._question, by=there))
        home["looks"] = where_it_looks(cnn, cohort.test).numbers
        names = {f"local {k}": f"{name} alone" for k, name in enumerate(cohort.names)}
        found = [
            judge(
                one,
                cnn,
                {names.get(m, m): self._said[m][k] for m in probabilities},
                home,
                self._question,
            )
            for k, one in enumerate(self._abroad)
        ]
        away = home_and_away(cohort, probabilities)
        parts = {"home": home, "external": [one.numbers for one in found], "home_and_away": away}
        return parts, found
