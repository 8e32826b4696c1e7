from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.datasets.phantoms import OCT_CLASSES as PHANTOM_CLASSES
from fedtutor.datasets.readers.oct import OCT_CLASSES, read_oct2017
from fedtutor.errors import DataError
from fedtutor.images import patients_of, split_by_patient


def write_oct(folder, *files):
    """The named files, each as bright as it is far down the list: 10, 20, ..."""
    for k, file in enumerate(files):
        path = folder / f"{file}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((31, 48), 10 * (k + 1), np.uint8)).save(path, quality=95)
    return folder


def named(data):
    return [Path(file).stem for file in data.column("file")]


def test_class_and_patient_are_in_the_file_name(tmp_path):
    write_oct(tmp_path, "CNV/CNV-11-1", "CNV/CNV-11-2", "DME/DME-7-1", "DRUSEN/DRUSEN-8-12")
    write_oct(tmp_path, "NORMAL/NORMAL-7-1")
    data = read_oct2017(tmp_path, size=16)
    assert data.class_names == OCT_CLASSES == PHANTOM_CLASSES
    assert data.labels.tolist() == [0, 0, 1, 2, 3]
    # A number in two classes is one patient.
    assert data.column("patient").tolist() == ["11", "11", "7", "8", "7"]
    assert (data.images.mean(axis=(1, 2, 3)) / 10).round().tolist() == [1, 2, 3, 4, 1]
    assert (data.name, data.image_shape) == ("retinal-oct", (16, 16, 1))
    assert "split" not in data.table.columns


@pytest.mark.parametrize("root", ["", "OCT2017", "a/b"])
def test_the_official_split_is_found_at_any_depth(tmp_path, caplog, root):
    files = ("train/CNV/CNV-1-1", "train/NORMAL/NORMAL-2-1", "val/DME/DME-3-1", "test/DME/DME-4-1")
    data = read_oct2017(write_oct(tmp_path / root, *files), size=8)
    split = dict(zip(named(data), data.column("split"), strict=True))
    assert split == {Path(file).name: file.split("/")[0] for file in files}
    assert tuple(map(len, split_by_patient(data))) == (2, 1)
    assert "shares" not in caplog.text


def test_shared_patients_leave_the_training_side_and_it_is_told(tmp_path, caplog):
    write_oct(
        tmp_path,
        "train/CNV/CNV-1-1",
        "train/CNV/CNV-1-2",
        "train/CNV/CNV-2-1",
        "train/NORMAL/NORMAL-1-1",
        "train/NORMAL/NORMAL-3-1",
        "train/NORMAL/NORMAL-9-1",
        "val/DME/DME-9-1",
        "val/DME/DME-4-1",
        "test/CNV/CNV-1-3",
        "test/DME/DME-4-2",
    )
    data = read_oct2017(tmp_path, size=8)
    train, test = split_by_patient(data)
    assert sorted(named(train)) == ["CNV-2-1", "NORMAL-3-1"]
    assert sorted(named(test)) == ["CNV-1-3", "DME-4-2"]
    assert sorted(named(data.take(np.flatnonzero(data.column("split") == "val")))) == ["DME-9-1"]
    assert "shares 3 patients; 5 images of them are left out" in caplog.text


def test_one_disease_can_be_told_from_normal(tmp_path):
    write_oct(tmp_path, "x/CNV-1-1", "x/DME-2-1", "x/NORMAL-3-1")
    data = read_oct2017(tmp_path, size=8, task="DME")
    assert data.class_names == ("NORMAL", "DME")
    labels = dict(zip(named(data), data.labels.tolist(), strict=True))
    assert labels == {"DME-2-1": 1, "NORMAL-3-1": 0}


@pytest.mark.parametrize(
    ("files", "task", "words"),
    [
        ((), None, "holds no image"),
        (("CNV/CNV-1-1", "CNV/scan"), None, r"scan\.jpeg is not named CLASS-patient"),
        (("CNV/CNV-1-1",), None, "fewer than two of the classes CNV, DME, DRUSEN, NORMAL"),
        (("CNV/CNV-1-1", "DME/DME-2-1"), "DME", "none is NORMAL"),
        (("CNV/CNV-1-1",), "AMD", "no task 'AMD'; there are: four-class, CNV, DME, DRUSEN"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, files, task, words):
    with pytest.raises(DataError, match=words):
        read_oct2017(write_oct(tmp_path, *files), size=8, task=task)


def test_a_bad_image_is_left_out_or_refused(tmp_path):
    write_oct(tmp_path, "CNV/CNV-1-1", "DME/DME-2-1", "DME/DME-3-1")
    (tmp_path / "DME" / "DME-2-1.jpeg").write_bytes(b"<html>")
    assert named(read_oct2017(tmp_path, size=8)) == ["CNV-1-1", "DME-3-1"]
    with pytest.raises(DataError, match=r"DME-2-1\.jpeg is not an image"):
        read_oct2017(tmp_path, size=8, strict=True)


def test_the_sample_has_the_classes_and_patients_of_its_table(real_data):
    folder = real_data / "oct2017"
    table = pd.read_csv(folder / "labels.csv").sort_values("file", ignore_index=True)
    data = read_oct2017(folder, size=32)
    assert data.column("file").tolist() == table["file"].tolist()
    assert np.array(data.class_names)[data.labels].tolist() == table["label"].tolist()
    assert data.class_counts().tolist() == [13, 26, 20, 11]
    assert data.column("patient").tolist() == table["patient_id"].astype(str).tolist()
    train, test = split_by_patient(data)
    assert len(train) + len(test) == 70
    assert not set(patients_of(train)) & set(patients_of(test))
