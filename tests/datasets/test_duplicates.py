from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.datasets.decode import read_images
from fedtutor.datasets.duplicates import duplicate_groups, find_duplicates, remove_across

SIZE = 128


def scene(seed):
    """A smooth image like no other: blobs of light, float (128, 128) from 20 to 220."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    image = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return Image.fromarray((20 + np.asarray(image) * (200 / 255)).astype(np.uint8))


def stack(images):
    resized = [np.asarray(i.resize((SIZE, SIZE), Image.Resampling.BOX)) for i in images]
    return np.stack(resized)[..., None]


def jpeg(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=70)
    return Image.open(stream)


def cropped(image):
    edge = round(0.01 * image.width)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


ALTERED = {
    "resized": lambda image: image.resize((image.width * 5 // 8,) * 2, Image.Resampling.BICUBIC),
    "jpeg": jpeg,
    "brighter": lambda image: image.point(lambda value: min(255, value * 1.1)),
    "darker": lambda image: image.point(lambda value: max(0, value - 20)),
    "cropped": cropped,
}


def pairs_of(table):
    return list(zip(table["first"], table["second"], strict=True))


def test_an_exact_copy_is_told_from_a_near_one():
    images = stack([scene(0), scene(1), scene(0), scene(2), scene(1)])
    images[4, 5, 5] += 1
    table = find_duplicates(images)
    assert pairs_of(table) == [(0, 2), (1, 4)]
    assert table["exact"].tolist() == [True, False]
    assert (table["distance"][0], table["correlation"][0]) == (0, 1)


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_copy_is_found(how):
    originals = [scene(seed) for seed in range(6)]
    images = stack([*originals, ALTERED[how](originals[4])])
    table = find_duplicates(images)
    assert pairs_of(table) == [(4, 6)]
    assert not table["exact"].any()


@pytest.mark.parametrize("count", [0, 1, 40])
def test_without_a_pair_the_table_has_its_columns(count):
    images = stack([scene(seed) for seed in range(40)])[:count]
    table = find_duplicates(images)
    assert len(table) == 0
    assert list(table.columns) == ["first", "second", "distance", "correlation", "exact"]
    assert table["first"].dtype == table["distance"].dtype == np.int64
    assert table["exact"].dtype == bool


def test_a_likeness_of_the_hash_alone_does_not_make_a_pair(monkeypatch):
    # The same light, and another texture: what a chest has in common with any other chest.
    light = np.asarray(scene(0), dtype=float)
    rng = np.random.default_rng(0)
    grain = rng.integers(-30, 31, (2, 32, 32)).repeat(4, axis=1).repeat(4, axis=2)
    images = np.clip(light + grain, 0, 255).astype(np.uint8)[..., None]
    monkeypatch.setattr("fedtutor.datasets.duplicates.MAX_DISTANCE", 255)
    assert len(find_duplicates(images)) == 0


def test_even_images_are_twins_only_if_they_are_equal():
    images = np.zeros((3, 32, 32, 1), np.uint8)
    images[2] = 200
    assert pairs_of(find_duplicates(images)) == [(0, 1)]


@pytest.mark.parametrize("width", [1, 4, 7, 8192])
def test_pairs_are_found_across_blocks(monkeypatch, width):
    monkeypatch.setattr("fedtutor.datasets.duplicates.BLOCK", 3)
    monkeypatch.setattr("fedtutor.datasets.duplicates.WIDTH", width)
    images = stack([scene(seed) for seed in (0, 1, 2, 3, 1, 5, 6, 0, 8, 1)])
    assert pairs_of(find_duplicates(images)) == [(0, 7), (1, 4), (1, 9), (4, 9)]


@pytest.mark.process
@pytest.mark.slow
def test_memory_hardly_grows_with_the_images(peak_memory, tmp_path):
    """In narrower blocks, of which few images fill one.

    The pairs of 4,000 more would take 96 MB at once, their floats 20 MB; this is 1.3 kB each.
    """
    code = (
        "import numpy; from fedtutor.datasets import duplicates; duplicates.WIDTH = 2048; "
        "duplicates.find_duplicates(numpy.load(first, mmap_mode='r'))"
    )
    rng, peaks = np.random.default_rng(0), []
    for count in (2_500, 6_500):
        np.save(file := tmp_path / f"{count}.npy", rng.integers(0, 256, (count, 8, 8, 1), np.uint8))
        peaks.append(peak_memory(code, file, file))
    assert peaks[1] - peaks[0] < 12e6


def test_twins_of_twins_are_one_group():
    pairs = pd.DataFrame({"first": [7, 0, 2, 3], "second": [8, 5, 5, 7]})
    groups = duplicate_groups(pairs, 9)
    assert groups[0] == groups[5] == groups[2]
    assert groups[7] == groups[8] == groups[3]
    assert len(set(groups.tolist())) == 5
    assert duplicate_groups(pairs[:0], 3).tolist() == [0, 1, 2]


def test_a_long_chain_is_one_group():
    chain = np.random.default_rng(0).permutation(200)
    pairs = pd.DataFrame({"first": chain[:-1], "second": chain[1:]})
    assert set(duplicate_groups(pairs, 200)) == {0}


@pytest.fixture
def toy(make_images):
    def make(images):
        blank = make_images(len(images), size=SIZE, position=range(len(images)))
        return replace(blank, images=images)

    return make


def test_the_training_image_with_a_twin_in_the_test_set_is_removed(toy, caplog):
    train = toy(stack([scene(0), scene(1), scene(2), jpeg(scene(11)), scene(12)]))
    test = toy(stack([scene(10), scene(11), scene(12)]))
    kept, same, removed = remove_across(train, test)
    assert kept.column("position").tolist() == [0, 1, 2]
    assert np.array_equal(kept.images, train.images[:3])
    assert same is test
    assert removed[["train", "test", "exact"]].values.tolist() == [[3, 1, False], [4, 2, True]]
    assert "2 of 5 training images have a twin in the test set (1 in every pixel)" in caplog.text


def test_a_training_image_with_several_twins_is_removed_once_and_the_exact_one_is_told(toy):
    train = toy(stack([scene(0), scene(1)]))
    test = toy(stack([jpeg(scene(1)), scene(1)]))
    kept, _, removed = remove_across(train, test)
    assert len(kept) == 1
    assert removed[["train", "test"]].values.tolist() == [[1, 1]]


def test_images_on_disk_are_compared_without_reading_them_all(toy, tmp_path):
    np.save(tmp_path / "images.npy", stack([scene(0), scene(1), scene(2), scene(0)]))
    everything = toy(np.load(tmp_path / "images.npy", mmap_mode="r"))
    train, test = everything.take(np.array([0, 1])), everything.take(np.array([2, 3]))
    kept, _, removed = remove_across(train, test)
    assert kept.column("position").tolist() == [1]
    assert removed[["train", "test"]].values.tolist() == [[0, 1]]


def test_sets_without_common_images_stay_as_they_are(toy, caplog):
    train, test = toy(stack([scene(0), scene(0)])), toy(stack([scene(2)]))
    kept, same, removed = remove_across(train, test)
    assert kept is train
    assert same is test
    assert len(removed) == 0
    assert not caplog.text


REAL = {
    "nih_chestxray14": "Patient ID",
    "oct2017": "patient_id",
    "covid_chestxray": "patientid",
    "kermany_cxr": "patient_id",
}


@pytest.fixture(scope="module")
def real(real_data):
    """All real images at 128 pixels, whom each is of, and their files."""
    files, patients = [], []
    for folder, column in REAL.items():
        table = pd.read_csv(real_data / folder / "labels.csv")
        files += [real_data / folder / file for file in table["file"]]
        patients += [f"{folder} {patient}" for patient in table[column]]
    return read_images(files, size=SIZE).images, np.array(patients), files


@pytest.mark.slow
def test_no_two_real_patients_are_taken_for_twins(real):
    images, patients, files = real
    table = find_duplicates(images)
    assert len(images) == 982
    assert (patients[table["first"]] == patients[table["second"]]).all()
    exact = table[table["exact"]]
    names = [(files[a].name, files[b].name) for a, b in pairs_of(exact)]
    assert names == [("00002658_001.png", "00002658_002.png")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "share"),
    [("resized", 1), ("jpeg", 1), ("brighter", 1), ("darker", 1), ("cropped", 0.97)],
)
def test_twins_of_real_images_are_found(real, make_images, how, share):
    images, patients, files = real
    chosen = np.arange(0, len(images), 5)
    altered = []
    for k in chosen:
        with Image.open(files[k]) as image:
            altered.append(ALTERED[how](image.convert("L")))
    train = replace(
        make_images(len(chosen), size=SIZE, patients=patients[chosen]), images=stack(altered)
    )
    test = replace(make_images(len(images), size=SIZE, patients=patients), images=images)
    _, _, removed = remove_across(train, test)
    found = removed["train"].to_numpy()
    assert len(found) >= share * len(chosen)
    assert (patients[chosen][found] == patients[removed["test"]]).mean() > 0.99
