from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fedtutor import evaluation
from fedtutor.errors import DataError
from fedtutor.evaluation import (
    auc,
    bootstrap_aucs,
    by_group,
    calibration,
    class_aucs,
    confusion,
    evaluate,
    interval,
)


def predictions(n, classes, *, seed=0, skill=1.0, ties=False):
    """Probabilities (n, classes) and labels (n,), the better the higher ``skill``."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(size=(n, classes)) + skill * np.eye(classes)[labels]
    odds = np.exp(np.round(logits) if ties else logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


@given(seed=st.integers(0, 10**6), n=st.integers(6, 60), ties=st.booleans())
def test_auc_of_two_classes_is_that_of_scikit_learn(seed, n, ties):
    probabilities, labels = predictions(n, 2, seed=seed, ties=ties)
    assert auc(probabilities, labels) == pytest.approx(
        metrics.roc_auc_score(labels, probabilities[:, 1])
    )


@given(seed=st.integers(0, 10**6), classes=st.integers(3, 5), ties=st.booleans())
def test_auc_of_many_classes_is_the_macro_one_vs_rest_of_scikit_learn(seed, classes, ties):
    probabilities, labels = predictions(40, classes, seed=seed, ties=ties)
    expected = metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert auc(probabilities, labels) == pytest.approx(expected)


def test_auc_by_hand_counts_a_tie_as_one_half():
    positive = np.array([0.9, 0.5, 0.5, 0.1])
    probabilities = np.stack([1 - positive, positive], axis=1)
    assert auc(probabilities, np.array([1, 1, 0, 0])) == 0.875


def test_auc_is_the_mean_over_the_classes_that_are_there():
    probabilities, labels = predictions(60, 4)
    keep = labels != 2
    expected = np.mean(
        [metrics.roc_auc_score(labels[keep] == k, probabilities[keep, k]) for k in (0, 1, 3)]
    )
    assert auc(probabilities[keep], labels[keep]) == pytest.approx(expected)


def test_auc_of_one_class_is_not_a_number():
    probabilities, _ = predictions(10, 3)
    scores = evaluate(probabilities, np.ones(10, np.int64), bootstrap=20)
    assert math.isnan(scores.auc)
    assert all(map(math.isnan, scores.auc_interval))


@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_every_bootstrap_auc_is_that_of_scikit_learn_with_sample_weights(seed, ties):
    probabilities, labels = predictions(30, 2, seed=seed, ties=ties)
    weights = evaluation._resample_counts(30, None, 8, seed)
    expected = [
        metrics.roc_auc_score(labels, probabilities[:, 1], sample_weight=w) for w in weights
    ]
    found = bootstrap_aucs(probabilities, labels, samples=8, seed=seed)
    np.testing.assert_allclose(found, expected)


def test_a_bootstrap_auc_of_many_classes_is_the_macro_mean():
    probabilities, labels = predictions(60, 3, ties=True)
    weights = evaluation._resample_counts(60, None, 8, 5)
    expected = [
        np.mean(
            [
                metrics.roc_auc_score(labels == k, probabilities[:, k], sample_weight=w)
                for k in range(3)
            ]
        )
        for w in weights
    ]
    np.testing.assert_allclose(bootstrap_aucs(probabilities, labels, samples=8, seed=5), expected)


def test_a_resample_draws_as_many_images_as_there_are():
    counts = evaluation._resample_counts(25, None, 50, 0)
    assert counts.shape == (50, 25)
    assert (counts.sum(axis=1) == 25).all()
    assert counts.std() > 0


def test_a_resample_draws_whole_patients():
    patients = np.array(["p", "q", "p", "r", "q", "p"])
    counts = evaluation._resample_counts(6, patients, 50, 0)
    for patient in "pqr":
        own = counts[:, patients == patient]
        assert (own == own[:, :1]).all()
    firsts = counts[:, [0, 1, 3]]
    assert (firsts.sum(axis=1) == 3).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 4])
def test_the_interval_holds_the_estimate(seed, classes):
    probabilities, labels = predictions(200, classes, seed=seed)
    scores = evaluate(probabilities, labels, bootstrap=300, seed=seed)
    low, high = scores.auc_interval
    assert low < scores.auc < high
    assert high - low < 0.25


def test_more_images_give_a_narrower_interval():
    widths = []
    for n in (100, 1600):
        low, high = evaluate(*predictions(n, 2), bootstrap=300).auc_interval
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_drawing_patients_is_wider_where_images_of_a_patient_are_alike():
    probabilities, labels = predictions(60, 2)
    copies = np.repeat(np.arange(60), 9)
    by_image = evaluate(probabilities[copies], labels[copies], bootstrap=400)
    by_patient = evaluate(probabilities[copies], labels[copies], patients=copies, bootstrap=400)
    width = [high - low for low, high in (by_image.auc_interval, by_patient.auc_interval)]
    assert width[1] > 2 * width[0]
    assert by_patient.auc == by_image.auc


def test_with_one_seed_two_models_meet_the_same_resamples():
    probabilities, labels = predictions(80, 3)
    first, again, other = (
        bootstrap_aucs(probabilities, labels, samples=20, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_interval_is_the_middle_95_percent_without_what_is_no_number():
    low, high = interval(np.array([np.nan, *np.arange(101.0), np.nan]))
    assert (low, high) == pytest.approx((2.5, 97.5))
    assert all(map(math.isnan, interval(np.array([np.nan]))))


def test_without_a_bootstrap_there_is_no_interval():
    assert all(map(math.isnan, evaluate(*predictions(10, 2)).auc_interval))


def test_accuracy_and_loss_are_those_worked_by_hand():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    scores = evaluate(probabilities, np.array([0, 1, 0]))
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.loss == pytest.approx((2 * math.log(2) + math.log(4)) / 3)
    assert scores.num_examples == 3


def test_a_sure_mistake_has_a_finite_loss():
    assert math.isfinite(evaluate(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])).loss)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (3, 2), (2, 3)])
def test_predictions_that_do_not_match_the_labels_are_refused(n, m):
    with pytest.raises(DataError, match=f"{n} predictions for {m} labels"):
        evaluate(np.full((n, 2), 0.5), np.zeros(m, np.int64))


def test_predictions_that_are_no_numbers_are_refused():
    probabilities, labels = predictions(10, 2)
    probabilities[3] = np.nan
    with pytest.raises(DataError, match=r"NaN|not a number"):
        evaluate(probabilities, labels)


def test_confusion_has_the_truth_in_rows():
    likeliest = np.array([0, 1, 1, 2, 0])
    matrix = confusion(np.eye(3)[likeliest], np.array([0, 0, 1, 2, 2]))
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_confusion_keeps_a_class_that_nothing_is_of():
    assert confusion(np.eye(3)[[0, 0]], np.array([0, 1])).shape == (3, 3)


def test_confusion_is_that_of_scikit_learn():
    probabilities, labels = predictions(200, 4)
    expected = metrics.confusion_matrix(labels, probabilities.argmax(axis=1))
    assert np.array_equal(confusion(probabilities, labels), expected)


def test_a_group_is_scored_on_its_own_images():
    probabilities, labels = predictions(90, 3)
    groups = np.array(["PA", "AP", "L"] * 30)
    found = by_group(probabilities, labels, groups)
    assert list(found) == ["AP", "L", "PA"]
    for group, scores in found.items():
        own = groups == group
        assert scores.num_examples == 30
        assert scores.auc == auc(probabilities[own], labels[own])
        assert scores.accuracy == np.mean(probabilities[own].argmax(axis=1) == labels[own])


def test_groups_need_not_be_words():
    probabilities, labels = predictions(40, 2)
    found = by_group(probabilities, labels, np.array([3, 3, 11, None] * 10, dtype=object))
    assert {group: scores.num_examples for group, scores in found.items()} == {
        "11": 10,
        "3": 20,
        "None": 10,
    }


def test_calibration_is_the_one_worked_by_hand():
    sure = np.array([0.95, 0.92, 0.65, 0.65, 0.65])
    probabilities = np.stack([sure, 1 - sure], axis=1)
    curve = calibration(probabilities, np.array([0, 1, 0, 0, 0]))
    assert curve.counts.tolist() == [3, 2]
    assert curve.confidence == pytest.approx([0.65, 0.935])
    assert curve.accuracy == pytest.approx([1.0, 0.5])
    assert curve.error == pytest.approx((3 * 0.35 + 2 * 0.435) / 5)


def test_a_model_that_is_as_often_right_as_it_is_sure_has_no_calibration_error():
    probabilities = np.tile([0.75, 0.25], (8, 1))
    labels = np.array([0, 0, 0, 1] * 2)
    assert calibration(probabilities, labels).error == pytest.approx(0)


def test_full_confidence_falls_into_the_last_bin():
    curve = calibration(np.eye(2)[[0, 0, 1]], np.array([0, 0, 0]), bins=5)
    assert curve.counts.tolist() == [3]
    assert curve.confidence.tolist() == [1.0]
    assert curve.error == pytest.approx(1 / 3)


def sightings(n, findings, *, seed=0, ties=False):
    """Probabilities and truth of findings that an image can have several of, both (n, findings)."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, findings)) < 0.3).astype(np.uint8)
    logits = rng.normal(size=(n, findings)) + truth - 1
    return 1 / (1 + np.exp(-(np.round(logits) if ties else logits))), truth


@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_the_auc_of_findings_is_the_macro_one_of_scikit_learn(seed, ties):
    probabilities, truth = sightings(80, 4, seed=seed, ties=ties)
    assert class_aucs(probabilities, truth) == pytest.approx(
        metrics.roc_auc_score(truth, probabilities, average=None)
    )
    assert auc(probabilities, truth) == pytest.approx(metrics.roc_auc_score(truth, probabilities))


def test_two_findings_are_two_aucs():
    """Of two classes the second says it all; of two findings it does not."""
    probabilities, truth = sightings(80, 2)
    each = [metrics.roc_auc_score(truth[:, k], probabilities[:, k]) for k in (0, 1)]
    assert auc(probabilities, truth) == pytest.approx(np.mean(each))
    samples = bootstrap_aucs(probabilities, truth, samples=400)
    assert np.mean(samples) == pytest.approx(np.mean(each), abs=0.02)


@pytest.mark.parametrize("everywhere", [0, 1])
def test_a_finding_that_no_image_or_every_image_has_is_not_in_the_mean(everywhere):
    probabilities, truth = sightings(80, 3)
    truth[:, 1] = everywhere
    scores = evaluate(probabilities, truth, bootstrap=50)
    each = [metrics.roc_auc_score(truth[:, k], probabilities[:, k]) for k in (0, 2)]
    assert math.isnan(scores.class_aucs[1])
    assert (scores.class_aucs[0], scores.class_aucs[2]) == pytest.approx(tuple(each))
    assert scores.auc == pytest.approx(np.mean(each))
    low, high = scores.auc_interval
    assert low < scores.auc < high


def test_without_any_finding_there_is_no_auc():
    probabilities, truth = sightings(20, 3)
    scores = evaluate(probabilities, truth * 0, bootstrap=10)
    assert math.isnan(scores.auc)
    assert all(map(math.isnan, scores.auc_interval))


def test_every_bootstrap_auc_of_findings_is_that_of_scikit_learn_with_sample_weights():
    probabilities, truth = sightings(120, 3, ties=True)
    patients = np.arange(120) // 2
    weights = evaluation._resample_counts(120, patients, 150, 3)  # more than one block
    expected = [metrics.roc_auc_score(truth, probabilities, sample_weight=w) for w in weights]
    found = bootstrap_aucs(probabilities, truth, patients=patients, samples=150, seed=3)
    np.testing.assert_allclose(found, expected)


def test_accuracy_and_loss_of_findings_are_those_of_scikit_learn():
    probabilities, truth = sightings(50, 4)
    scores = evaluate(probabilities, truth)
    flat = truth.ravel(), probabilities.ravel()
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(flat[0], flat[1] > 0.5))
    assert scores.loss == pytest.approx(metrics.log_loss(*flat))
    assert scores.num_examples == 50


def test_the_class_aucs_of_one_class_an_image_are_one_against_the_rest():
    probabilities, labels = predictions(60, 3)
    scores = evaluate(probabilities, labels)
    assert np.mean(scores.class_aucs) == pytest.approx(scores.auc)
    assert len(evaluate(*predictions(20, 2)).class_aucs) == 2


def test_predictions_of_another_number_of_findings_are_refused():
    probabilities, truth = sightings(10, 3)
    with pytest.raises(DataError, match="predictions of 2 findings for labels of 3"):
        evaluate(probabilities[:, :2], truth)


def test_findings_are_scored_by_group():
    probabilities, truth = sightings(90, 3)
    groups = np.array(["PA", "AP", "L"] * 30)
    for group, scores in by_group(probabilities, truth, groups).items():
        own = groups == group
        assert scores.class_aucs == evaluate(probabilities[own], truth[own]).class_aucs


def test_several_findings_have_no_confusion_matrix_and_the_error_names_the_way_out():
    probabilities, truth = sightings(40, 3)
    with pytest.raises(DataError, match=r"one finding k: .*confusion\(np.stack"):
        confusion(probabilities, truth)
    p = probabilities[:, 1]
    matrix = confusion(np.stack([1 - p, p], axis=1), truth[:, 1])
    assert np.array_equal(matrix, metrics.confusion_matrix(truth[:, 1], p > 0.5))


def test_the_calibration_of_findings_is_of_their_probabilities():
    probabilities = np.array([[0.05, 0.95], [0.05, 0.65], [0.05, 0.65]])
    curve = calibration(probabilities, np.array([[0, 1], [0, 1], [1, 0]], np.uint8))
    assert curve.counts.tolist() == [3, 2, 1]
    assert curve.confidence == pytest.approx([0.05, 0.65, 0.95])
    assert curve.accuracy == pytest.approx([1 / 3, 0.5, 1.0])
