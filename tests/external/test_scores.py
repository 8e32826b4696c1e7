"""What a model is worth: the figures against worked examples and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, confusion_matrix

from fedtutor.errors import DataError
from fedtutor.external.scores import Question, _regions, alarms, by_group, enough_auc, score


def guesses(count, classes, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), count)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_brier_score_is_scikit_learns(make_images, classes):
    data, p = make_images(60, classes=classes), guesses(60, classes)
    theirs = brier_score_loss(data.labels, p[:, 1] if classes == 2 else p)
    assert score(p, data, Question())["brier"] == pytest.approx(theirs)


def test_of_findings_it_is_the_mean(make_images):
    labels = np.random.default_rng(1).integers(0, 2, (40, 2))
    data, p = make_images(40, classes=2, labels=labels), np.random.default_rng(2).random((40, 2))
    theirs = np.mean([brier_score_loss(labels[:, k], p[:, k]) for k in (0, 1)])
    assert score(p, data, Question())["brier"] == pytest.approx(theirs)


def test_alarms_are_those_of_the_confusion_matrix(make_images):
    data, p = make_images(80, classes=2), guesses(80, 2)
    row = score(p, data, Question(threshold=0.4))["thresholds"][0]
    (tn, fp), (fn, tp) = confusion_matrix(data.labels, p[:, 1] >= 0.4)
    assert row["finding"] == "b"
    assert row["sensitivity"][0] == pytest.approx(tp / (tp + fn))
    assert row["specificity"][0] == pytest.approx(tn / (tn + fp))
    assert row["ppv"][0] == pytest.approx(tp / (tp + fp))
    assert row["npv"][0] == pytest.approx(tn / (tn + fn))
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        value, low, high = row[name]
        assert 0 <= low < value < high <= 1


def test_the_predictive_values_are_those_of_the_prevalence():
    ill = np.arange(200) < 100
    p = np.where(np.arange(200) % 100 < 90, ill, ~ill).astype(float)  # 90 % right of either kind
    row = alarms(p, ill, np.arange(200), Question(prevalence=0.01))
    assert row["ppv"][0] == pytest.approx(0.9 * 0.01 / (0.9 * 0.01 + 0.1 * 0.99))
    assert row["npv"][0] == pytest.approx(0.9 * 0.99 / (0.9 * 0.99 + 0.1 * 0.01))
    assert row["prevalence_seen"] == 0.5
    assert row["ppv"][1] < row["ppv"][0] < row["ppv"][2]


@pytest.mark.parametrize("rates", [(0.8, 0.1), (0.95, 0.02), (0.3, 0.3)])
def test_the_intervals_of_the_predictive_values_hold_the_truth_as_often_as_they_say(rates):
    rng, held, ill = np.random.default_rng(0), [], np.arange(140) < 60
    truth = rates[0] * 0.1 / (rates[0] * 0.1 + rates[1] * 0.9)
    for _ in range(400):
        called = rng.random(140) < np.where(ill, *rates)
        row = alarms(called.astype(float), ill, np.arange(140), Question(prevalence=0.1))
        held.append(row["ppv"][1] <= truth <= row["ppv"][2])
    assert 0.925 <= np.mean(held) <= 0.99


def test_a_finding_that_nobody_well_is_called_has_a_lower_bound_only():
    ill = np.arange(60) < 30
    value, low, high = alarms(ill.astype(float), ill, np.arange(60), Question())["ppv"]
    assert (value, high) == (1, 1)
    assert 0.7 < low < 1
    never = alarms(np.zeros(60), ill, np.arange(60), Question())
    assert math.isnan(never["ppv"][0])
    assert never["npv"][0] == 0.5


def test_many_images_of_a_patient_do_not_narrow_an_interval():
    ill = np.repeat([True, False], 40)
    p = np.where(np.tile([True, True, True, False], 20), ill, ~ill).astype(float)
    one, many = (
        alarms(np.repeat(p, n), np.repeat(ill, n), np.repeat(np.arange(80), n), Question())
        for n in (1, 5)
    )
    assert one["sensitivity"] == many["sensitivity"]
    assert one["ppv"] == pytest.approx(many["ppv"])


def test_with_few_patients_there_are_no_bounds_and_no_group_has_a_number(make_images):
    data = make_images(12, classes=2, patients=[0] * 6 + [1] * 6, view=["PA", "AP"] * 6)
    found = score(guesses(12, 2), data, Question(by=("view",)))
    assert all(map(math.isnan, found["thresholds"][0]["ppv"][1:]))
    for row in found["groups"]["view"].values():
        assert math.isnan(row["auc"])
        assert row["classes"] == []


def test_a_group_is_scored_on_the_classes_of_which_it_has_enough(make_images):
    labels = np.array([0, 1] * 20 + [2] * 2)
    data, p = make_images(42, labels=labels, hospital=["H"] * 42), guesses(42, 3)
    one, classes = enough_auc(p, data)
    assert classes == ["a", "b"]
    row = by_group(p, data, "hospital")["H"]
    assert row["auc"] == one.auc
    assert row["num_images"] == 42


def test_of_three_classes_a_prevalence_needs_to_know_of_which(make_images):
    data, p = make_images(30), guesses(30, 3)
    with pytest.raises(DataError, match="say which with --finding: a, b, c"):
        score(p, data, Question(prevalence=0.1))
    row = score(p, data, Question(prevalence=0.1, finding="c"))["thresholds"]
    assert [one["finding"] for one in row] == ["c"]
    with pytest.raises(DataError, match="'d' is no class here"):
        score(p, data, Question(finding="d"))


@pytest.mark.parametrize(("name", "value"), [("threshold", 0), ("prevalence", 1.0)])
def test_a_probability_lies_between_0_and_1(name, value):
    with pytest.raises(DataError, match=f"{name} must lie between 0 and 1"):
        Question(**{name: value})


def test_ages_are_grouped_in_bands(make_images):
    data = replace(make_images(40, classes=2, age=[10, 30] * 20))
    assert list(by_group(guesses(40, 2), data, "age")) == ["0-17", "18-39"]


def test_border_and_corners_are_symmetric_and_of_their_size():
    border, corners = _regions(40, 20)
    for region in (border, corners):
        np.testing.assert_array_equal(region, region[::-1])
        np.testing.assert_array_equal(region, region[:, ::-1])
    assert border.mean() == pytest.approx(1 - 0.7 * 0.7)
    assert corners.mean() == pytest.approx(0.4 * 0.4)
