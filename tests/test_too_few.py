"""What report and figures say of few test patients, and of enough."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedtutor.cohort import Cohort
from fedtutor.evaluation import TOO_FEW
from fedtutor.figures import headline
from fedtutor.images import MedicalImages
from fedtutor.partition import partition
from fedtutor.report import conclusion
from fedtutor.summary import compare
from fedtutor.support.output import plain


def summary_of(ill, well):
    """A run's scores on so many test patients: pooled is perfect, the others ever less so."""
    labels = np.repeat([1, 0], [ill, well])
    table = pd.DataFrame({"patient": [f"p{k}" for k in range(len(labels))]})
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    data = MedicalImages(images, labels, ("well", "ill"), table, "toy", True)
    parts = partition(data, "iid", 2, seed=0)
    cohort = Cohort(data, data, parts, parts.hospitals(data), "iid")
    rng = np.random.default_rng(0)

    def model(noise):
        score = 1 / (1 + np.exp(-(4 * labels - 2 + noise * rng.normal(size=len(labels)))))
        return np.stack([1 - score, score], axis=1)

    noises = {"pooled": 0, "federated": 2, "local 0": 6, "local 1": 9}
    scores = compare(cohort, {name: model(noise) for name, noise in noises.items()})
    return plain(scores | {"strategy": "fedavg", "patients_known": True})


def test_with_enough_patients_the_report_gives_intervals():
    summary = summary_of(60, 90)
    for key, (low, high) in summary["auc_interval"].items():
        assert low < high
        assert low <= summary["auc"][key] <= high
    assert summary["auc_gain"]["federated_over_local_mean"][0] > 0
    words = conclusion(summary)
    assert "is above that of the mean hospital alone" in words
    assert "is below that of training on pooled images" in words
    assert TOO_FEW not in words + headline(summary).alt


@pytest.mark.parametrize(("ill", "well"), [(4, 100), (100, 4)])
def test_with_too_few_patients_the_report_says_so(ill, well):
    summary = summary_of(ill, well)
    assert set(map(tuple, summary["auc_interval"].values())) == {(None, None)}
    assert conclusion(summary) == (
        f"Against the mean hospital alone nothing can be said: {TOO_FEW}. "
        f"Against training on pooled images nothing can be said: {TOO_FEW}."
    )
    picture = headline(summary)
    assert picture.alt.count(TOO_FEW) == 4
    assert "95 % interval" not in picture.alt
    drawn = [text.get_text() for text in picture.figure.axes[0].texts]
    assert sum(TOO_FEW in words for words in drawn) == 4
