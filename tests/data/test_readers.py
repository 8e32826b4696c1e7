from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.data import patients_of, split_by_patient
from fedtutor.data.decode import read_image
from fedtutor.data.readers import read_npz, read_path
from fedtutor.errors import DataError

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
SPLITS = ("train", "val", "test")


def save(path, pixels=GREY, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def shade(value):
    return np.full((16, 16), value, np.uint8)


def write_table(folder, text, files=("a.png", "b.png", "c.png"), name="labels.csv"):
    """A folder with a table beside ``img/``, whose images are as bright as they are far down."""
    for k, file in enumerate(files):
        save(folder / "img" / file, shade(10 * (k + 1)))
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def brightness(data):
    return data.images.mean(axis=(1, 2, 3)).tolist()


def medmnist(**changes):
    """The arrays of a MedMNIST file of 6, 2 and 3 images."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in zip(SPLITS, (6, 2, 3), strict=True):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 12, 12), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % 2
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def write_npz(folder, **changes):
    path = folder / "tiny.npz"
    np.savez_compressed(path, **medmnist(**changes))
    return path


def assert_refused(path, words=None, **options):
    """``read_path`` refuses ``path`` in one line that has ``words``."""
    with pytest.raises(DataError, match=words) as refusal:
        read_path(path, **options)
    assert "\n" not in str(refusal.value)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    assert_refused(tmp_path / "nothing", "nothing does not exist")


def test_a_file_of_another_kind_is_refused(tmp_path):
    assert_refused(save(tmp_path / "x.png"), r"x\.png is not an \.npz file")


def test_an_npz_file_becomes_images_with_their_official_split(tmp_path):
    data = read_path(write_npz(tmp_path))
    arrays = medmnist()
    assert data.column("split").tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    assert np.array_equal(data.images[:6, ..., 0], arrays["train_images"])
    assert np.array_equal(data.images[8:, ..., 0], arrays["test_images"])
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert (data.name, data.synthetic) == ("tiny", False)


def test_an_npz_file_is_resized_when_asked(tmp_path):
    path = write_npz(tmp_path)
    small = read_npz(path, size=6)
    blocks = medmnist()["train_images"].reshape(6, 6, 2, 6, 2).mean(axis=(2, 4))
    assert small.image_shape == (6, 6, 1)
    np.testing.assert_allclose(small.images[:6, ..., 0], blocks, atol=1)
    assert read_npz(path, size=20).image_shape == (20, 20, 1)


@pytest.mark.parametrize("key", ["train_labels", "val_images", "test_images"])
def test_an_npz_file_without_a_key_is_refused_with_its_name(tmp_path, key):
    assert_refused(write_npz(tmp_path, **{key: None}), rf"tiny\.npz has no {key}; a MedMNIST file")


def test_an_npz_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert_refused(tmp_path / "other.npz", "has no train_images, train_labels, val_images")


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
        np.save(file, GREY)
    assert_refused(tmp_path / "x.npz", r"x\.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"train_images": np.zeros((6, 12, 12, 3), np.uint8)},
        {
            f"{split}_images": np.zeros((n, 9, 9, 3), np.uint8)
            for split, n in zip(SPLITS, (6, 2, 3), strict=True)
        },
        {"val_images": np.zeros((2, 9, 9), np.uint8)},
        {"train_images": np.zeros((6, 12, 12))},
        {"train_images": np.uint8(3)},
        {"train_labels": np.zeros((5, 1), np.int64)},
        {"train_labels": np.zeros((5, 1), np.int64), "val_labels": np.zeros((3, 1), np.int64)},
        {
            f"{split}_labels": np.zeros((n, 14), int)
            for split, n in zip(SPLITS, (6, 2, 3), strict=True)
        },
        {"train_labels": np.full((6, 1), -1)},
        {key: array[:0] for key, array in medmnist().items()},
    ],
    ids=[
        "colour train",
        "colour",
        "sizes differ",
        "float",
        "no array",
        "label missing",
        "labels of another split",
        "many labels",
        "negative label",
        "no images",
    ],
)
def test_an_npz_file_with_arrays_that_do_not_fit_is_refused(tmp_path, changes):
    assert_refused(write_npz(tmp_path, **changes))


def test_an_empty_folder_is_refused(tmp_path):
    assert_refused(tmp_path, r"holds no \.png, \.jpg, \.jpeg file")


def test_a_folder_with_one_class_is_refused(tmp_path):
    save(tmp_path / "sick" / "a.png")
    save(tmp_path / "sick" / "b.png")
    assert_refused(tmp_path, "one class, 'sick'")


def test_images_beside_no_table_and_in_no_class_folder_are_refused(tmp_path):
    save(tmp_path / "a.png")
    assert_refused(tmp_path, "one sub-folder for each class")


def test_sub_folders_are_classes_and_the_healthy_one_is_the_first(tmp_path):
    for name, value in (("CNV", 10), ("NORMAL", 20), ("DME", 30)):
        save(tmp_path / name / "x.png", shade(value))
    data = read_path(tmp_path, size=16)
    assert data.class_names == ("NORMAL", "CNV", "DME")
    assert dict(zip(data.labels.tolist(), brightness(data), strict=True)) == {0: 20, 1: 10, 2: 30}
    assert data.name == tmp_path.name
    assert "split" not in data.table.columns


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test")])
def test_train_and_test_above_the_class_folders_are_the_official_split(tmp_path, splits):
    for k, split in enumerate(splits):
        for name in ("sick", "normal"):
            save(tmp_path / split / name / f"{k}.png")
    data = read_path(tmp_path, size=16)
    assert data.class_names == ("normal", "sick")
    assert data.table.groupby("split").size().to_dict() == dict.fromkeys(splits, 2)
    train, test = split_by_patient(data)
    assert (len(train), len(test)) == (2, 2)


def test_oct2017_file_names_tell_the_patient(tmp_path):
    for name in ("CNV-11-1", "CNV-11-2", "CNV-7-1", "NORMAL-300-1"):
        save(tmp_path / name.split("-")[0] / f"{name}.jpeg")
    assert read_path(tmp_path, size=8).column("patient").tolist() == ["11", "11", "7", "300"]


def test_other_file_names_tell_no_patient(tmp_path):
    save(tmp_path / "CNV" / "CNV-11-1.jpeg")
    save(tmp_path / "NORMAL" / "scan.jpeg")
    assert "patient" not in read_path(tmp_path, size=8).table.columns


def test_a_folder_is_read_at_128_pixels_or_the_size_asked_for(tmp_path):
    for name in "ab":
        save(tmp_path / name / "x.png")
    assert read_path(tmp_path).image_shape == (128, 128, 1)
    assert read_path(tmp_path, size=24).image_shape == (24, 24, 1)


def test_one_broken_image_among_good_ones_is_refused_by_name(tmp_path):
    for name in "ab":
        save(tmp_path / name / "x.png")
    (tmp_path / "b" / "y.png").write_text("text")
    assert_refused(tmp_path, r"b/y\.png is not an image")


def test_a_table_names_label_patient_and_the_rest_by_any_of_their_names(tmp_path):
    write_table(
        tmp_path,
        "filename,finding,patientid,location,Patient Gender,Patient Age,View Position\n"
        "img/c.png,ill,7,Aachen,F,31,PA\n"
        "img/a.png,normal,8,Bonn,M,64,AP\n",
    )
    data = read_path(tmp_path, size=16)
    assert data.class_names == ("normal", "ill")
    assert data.labels.tolist() == [1, 0]
    assert brightness(data) == [30, 10]
    assert data.table.to_dict("list") == {
        "patient": ["7", "8"],
        "hospital": ["Aachen", "Bonn"],
        "sex": ["F", "M"],
        "age": [31, 64],
        "view": ["PA", "AP"],
    }


def test_a_split_column_of_a_table_is_honoured(tmp_path):
    write_table(
        tmp_path, "file,label,split\nimg/a.png,x,test\nimg/b.png,y,train\nimg/c.png,x,train\n"
    )
    train, test = split_by_patient(read_path(tmp_path, size=16))
    assert (brightness(train), brightness(test)) == ([20, 30], [10])


NIH = (
    "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"
    "a.png,Pneumonia|Mass,1,58,M,PA\n"
    "far.png,Pneumonia,2,31,F,AP\n"
    "b.png,No Finding,3,44,F,AP\n"
    "c.png,Mass,4,12,M,PA\n"
)


@pytest.mark.parametrize("name", ["Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv.gz"])
def test_nih_tables_find_the_images_that_are_here_in_any_sub_folder(tmp_path, name):
    write_table(tmp_path, NIH, name=name)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "img" / "b.png").rename(tmp_path / "deep" / "er" / "b.png")
    data = read_path(tmp_path, size=16)
    assert data.class_names == ("No Finding", "Pneumonia")
    assert data.labels.tolist() == [1, 0]
    assert brightness(data) == [10, 20]
    assert data.column("patient").tolist() == ["1", "3"]
    assert data.column("age").tolist() == [58, 44]


def test_nih_tables_tell_another_finding_when_asked(tmp_path):
    write_table(tmp_path, NIH, name="Data_Entry_2017.csv")
    data = read_path(tmp_path, size=16, finding="Mass")
    assert data.class_names == ("No Finding", "Mass")
    assert brightness(data) == [10, 20, 30]
    assert data.labels.tolist() == [1, 0, 1]


def test_a_finding_that_no_image_has_is_refused_with_those_there_are(tmp_path):
    write_table(tmp_path, NIH, name="Data_Entry_2017.csv")
    assert_refused(tmp_path, "'Hernia'; there are: Mass, Pneumonia", finding="Hernia")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("name,label", "no column for the file; known names: file: file, Image Index, filename"),
        ("file,diagnosis", "no column for the label; known names: label: label, Finding Labels"),
        ("name,diagnosis", "no column for the file or the label; "),
    ],
)
def test_a_table_without_the_columns_is_refused_with_their_known_names(tmp_path, header, words):
    assert_refused(write_table(tmp_path, f"{header}\nimg/a.png,x\n"), words)


def test_a_table_of_images_that_are_not_there_is_refused(tmp_path):
    write_table(tmp_path, "file,label\nimg/p.png,x\nimg/q.png,y\n")
    assert_refused(tmp_path, r"labels\.csv lists 2 images and none of them is below")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_image_that_is_not_there_does_not_hide_the_others(tmp_path, missing):
    files = ["img/a.png", "img/b.png", "img/c.png", "img/d.png"]
    write_table(
        tmp_path,
        "file,label\n" + "".join(f"{file},{'xy'[k % 2]}\n" for k, file in enumerate(files)),
        files=("a.png", "b.png", "c.png", "d.png"),
    )
    (tmp_path / files[missing]).unlink()
    assert brightness(read_path(tmp_path, size=16)) == [
        10 * (k + 1) for k in range(4) if k != missing
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file,label\n",
        b"\xff\xfe\x00\x01,\n\x80abc",
        "file,label\nimg/a.png,x\nimg/b.png,y,z,w\n",
        "file,label\nimg/a.png,\nimg/b.png,y\nimg/c.png,x\n",
        "Image Index,Finding Labels\na.png,\nb.png,Pneumonia\nc.png,No Finding\n",
        "file,label\nimg/a.png,x\nimg/b.png,x\n",
    ],
    ids=[
        "empty",
        "no rows",
        "not text",
        "ragged",
        "blank label",
        "blank finding",
        "one class",
    ],
)
def test_a_broken_table_is_refused_by_name(tmp_path, text):
    assert_refused(write_table(tmp_path, text), tmp_path.name)


@pytest.mark.parametrize(
    "content", [b"no gzip at all", gzip.compress(NIH.encode())[:-20]], ids=["no gzip", "truncated"]
)
def test_a_broken_gzip_table_is_refused(tmp_path, content):
    save(tmp_path / "img" / "a.png")
    (tmp_path / "Data_Entry_2017.csv.gz").write_bytes(content)
    assert_refused(tmp_path, r"Data_Entry_2017\.csv\.gz")


def test_patient_numbers_keep_their_zeros(tmp_path):
    write_table(tmp_path, "file,label,patient\nimg/a.png,x,0012\nimg/b.png,y,7\nimg/c.png,y,8\n")
    assert read_path(tmp_path, size=16).column("patient").tolist() == ["0012", "7", "8"]


def test_a_blank_patient_is_refused(tmp_path):
    write_table(tmp_path, "file,label,patient\nimg/a.png,x,p\nimg/b.png,y,\nimg/c.png,x,q\n")
    assert_refused(tmp_path, "patient")


def real_table(folder):
    return pd.read_csv(folder / "labels.csv")


def test_the_nih_sample_has_all_its_images_patients_and_views(real_data):
    folder = real_data / "nih_chestxray14"
    table = real_table(folder)
    data = read_path(folder, size=32)
    label = np.where(
        table["Finding Labels"].str.contains(r"\bPneumonia\b"), "Pneumonia", "No Finding"
    )
    assert len(data) == 489
    assert data.class_names == ("No Finding", "Pneumonia")
    assert np.array(data.class_names)[data.labels].tolist() == label.tolist()
    assert data.column("patient").tolist() == table["Patient ID"].astype(str).tolist()
    for ours, theirs in (
        ("sex", "Patient Gender"),
        ("age", "Patient Age"),
        ("view", "View Position"),
    ):
        assert data.column(ours).tolist() == table[theirs].tolist()
    counts = pd.crosstab(data.labels, data.column("view")).to_numpy()
    assert counts.tolist() == pd.crosstab(label, table["View Position"]).to_numpy().tolist()
    train, test = split_by_patient(data)
    assert len(train) + len(test) == 489
    assert not set(patients_of(train)) & set(patients_of(test))


def test_untouched_nih_images_are_found_through_the_official_table(real_data, tmp_path):
    source = real_data / "nih_chestxray14"
    name = "Data_Entry_2017_v2020.csv.gz"
    (tmp_path / name).symlink_to(source / name)
    (tmp_path / "images_001").mkdir()
    originals = sorted((source / "originals").glob("*.png"))
    for path in originals:
        (tmp_path / "images_001" / path.name).symlink_to(path)
    table = real_table(source).assign(name=lambda t: t["file"].map(lambda file: Path(file).name))
    table = table[table["name"].isin([path.name for path in originals])].sort_values("name")
    data = read_path(tmp_path, size=64)
    assert len(data) == len(table) == 18
    assert data.column("patient").tolist() == table["Patient ID"].astype(str).tolist()
    small = np.stack([read_image(source / file, 64) for file in table["file"]])
    assert np.abs(data.images[..., 0].astype(int) - small).mean() < 2


def test_the_oct_sample_has_four_classes_and_the_patients_of_its_table(real_data):
    data = read_path(real_data / "oct2017", size=32)
    table = real_table(real_data / "oct2017")
    assert data.class_names == ("NORMAL", "CNV", "DME", "DRUSEN")
    assert data.class_counts().tolist() == [11, 13, 26, 20]
    assert data.column("patient").tolist() == table["patient_id"].astype(str).tolist()


def test_the_class_folders_of_the_oct_sample_tell_the_same_as_its_table(real_data):
    folder = real_data / "oct2017"
    by_table, by_folder = read_path(folder, size=32), read_path(folder / "images", size=32)
    order = np.argsort([Path(file) for file in real_table(folder)["file"]])
    expected = by_table.take(order)
    assert by_folder.class_names == expected.class_names
    assert np.array_equal(by_folder.labels, expected.labels)
    assert np.array_equal(by_folder.images, expected.images)
    assert by_folder.column("patient").tolist() == expected.column("patient").tolist()


def test_the_kermany_sample_has_both_classes_and_the_patients_of_its_table(real_data):
    data = read_path(real_data / "kermany_cxr", size=28)
    table = real_table(real_data / "kermany_cxr")
    assert data.class_names == ("NORMAL", "PNEUMONIA")
    assert data.class_counts().tolist() == [158, 165]
    assert data.column("patient").tolist() == table["patient_id"].tolist()


def test_the_covid_sample_agrees_with_its_table(real_data):
    data = read_path(real_data / "covid_chestxray", size=28)
    table = real_table(real_data / "covid_chestxray")
    assert data.class_names == ("No Finding", "COVID-19", "Pneumocystis")
    assert data.class_counts().tolist() == [8, 90, 2]
    assert np.array(data.class_names)[data.labels].tolist() == table["finding"].tolist()
    assert data.column("patient").tolist() == table["patientid"].astype(str).tolist()
    assert data.column("view").tolist() == table["view"].tolist()
    hospital = pd.Series(data.column("hospital"))
    assert hospital.value_counts().to_dict() == table["location"].value_counts().to_dict()
