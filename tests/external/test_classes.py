"""Classes are matched by name, and what does not match is said with both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedtutor.errors import DataError
from fedtutor.external.classes import match_classes, read_map

OURS = ("Normal", "Viral Pneumonia", "COVID-19")


def theirs(make_images, *names, **further):
    return replace(make_images(12, classes=len(names), **further), class_names=names)


def test_case_spaces_and_hyphens_do_not_matter(make_images):
    data = theirs(make_images, "covid 19", "NORMAL", "viral_pneumonia")
    found = match_classes(data, OURS, False, {})
    assert found.data.class_names == OURS
    np.testing.assert_array_equal(found.data.labels, np.array([2, 0, 1])[data.labels])
    assert found.names == {
        "covid 19": "COVID-19", "NORMAL": "Normal", "viral_pneumonia": "Viral Pneumonia",
    }  # fmt: skip


def test_a_map_renames_merges_and_drops(make_images):
    data = theirs(make_images, "No Finding", "Bacteria", "Virus", "TB")
    mapping = read_map(["no finding=normal", "Virus=Viral Pneumonia", "Bacteria=Viral Pneumonia"])
    found = match_classes(data, OURS, False, mapping | read_map(["TB="]))
    assert found.dropped == 3
    np.testing.assert_array_equal(found.data.labels, [0, 1, 1] * 3)
    np.testing.assert_array_equal(
        found.data.images, data.images[[k for k in range(12) if k % 4 < 3]]
    )


@pytest.mark.parametrize(
    ("names", "mapping", "words"),
    [
        (("Normal", "TB"), {}, r"'TB' is no class of the model.*Normal, TB.*Normal, Viral Pn"),
        (("Normal", "TB"), {"TB": "Flu"}, r"'Flu', which --map makes of 'TB', is no class"),
        (("Normal", "COVID-19"), {"Flu": "Normal"}, r"--map names 'Flu', which toy has not"),
    ],
)
def test_what_does_not_match_is_said_with_both_sides(make_images, names, mapping, words):
    with pytest.raises(DataError, match=words):
        match_classes(theirs(make_images, *names), OURS, False, mapping)


@pytest.mark.parametrize("text", ["Normal", "=Normal", " = "])
def test_a_map_needs_an_equals_sign_and_a_name_before_it(text):
    with pytest.raises(DataError, match="--map takes THEIRS=OURS"):
        read_map([text])


def test_findings_are_told_by_the_columns_that_both_know(make_images):
    labels = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]] * 2)
    data = replace(make_images(6, labels=labels), class_names=("Mass", "nodule", "Hernia"))
    found = match_classes(data, ("Nodule", "Effusion", "Mass"), True, {"Hernia": ""})
    assert found.data.class_names == ("Nodule", "Mass")
    np.testing.assert_array_equal(found.columns, [0, 2])
    np.testing.assert_array_equal(found.data.labels, labels[:, [1, 0]])
    merged = match_classes(data, ("Nodule", "Mass"), True, {"Hernia": "Mass"})
    np.testing.assert_array_equal(merged.data.labels[:, 1], labels[:, 0] | labels[:, 2])
    with pytest.raises(DataError, match="no finding of toy is one that the model tells"):
        match_classes(data, ("Effusion",), True, {"Hernia": "", "Mass": "", "nodule": ""})


def test_one_class_an_image_and_several_findings_are_told_apart(make_images):
    with pytest.raises(DataError, match=r"several findings an image.*--task"):
        match_classes(make_images(6), ("a", "b", "c"), True, {})
