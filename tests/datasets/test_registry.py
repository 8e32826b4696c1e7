from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedtutor.datasets import DATASETS, data_folder, dataset_names, load
from fedtutor.errors import DataError


def write_pneumoniamnist(folder, side=28):
    """A file whose images are as bright as they are wide."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.full((6, side, side), side, np.uint8)
        arrays[f"{split}_labels"] = np.arange(6)[:, None] % 2
    np.savez(
        folder / ("pneumoniamnist.npz" if side == 28 else f"pneumoniamnist_{side}.npz"), **arrays
    )


@pytest.fixture
def few_phantoms(monkeypatch):
    for name, info in DATASETS.items():
        if info.synthetic:
            monkeypatch.setitem(DATASETS, name, replace(info, images=8))


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The data folder, empty."""
    monkeypatch.setenv("FEDTUTOR_DATA", str(tmp_path))
    return tmp_path


def test_the_list_tells_name_licence_source_and_classes():
    assert dataset_names() == (
        *("chest-phantoms", "oct-phantoms", "skin-phantoms", "nih-chestxray14"),
        *("covid19-radiography", "covid-chestxray", "retinal-oct"),
        *("fed-isic2019", "tuberculosis-cxr", "fed-heart-disease"),
        *("pneumoniamnist", "octmnist", "chestmnist", "dermamnist"),
    )
    for name, info in DATASETS.items():
        assert info.name == name
        assert all((info.title, info.licence, info.source))
        assert len(info.classes) >= 2


def test_the_data_folder_is_the_one_of_the_environment(monkeypatch, folder):
    assert data_folder() == folder
    assert DATASETS["pneumoniamnist"].folder == folder / "pneumoniamnist"
    monkeypatch.setenv("FEDTUTOR_DATA", "~/sets")
    assert data_folder() == Path.home() / "sets"


def test_the_data_folder_of_a_clone_is_its_datasets(monkeypatch):
    monkeypatch.delenv("FEDTUTOR_DATA", raising=False)
    assert data_folder() == Path(__file__).resolve().parents[2] / "datasets"


def test_a_set_that_is_generated_is_always_present_and_archives_are_no_set(folder):
    (folder / "nih-chestxray14").mkdir()
    for name in ("README.md", "images_001.tar.gz", ".images_002.tar.gz.part"):
        (folder / "nih-chestxray14" / name).touch()  # nothing that could be loaded
    present = [name for name, info in DATASETS.items() if info.is_present()]
    assert present == ["chest-phantoms", "oct-phantoms", "skin-phantoms"]


def test_a_set_is_present_once_its_file_is(folder):
    write_pneumoniamnist(folder / "pneumoniamnist")
    assert DATASETS["pneumoniamnist"].is_present()
    assert load("pneumoniamnist").class_names == ("normal", "pneumonia")
    assert load(folder / "pneumoniamnist/pneumoniamnist.npz", size=14).image_shape == (14, 14, 1)


@pytest.mark.parametrize(("size", "file"), [(None, 28), (20, 28), (40, 64), (64, 64), (100, 64)])
def test_of_several_files_the_smallest_that_need_not_be_enlarged_is_read(folder, size, file):
    for side in (28, 64):
        write_pneumoniamnist(folder / "pneumoniamnist", side)
    data = load("pneumoniamnist", size=size)
    assert data.image_shape == (size or file, size or file, 1)
    assert (data.images == file).all()


def test_a_set_that_is_not_here_says_what_to_put_where(folder):
    with pytest.raises(DataError, match=r"fedtutor fetch pneumoniamnist.* from https://") as e:
        load("pneumoniamnist")
    assert str(folder / "pneumoniamnist") in str(e.value)


@pytest.mark.parametrize("name", ["chest-phantom", "pneumonia", "PneumoniaMNIST", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"unknown data set '{name}'") as refusal:
        load(name)
    assert all(known in str(refusal.value) for known in dataset_names())


@pytest.mark.parametrize("path", ["gone.npz", "gone/folder", "/gone"])
def test_a_path_that_is_not_there_is_not_taken_for_a_name(monkeypatch, tmp_path, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"{path} does not exist"):
        load(path)


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("dataset", ["chest-phantoms", "some/path.npz"])
def test_a_size_below_one_is_refused(dataset, size):
    with pytest.raises(DataError, match=f"size must be at least 1 pixel; got {size}"):
        load(dataset, size=size)


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(DataError, match=r"retinal-oct has no task 'x'; .*: four-class, CNV, DME"):
        load("retinal-oct", task="x")
    with pytest.raises(DataError, match=r"chest-phantoms has no task 'x'; .* one task only"):
        load("chest-phantoms", task="x")


@pytest.mark.parametrize("name", ["chest-phantoms", "oct-phantoms", "skin-phantoms"])
def test_phantoms_are_drawn_on_the_spot_as_their_list_says(few_phantoms, name):
    data, again, other = (load(name, size=48, hospitals=2, seed=seed) for seed in (1, 1, 2))
    assert (len(data), data.image_shape) == (8, (48, 48, 3 if name == "skin-phantoms" else 1))
    assert data.class_names == DATASETS[name].classes
    assert data.synthetic
    assert data.name == name
    assert len(set(data.column("hospital"))) == 2
    assert np.array_equal(data.images, again.images)
    assert not np.array_equal(data.images, other.images)


def test_the_real_pneumoniamnist_is_what_its_list_says(real_data, folder):
    (folder / "pneumoniamnist").mkdir()
    file = real_data / "pneumoniamnist.npz"
    shutil.copy(file, folder / "pneumoniamnist")
    info = DATASETS["pneumoniamnist"]
    by_name, by_path = load("pneumoniamnist"), load(file)
    assert len(by_name) == info.images == 5856
    assert by_name.image_shape == (info.size, info.size, 1)
    assert by_name.class_names == by_path.class_names == info.classes
    assert np.array_equal(by_name.images, by_path.images)
    sides = by_name.table.groupby("split").size().to_dict()
    assert sides == {"train": 4708, "val": 524, "test": 624}
    assert by_name.labels[by_name.column("split") == "test"].sum() == 390
