from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest

from fedtutor.datasets.readers.medmnist import read_medmnist
from fedtutor.datasets.readers.nih import FINDINGS
from fedtutor.errors import DataError
from fedtutor.images import split_by_patient

COUNTS = {"train": 6, "val": 2, "test": 3}


def medmnist(**changes):
    """The arrays of a MedMNIST file of 6, 2 and 3 images."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in COUNTS.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 12, 12), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 2
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def write_npz(folder, name="tiny", **changes):
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **medmnist(**changes))
    return path


def assert_refused(path, words=None):
    """``read_medmnist`` refuses ``path`` in one line that has ``words``."""
    with pytest.raises(DataError, match=words) as refusal:
        read_medmnist(path)
    assert "\n" not in str(refusal.value)


def test_an_npz_file_becomes_images_with_their_official_split(tmp_path):
    data = read_medmnist(write_npz(tmp_path))
    arrays = medmnist()
    assert data.column("split").tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    assert np.array_equal(data.images[:6, ..., 0], arrays["train_images"])
    assert np.array_equal(data.images[8:, ..., 0], arrays["test_images"])
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert (data.name, data.synthetic) == ("tiny", False)


def test_an_npz_file_in_colour_keeps_its_three_channels_at_any_size(tmp_path):
    rng = np.random.default_rng(0)
    colours = {
        f"{split}_images": rng.integers(0, 256, (n, 12, 12, 3), np.uint8)
        for split, n in COUNTS.items()
    }
    data = read_medmnist(write_npz(tmp_path, **colours))
    assert np.array_equal(data.images, np.concatenate(list(colours.values())))
    small = read_medmnist(tmp_path / "tiny.npz", size=6)
    blocks = colours["train_images"].reshape(6, 6, 2, 6, 2, 3).mean(axis=(2, 4))
    assert small.image_shape == (6, 6, 3)
    np.testing.assert_allclose(small.images[:6], blocks, atol=1)


def test_an_npz_file_is_resized_when_asked(tmp_path):
    path = write_npz(tmp_path)
    small = read_medmnist(path, size=6)
    blocks = medmnist()["train_images"].reshape(6, 6, 2, 6, 2).mean(axis=(2, 4))
    assert small.image_shape == (6, 6, 1)
    np.testing.assert_allclose(small.images[:6, ..., 0], blocks, atol=1)
    assert read_medmnist(path, size=20).image_shape == (20, 20, 1)


@pytest.mark.parametrize("key", ["train_labels", "val_images", "test_images"])
def test_an_npz_file_without_a_key_is_refused_with_its_name(tmp_path, key):
    assert_refused(write_npz(tmp_path, **{key: None}), rf"tiny\.npz has no {key}; a MedMNIST file")


@pytest.mark.parametrize("content", [b"", b"no zip at all\nnor anything", b"PK\x03\x04 half"])
def test_a_file_that_is_only_named_npz_is_refused(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    assert_refused(path, r"x\.npz cannot be read as an \.npz file")


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_a_truncated_npz_file_is_refused(tmp_path, fraction):
    path = write_npz(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    assert_refused(path, r"tiny\.npz cannot be read as an \.npz file")


def test_an_npz_file_with_damaged_contents_is_refused(tmp_path):
    path = write_npz(tmp_path)
    content = bytearray(path.read_bytes())
    start = content.index(b"train_images.npy") + len("train_images.npy")
    content[start + 20 : start + 40] = b"\xff" * 20
    path.write_bytes(content)
    assert_refused(path, r"tiny\.npz cannot be read as an \.npz file")


def test_an_npy_file_named_npz_is_refused(tmp_path):
    with open(tmp_path / "x.npz", "wb") as file:
        np.save(file, np.zeros(3))
    assert_refused(tmp_path / "x.npz", r"x\.npz")


WRONG_ARRAYS = {
    "colour train": {"train_images": np.zeros((6, 12, 12, 3), np.uint8)},
    "opacity": {f"{split}_images": np.zeros((n, 9, 9, 4), np.uint8) for split, n in COUNTS.items()},
    "volumes": {f"{split}_images": np.zeros((n, 9, 9, 9), np.uint8) for split, n in COUNTS.items()},
    "sizes differ": {"val_images": np.zeros((2, 9, 9), np.uint8)},
    "sizes differ, not the pixels": {"val_images": np.zeros((2, 6, 24), np.uint8)},
    "float": {"train_images": np.zeros((6, 12, 12))},
    "no array": {"train_images": np.uint8(3)},
    "order of Fortran": {"train_images": np.asfortranarray(medmnist()["train_images"])},
    "label missing": {"train_labels": np.zeros((5, 1), int)},
    "labels of another split": {
        "train_labels": np.zeros((5, 1), int),
        "val_labels": np.zeros((3, 1), int),
    },
    "findings in one split": {"val_labels": np.zeros((2, 14), int)},
    "findings above 1": {f"{split}_labels": np.full((n, 14), 2) for split, n in COUNTS.items()},
    "no numbers": {f"{split}_labels": np.full((n, 1), 0.5) for split, n in COUNTS.items()},
    "negative label": {"train_labels": np.full((6, 1), -1)},
    "no images": {key: array[:0] for key, array in medmnist().items()},
}


@pytest.mark.parametrize("changes", WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
def test_an_npz_file_with_arrays_that_do_not_fit_is_refused(tmp_path, changes):
    assert_refused(write_npz(tmp_path, **changes))


@pytest.mark.parametrize("label", [100, 10_000, 2**62, 2**63])
def test_a_label_out_of_range_is_refused_before_classes_are_made_of_it(tmp_path, label):
    labels = np.array([[0]] * 5 + [[label]], np.uint64 if label > 2**62 else np.int64)
    path = write_npz(tmp_path, train_labels=labels)
    assert_refused(path, "has labels from 0.* to .*; 0 to 99 are read")


@pytest.mark.parametrize("value", [2, 256, 257, -255])
def test_a_finding_other_than_0_and_1_is_refused_whatever_is_left_of_it_in_8_bits(tmp_path, value):
    labels = {f"{split}_labels": np.full((n, 14), value) for split, n in COUNTS.items()}
    assert_refused(write_npz(tmp_path, **labels), "has labels from .*; 0 to 1 are read")


def header_of(shape, dtype):
    stream = io.BytesIO()
    fields = {"shape": shape, "fortran_order": False, "descr": np.dtype(dtype).str}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


CLAIMS = {
    "images": ((2**40, 12, 12), (2**40, 1), "do not fit into the .* of free memory"),
    "empty images": ((2**40, 0, 0), (2**40, 1), "this course reads uint8 images, grey"),
    "pixels": ((6, 2**20, 2**20), (6, 1), "this course reads uint8 images, grey"),
    "findings": ((6, 12, 12), (6, 2**30), "this course reads uint8 images, grey"),
    "labels": ((6, 12, 12), (2**40, 1), "this course reads uint8 images, grey"),
    "fewer than none": ((-6, 12, 12), (-6, 1), "holds no image"),
}


@pytest.mark.parametrize(("images", "labels", "words"), CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("size", [None, 1])
def test_what_a_header_claims_is_not_believed(tmp_path, images, labels, words, size, monkeypatch):
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("room was made for it"))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was read"))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        for split in COUNTS:
            file.writestr(f"{split}_images.npy", header_of(images, np.uint8))
            file.writestr(f"{split}_labels.npy", header_of(labels, np.int64))
    with pytest.raises(DataError, match=words):
        read_medmnist(tmp_path / "x.npz", size=size)


@pytest.mark.parametrize("suffix", ["", "_64", "_128", "_224"])
def test_a_known_set_has_its_class_names_in_every_size(tmp_path, suffix):
    data = read_medmnist(write_npz(tmp_path, "octmnist" + suffix))
    assert data.class_names == ("CNV", "DME", "drusen", "normal")
    assert data.name == "octmnist"


def test_a_byte_that_changed_on_the_disk_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **medmnist())
    content = bytearray(path.read_bytes())
    content[content.index(medmnist()["test_images"].tobytes()) + 7] ^= 1
    path.write_bytes(content)
    assert_refused(path, "Bad CRC-32")


@pytest.mark.parametrize("name", ["pneumoniamnist", "tiny"])
def test_a_set_of_more_classes_than_known_gets_numbers(tmp_path, name):
    labels = {f"{split}_labels": np.arange(n)[:, None] for split, n in COUNTS.items()}
    data = read_medmnist(write_npz(tmp_path, name, **labels))
    assert data.class_names == tuple(f"class {k}" for k in range(6))


def test_chestmnist_has_fourteen_findings_an_image(tmp_path):
    rng = np.random.default_rng(0)
    labels = {f"{split}_labels": rng.integers(0, 2, (n, 14)) for split, n in COUNTS.items()}
    data = read_medmnist(write_npz(tmp_path, "chestmnist_64", **labels))
    assert data.class_names == FINDINGS
    assert data.labels.dtype == np.uint8
    assert np.array_equal(data.labels, np.concatenate(list(labels.values())))
    assert data.column("split").tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 3


def test_findings_are_named_as_those_of_medmnist_are():
    official = (
        "atelectasis cardiomegaly effusion infiltration mass nodule pneumonia pneumothorax "
        "consolidation edema emphysema fibrosis pleural hernia"
    )
    assert " ".join(name.split("_")[0].lower() for name in FINDINGS) == official


def test_a_file_that_is_not_compressed_is_read_too(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **medmnist())
    assert np.array_equal(read_medmnist(path).images[:6, ..., 0], medmnist()["train_images"])


@pytest.mark.process
def test_the_images_are_unpacked_into_their_place(tmp_path, peak_memory):
    """No split is in memory beside the whole: the peak is the set and a few batches."""
    counts = {"train": 6000, "val": 10, "test": 10}
    arrays = {f"{split}_images": np.zeros((n, 64, 64), np.uint8) for split, n in counts.items()}
    arrays |= {f"{split}_labels": np.arange(n)[:, None] % 2 for split, n in counts.items()}
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **arrays)
    own = sum(array.nbytes for array in arrays.values())
    read = "from fedtutor.datasets.readers.medmnist import read_medmnist; read_medmnist(first)"
    assert own < peak_memory(read, path, tmp_path) < 1.4 * own


def test_the_real_pneumoniamnist_has_the_published_counts(real_data):
    path = real_data / "pneumoniamnist.npz"
    data = read_medmnist(path)
    assert hashlib.md5(path.read_bytes()).hexdigest() == "28209eda62fecd6e6a2d98b1501bb15f"
    assert data.class_names == ("normal", "pneumonia")
    assert data.table["split"].value_counts().to_dict() == {"train": 4708, "val": 524, "test": 624}
    with np.load(path) as arrays:
        assert np.array_equal(data.images[:4708, ..., 0], arrays["train_images"])
        assert np.array_equal(data.labels[-624:], arrays["test_labels"][:, 0])
    train, test = split_by_patient(data)
    assert (len(train), len(test)) == (4708, 624)
