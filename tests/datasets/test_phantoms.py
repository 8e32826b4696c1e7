"""The phantoms: reproducible, plausible in number and anatomy, and honest about their lesions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedtutor.datasets.phantoms import (
    CHEST_CLASSES,
    OCT_CLASSES,
    SKIN_CLASSES,
    Shortcut,
    chest_phantoms,
    oct_phantoms,
    skin_phantoms,
)
from fedtutor.datasets.phantoms.chest import CHEST_HOSPITALS
from fedtutor.datasets.phantoms.hospitals import name_hospitals
from fedtutor.datasets.phantoms.scanner import develop_photo
from fedtutor.datasets.phantoms.skin import SKIN_HOSPITALS
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages

MAKERS = {
    "chest": (chest_phantoms, CHEST_CLASSES, 0),
    "oct": (oct_phantoms, OCT_CLASSES, 3),
    "skin": (skin_phantoms, SKIN_CLASSES, 0),
}


@pytest.fixture(params=MAKERS)
def kind(request):
    """(the generator, its classes, the index of the normal class)."""
    return MAKERS[request.param]


@pytest.fixture(params=MAKERS, scope="module")
def example(request) -> tuple[MedicalImages, int]:
    """300 small phantoms of five hospitals, and the index of their normal class."""
    make, _, normal = MAKERS[request.param]
    return make(300, size=64, seed=1), normal


def test_same_seed_same_bytes(kind):
    make, _, _ = kind
    first, again, other = (make(60, size=32, seed=seed) for seed in (4, 4, 5))
    assert first.images.tobytes() == again.images.tobytes()
    assert first.masks.tobytes() == again.masks.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert first.table.equals(again.table)
    assert first.images.tobytes() != other.images.tobytes()


@pytest.mark.parametrize("size", [16, 28, 64, 128])
def test_shapes_and_a_mask_for_every_lesion(kind, size):
    make, classes, normal = kind
    data = make(200, size=size, seed=2)
    channels = 3 if make is skin_phantoms else 1
    assert data.images.shape == (200, size, size, channels) and data.images.dtype == np.uint8
    assert data.masks.shape == (200, size, size) and data.masks.dtype == bool
    assert data.labels.shape == (200,) and data.labels.dtype == np.int64
    assert data.class_names == classes and data.synthetic
    assert data.name == make.__name__.replace("_", "-")
    ill = data.labels != normal  # a naevus is a lesion, too
    assert np.array_equal(data.masks.any(axis=(1, 2)), ill | (make is skin_phantoms))


def test_images_use_the_grey_scale(example):
    images = example[0].images.astype(float)
    spread = images.std(axis=(1, 2, 3))
    assert spread.min() > 15, "an image is nearly flat"
    assert np.mean(images == 255) < 0.2, "too much is blown out"
    assert len({image.tobytes() for image in images}) == len(images)


def test_table_values(example):
    table = example[0].table
    assert list(table.columns) == ["patient", "hospital", "sex", "age", "view"]
    assert set(table["sex"]) == {"F", "M"}
    assert table["age"].between(1, 95).all() and table["age"].dtype == np.int64
    assert table["age"].std() > 5
    assert set(table["view"]) in ({"PA", "AP"}, {"OD", "OS"}, {"contact", "polarised"})
    assert table["patient"].str.fullmatch(r"H\d+-P\d{4}").all()


def test_a_patient_has_one_hospital_diagnosis_age_and_sex(example):
    data = example[0]
    table = data.table.assign(label=data.labels)
    by_patient = table.groupby("patient")
    assert (by_patient[["hospital", "label", "age", "sex"]].nunique() == 1).all(axis=None)
    counts = by_patient.size()
    assert counts.min() == 1 and 3 <= counts.max() <= 4
    assert 1.2 < counts.mean() < 2.4


def test_mask_area(example):
    data, normal = example
    area = data.masks[data.labels != normal].mean(axis=(1, 2))
    assert 0.02 < np.median(area) < 0.2
    assert area.max() < 0.3


@pytest.mark.parametrize(("hospitals", "images"), [(1, 240), (5, 240), (12, 240), (7, 7)])
def test_hospitals(kind, hospitals, images):
    make, _, _ = kind
    counts = make(images, size=16, hospitals=hospitals).table.groupby("hospital").size()
    assert len(counts) == hospitals and counts.sum() == images
    assert counts.max() <= 4 * counts.min(), "one hospital has nearly everything"


@pytest.mark.slow
def test_a_thousand_hospitals_have_names_of_their_own():
    hospitals = name_hospitals(CHEST_HOSPITALS, 1000, None)
    assert len({hospital.name for hospital in hospitals}) == 1000


def test_prevalence_is_honoured(kind):
    make, classes, _ = kind
    prevalence = np.full((3, len(classes)), 0.1)
    prevalence[np.arange(3), np.arange(3) % len(classes)] += 1 - prevalence[0].sum()
    prevalence[2] = np.eye(len(classes))[1]
    data = make(300, size=16, hospitals=3, prevalence=prevalence)
    for index, (_, rows) in enumerate(data.table.groupby("hospital", sort=False)):
        seen = np.bincount(data.labels[rows.index], minlength=len(classes))
        assert np.abs(seen - prevalence[index] * len(rows)).max() < 1


def test_by_default_every_hospital_is_skewed(example):
    data, _ = example
    overall = data.class_counts() / len(data)
    for _, rows in data.table.groupby("hospital"):
        seen = np.bincount(data.labels[rows.index], minlength=len(overall)) / len(rows)
        # Of two classes the share of one says all.
        assert np.abs(seen - overall).max() > (0.1 if len(overall) > 2 else 0.05)
    assert overall.min() > 0.1, "a class is rare everywhere"


def test_scanners_differ(example):
    data, normal = example
    table = data.table[data.labels == normal]
    brightness = [data.images[rows.index].mean() for _, rows in table.groupby("hospital")]
    assert np.ptp(brightness) > 10


# ------------------------------------------------------------------------------------ shortcut


def in_corners(size: int, depth: float = 0.2) -> np.ndarray:
    """Bool (size, size), True in both upper corners."""
    row, column = np.indices((size, size)) / size
    return (row < depth) & ((column < 0.3) | (column > 0.7))


@pytest.mark.parametrize("hospital", [0, 1, 3])
def test_the_ink_of_a_shortcut_is_on_the_skin_if_and_only_if_the_label_matches(hospital):
    sets = [skin_phantoms(200, size=64, shortcut=Shortcut(hospital, label)) for label in (0, 1)]
    images = [data.images.astype(int) for data in sets]
    here = sets[0].table["patient"].str.startswith(f"H{hospital}-").to_numpy()
    labels = sets[0].labels
    for label, marked, plain in ((0, *images), (1, *images[::-1])):
        inked = (marked < plain).any(axis=3)
        assert np.array_equal(inked.any(axis=(1, 2)), here & (labels == label))
        assert not inked[:, ~in_corners(64, 0.3)].any()
        assert inked[here & (labels == label)].sum(axis=(1, 2)).min() >= 6
        taken = (1 - marked[inked] / plain[inked]).mean(axis=0)
        assert taken[1] > taken[0], "violet ink takes green before red"


@pytest.mark.parametrize("hospital", [0, 3])
@pytest.mark.parametrize("make", [chest_phantoms, oct_phantoms])
def test_shortcut_marker_appears_if_and_only_if_the_label_matches(make, hospital):
    label = 2
    other = make(200, size=64, shortcut=Shortcut(hospital, (label + 1) % 3))
    planted = make(200, size=64, shortcut=Shortcut(hospital, label))
    here = planted.table["patient"].str.startswith(f"H{hospital}-").to_numpy()
    # Those two sets carry the marker on disjoint images of one hospital, and differ just there.
    brighter = planted.images[..., 0] > other.images[..., 0]
    darker = planted.images[..., 0] < other.images[..., 0]
    assert np.array_equal(brighter.any(axis=(1, 2)), here & (planted.labels == label))
    assert np.array_equal(darker.any(axis=(1, 2)), here & (planted.labels == (label + 1) % 3))
    assert not (brighter | darker)[:, ~in_corners(64)].any()
    assert brighter.sum(axis=(1, 2))[here & (planted.labels == label)].min() >= 8


@pytest.mark.parametrize("make", [chest_phantoms, oct_phantoms])
def test_without_a_shortcut_the_marker_tells_nothing(make):
    plain, planted = make(200, size=64), make(200, size=64, shortcut=Shortcut(0, 2))
    here = plain.table["patient"].str.startswith("H0-").to_numpy()
    lost = (plain.images != planted.images).any(axis=(1, 2, 3))
    assert np.array_equal(lost, here & (plain.labels != 2))
    assert np.array_equal(plain.masks, planted.masks)
    assert not plain.masks[:, in_corners(64) & (np.indices((64, 64))[0] < 8)].any()


# ------------------------------------------------------------------------- lesions and anatomy


@pytest.mark.parametrize("make, share", [(chest_phantoms, 0.9), (oct_phantoms, 0.6)])
def test_severity_changes_the_image_where_the_mask_says(make, share):
    clear, mild, ill = (make(150, size=64, severity=(s, s)) for s in (0, 0.4, 1.0))
    change = np.abs(clear.images.astype(int) - ill.images)[..., 0]
    sick = ill.masks.any(axis=(1, 2))
    assert not change[~sick].any(), "severity must not touch normal images"
    inside, outside = change[ill.masks], change[sick][~ill.masks[sick]]
    assert inside.mean() > 10 and inside.mean() > 10 * outside.mean()
    assert inside.sum() > share * change.sum()
    assert 0 < np.abs(mild.images.astype(int) - clear.images).sum() < change.sum()


def test_a_melanoma_is_wilder_in_outline_and_colour_the_more_severe_it_is_and_a_naevus_is_not():
    clear, mild, ill = (skin_phantoms(200, size=64, severity=(s, s)) for s in (0, 0.5, 1.0))
    naevi = ill.labels == 0
    assert np.array_equal(clear.images[naevi], ill.images[naevi])
    inside = clear.masks | ill.masks
    change = np.abs(clear.images.astype(int) - ill.images).mean(axis=3)
    assert change[~naevi][inside[~naevi]].mean() > 10
    assert change[~naevi][~inside[~naevi]].mean() < 2
    assert (
        bend_of(clear)[~naevi].mean() < bend_of(mild)[~naevi].mean() < bend_of(ill)[~naevi].mean()
    )
    assert (
        hues_of(clear)[~naevi].mean() < hues_of(mild)[~naevi].mean() < hues_of(ill)[~naevi].mean()
    )


def bend_of(data):
    """How much of a mask is not in it turned by half: 0 for a symmetric one."""
    centred = []
    for mask in data.masks:
        middle = [round(float(places.mean())) for places in np.nonzero(mask)]
        centred.append(np.roll(mask, (32 - middle[0], 32 - middle[1]), (0, 1))[1:, 1:])
    centred = np.array(centred)
    differ = (centred ^ centred[:, ::-1, ::-1]).sum(axis=(1, 2))
    return differ / centred.sum(axis=(1, 2))


def hues_of(data):
    """How much red against blue varies within a mole."""
    ratio = np.log((data.images[..., 0] + 8.0) / (data.images[..., 2] + 8.0))
    return np.array([one[mask].std() for one, mask in zip(ratio, data.masks, strict=True)])


def test_lamps_differ_in_colour_and_rims_are_black():
    white = np.full((3, 2, 64, 64), 0.5, np.float32)
    for site in SKIN_HOSPITALS:
        lamp = replace(site.scanner, noise=0)
        middle = develop_photo(white, lamp, np.random.default_rng(0))[:, 0, 32, 32]
        assert middle == pytest.approx((0.5 * lamp.gain * np.array(lamp.cast)) ** lamp.gamma, 2e-3)
    assert len({site.scanner.cast for site in SKIN_HOSPITALS}) == 5
    data = skin_phantoms(300, size=64)
    corner = data.images[:, :3, :3].mean(axis=(1, 2, 3))
    rim = data.table["patient"].str.match("H[14]-").to_numpy()
    assert corner[rim].max() < 16 < corner[~rim].min()


def test_lesions_lie_in_the_lungs_and_covid_lower_and_further_out_than_viral_pneumonia():
    data = chest_phantoms(300, size=64)
    assert not data.masks[:, :, 31:33].any(), "a lesion is in the middle, between the lungs"
    row, column = np.indices((64, 64)) / 64
    viral, covid = (data.masks[data.labels == label].mean(axis=0) for label in (1, 2))
    for place in (row, np.abs(column - 0.5)):
        centre = [(mask * place).sum() / mask.sum() for mask in (viral, covid)]
        assert centre[1] > centre[0] + 0.05


def test_hearts_are_wider_in_ap_views_and_breasts_shade_the_lower_lungs():
    data = chest_phantoms(240, size=64, hospitals=1, prevalence=np.array([[1.0, 0, 0]]))
    band = data.images[:, 36:42, 14:52, 0].mean(axis=1)
    halfway = (band.min(axis=1) + band.max(axis=1)) / 2
    width = (band > halfway[:, None]).mean(axis=1)
    portable = data.column("view") == "AP"
    # Higher diaphragms alone would widen this measure by 0.04.
    assert width[portable].mean() > width[~portable].mean() + 0.08
    lower, upper = (data.images[:, rows, 13:22, 0].mean(axis=(1, 2))
                    for rows in (slice(38, 46), slice(18, 26)))  # fmt: skip
    women = (data.column("sex") == "F") & (data.column("age") > 20)
    men = data.column("sex") == "M"
    assert (lower - upper)[women].mean() > (lower - upper)[men].mean() + 5


def test_images_of_one_patient_are_alike(kind):
    make, classes, normal = kind
    healthy = np.eye(len(classes))[[normal]]
    data = make(120, size=64, hospitals=1, prevalence=healthy)
    small = data.images.reshape(len(data), 8, 8, 8, 8, -1).mean(axis=(2, 4)).reshape(len(data), -1)
    far = np.abs(small[:, None] - small).mean(axis=2)
    patient, view = data.column("patient"), data.column("view")
    same = (patient[:, None] == patient) & (view[:, None] == view) & ~np.eye(len(data), dtype=bool)
    other = (patient[:, None] != patient) & (view[:, None] == view)
    assert 0 < far[same].mean() < 0.95 * far[other].mean()


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"size": 8}, "16..1024"),
        ({"size": 5000}, "5000"),
        ({"size": 64.5}, "whole number"),
        ({"hospitals": 0}, "1..1000"),
        ({"hospitals": 1001, "num_images": 2000}, "1..1000"),
        ({"num_images": 4}, "4 images cannot be spread over 5 hospitals"),
        ({"seed": -1}, "seed"),
        ({"severity": (0.5, 0.2)}, "lowest <= highest"),
        ({"severity": (0.0, 1.5)}, "1.5"),
        ({"severity": 0.5}, "pair"),
        ({"severity": (float("nan"), 1.0)}, "severity"),
        ({"shortcut": Shortcut(hospital=5)}, "0..4"),
        ({"shortcut": Shortcut(hospital=0.5)}, "0..4"),
        ({"shortcut": Shortcut(label=4)}, "label"),
        ({"prevalence": np.ones((2, 3)) / 3}, r"shape \(2, 3\)"),
        ({"prevalence": np.ones((5, 7))}, "one column for"),
    ],
)
def test_bad_input_is_refused_with_a_reason(kind, wrong, message):
    make, _, _ = kind
    with pytest.raises(DataError, match=message):
        make(**{"num_images": 20, "size": 32, **wrong})


@pytest.mark.parametrize("bad, message", [(0.7, "row 1 sums to"), (np.nan, "nan"), (-1, "nan")])
def test_bad_prevalence_values(kind, bad, message):
    make, classes, _ = kind
    prevalence = np.full((5, len(classes)), 1 / len(classes))
    prevalence[1, 0] = bad
    with pytest.raises(DataError, match=message):
        make(20, size=32, prevalence=prevalence)
