from __future__ import annotations

import shutil
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.datasets.readers.folders import read_path
from fedtutor.errors import DataError
from fedtutor.images import patients_of, split_by_patient

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def save(path, pixels=GREY):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def shade(value):
    return np.full((16, 16), value, np.uint8)


def write_table(folder, content, files=("a.png", "b.png", "c.png")):
    """A folder with a table beside ``img/``, whose images are as bright as they are far down."""
    for k, file in enumerate(files):
        save(folder / "img" / file, shade(10 * (k + 1) % 256))
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "labels.csv").write_bytes(content)
    return folder


@pytest.fixture
def two_classes(tmp_path):
    """A folder of two classes, ``a`` and ``b``, with one image each."""
    for name in "ab":
        save(tmp_path / name / "x.png")
    return tmp_path


def brightness(data):
    return data.images.mean(axis=(1, 2, 3)).tolist()


def assert_refused(path, words=None, **options):
    """``read_path`` refuses ``path`` in one line that has ``words``."""
    with pytest.raises(DataError, match=words) as refusal:
        read_path(path, **options)
    assert "\n" not in str(refusal.value)


def test_what_holds_no_two_classes_is_refused(tmp_path):
    assert_refused(tmp_path / "nothing", "nothing does not exist")
    assert_refused(tmp_path, r"holds no \.png, \.jpg, \.jpeg file")
    assert_refused(save(tmp_path / "x.png"), r"x\.png is not an \.npz file")
    assert_refused(tmp_path, "one sub-folder for each class")


def test_a_folder_with_one_class_is_refused(tmp_path):
    save(tmp_path / "sick" / "a.png")
    save(tmp_path / "sick" / "b.png")
    assert_refused(tmp_path, "one class, 'sick'")


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
    shutil.rmtree(tmp_path / "test")
    assert "split" not in read_path(tmp_path, size=16).table.columns


def test_other_file_names_tell_no_patient(tmp_path):
    save(tmp_path / "CNV" / "scan.jpeg")
    save(tmp_path / "NORMAL" / "person7.jpeg")
    table = read_path(tmp_path, size=8).table
    assert not {"patient", "cluster"} & set(table.columns)


KERMANY_NAMES = {
    "PNEUMONIA/person12_bacteria_46.jpeg": "person12",
    "PNEUMONIA/person12_virus_35.jpeg": "person12",
    "PNEUMONIA/person1_virus_6.jpeg": "person1",
    "PNEUMONIA/VIRUS-1008087-0002.jpeg": "1008087",
    "NORMAL/BACTERIA-1008087-0001.jpeg": "1008087",
    "NORMAL/IM-0435-0001-0002.jpeg": "IM-0435",
    "NORMAL/NORMAL2-IM-0435-0001.jpeg": "NORMAL2-IM-0435",
    "NORMAL/test_Normal_IM-0421-0001.png": "IM-0421",
    "NORMAL/NORMAL-28501-0001.jpeg": "28501",
}


def test_the_patients_of_kermanys_file_names_are_read(tmp_path):
    for name in KERMANY_NAMES:
        save(tmp_path / name)
    table = read_path(tmp_path, size=8).table
    assert dict(zip(table["file"], table["patient"], strict=True)) == KERMANY_NAMES


def test_with_some_files_of_other_names_the_patients_are_not_known_but_kept_together(tmp_path):
    for name in ("ill/person3_virus_15", "ill/person3_virus_16", "ill/scan", "normal/scan"):
        save(tmp_path / f"{name}.png")
    table = read_path(tmp_path, size=8).table
    assert "patient" not in table
    assert table["cluster"].tolist() == ["person3", "person3", "ill/scan.png", "normal/scan.png"]


@pytest.mark.parametrize("stray", [(), ("train/normal/scan",)])
def test_who_is_in_the_official_test_set_by_kermanys_names_leaves_the_others(
    tmp_path, caplog, stray
):
    train = ("ill/person1_virus_6", "ill/person2_virus_9", "normal/IM-0115-0001")
    names = (*(f"train/{name}" for name in train), "val/normal/IM-0115-0002", *stray)
    for name in (*names, "test/ill/person1_bacteria_1", "test/normal/IM-0001-0001"):
        save(tmp_path / f"{name}.png")
    train, test = split_by_patient(read_path(tmp_path, size=8))
    assert sorted(train.column("file")) == [
        "train/ill/person2_virus_9.png",
        *map("{}.png".format, stray),
    ]
    assert len(test) == 2
    assert "the official split shares 2 patients; 2 images of them are left out" in caplog.text


def test_a_table_of_no_known_set_is_not_passed_over(two_classes):
    (two_classes / "metadata.csv").write_text("file_name,diagnosis\na/x.png,a\n", encoding="utf-8")
    assert_refused(two_classes, r"metadata\.csv is .*save it as labels\.csv .*; .*move it away")
    (two_classes / "labels.csv").write_text(
        "file,label\na/x.png,ill\nb/x.png,normal\n", encoding="utf-8"
    )
    assert read_path(two_classes, size=8).class_names == ("normal", "ill")


def test_a_folder_is_read_at_128_pixels_or_the_size_asked_for(two_classes):
    assert read_path(two_classes).image_shape == (128, 128, 1)
    assert read_path(two_classes, size=24).image_shape == (24, 24, 1)
    # A few files leave no cache behind.
    assert sorted(path.name for path in two_classes.iterdir()) == ["a", "b"]


def test_one_broken_image_among_good_ones_is_refused_by_name(two_classes):
    (two_classes / "b" / "y.png").write_bytes(b"text")
    assert_refused(two_classes, r"b/y\.png is not an image")


@pytest.mark.parametrize("kind", ["folders", "table"])
def test_a_broken_image_is_left_out_and_told_when_asked(tmp_path, caplog, kind):
    for k, name in enumerate("abc"):
        save(tmp_path / name / "x.png", shade(10 * k))
    (tmp_path / "b" / "x.png").write_bytes(b"text")
    if kind == "table":
        (tmp_path / "labels.csv").write_bytes(b"file,label\na/x.png,a\nb/x.png,b\nc/x.png,c\n")
    data = read_path(tmp_path, size=16, strict=False)
    assert data.column("file").tolist() == ["a/x.png", "c/x.png"]
    assert data.labels.tolist() == [0, 2]
    assert brightness(data) == [0, 20]
    assert "1 of 3 files are left out" in caplog.text
    assert "b/x.png is not an image" in caplog.text
    (bad,) = data.table.attrs["bad_files"]
    assert bad["file"].endswith("b/x.png")
    assert len(data.take(np.array([1])).table) == 1


def test_hidden_files_of_macos_are_no_images(two_classes):
    for file in ("a/._x.png", "b/._x.png", "__MACOSX/a/x.png"):
        (two_classes / file).parent.mkdir(parents=True, exist_ok=True)
        (two_classes / file).write_bytes(b"resource fork")
    assert read_path(two_classes, size=16).column("file").tolist() == ["a/x.png", "b/x.png"]


def test_many_files_are_decoded_once(tmp_path, monkeypatch):
    monkeypatch.setattr("fedtutor.datasets.readers.files.CACHE_FROM", 3)
    for k, name in enumerate(("a/x", "a/y", "b/x")):
        save(tmp_path / f"{name}.png", shade(10 * k))
    assert brightness(read_path(tmp_path, size=16)) == [0, 10, 20]
    assert (tmp_path / ".decoded").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr("fedtutor.datasets.decode.read_image", None)
        assert brightness(read_path(tmp_path, size=16)) == [0, 10, 20]
    (tmp_path / "a" / "y.png").write_bytes(b"text")
    for _ in range(2):  # whether its reason was found now or before
        assert_refused(tmp_path, r"a/y\.png is not an image")
    assert brightness(read_path(tmp_path, size=16, strict=False)) == [0, 20]


def test_a_task_is_refused_where_there_is_no_choice(two_classes):
    assert_refused(two_classes, "no choice of tasks; got 'three-class'", task="three-class")
    (two_classes / "x.npz").write_bytes(b"")
    assert_refused(two_classes / "x.npz", "no choice of tasks; got 'COVID'", task="COVID")


# The table, the files and a task of each known data set.
KNOWN = {
    "nih-chestxray14": (
        "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"
        "0.png,Mass,1,3,M,PA\n1.png,No Finding,2,3,F,PA\n",
        ["images_001/images/0.png", "images_001/images/1.png"],
        "Mass",
    ),
    "covid-chestxray": (
        "metadata.csv",
        "patientid,finding,view,location,license,filename\n"
        "1,COVID-19,PA,,,0.png\n2,No Finding,PA,,,1.png\n",
        ["images/0.png", "images/1.png"],
        "COVID-19",
    ),
    "covid19-radiography": (
        *("README.md.txt", "about"),
        ["COVID/images/COVID-1.png", "Normal/images/Normal-1.png"],
        "four-class",
    ),
    "retinal-oct": (
        *("README.md", "about"),
        ["train/CNV/CNV-1-1.jpeg", "train/NORMAL/NORMAL-2-1.jpeg"],
        "CNV",
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_data_set_is_recognised_and_its_task_passed_on(tmp_path, name):
    table, text, files, task = KNOWN[name]
    for k, file in enumerate(files):
        save(tmp_path / file, np.random.default_rng(k).integers(0, 256, (16, 16), np.uint8))
    (tmp_path / table).write_text(text, encoding="utf-8")
    data = read_path(tmp_path, size=16, task=task)
    assert data.name == name
    assert len(data) == 2
    assert sorted(data.column("file")) == files


def test_a_bad_file_of_a_known_data_set_is_left_out_unless_strict(tmp_path):
    for k, file in enumerate(("CNV/CNV-1-1.jpeg", "DME/DME-1-1.jpeg", "DME/DME-2-1.jpeg")):
        save(tmp_path / file, shade(10 * k))
    (tmp_path / "DME" / "DME-3-1.jpeg").write_bytes(b"text")
    assert len(read_path(tmp_path, size=8)) == 3
    assert_refused(tmp_path, r"DME-3-1\.jpeg is not an image", strict=True)


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
        "file": ["img/c.png", "img/a.png"],
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
    assert_refused(tmp_path, "2 images, such as img/p.png, and none of them is in that folder")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_image_that_is_not_there_does_not_hide_the_others(tmp_path, missing):
    files = ["a.png", "b.png", "c.png", "d.png"]
    rows = [f"img/{file},{label}\n" for file, label in zip(files, "xyxy", strict=True)]
    write_table(tmp_path, "file,label\n" + "".join(rows), files)
    (tmp_path / "img" / files[missing]).unlink()
    seen = brightness(read_path(tmp_path, size=16))
    assert seen == [10 * (k + 1) for k in range(4) if k != missing]


def test_an_image_of_another_folder_does_not_stand_in_for_one_that_is_absent(tmp_path, caplog):
    """siteB's image of the same name is of somebody else."""
    files = ["siteA/1.png", "siteB/0.png", "siteB/1.png"]
    write_table(tmp_path, "file,label\nimg/siteA/0.png,normal\nimg/siteA/1.png,x\n", files)
    assert_refused(tmp_path, "all images .* are of one class, 'x'")
    assert "1 of 2 rows have no image here and are left out" in caplog.text
    assert "the first: img/siteA/0.png" in caplog.text


def test_a_name_alone_that_two_folders_have_is_refused(tmp_path):
    files = ["siteA/0.png", "siteB/0.png", "siteB/1.png"]
    write_table(tmp_path, "file,label\n0.png,normal\n1.png,x\n", files)
    assert_refused(
        tmp_path, r"0\.png .* may be img/siteA/0\.png or img/siteB/0\.png; give the path"
    )
    write_table(tmp_path, "file,label\n1.png,normal\nimg/siteA/0.png,x\n", files)
    assert brightness(read_path(tmp_path, size=16)) == [30, 10]


def test_paths_may_be_written_as_on_windows(tmp_path):
    write_table(tmp_path, "file,label\nimg\\a.png,x\n.\\img\\b.png,y\n")
    assert read_path(tmp_path, size=16).column("file").tolist() == ["img/a.png", "img/b.png"]


@pytest.mark.parametrize("separator", [";", "\t", " ; ", ", "])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["", "as Excel begins"])
def test_semicolons_tabs_and_spaces_around_words_are_read(tmp_path, separator, start):
    rows = [("file", "label", "age", "site"), ("img/a.png", " normal", 31, "0"),
            ("img/b.png", "x ", 64, ""), ("img/c.png", '"normal"', 7, "007")]  # fmt: skip
    write_table(tmp_path, start + "".join(separator.join(map(str, r)) + "\n" for r in rows))
    data = read_path(tmp_path, size=16)
    assert data.class_names == ("normal", "x")
    assert data.labels.tolist() == [0, 1, 0]
    assert data.column("age").tolist() == [31, 64, 7]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_known_table_is_recognised_whatever_separates_its_columns(tmp_path, separator):
    _, text, files, task = KNOWN["nih-chestxray14"]
    for file in files:
        save(tmp_path / file)
    (tmp_path / "labels.csv").write_text(text.replace(",", separator), encoding="utf-8")
    assert read_path(tmp_path, size=16, task=task).name == "nih-chestxray14"


def test_an_image_that_a_table_lists_twice_is_named(tmp_path):
    write_table(tmp_path, "file,label\nimg/a.png,x\nimg/b.png,y\nimg/c.png,x\na.png,y\n")
    assert_refused(tmp_path, r"lists 1 images more than once, such as img/a\.png; leave one row")


def test_a_column_of_names_is_not_taken_for_labels(tmp_path):
    files = [f"{k}.png" for k in range(101)]
    rows = [f"img/{file},patient {file}\n" for file in files]
    write_table(tmp_path, "file,label\n" + "".join(rows), files)
    assert_refused(tmp_path, "has 101 classes, such as 'patient 0.png' .*; at most 100 are read")


def test_an_age_that_is_no_number_is_kept_to_be_named(tmp_path):
    write_table(tmp_path, "file,label,age\nimg/a.png,x,31\nimg/b.png,y,old\n")
    assert read_path(tmp_path, size=16).column("age").tolist() == ["31", "old"]


BROKEN_TABLES = {
    "empty": "",
    "no rows": "file,label\n",
    "not text": b"\xff\xfe\x00\x01,\n\x80abc",
    "ragged": "file,label\nimg/a.png,x\nimg/b.png,y,z,w\n",
    "label of spaces": "file,label\nimg/a.png,  \nimg/b.png,y\nimg/c.png,x\n",
    "blank label": "file,label\nimg/a.png,\nimg/b.png,y\nimg/c.png,x\n",
    "blank finding": "Image Index,Finding Labels\na.png,\nb.png,Pneumonia\nc.png,No Finding\n",
    "blank patient": "file,label,patient\nimg/a.png,x,p\nimg/b.png,y,\nimg/c.png,x,q\n",
    "one class": "file,label\nimg/a.png,x\nimg/b.png,x\n",
}


@pytest.mark.parametrize("text", BROKEN_TABLES.values(), ids=BROKEN_TABLES)
def test_a_broken_table_is_refused_by_name(tmp_path, text):
    assert_refused(write_table(tmp_path, text), tmp_path.name)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_table_that_excel_saved_in_another_encoding_is_told_how(tmp_path, encoding):
    text = "file,label\nimg/a.png,gesund\nimg/b.png,Lungenentzündung\n".encode(encoding)
    assert_refused(write_table(tmp_path, text), "labels.csv cannot be read .* in Excel as 'CSV UTF")


@pytest.mark.parametrize("path", ["img/Röntgen 1.png", "Röntgen 1.png", "img\\Röntgen 1.png"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_umlaut_is_the_same_letter_however_a_system_writes_it(tmp_path, path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    names = [normalize(form, "Röntgen 1.png"), "b.png", "c.png"]
    text = normalize(other, f"file,label\n{path},x\nimg/b.png,y\nimg/c.png,y\n")
    write_table(tmp_path, text, names)
    assert read_path(tmp_path, size=16).column("file")[0] == f"img/{names[0]}"


def test_patient_numbers_keep_their_zeros(tmp_path):
    write_table(tmp_path, "file,label,patient\nimg/a.png,x,0012\nimg/b.png,y,7\nimg/c.png,y,8\n")
    assert read_path(tmp_path, size=16).column("patient").tolist() == ["0012", "7", "8"]


def test_class_folders_of_the_kermany_sample_keep_every_person_on_one_side(real_data, tmp_path):
    table = pd.read_csv(real_data / "kermany_cxr" / "labels.csv")
    for file, name, label in zip(*map(table.get, ("file", "original_name", "label")), strict=True):
        (tmp_path / label).mkdir(exist_ok=True)
        shutil.copy(real_data / "kermany_cxr" / file, tmp_path / label / name)
    person = dict(zip(table["original_name"], table["patient_id"], strict=True))
    for seed in range(3):
        sides = [
            {person[file.rpartition("/")[2]] for file in side.column("file")}
            for side in split_by_patient(read_path(tmp_path, size=8), seed=seed)
        ]
        assert len(sides[0]) + len(sides[1]) == table["patient_id"].nunique()


def test_the_kermany_sample_has_both_classes_and_the_patients_of_its_table(real_data):
    data = read_path(real_data / "kermany_cxr", size=28)
    table = pd.read_csv(real_data / "kermany_cxr" / "labels.csv")
    assert data.class_names == ("NORMAL", "PNEUMONIA")
    assert data.class_counts().tolist() == [158, 165]
    assert data.column("patient").tolist() == table["patient_id"].tolist()
    train, test = split_by_patient(data)
    assert len(train) + len(test) == 323
    assert not set(patients_of(train)) & set(patients_of(test))
