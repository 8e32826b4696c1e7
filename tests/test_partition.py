from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtutor.errors import DataError, FedtutorError, PartitionError
from fedtutor.images import patients_of
from fedtutor.partition import label_divergence, own_test_images, partition

SCHEMES = ("iid", "dirichlet", "shards", "quantity", "by:ward")


@st.composite
def cohorts(draw):
    """What a cohort is made of, and a number of hospitals that its patients can fill."""
    patients = draw(st.lists(st.integers(0, 25), min_size=1, max_size=60))
    n = len(patients)
    return {
        "patients": patients,
        "labels": draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)),
        "ward": draw(st.lists(st.sampled_from(["x", "y", "z", None]), min_size=n, max_size=n)),
    }, draw(st.integers(1, len(set(patients))))


def images_of(make_images, cohort):
    return make_images(len(cohort["patients"]), classes=4, size=1, **cohort)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(drawn=cohorts(), alpha=st.floats(1e-3, 1e3), seed=st.integers(0, 9))
def test_every_image_is_in_one_hospital_and_no_hospital_is_empty(
    make_images, scheme, drawn, alpha, seed
):
    cohort, hospitals = drawn
    data = images_of(make_images, cohort)
    parts = partition(data, scheme, hospitals, alpha=alpha, seed=seed)
    assert np.sort(np.concatenate(parts.indices)).tolist() == list(range(len(data)))
    assert len(parts) == hospitals
    assert min(map(len, parts.indices)) > 0


@pytest.mark.parametrize("scheme", SCHEMES)
@given(drawn=cohorts(), alpha=st.floats(1e-3, 1e3), seed=st.integers(0, 9))
def test_a_patient_stays_in_one_hospital(make_images, scheme, drawn, alpha, seed):
    cohort, hospitals = drawn
    data = images_of(make_images, cohort)
    parts = partition(data, scheme, hospitals, alpha=alpha, seed=seed)
    seen = [patient for own in parts.hospitals(data) for patient in set(patients_of(own))]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(drawn=cohorts())
def test_hospitals_have_names_of_their_own_and_images_in_ascending_order(
    make_images, scheme, drawn
):
    cohort, hospitals = drawn
    parts = partition(images_of(make_images, cohort), scheme, hospitals)
    assert len(set(parts.names)) == hospitals
    assert all((np.diff(own) > 0).all() for own in parts.indices)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_partition_is_drawn_by_its_seed(make_images, scheme):
    data = make_images(90, ward=["x", "y"] * 45)
    first, again, other = (
        [own.tolist() for own in partition(data, scheme, 4, seed=seed).indices]
        for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.parametrize("scheme", SCHEMES)
def test_as_many_hospitals_as_patients_get_one_patient_each(make_images, scheme):
    data = make_images(12, patients=np.arange(12) // 2, ward=["x", "y", "z"] * 4)
    parts = partition(data, scheme, 6)
    assert [len(own) for own in parts.indices] == [2] * 6


def test_five_hospitals_are_the_default(make_images):
    assert len(partition(make_images(50), "iid")) == 5


def test_iid_gives_every_hospital_as_many_patients_but_for_one(make_images):
    sizes = [len(own) for own in partition(make_images(53), "iid", 5).indices]
    assert sorted(sizes) == [10, 10, 11, 11, 11]


def test_iid_is_nearly_the_same_mixture_everywhere(make_images):
    data = make_images(3000)
    assert label_divergence(partition(data, "iid", 5).class_counts(data)) < 0.05


def test_a_small_alpha_skews_the_labels_and_a_large_one_does_not(make_images):
    data = make_images(3000, size=1)
    divergence = {
        alpha: np.mean(
            [
                label_divergence(
                    partition(data, "dirichlet", 5, alpha=alpha, seed=seed).class_counts(data)
                )
                for seed in range(10)
            ]
        )
        for alpha in (0.1, 1, 1000)
    }
    assert divergence[0.1] > 0.4
    assert divergence[0.1] > divergence[1] > divergence[1000]
    assert divergence[1000] < 0.05


def test_two_shards_hold_at_most_two_classes(make_images):
    data = make_images(200, classes=10)
    counts = partition(data, "shards", 10).class_counts(data)
    assert ((counts > 0).sum(axis=1) <= 2).all()
    assert (counts.sum(axis=1) == 20).all()


def test_quantity_skew_is_in_the_sizes_and_not_in_the_labels(make_images):
    data = make_images(6000, size=1)
    counts = partition(data, "quantity", 4, alpha=0.5, seed=1).class_counts(data)
    sizes = counts.sum(axis=1)
    assert sizes.max() > 3 * sizes.min()
    assert label_divergence(counts) < 0.05


def test_by_column_makes_one_hospital_of_each_value(make_images):
    data = make_images(6, view=["PA", "AP", "PA", "AP", "L", "PA"])
    parts = partition(data, "by:view")
    assert parts.names == ("AP", "L", "PA")
    assert [own.tolist() for own in parts.indices] == [[1, 3], [4], [0, 2, 5]]


def test_by_column_calls_a_gap_unknown(make_images):
    parts = partition(make_images(4, sex=["F", None, "M", None]), "by:sex")
    assert dict(zip(parts.names, map(len, parts.indices), strict=True)) == {
        "F": 1,
        "M": 1,
        "unknown": 2,
    }


def test_ages_are_put_into_bands(make_images):
    data = make_images(9, age=[0, 17, 18, 39, 40, 64, 65, 101, np.nan])
    parts = partition(data, "by:age")
    assert {name: own.tolist() for name, own in zip(parts.names, parts.indices, strict=True)} == {
        "0-17": [0, 1],
        "18-39": [2, 3],
        "40-64": [4, 5],
        "65+": [6, 7],
        "unknown": [8],
    }


def test_a_patient_of_two_views_goes_where_most_of_the_images_are(make_images):
    data = make_images(
        6, patients=["p", "p", "p", "q", "q", "r"], view=["PA", "AP", "AP", "PA", "PA", "AP"]
    )
    parts = partition(data, "by:view")
    assert [own.tolist() for own in parts.indices] == [[0, 1, 2, 5], [3, 4]]


def test_with_fewer_hospitals_than_values_the_two_smallest_are_merged(make_images):
    data = make_images(9, ward=list("xyyzzzzzz"))
    parts = partition(data, "by:ward", 2)
    assert {name: len(own) for name, own in zip(parts.names, parts.indices, strict=True)} == {
        "z": 6,
        "x + y": 3,
    }


def test_with_more_hospitals_than_values_the_largest_is_halved(make_images):
    data = make_images(9, ward=list("xyyzzzzzz"))
    parts = partition(data, "by:ward", 4)
    sizes = {name: len(own) for name, own in zip(parts.names, parts.indices, strict=True)}
    assert sizes == {"x": 1, "y": 2, "z": 3, "z #2": 3}


def test_class_counts_and_summary_count_images_and_patients(make_images):
    data = make_images(
        5, classes=2, labels=[0, 1, 1, 0, 0], patients=[1, 1, 2, 3, 4], ward=list("xxxyy")
    )
    parts = partition(data, "by:ward")
    assert parts.class_counts(data).tolist() == [[1, 2], [2, 0]]
    summary = parts.summary(data)
    assert summary.columns.tolist() == ["images", "patients", "a", "b"]
    assert summary.loc["x"].tolist() == [3, 2, 1, 2]
    assert summary.loc["y"].tolist() == [2, 2, 2, 0]


def test_own_test_images_are_those_with_the_value_of_the_hospital(make_images):
    test = make_images(4, age=[12, 30, 70, 80], view=["PA", "AP", "PA", "PA"])
    assert own_test_images("by:view", "PA", test).tolist() == [True, False, True, True]
    assert own_test_images("by:age", "65+", test).tolist() == [False, False, True, True]


def test_without_a_column_no_test_image_is_a_hospitals_own(make_images):
    assert not own_test_images("dirichlet", "Hospital 1", make_images(4)).any()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5, 5], [50, 50]], 0),
        ([[10, 0], [0, 10]], 0.5),
        ([[30, 0], [0, 10]], 0.375),
        ([[7, 3]], 0),
    ],
)
def test_label_divergence_is_the_one_worked_by_hand(counts, expected):
    assert label_divergence(np.array(counts)) == pytest.approx(expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_more_hospitals_than_patients_are_refused_with_both_numbers(make_images, scheme):
    data = make_images(12, patients=np.arange(12) // 3, ward=["x"] * 12)
    with pytest.raises(PartitionError, match=r"5 hospitals .* 4 patients of toy; .*at most 4"):
        partition(data, scheme, 5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("hospitals", [0, -1])
def test_no_hospital_at_all_is_refused(make_images, scheme, hospitals):
    data = make_images(12, ward=["x", "y"] * 6)
    with pytest.raises(PartitionError, match=f"at least 1; got {hospitals}"):
        partition(data, scheme, hospitals)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("hospitals", [2.5, 2.0, "2", [2], True])
def test_a_number_of_hospitals_that_is_not_whole_is_refused(make_images, scheme, hospitals):
    data = make_images(12, ward=["x", "y"] * 6)
    with pytest.raises(PartitionError, match="the number of hospitals must be a whole number"):
        partition(data, scheme, hospitals)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", [-1, 0.5, "7", None])
def test_a_seed_that_is_not_whole_or_below_zero_is_refused(make_images, scheme, seed):
    data = make_images(12, ward=["x", "y"] * 6)
    with pytest.raises(PartitionError, match="seed must be a whole number of at least 0; got"):
        partition(data, scheme, 2, seed=seed)


def test_numpys_whole_numbers_are_whole(make_images):
    data = make_images(12)
    ours = partition(data, "iid", 3, seed=4).indices
    numpys = partition(data, "iid", np.int64(3), seed=np.uint8(4)).indices
    assert [own.tolist() for own in numpys] == [own.tolist() for own in ours]


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "quantity"])
@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), [0.5, 0.5], "1", None])
def test_an_alpha_that_is_not_above_zero_is_refused(make_images, scheme, alpha):
    with pytest.raises(PartitionError, match=re.escape(f"got {alpha}.")) as refusal:
        partition(make_images(12), scheme, 3, alpha=alpha)
    assert "alpha must be a number above 0" in str(refusal.value)


def test_an_unknown_scheme_is_refused_with_the_known_ones(make_images):
    for scheme in ("fair", "", ["iid"]):
        with pytest.raises(PartitionError, match="; known: iid, dirichlet, shards, quantity, by"):
            partition(make_images(12), scheme)


def test_without_a_scheme_the_sets_own_hospitals_are_taken_where_it_knows_them(make_images):
    known = make_images(12, hospital=["North", "South"] * 6)
    assert partition(known).names == ("North", "South")
    ours, dealt = (partition(make_images(12), scheme).indices for scheme in (None, "dirichlet"))
    assert [own.tolist() for own in ours] == [own.tolist() for own in dealt]


def test_a_column_that_does_not_exist_is_refused_with_those_that_do(make_images):
    with pytest.raises(DataError, match=r"no column 'ward'\. It has: view"):
        partition(make_images(4, view=["PA", "AP"] * 2), "by:ward")


def test_ages_that_are_no_numbers_are_refused(make_images):
    with pytest.raises(FedtutorError, match="age"):
        partition(make_images(3, age=["060Y", "012M", "031Y"]), "by:age")


@pytest.fixture
def findings(make_images):
    """120 images of 60 patients; a is common, b half as common, c rare, some images have none."""
    labels = np.zeros((120, 3), np.uint8)
    labels[:80, 0] = labels[40:100, 1] = labels[70:82, 2] = 1
    return make_images(
        120, size=1, labels=labels, patients=np.arange(120) // 2, ward=["x", "y"] * 60
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_images_with_several_findings_are_dealt_out_once_each(findings, scheme):
    parts = partition(findings, scheme, 3, seed=1)
    assert np.sort(np.concatenate(parts.indices)).tolist() == list(range(120))
    assert parts.class_counts(findings).sum(axis=0).tolist() == [80, 60, 12]
    strata = parts.strata_counts(findings)
    assert strata.sum(axis=0).tolist() == np.bincount(findings.strata, minlength=4).tolist()
    assert strata.sum(axis=1).tolist() == [len(own) for own in parts.indices]
    seen = [patient for own in parts.hospitals(findings) for patient in set(patients_of(own))]
    assert len(seen) == len(set(seen))


def test_the_summary_counts_each_finding_and_each_image_once(findings):
    table = partition(findings, "iid", 3).summary(findings)
    assert table.columns.tolist() == ["images", "patients", "a", "b", "c"]
    assert table["images"].tolist() == [40, 40, 40]
    assert table[["a", "b", "c"]].sum().tolist() == [80, 60, 12]


@pytest.mark.parametrize("scheme", ["dirichlet", "shards"])
def test_findings_are_dealt_out_unevenly(findings, scheme):
    def divergence(scheme):
        parts = [partition(findings, scheme, 4, alpha=0.1, seed=seed) for seed in range(8)]
        return np.mean([label_divergence(dealt.strata_counts(findings)) for dealt in parts])

    assert divergence(scheme) > 1.5 * divergence("iid")


def test_one_class_an_image_is_its_own_stratum(make_images):
    data = make_images(60)
    parts = partition(data, "dirichlet", 3)
    assert np.array_equal(parts.strata_counts(data), parts.class_counts(data))
