from __future__ import annotations

import numpy as np
import pytest
from flwr.serverapp.strategy import QFedAvg
from toys import START, toy_app

from fedtutor.errors import DataError
from fedtutor.evaluation import by_group
from fedtutor.topics import robustness
from fedtutor.topics.robustness import FairFedAvg

LOSSES = (0.2, 0.4, 3.0)


UNEQUAL = toy_app(lambda k: [np.float32(2**k)] * 2, loss=LOSSES.__getitem__)


def fair(federate, q):
    strategy = FairFedAvg(q=q, fraction_evaluate=0.0, min_available_nodes=3)
    (_, after), _ = federate(3, strategy=strategy, app=UNEQUAL)
    return after[0][0, 0]


def test_without_q_it_is_the_plain_mean(federate):
    assert fair(federate, 0.0) == pytest.approx((1 + 2 + 4) / 3, rel=1e-5)


@pytest.mark.parametrize("q", [0.5, 2.0])
def test_q_fedavg_is_the_paper_s(federate, q):
    # Algorithm 2 of Li et al. 2020 with L = 1: delta_k = F_k^q (w - w_k),
    # h_k = q F_k^(q-1) ||w - w_k||^2 + F_k^q, w <- w - sum(delta_k) / sum(h_k).
    size = sum(array.size for array in START)
    moves = np.array([1.0, 2.0, 4.0])
    losses = np.array(LOSSES)
    h = q * losses ** (q - 1) * size * moves**2 + losses**q
    expected = (losses**q * moves).sum() / h.sum()
    assert fair(federate, q) == pytest.approx(expected, rel=1e-4)


def test_flower_s_own_cannot_work_on_shared_arrays(federate):
    """If this fails, Flower copies by itself and FairFedAvg need not."""
    strategy = QFedAvg(
        client_learning_rate=1.0, q=1.0, train_loss_key="loss", fraction_evaluate=0.0
    )
    with pytest.raises(ValueError, match="read-only"):
        federate(3, strategy=strategy, app=UNEQUAL)


def predictions(rng, labels, skill):
    scores = rng.random((len(labels), 3)) + skill * np.eye(3)[labels]
    return scores / scores.sum(axis=1, keepdims=True)


def test_a_gain_is_paired_and_signed():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    good, poor = predictions(rng, labels, 1.0), predictions(rng, labels, 0.1)
    value, (low, high) = robustness.gain(good, poor, labels)
    assert 0 < low < value < high
    assert robustness.verdict_on_gain((value, (low, high))) == "gains"
    assert robustness.verdict_on_gain(robustness.gain(poor, good, labels)) == "loses"
    value, bounds = robustness.gain(good, good, labels)
    assert (value, *bounds) == pytest.approx((0, 0, 0), abs=1e-6)
    assert robustness.verdict_on_gain((0.0, (0.0, 0.0))) == "cannot tell"


def test_of_too_few_patients_no_gain_can_be_told():
    labels = np.array([0] * 4 + [1] * 20)
    good, poor = np.eye(2)[labels], np.eye(2)[1 - labels]
    value, bounds = robustness.gain(good, poor, labels)
    assert value == 1
    assert np.isnan(bounds).all()
    assert robustness.verdict_on_gain((value, bounds)) == "cannot tell"


def test_copies_of_patients_make_an_interval_no_shorter_when_patients_are_named():
    rng = np.random.default_rng(1)
    labels = np.arange(150) % 3
    one, other = predictions(rng, labels, 0.5), predictions(rng, labels, 0.3)
    copies = np.repeat(np.arange(150), 4)
    widths = []
    for patients in (None, copies):
        _, (low, high) = robustness.gain(
            one[copies], other[copies], labels[copies], patients=patients
        )
        widths.append(high - low)
    assert widths[1] > 1.6 * widths[0]


def test_the_worst_is_the_one_with_the_lowest_auc():
    rng = np.random.default_rng(2)
    labels = np.arange(120) % 3
    groups = np.repeat(["a", "b", "c"], 40)
    p = np.where((groups == "b")[:, None], predictions(rng, labels, 0.05),
                 predictions(rng, labels, 1.0))  # fmt: skip
    assert robustness.worst(by_group(p, labels, groups)) == "b"
    one_class = by_group(p[labels == 0], labels[labels == 0], groups[labels == 0])
    with pytest.raises(DataError, match="more than one class"):
        robustness.worst(one_class)


def test_recall_is_the_share_found():
    p = np.eye(3)[[0, 1, 1, 2]]
    assert robustness.recall(p, np.array([0, 1, 0, 0]), 0) == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="no image of class 2"):
        robustness.recall(p, np.array([0, 1, 0, 0]), 2)
