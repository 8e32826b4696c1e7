from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from fedtutor.errors import DataError
from fedtutor.topics.privacy import membership


def test_the_scores_of_a_sure_model_and_an_unsure_one():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    labels = np.array([0, 0, 0])
    assert membership.loss_score(probabilities, labels)[:2] == pytest.approx(np.log([0.9, 0.5]))
    assert membership.logit_score(probabilities, labels)[:2] == pytest.approx([np.log(9), 0])
    assert np.isfinite(membership.loss_score(probabilities, labels)).all()
    assert np.isfinite(membership.logit_score(probabilities, labels)).all()


def test_auc_is_scikit_learns_ties_included():
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 9, 80) + 1.0, rng.integers(0, 9, 120) * 1.0
    truth = np.repeat([1, 0], [80, 120])
    attack = membership.judge_attack(members, others, bootstrap=0)
    assert attack.auc == pytest.approx(roc_auc_score(truth, np.concatenate([members, others])))
    assert attack.auc_interval[0] < attack.auc < attack.auc_interval[1]
    assert np.isnan(attack.tpr_interval).all()


def test_true_positive_rate_accuses_at_most_one_outsider_in_a_hundred():
    others = np.arange(200.0)
    members = np.array([150.0, 196, 197, 197.5, 199, 300])
    attack = membership.judge_attack(members, others, bootstrap=0)
    assert attack.tpr == pytest.approx(3 / 6)  # above 197, so that 198 and 199 are accused


def test_what_is_found_at_a_rate_is_read_off_scikit_learns_curve_ties_included():
    rng = np.random.default_rng(1)
    rates = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    for size in (7, 30, 50, 60, 100, 300):
        members, others = (rng.integers(0, size, size) + start for start in (5.0, 0.0))
        truth = np.repeat([1, 0], size)
        fpr, tpr, _ = roc_curve(truth, np.r_[members, others], drop_intermediate=False)
        found = [membership.found_at(rate, members, others) for rate in rates]
        assert found == [tpr[fpr <= rate].max() for rate in rates]


def test_a_perfect_attack_and_a_blind_one():
    perfect = membership.judge_attack(np.ones(50), np.zeros(50), bootstrap=50)
    assert perfect.auc == perfect.tpr == 1
    assert perfect.auc_interval[0] < 0.995
    assert perfect.auc_interval[1] == pytest.approx(1)
    blind = membership.judge_attack(np.zeros(50), np.zeros(50), bootstrap=50)
    assert blind.auc == 0.5
    assert blind.tpr == 0


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Normal scores one deviation apart have an AUC of 0.760."""
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scores = rng.normal(1, 1, 100), rng.normal(0, 1, 100)
        low, high = membership.judge_attack(*scores, bootstrap=0).auc_interval
        covered += low <= 0.7602 <= high
    assert covered >= 32  # 38 expected; below 32 has a chance of less than 1 in 1000


def test_patients_and_not_images_are_drawn_for_both_intervals():
    """Ten copies of every image of the same patients tell nothing new."""
    rng = np.random.default_rng(0)
    members, others = rng.normal(1, 1, 60), rng.normal(0, 1, 60)
    patients = np.concatenate([np.arange(60), np.arange(60)])  # everybody is seen on both sides
    copies = [np.repeat(scores, 10) for scores in (members, others)]
    once = membership.judge_attack(members, others, patients=patients, bootstrap=300)
    tenfold = membership.judge_attack(*copies, patients=np.repeat(patients, 10), bootstrap=300)
    by_image = membership.judge_attack(*copies, bootstrap=300)
    assert tenfold.auc == pytest.approx(once.auc)
    for kind in ("auc_interval", "tpr_interval"):
        widths = [np.ptp(getattr(attack, kind)) for attack in (once, tenfold, by_image)]
        assert widths[1] == pytest.approx(widths[0], rel=0.3)
        assert widths[2] < 0.7 * widths[1]


@pytest.mark.parametrize(("members", "others"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0])])
def test_scores_that_cannot_be_judged_are_refused(members, others):
    with pytest.raises(DataError, match="at least one finite score each"):
        membership.judge_attack(np.array(members), np.array(others))


def world(seed, *, images=400, models=16, gap=1.0):
    """Scores of models that know their members by ``gap``, over images of differing difficulty."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 4, images)
    inside = np.zeros((models, images), bool)
    for row in inside:
        row[rng.permutation(images)[: images // 2]] = True
    scores = difficulty + gap * inside + rng.normal(0, 1, inside.shape)
    return scores, inside


def test_lira_finds_members_where_a_common_threshold_does_not():
    scores, inside = world(0)
    target, truth = scores[0], inside[0]
    ratio = membership.lira(target, scores[1:], inside[1:])
    by_ratio = membership.judge_attack(ratio[truth], ratio[~truth], bootstrap=0)
    by_score = membership.judge_attack(target[truth], target[~truth], bootstrap=0)
    assert by_score.auc < 0.62
    assert by_ratio.auc > by_score.auc + 0.08


def test_lira_guesses_where_models_know_nothing_of_their_members():
    scores, inside = world(1, gap=0.0)
    ratio = membership.lira(scores[0], scores[1:], inside[1:])
    attack = membership.judge_attack(ratio[inside[0]], ratio[~inside[0]], bootstrap=200)
    assert attack.auc_interval[0] < 0.5 < attack.auc_interval[1]


def test_lira_asks_for_shadow_models_with_and_without_each_image():
    scores, inside = world(2, models=4)
    inside[:, 7] = True
    with pytest.raises(DataError, match="in some of them and missing in others"):
        membership.lira(scores[0], scores, inside)
