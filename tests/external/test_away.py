"""Home against away: each model on each hospital's own patients."""

from __future__ import annotations

import numpy as np
import pytest

from fedtutor import figures
from fedtutor.cohort import Cohort
from fedtutor.external.away import home_and_away
from fedtutor.partition import partition
from fedtutor.support.output import plain


def cohort_of(train, test, scheme):
    parts = partition(train, scheme, None if scheme.startswith("by:") else 2)
    return Cohort(train, test, parts, parts.hospitals(train), scheme)


def knowing(data, hospital):
    """A model that is right at one hospital, and wrong at the others."""
    right = np.eye(2)[data.labels]
    at_home = (data.column("hospital") == hospital)[:, None]
    return np.where(at_home, 0.1 + 0.8 * right, 0.9 - 0.8 * right)


@pytest.fixture
def two_hospitals(make_images):
    return make_images(80, classes=2, hospital=np.repeat(["A", "B"], 40))


def test_the_matrix_has_home_on_its_diagonal(two_hospitals):
    data = two_hospitals
    cohort = cohort_of(data, data, "by:hospital")
    said = {"federated": np.eye(2)[data.labels] * 0.8 + 0.1, "pooled": np.full((80, 2), 0.5)}
    said |= {f"local {k}": knowing(data, name) for k, name in enumerate(cohort.names)}
    table = home_and_away(cohort, said)
    assert table["models"] == ["A", "B", "federated", "pooled"]
    np.testing.assert_allclose(table["auc"], [[1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    assert (table["at_home"], table["away"], table["federated"]) == (1, 0, 1)
    picture = figures.away(plain(table))
    assert "the model of federated: 1.00, 1.00" in picture.alt
    assert picture.to_png().startswith(b"\x89PNG")


def test_a_hospital_with_few_patients_has_no_number(make_images):
    labels, hospital = [0, 1] * 30 + [0] * 20 + [1] * 4, ["A"] * 60 + ["B"] * 24
    data = make_images(84, classes=2, labels=labels, hospital=hospital)
    cohort = cohort_of(data, data, "by:hospital")
    said = {name: knowing(data, "A") for name in ("local 0", "local 1", "federated", "pooled")}
    table = plain(home_and_away(cohort, said))
    assert [row[1] for row in table["auc"]] == [None] * 4
    assert table["hospitals"][1] == {"name": "B", "num_images": 24, "classes": []}
    assert table["at_home"] == 1
    assert figures.away(table).to_png().startswith(b"\x89PNG")


def test_where_nobody_can_tell_whose_patients_they_are_there_is_none(two_hospitals):
    assert home_and_away(cohort_of(two_hospitals, two_hospitals, "iid"), {}) is None
