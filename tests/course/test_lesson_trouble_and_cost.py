"""What notebook 11 is built on; its exercises are tested in tests/course/test_exercises.py."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.serverapp.strategy.multikrum import compute_distances

from fedtutor.course.lessons import trouble_and_cost
from fedtutor.course.lessons.trouble_and_cost import krum_scores, send_largest
from fedtutor.federation.records import to_record


@pytest.mark.parametrize("liars", [0, 1, 3])
def test_the_scores_of_krum_are_sums_of_squared_distances(liars):
    updates = np.random.default_rng(5).normal(size=(9, 40)).astype(np.float32)
    distances = np.sort(compute_distances([to_record([update]) for update in updates]), axis=1)
    expected = distances[:, 1 : 9 - liars - 1].sum(axis=1)
    np.testing.assert_allclose(krum_scores(updates, liars), expected, rtol=1e-4)


def test_one_who_sends_the_model_back_wins_krum_when_the_others_are_at_right_angles():
    updates = np.vstack([np.zeros(9), np.eye(9)])
    assert krum_scores(updates, 3).argmin() == 0


def test_with_its_memory_top_k_says_everything_in_the_end():
    update = np.random.default_rng(6).normal(size=100)
    memory, said, forgotten = np.zeros(100), np.zeros(100), np.zeros(100)
    for _ in range(200):
        sent, memory = send_largest(update, memory, 5)
        said += sent
        forgotten += send_largest(update, np.zeros(100), 5)[0]
    assert np.linalg.norm(said - 200 * update) < 0.2 * np.linalg.norm(200 * update)
    assert np.linalg.norm(forgotten - 200 * update) > 0.7 * np.linalg.norm(200 * update)


def test_a_table_of_aucs_says_every_number_and_what_is_promised():
    picture = trouble_and_cost.table_of_aucs(
        np.array([[0.51, 0.92], [0.8, 0.7]]),
        ["plain average", "median"],
        ["nobody", "2 flip\nthe sign"],
        np.array([[True, False], [True, True]]),
    )
    assert "AUC for nobody, 2 flip the sign" in picture.alt
    assert "plain average: 0.5*, 0.9; median: 0.8*, 0.7*." in picture.alt
    (frame,) = picture.figure.axes[0].collections
    assert len(frame.get_segments()) == 8  # the edges around three cells that touch


@pytest.mark.parametrize("roles", [None, ("idler", "usual", "rare disease")])
def test_the_game_names_who_is_sent_home_and_what_they_are_only_when_asked(roles):
    picture = trouble_and_cost.game(
        np.array([[0.0, 0.0], [2.0, 0.9], [4.1, 0.3]]),
        "ABC",
        np.array([True, False, True]),
        {"before": [0.9, 0.5], "after": [0.8, 0.1]},
        ["AUC", "found"],
        roles,
    )
    assert "Sent home: A, C. before: AUC 0.9, found 0.5; after: AUC 0.8, found 0.1." in picture.alt
    assert ("C rare disease" in picture.alt) == (roles is not None)
    assert ("rare disease" in repr(picture)) == (roles is not None)
