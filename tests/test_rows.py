from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedtutor import compiled_training
from fedtutor.compiled_training import Trainer
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.model import create_model, predict
from fedtutor.partition import partition
from fedtutor.settings import TrainingSettings
from fedtutor.support.rows import Rows


@pytest.fixture
def mapped(tmp_path):
    """A uint8 (20, 4, 5, 1) array on disk."""
    np.save(tmp_path / "a.npy", np.arange(400, dtype=np.uint8).reshape(20, 4, 5, 1))
    return np.load(tmp_path / "a.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "key",
    [
        3,
        -1,
        slice(1, 4),
        np.array([2, 0, 0]),
        np.array([True, False] * 3),
        (2, ..., 0),
        (2, 1),
        (slice(0, 2), ..., 0),
        (np.array([1, 1]), 2),
    ],
    ids=str,
)
def test_rows_are_indexed_like_the_array_they_stand_for(mapped, key):
    indices = np.array([7, 3, 3, 19, 0, 11])
    rows, plain = Rows(mapped, indices), np.asarray(mapped)[indices]
    np.testing.assert_array_equal(rows[key], plain[key])
    assert type(rows[key]) is type(plain[key])


def test_rows_of_rows_and_their_form(mapped):
    rows = Rows(Rows(mapped, np.arange(19, 9, -1)), np.array([0, 9]))
    np.testing.assert_array_equal(np.asarray(rows), np.asarray(mapped)[[19, 10]])
    assert (rows.shape, rows.dtype, len(rows)) == ((2, 4, 5, 1), np.uint8, 2)


def test_rows_out_of_range_are_refused_at_once(mapped):
    with pytest.raises(IndexError):
        Rows(mapped, np.array([20]))


def test_a_data_set_on_disk_is_split_and_trained_on_without_being_read_at_once(mapped, tmp_path):
    np.save(tmp_path / "big.npy", np.random.default_rng(0).integers(0, 256, (60, 12, 12, 1), "u1"))
    images = np.load(tmp_path / "big.npy", mmap_mode="r")
    masks = np.zeros((60, 12, 12), bool)
    masks[3, 2, 2] = True
    table = pd.DataFrame({"patient": np.arange(60) // 2})
    on_disk = MedicalImages(images, np.arange(60) // 2 % 2, ("a", "b"), table, "x", masks=masks)
    in_memory = replace(on_disk, images=np.asarray(images))
    trainer = Trainer(create_model((12, 12, 1), 2), TrainingSettings())
    results = []
    for data in (on_disk, in_memory):
        train, test = split_by_patient(data)
        hospital = partition(train, "iid", 2, seed=0).hospitals(train)[0]
        weights, _ = trainer.train(create_model((12, 12, 1), 2).get_weights(), hospital)
        results.append([*weights, predict(trainer.model, test.images), data.has_lesion()])
    assert isinstance(hospital.images, np.ndarray)
    assert isinstance(on_disk.take(np.array([1])).images, Rows)
    assert results[0][-1].nonzero()[0].tolist() == [3]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_of_images_on_disk_training_reads_a_piece_at_a_time(monkeypatch):
    """Or memory would grow with the images; the pieces are whole batches, so nothing changes."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), np.uint8)
    labels, table = np.arange(40) % 2, pd.DataFrame({"patient": np.arange(40)})
    on_disk = MedicalImages(Rows(pixels, np.arange(40)), labels, ("a", "b"), table, "x")
    read, getitem = [], Rows.__getitem__

    def watched(self, key):
        read.append(len(found := getitem(self, key)))
        return found

    monkeypatch.setattr(Rows, "__getitem__", watched)
    monkeypatch.setattr(compiled_training, "PIXELS_AT_A_TIME", 16 * 144)
    trainer = Trainer(create_model((12, 12, 1), 2), TrainingSettings())
    start = create_model((12, 12, 1), 2).get_weights()
    ours, loss = trainer.train(start, on_disk, epochs=2)
    assert read == [16, 16, 8] * 2
    theirs, same_loss = trainer.train(start, replace(on_disk, images=pixels), epochs=2)
    assert loss == same_loss
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
