from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedtutor.errors import DataError
from fedtutor.images import check_no_leakage, patients_of, split_by_patient


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4, 8, 8, 1), np.float32),
        np.zeros((4, 8, 8), np.uint8),
        np.zeros((4, 8, 8, 2), np.uint8),
        np.zeros((4, 8, 8, 4), np.uint8),
        np.zeros((4, 8, 8, 3), np.float32),
    ],
    ids=["float", "no channel", "two channels", "with opacity", "colour in float"],
)
def test_images_of_another_kind_are_refused_with_their_shape(make_images, images):
    allowed = r"uint8 of shape \(n, height, width, 1\), grey, or \(n, height, width, 3\), colour"
    with pytest.raises(DataError, match=rf"{allowed}; got {images.dtype} of shape \(4, 8, 8"):
        replace(make_images(4), images=images)


def test_images_in_colour_keep_their_three_channels_in_every_part(make_images):
    images = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
    data = replace(make_images(4), images=images)
    assert data.image_shape == data.form["input_shape"] == (8, 8, 3)
    assert np.array_equal(data.take(np.array([2, 0])).images, images[[2, 0]])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("labels", np.zeros(3, np.int64)),
        ("table", pd.DataFrame(index=range(3))),
        ("masks", np.zeros((3, 16, 16), bool)),
    ],
)
def test_a_part_with_a_row_too_few_is_refused_by_name(make_images, part, value):
    with pytest.raises(DataError, match=f"4 images but 3 rows of {part}"):
        replace(make_images(4), **{part: value})


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_without_a_class_is_refused(make_images, label):
    with pytest.raises(DataError, match=r"0\.\.2 for the 3 classes a, b, c"):
        make_images(4, labels=[0, 1, 2, label])


def test_take_keeps_every_part_of_an_image_together_in_the_order_asked_for(make_images):
    masks = np.arange(6)[:, None, None] % 2 * np.ones((6, 16, 16)) > 0
    data = make_images(6, view=list("uvwxyz"), masks=masks)
    taken = data.take(np.array([5, 0, 3]))
    assert np.array_equal(taken.images, data.images[[5, 0, 3]])
    assert taken.labels.tolist() == [2, 0, 0]
    assert taken.column("view").tolist() == ["z", "u", "x"]
    assert taken.masks.any(axis=(1, 2)).tolist() == [True, False, True]
    assert taken.table.index.tolist() == [0, 1, 2]
    assert (taken.name, taken.class_names) == (data.name, data.class_names)


def test_a_name_that_is_no_utf_8_is_kept_with_pyarrow_and_without(make_images):
    assert make_images(2, hospital=["caf\udce9", "b"]).column("hospital").tolist() == [
        "caf\udce9",
        "b",
    ]
    assert pd.get_option("mode.string_storage") == "python"


def test_taking_nothing_leaves_a_data_set_without_images(make_images):
    empty = make_images(6).take(np.array([], np.int64))
    assert len(empty) == 0
    assert empty.class_counts().tolist() == [0, 0, 0]


def test_class_counts_count_a_class_without_images_as_zero(make_images):
    assert make_images(4, labels=[0, 2, 2, 0]).class_counts().tolist() == [2, 0, 2]


def test_image_shape_is_that_of_one_image(make_images):
    assert make_images(4, size=9).image_shape == (9, 9, 1)


def test_an_unknown_column_is_refused_with_those_there_are(make_images):
    data = make_images(2, view=["PA", "AP"], sex=["F", "M"])
    with pytest.raises(DataError, match=r"toy has no column 'ward'\. It has: view, sex"):
        data.column("ward")


def test_a_data_set_without_columns_says_that_it_has_none(make_images):
    with pytest.raises(DataError, match=r"no column 'ward'.*(none|no columns)"):
        make_images(2).column("ward")


@pytest.mark.parametrize("column", ["patient", "cluster"])
@pytest.mark.parametrize("gap", [None, np.nan, pd.NA, ""])
def test_an_image_without_a_patient_is_refused_wherever_it_comes_from(make_images, column, gap):
    table = pd.DataFrame({column: ["p", gap, "q", gap]}, dtype=object)
    with pytest.raises(DataError, match=f"toy: 2 of 4 images have no {column}; give each"):
        replace(make_images(4), table=table)


def test_clusters_stay_together_where_patients_are_not_known(make_images):
    clusters = np.arange(60) // 2
    data = make_images(60, cluster=clusters.astype(str))
    assert patients_of(data).tolist() == clusters.astype(str).tolist()
    train, test = split_by_patient(data)
    assert not set(patients_of(train)) & set(patients_of(test))
    with pytest.raises(DataError, match="1 patients are in both"):
        check_no_leakage(data.take(np.array([0])), data.take(np.array([1])))


def test_without_a_patient_column_every_image_is_a_patient(make_images):
    assert len(set(patients_of(make_images(7)))) == 7
    assert patients_of(make_images(3, patients=[8, 8, 9])).tolist() == ["8", "8", "9"]


@given(
    patients=st.lists(st.integers(0, 15), min_size=30, max_size=80),
    fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 5),
)
def test_a_split_has_every_image_once_and_every_patient_on_one_side(
    make_images, patients, fraction, seed
):
    assume(len(set(patients)) > 2)
    data = make_images(
        len(patients), classes=2, patients=patients, position=list(range(len(patients)))
    )
    train, test = split_by_patient(data, fraction, seed=seed)
    positions = [*train.column("position"), *test.column("position")]
    assert sorted(positions) == list(range(len(patients)))
    assert not set(patients_of(train)) & set(patients_of(test))


def test_a_quarter_of_the_patients_of_each_class_is_set_aside(make_images):
    data = make_images(120, labels=[0] * 80 + [1] * 36 + [2] * 4, patients=np.arange(120) // 2)
    train, test = split_by_patient(data)
    assert test.class_counts().tolist() == [20, 8, 2]
    assert train.class_counts().tolist() == [60, 28, 2]


def test_a_split_is_drawn_by_its_seed(make_images):
    data = make_images(60, position=list(range(60)))
    first, again, other = (
        split_by_patient(data, seed=seed)[1].column("position").tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_official_split_is_honoured_and_val_left_aside(make_images):
    split = ["train", "test", "val", "train", "test", "val"]
    train, test = split_by_patient(make_images(6, split=split, position=list(range(6))))
    assert train.column("position").tolist() == [0, 3]
    assert test.column("position").tolist() == [1, 4]


def test_an_official_split_that_shares_a_patient_is_refused_by_name(make_images):
    data = make_images(4, split=["train", "train", "test", "test"], patients=["p", "q", "q", "r"])
    with pytest.raises(DataError, match=r"1 patients are in both .*for example q"):
        split_by_patient(data)


def test_an_official_split_without_a_test_set_is_refused(make_images):
    with pytest.raises(DataError, match="leave 4 to train on and 0 to test on"):
        split_by_patient(make_images(4, split=["train"] * 4))


def test_one_patient_cannot_be_split(make_images):
    with pytest.raises(DataError, match=r"6 images of 1 patients .* give more patients"):
        split_by_patient(make_images(6, patients=[1] * 6))


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2, float("nan")])
def test_a_test_fraction_outside_zero_to_one_is_refused(make_images, fraction):
    with pytest.raises(DataError, match="test_fraction must lie between 0 and 1"):
        split_by_patient(make_images(30), fraction)


@pytest.mark.parametrize("seed", [-1, 0.5, "7"])
def test_a_split_with_a_seed_that_is_not_whole_or_below_zero_is_refused(make_images, seed):
    with pytest.raises(DataError, match="seed must be a whole number of at least 0; got"):
        split_by_patient(make_images(30), seed=seed)


def test_the_leakage_check_counts_and_names_the_patients_on_both_sides(make_images):
    data = make_images(6, patients=["p", "q", "r", "p", "q", "s"])
    with pytest.raises(DataError, match=r"toy: 2 patients are in both .*p, q.*split_by_patient"):
        check_no_leakage(data.take(np.arange(3)), data.take(np.arange(3, 6)))


def test_the_leakage_check_lets_a_clean_split_and_unknown_patients_pass(make_images):
    data = make_images(4, patients=["p", "p", "q", "q"])
    check_no_leakage(data.take(np.arange(2)), data.take(np.arange(2, 4)))
    check_no_leakage(make_images(4), make_images(4))
