from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.datasets import cache
from fedtutor.datasets.readers import files
from fedtutor.datasets.readers.folders import read_path
from fedtutor.datasets.readers.tuberculosis import read_tuberculosis
from fedtutor.errors import DataError
from fedtutor.images import split_by_patient
from fedtutor.partition import partition

READINGS = {
    "CHNCXR_0001_0": "male 45yrs\r\nnormal\r\n",
    "CHNCXR_0002_0": "female 3 months \nnormal\n",
    "CHNCXR_0327_1": "Female, 24yrs\n\nsecondary PTB in the upper field\nwith 2 m old pleuritis",
    "MCUCXR_0001_0": "Patient's Sex: F \nPatient's Age: 027Y\nnormal",
    "MCUCXR_0104_1": "Patient's Sex: M \nPatient's Age: 049Y\nlarge cavity\nno effusion",
}
SITES = {"CHNCXR": "ChinaSet_AllFiles", "MCUCXR": "MontgomerySet"}


def image(stem):
    """As wide or tall as its hospital's, and as bright as its number: Shenzhen's have palettes."""
    value = int(stem[7:11]) % 200 + 10
    if stem.startswith("CHNCXR"):
        return Image.new("RGB", (40, 30), (value,) * 3).convert("P", palette=Image.Palette.ADAPTIVE)
    return Image.new("L", (30, 40), value)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_bytes(content.encode("utf-8"))
    else:
        content.save(path)


def write_sets(folder, stems=tuple(READINGS)):
    """Both sets as the NLM lays them out, with Montgomery's lungs under the X-rays' names."""
    for stem in stems:
        site = folder / SITES[stem[:6]]
        write(site / "CXR_png" / f"{stem}.png", image(stem))
        write(site / "ClinicalReadings" / f"{stem}.txt", READINGS.get(stem, "male 30yrs\nnormal"))
        if stem.startswith("MCUCXR"):
            for side in ("leftMask", "rightMask"):
                write(site / "ManualMask" / side / f"{stem}.png", Image.new("1", (30, 40)))
    write(folder / "MontgomerySet" / "NLM-MontgomeryCXRSet-ReadMe.pdf", "%PDF")
    return folder


def column(data, name):
    stems = data.table["file"].str.rpartition("/")[2].str.removesuffix(".png")
    return dict(zip(stems, data.column(name).tolist(), strict=True))


def test_class_patient_and_hospital_are_in_the_name_and_lungs_are_no_x_rays(tmp_path):
    data = read_path(write_sets(tmp_path), size=16)
    assert (data.name, data.class_names) == ("tuberculosis-cxr", ("Normal", "Tuberculosis"))
    assert data.image_shape == (16, 16, 1) and data.masks is None
    stems = list(column(data, "file"))
    assert sorted(stems) == sorted(READINGS)
    assert data.labels.tolist() == [int(stem[-1]) for stem in stems]
    assert column(data, "patient") == {stem: stem[:-2] for stem in READINGS}
    places = {"CHNCXR": "Shenzhen", "MCUCXR": "Montgomery"}
    assert column(data, "hospital") == {stem: places[stem[:6]] for stem in READINGS}
    grey = [int(stem[7:11]) % 200 + 10 for stem in stems]
    assert data.images[:, 8, 8, 0].tolist() == grey


def test_sex_age_and_reading_come_from_the_words_of_either_hospital(tmp_path):
    data = read_tuberculosis(write_sets(tmp_path), size=8)
    assert list(column(data, "sex").values()) == ["M", "F", "F", "F", "M"]
    assert list(column(data, "age").values()) == pytest.approx([45, 0.25, 24, 27, 49])
    reading = column(data, "reading")
    assert reading["CHNCXR_0001_0"] == "normal"
    assert reading["CHNCXR_0327_1"].endswith("upper field with 2 m old pleuritis")
    assert reading["MCUCXR_0104_1"] == "large cavity no effusion"


def test_what_no_reading_tells_is_unknown_and_it_is_told(tmp_path, caplog):
    folder = write_sets(tmp_path)
    readings = folder / "ChinaSet_AllFiles" / "ClinicalReadings"
    (readings / "CHNCXR_0001_0.txt").unlink()
    (readings / "CHNCXR_0002_0.txt").write_bytes(b"\xff\xfe\x00nonsense")
    data = read_tuberculosis(folder, size=8)
    assert pd.isna(column(data, "sex")["CHNCXR_0001_0"])
    assert pd.isna(column(data, "age")["CHNCXR_0002_0"])
    assert "1 of 5 X-rays have no ClinicalReadings" in caplog.text


def test_of_a_copy_with_second_copies_each_x_ray_is_read_once(tmp_path):
    """A collection at Kaggle has both sets in one folder, and a part of Shenzhen's twice."""
    for stem, text in READINGS.items():
        write(tmp_path / "CXR_png" / f"{stem}.png", image(stem))
        write(tmp_path / "masks" / f"{stem}.png", Image.new("1", (30, 40)))
        write(tmp_path / "masks" / f"{stem}_mask.png", Image.new("1", (30, 40)))
        write(tmp_path / "ClinicalReadings" / f"{stem}.txt", text)
        write(tmp_path / "again" / "CXR_png" / f"{stem}.png", image(stem))
    write(tmp_path / "test" / "CHNCXR_0001_0.png", image("CHNCXR_0001_0"))
    data = read_tuberculosis(tmp_path, size=8)
    assert sorted(data.column("file")) == [f"CXR_png/{stem}.png" for stem in sorted(READINGS)]


def test_the_hospitals_are_the_silos(tmp_path):
    stems = [f"{site}_{k:04d}_{k % 2}" for site in SITES for k in range(1, 21)]
    data = read_tuberculosis(write_sets(tmp_path, stems), size=8)
    train, test = split_by_patient(data)
    assert len(train) + len(test) == 40
    parts = partition(train, "by:hospital")
    assert parts.names == ("Montgomery", "Shenzhen")


def test_one_hospital_alone_is_read_and_it_is_told(tmp_path, caplog):
    data = read_tuberculosis(write_sets(tmp_path, ["MCUCXR_0001_0", "MCUCXR_0104_1"]), size=8)
    assert set(data.column("hospital")) == {"Montgomery"}
    assert "only Montgomery is here" in caplog.text


@pytest.mark.parametrize("name", ["CHNCXR_0001.png", "CHNCXR_0001_2.png", "x_CHNCXR_0001_0.png"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    write(tmp_path / "CXR_png" / name, Image.new("L", (8, 8)))
    with pytest.raises(DataError, match=r"has no X-ray named like CHNCXR_0001_0\.png"):
        read_tuberculosis(tmp_path)


def test_one_class_alone_and_a_task_are_refused(tmp_path):
    folder = write_sets(tmp_path, ["CHNCXR_0001_0", "MCUCXR_0001_0"])
    with pytest.raises(DataError, match="none is Tuberculosis"):
        read_tuberculosis(folder, size=8)
    with pytest.raises(DataError, match="one task only; got 'cavity'"):
        read_path(folder, task="cavity")


def test_a_broken_x_ray_is_left_out_or_refused(tmp_path, caplog):
    folder = write_sets(tmp_path)
    broken = folder / "MontgomerySet" / "CXR_png" / "MCUCXR_0001_0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    data = read_tuberculosis(folder, size=8)
    assert len(data) == 4 and "MCUCXR_0001_0" not in column(data, "patient")
    assert "1 of 5 files are left out" in caplog.text
    with pytest.raises(DataError, match=r"MCUCXR_0001_0\.png cannot be decoded"):
        read_tuberculosis(folder, size=8, strict=True)


def test_a_second_start_is_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CACHE_FROM", 1)
    first = read_tuberculosis(write_sets(tmp_path), size=8)
    monkeypatch.setattr(cache.decode, "decode_each", None)  # it is not asked again
    second = read_tuberculosis(tmp_path, size=8)
    assert isinstance(second.images, np.memmap)
    assert np.array_equal(first.images, second.images)
    assert first.table.equals(second.table)
