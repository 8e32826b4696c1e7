"""Multi-label images: any number of findings an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedtutor.errors import DataError
from fedtutor.images import split_by_patient

FINDINGS = [[1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]]


@pytest.fixture
def data(make_images):
    return make_images(5, labels=FINDINGS)


def test_labels_with_a_column_a_finding_are_multi_label(make_images, data):
    assert data.multi_label
    assert not make_images(5).multi_label


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((5, 3), np.int64),
        np.zeros((5, 2), np.uint8),
        np.zeros((5, 3, 1), np.uint8),
        np.full((5, 3), 2, np.uint8),
    ],
    ids=["another dtype", "a finding too few", "a dimension too many", "neither 0 nor 1"],
)
def test_findings_of_another_kind_are_refused_with_what_is_wanted(data, labels):
    with pytest.raises(DataError, match=r"uint8 of shape \(n, 3\), 0 or 1 .*a, b, c; got"):
        replace(data, labels=labels)


def test_class_counts_are_the_images_with_each_finding(data):
    assert data.class_counts().tolist() == [3, 1, 3]
    assert data.take(np.array([], np.int64)).class_counts().tolist() == [0, 0, 0]


def test_the_stratum_of_an_image_is_its_rarest_finding_or_none(data):
    assert data.strata.tolist() == [0, 0, 3, 1, 2]
    assert data.strata_names == ("a", "b", "c", "no finding")


def test_of_one_class_the_stratum_is_the_class(make_images):
    data = make_images(5)
    assert data.strata.tolist() == data.labels.tolist()
    assert data.strata_names == data.class_names


def test_a_rare_finding_is_on_both_sides_of_a_split(make_images):
    labels = np.zeros((80, 3), np.uint8)
    labels[:40, 0] = labels[20:60, 1] = labels[::20, 2] = 1
    train, test = split_by_patient(make_images(80, labels=labels, patients=np.arange(80)))
    assert train.class_counts()[2] == 3
    assert test.class_counts()[2] == 1
