from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from fedtutor.cli import main


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    """Bad input must be found before TensorFlow is asked for anything."""

    def refuse(*_, **__):
        raise AssertionError("the run went on to TensorFlow")

    monkeypatch.setattr("fedtutor.experiment.trainer_for", refuse)


@pytest.fixture
def xrays(tmp_path):
    """A good folder: 16 images of 8 patients, two classes, two views."""
    folder = tmp_path / "xrays"
    folder.mkdir()
    rows = ["file,label,patient,view"]
    for k in range(16):
        Image.new("L", (16, 16), 10 * k).save(folder / f"{k}.png")
        rows.append(f"{k}.png,{('normal', 'sick')[k // 2 % 2]},p{k // 2},{('PA', 'AP')[k % 2]}")
    (folder / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def refusal(tmp_path, capsys):
    """Run ``fedtutor run`` with bad input and return the one line that it says."""

    def run(*arguments, out=None):
        out = out or tmp_path / "out"
        code = main(["run", "--size", "16", "--out", str(out), *map(str, arguments)])
        lines = capsys.readouterr().err.splitlines()
        assert code == 2
        assert len(lines) == 1
        assert lines[0].startswith("fedtutor: ")
        assert not out.is_dir() or not any(out.iterdir())
        return lines[0]

    return run


def test_a_missing_file(refusal, tmp_path):
    path = tmp_path / "gone.npz"
    assert f"{path} does not exist" in refusal("--dataset", path)


def test_a_missing_folder(refusal, tmp_path):
    assert "gone does not exist" in refusal("--dataset", tmp_path / "gone")


def test_an_empty_folder(refusal, tmp_path):
    (tmp_path / "empty").mkdir()
    line = refusal("--dataset", tmp_path / "empty")
    assert "empty holds no .png, .jpg, .jpeg file" in line
    assert "sub-folder for each class" in line


def test_a_truncated_image(refusal, xrays):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(xrays / "5.png")
    whole = (xrays / "5.png").read_bytes()
    (xrays / "5.png").write_bytes(whole[: len(whole) // 2])
    assert "5.png cannot be decoded" in refusal("--dataset", xrays)


def test_a_text_file_named_png(refusal, xrays):
    (xrays / "5.png").write_text("this is no image", encoding="utf-8")
    assert "5.png is not an image, whatever its name says" in refusal("--dataset", xrays)


def test_an_npz_without_the_keys(refusal, tmp_path):
    np.savez(tmp_path / "other.npz", images=np.zeros((3, 28, 28), np.uint8))
    line = refusal("--dataset", tmp_path / "other.npz")
    assert "other.npz has no train_images" in line
    assert "a MedMNIST file has" in line


def test_a_truncated_npz(refusal, tmp_path):
    np.savez(tmp_path / "half.npz", x=np.zeros(5000))
    whole = (tmp_path / "half.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    assert "half.npz cannot be read" in refusal("--dataset", tmp_path / "half.npz")


def test_an_empty_table(refusal, xrays):
    (xrays / "labels.csv").write_text("", encoding="utf-8")
    assert "labels.csv" in refusal("--dataset", xrays)


def test_a_table_without_the_columns(refusal, xrays):
    (xrays / "labels.csv").write_text("name,diagnosis\n1.png,normal\n", encoding="utf-8")
    assert "no column for the file or the label" in refusal("--dataset", xrays)


def test_an_unknown_data_set(refusal):
    line = refusal("--dataset", "chestphantoms")
    assert "unknown data set 'chestphantoms'" in line
    assert "chest-phantoms, oct-phantoms, skin-phantoms" in line


def test_a_data_set_that_is_not_here(refusal, monkeypatch, tmp_path):
    monkeypatch.setenv("FEDTUTOR_DATA", str(tmp_path))
    line = refusal("--dataset", "pneumoniamnist")
    assert "fedtutor fetch pneumoniamnist" in line
    assert str(tmp_path / "pneumoniamnist") in line


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "shards", "quantity", "by:view"])
def test_more_hospitals_than_patients(refusal, xrays, scheme):
    line = refusal("--dataset", xrays, "--partition", scheme, "--hospitals", 50)
    assert "50 hospitals cannot share the 6 patients of xrays" in line
    assert "at most 6" in line


@pytest.mark.parametrize("alpha", ["0", "-1", "nan"])
@pytest.mark.parametrize("scheme", ["dirichlet", "quantity"])
def test_an_alpha_of_zero_or_less(refusal, xrays, scheme, alpha):
    line = refusal("--dataset", xrays, "--partition", scheme, "--alpha", alpha, "--hospitals", 2)
    assert "alpha must be a number above 0" in line


def test_an_alpha_of_zero_with_the_partition_left_to_fedtutor(refusal, xrays):
    assert "alpha must be" in refusal("--dataset", xrays, "--alpha", "0", "--hospitals", 2)


def test_an_alpha_of_zero_even_where_no_alpha_is_used(refusal, xrays):
    assert "alpha must be" in refusal("--dataset", xrays, "--alpha", "0", "--partition", "by:view")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--rounds", "rounds must be at least 1; got 0"),
        ("--hospitals", "hospitals must be at least 1; got 0"),
        ("--local-epochs", "local epochs must be at least 1; got 0"),
        ("--min-hospitals", "min hospitals must be at least 1; got 0"),
        ("--batch-size", "batch size must be at least 1; got 0"),
        ("--learning-rate", "learning rate must be above 0; got 0"),
        ("--size", "size must be at least 1 pixel; got 0"),
    ],
)
def test_a_zero_where_one_is_the_least(refusal, xrays, option, words):
    assert words in refusal("--dataset", xrays, option, "0")


def test_a_seed_below_zero(refusal, xrays):
    assert "seed must be 0 or more; got -1" in refusal("--dataset", xrays, "--seed", "-1")


def test_an_output_folder_below_a_file(refusal, xrays, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    line = refusal("--dataset", xrays, out=tmp_path / "file" / "x")
    assert f"cannot write to {tmp_path / 'file' / 'x'}" in line
    assert "choose another folder" in line
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_an_output_folder_that_is_a_file(refusal, xrays, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert "cannot write to" in refusal("--dataset", xrays, out=tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root and Windows write to any folder"
)
def test_a_read_only_output_folder(refusal, xrays, tmp_path):
    (tmp_path / "mine").mkdir(mode=0o555)
    assert "cannot write to" in refusal("--dataset", xrays, out=tmp_path / "mine")


def test_a_column_that_does_not_exist(refusal, xrays):
    line = refusal("--dataset", xrays, "--partition", "by:ward")
    assert "xrays has no column 'ward'" in line
    assert "patient, view" in line


def test_an_unknown_partition(refusal, xrays):
    line = refusal("--dataset", xrays, "--partition", "fair")
    assert "unknown partition 'fair'; known: iid, dirichlet, shards, quantity, by:COLUMN" in line


def test_an_unknown_optimizer(refusal, xrays):
    assert "unknown optimizer 'lion'; known: adam" in refusal(
        "--dataset", xrays, "--optimizer", "lion"
    )


def test_an_unknown_strategy(refusal, xrays):
    assert "'fedmagic'" in refusal("--dataset", xrays, "--strategy", "fedmagic")


def test_more_hospitals_wanted_in_a_round_than_there_are(refusal, xrays):
    line = refusal("--dataset", xrays, "--hospitals", "2", "--min-hospitals", "3")
    assert "min hospitals is 3 but there are only 2" in line
