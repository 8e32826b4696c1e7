from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.datasets.decode import read_image
from fedtutor.datasets.readers.nih import (
    FINDINGS,
    TASKS,
    THREE_CLASSES,
    finding_matrix,
    read_nih,
    read_nih_table,
)
from fedtutor.errors import DataError
from fedtutor.images import MedicalImages, patients_of, split_by_patient
from fedtutor.partition import partition

HEADER_2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
)
HEADER_2017 = HEADER_2020.replace("[x,y]", "[x,y],")
OFFICIAL = "Data_Entry_2017_v2020.csv.gz"

# name, findings, patient, age, sex, view: 8 images of 6 patients, each as bright as it is far down
ROWS = (
    ("00000001_000.png", "Pneumonia|Mass", "1", "58", "M", "PA"),
    ("00000001_001.png", "No Finding", "1", "59", "M", "AP"),
    ("00000002_000.png", "No Finding", "2", "31", "F", "AP"),
    ("00000003_000.png", "Mass", "3", "12", "M", "PA"),
    ("00000004_000.png", "Effusion", "4", "44", "F", "AP"),
    ("00000005_000.png", "Effusion|Pneumonia", "5", "71", "F", "PA"),
    ("00000006_000.png", "Effusion|Infiltration", "6", "80", "M", "PA"),
    ("00000006_001.png", "Pneumonia", "6", "81", "M", "PA"),
)
NAMES = [row[0] for row in ROWS]


def table_text(header=HEADER_2020, rows=ROWS, age=str):
    lines = [
        f"{name},{findings},0,{patient},{age(years)},{sex},{view},2500,2048,0.168,0.168"
        for name, findings, patient, years, sex, view in rows
    ]
    end = ",\n" if header.endswith(",\n") else "\n"
    return header + "".join(line + end for line in lines)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_nih(folder, text=None, table="Data_Entry_2017_v2020.csv", images=NAMES, size=32):
    """The layout of the archives of the NIH, the first half of the images in the first part."""
    (folder / table).write_text(text or table_text(), encoding="utf-8")
    for name in images:
        row = NAMES.index(name)
        part = f"images_{1 + row // 4:03d}"
        save(folder / part / "images" / name, np.full((size, size), 10 * row, np.uint8))
    return folder


def rows_of(data):
    """Which of ``ROWS`` each image is, told by its pixels."""
    return (data.images.mean(axis=(1, 2, 3)) / 10).astype(int).tolist()


@pytest.mark.parametrize(
    ("task", "classes", "rows", "labels"),
    [
        (None, ("No Finding", "Pneumonia"), [0, 1, 2, 5, 7], [1, 0, 0, 1, 1]),
        ("Mass", ("No Finding", "Mass"), [0, 1, 2, 3], [1, 0, 0, 1]),
        ("three-class", THREE_CLASSES, [0, 1, 2, 4, 6, 7], [1, 0, 0, 2, 2, 1]),
    ],
)
def test_a_finding_is_told_from_none_and_other_findings_are_left_out(
    tmp_path, task, classes, rows, labels
):
    data = read_nih(write_nih(tmp_path), size=16, task=task)
    assert data.class_names == classes
    assert rows_of(data) == rows
    assert data.labels.tolist() == labels
    assert data.image_shape == (16, 16, 1)
    assert data.name == "nih-chestxray14"
    assert data.masks is None
    assert "boxes" not in data.table.columns


def test_multi_label_keeps_all_images_and_findings(tmp_path):
    data = read_nih(write_nih(tmp_path), size=16, task="multi-label")
    assert rows_of(data) == list(range(8))
    assert data.labels.dtype == np.uint8
    assert data.class_names == FINDINGS
    named = ["|".join(np.array(FINDINGS)[row == 1]) or "No Finding" for row in data.labels]
    assert [set(name.split("|")) for name in named] == [set(row[1].split("|")) for row in ROWS]


def test_an_unknown_task_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(DataError, match="no task 'Covid'; there are: Pneumonia, three-class, mul"):
        read_nih(write_nih(tmp_path), task="Covid")
    assert set(TASKS) == {"three-class", "multi-label", *FINDINGS}


def test_a_finding_that_no_image_has_is_refused(tmp_path):
    with pytest.raises(DataError, match="fewer than two of the classes No Finding, Hernia"):
        read_nih(write_nih(tmp_path), size=16, task="Hernia")


def test_a_third_class_without_images_is_told(tmp_path, caplog):
    write_nih(tmp_path, images=NAMES[:4])
    data = read_nih(tmp_path, size=16, task="three-class")
    assert data.class_names == THREE_CLASSES
    assert data.class_counts().tolist() == [2, 1, 0]
    assert "no image here is Effusion" in caplog.text


@pytest.mark.parametrize("header", [HEADER_2017, HEADER_2020], ids=["2017", "2020"])
@pytest.mark.parametrize("comma_in_header", [True, False])
def test_both_tables_are_read(tmp_path, header, comma_in_header):
    text = table_text(header)
    if not comma_in_header:
        text = text.replace("[x,y],\n", "[x,y]\n")
    table = read_nih_table(write_nih(tmp_path, text, "Data_Entry_2017.csv", images=[]))
    columns = ["file", "findings", "patient", "age", "sex", "view"]
    assert table[columns].astype({"age": int}).astype(str).to_numpy().tolist() == list(
        map(list, ROWS)
    )
    assert table[["source", "licence"]].notna().all(axis=None)


def test_ages_with_units_are_years(tmp_path):
    ages = iter(("058Y", "011M", "002D", "012Y", "26W", "7", "414Y", "081Y"))
    text = table_text(age=lambda years: next(ages))
    table = read_nih_table(write_nih(tmp_path, text, images=[]))
    expected = [58, 11 / 12, 2 / 365.25, 12, 26 / 52.18, 7, np.nan, 81]
    np.testing.assert_allclose(table["age"], expected)


def test_impossible_ages_are_unknown_and_told(tmp_path, caplog):
    ages = {"58": "150", "31": "100", "44": "101"}
    text = table_text(age=lambda years: ages.get(years, years))
    table = read_nih_table(write_nih(tmp_path, text, images=[]))
    assert table["age"].isna().tolist() == [True, *[False] * 3, True, *[False] * 3]
    assert table["age"][2] == 100
    assert "2 ages of more than 100 years are taken as unknown" in caplog.text


def test_the_table_alone_is_enough_to_explore(tmp_path):
    write_nih(tmp_path, images=[])
    table = read_nih_table(tmp_path)
    counts = dict(zip(FINDINGS, finding_matrix(table["findings"]).sum(axis=0), strict=True))
    found = {name: count for name, count in counts.items() if count}
    assert found == {"Effusion": 3, "Infiltration": 1, "Mass": 2, "Pneumonia": 3}
    assert "label" not in table.columns
    labels = ["Mass", "No Finding", "No Finding", "Mass"]
    assert read_nih_table(tmp_path, "Mass")["label"].tolist() == labels
    with pytest.raises(DataError, match=r"none of them is in that folder"):
        read_nih(tmp_path)


def test_an_unknown_finding_in_the_table_is_refused():
    with pytest.raises(DataError, match="unknown finding 'Flu'"):
        finding_matrix(pd.Series(["Mass|Flu"]))


def test_any_part_of_the_set_can_be_used(tmp_path):
    data = read_nih(write_nih(tmp_path, images=NAMES[4:]), size=16, task="multi-label")
    assert rows_of(data) == [4, 5, 6, 7]
    assert data.column("file")[0] == "images_002/images/00000004_000.png"


LISTS = {"train_val_list.txt": NAMES[:5], "test_list.txt": NAMES[5:]}


@pytest.mark.parametrize(
    "present", [["train_val_list.txt", "test_list.txt"], ["train_val_list.txt"], ["test_list.txt"]]
)
def test_the_official_split_is_honoured(tmp_path, present):
    write_nih(tmp_path)
    for name in present:
        (tmp_path / name).write_text("\n".join(LISTS[name]), encoding="utf-8")
    data = read_nih(tmp_path, size=16, task="multi-label")
    assert data.column("split").tolist() == ["train"] * 5 + ["test"] * 3
    train, test = split_by_patient(data)
    assert (rows_of(train), rows_of(test)) == ([0, 1, 2, 3, 4], [5, 6, 7])


def test_an_image_in_neither_list_is_on_neither_side(tmp_path):
    write_nih(tmp_path)
    (tmp_path / "train_val_list.txt").write_text("\n".join(NAMES[:3]), encoding="utf-8")
    (tmp_path / "test_list.txt").write_text("\n".join(NAMES[5:]), encoding="utf-8")
    train, test = split_by_patient(read_nih(tmp_path, size=16, task="multi-label"))
    assert (rows_of(train), rows_of(test)) == ([0, 1, 2], [5, 6, 7])


def test_lists_that_share_a_patient_are_refused(tmp_path):
    write_nih(tmp_path)
    (tmp_path / "train_val_list.txt").write_text("\n".join(NAMES[:7]), encoding="utf-8")
    (tmp_path / "test_list.txt").write_text("\n".join(NAMES[7:]), encoding="utf-8")
    with pytest.raises(DataError, match="patients on both sides: 1, such as 6"):
        read_nih_table(tmp_path)


def test_the_official_split_is_dropped_where_only_one_side_is_here(tmp_path, caplog):
    write_nih(tmp_path, images=NAMES[:5])
    (tmp_path / "test_list.txt").write_text("\n".join(NAMES[5:]), encoding="utf-8")
    data = read_nih(tmp_path, size=16, task="multi-label")
    assert "split" not in data.table.columns
    assert "only the train images are here" in caplog.text


BOXES = (
    "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    "00000001_000.png,Pneumonia,256,512,128,256,,,\n"
    "00000001_000.png,Pneumonia,0,0,128.0,64.5,,,\n"
    "00000001_000.png,Mass,896,896,128,128,,,\n"
    "00000006_000.png,Infiltrate,640.7,10.2,0.5,0.5,,,\n"
    "00009999_000.png,Mass,0,0,9,9,,,\n"
)


def boxed(folder, task, size):
    (folder / "BBox_List_2017.csv").write_text(BOXES, encoding="utf-8")
    return read_nih(write_nih(folder), size=size, task=task)


@pytest.mark.parametrize(
    ("task", "size", "boxes"),
    [
        ("Pneumonia", 64, [(slice(32, 48), slice(16, 24)), (slice(0, 5), slice(0, 8))]),
        ("Mass", 32, [(slice(28, 32), slice(28, 32))]),
    ],
)
def test_boxes_of_the_class_are_the_mask(tmp_path, task, size, boxes):
    data = boxed(tmp_path, task, size)
    expected = np.zeros((size, size), bool)
    for box in boxes:
        expected[box] = True
    assert np.array_equal(data.masks[0], expected)
    assert not data.masks[1:].any()
    assert data.column("boxes").tolist() == [len(boxes)] + [0] * (len(data) - 1)


def test_multi_label_masks_have_the_boxes_of_all_findings(tmp_path):
    data = boxed(tmp_path, "multi-label", 64)
    assert data.column("boxes").tolist() == [3, 0, 0, 0, 0, 0, 1, 0]
    assert data.masks[0, 60, 60]
    assert data.masks[0, 40, 20]


def test_infiltrate_is_infiltration_and_no_box_is_too_small_to_see(tmp_path):
    data = boxed(tmp_path, "Infiltration", 32)
    row = rows_of(data).index(6)
    assert np.argwhere(data.masks[row]).tolist() == [[0, 20]]


def test_a_bad_image_is_left_out_and_the_boxes_stay_with_their_images(tmp_path, caplog):
    write_nih(tmp_path)
    (tmp_path / "images_001" / "images" / NAMES[1]).write_bytes(b"")
    (tmp_path / "BBox_List_2017.csv").write_text(BOXES, encoding="utf-8")
    data = read_nih(tmp_path, size=16, task="multi-label")
    assert rows_of(data) == [0, 2, 3, 4, 5, 6, 7]
    assert data.labels[1:3].sum(axis=1).tolist() == [0, 1]
    assert data.column("boxes").tolist() == [3, 0, 0, 0, 0, 1, 0]
    assert "1 of 8 files are left out" in caplog.text
    with pytest.raises(DataError, match=r"00000001_001\.png is not an image"):
        read_nih(tmp_path, size=16, task="multi-label", strict=True)


def test_a_folder_without_the_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no Data_Entry_2017\*\.csv"):
        read_nih(tmp_path)


def test_a_table_without_a_column_is_refused(tmp_path):
    text = table_text(HEADER_2020.replace("Patient ID", "Who"))
    with pytest.raises(DataError, match=r"v2020\.csv has no column Patient ID"):
        read_nih(write_nih(tmp_path, text))


def test_a_row_without_findings_is_refused(tmp_path):
    with pytest.raises(DataError, match="1 of 8 rows have no findings"):
        read_nih(write_nih(tmp_path, table_text().replace(",Mass,", ",,")))


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(table_text().encode())[:-20]],
    ids=["no gzip", "truncated"],
)
def test_a_broken_gzip_table_is_refused(tmp_path, content):
    (tmp_path / OFFICIAL).write_bytes(content)
    with pytest.raises(DataError, match=r"v2020\.csv\.gz cannot be read as a table"):
        read_nih_table(tmp_path)


def real_table(real_data):
    return pd.read_csv(real_data / "nih_chestxray14" / "labels.csv")


def test_the_sample_agrees_with_its_table(real_data):
    data = read_nih(real_data / "nih_chestxray14", size=32, task="multi-label")
    table = real_table(real_data)
    columns = {"file": "file", "patient": "Patient ID", "sex": "Patient Gender"}
    for ours, theirs in (columns | {"view": "View Position"}).items():
        assert data.column(ours).tolist() == table[theirs].astype(str).tolist()
    assert data.column("age").tolist() == table["Patient Age"].tolist()
    expected = table["Finding Labels"].str.get_dummies("|")
    assert np.array_equal(data.labels, expected.reindex(columns=list(FINDINGS), fill_value=0))
    train, test = split_by_patient(data)
    assert len(train) + len(test) == 489
    assert not set(patients_of(train)) & set(patients_of(test))


def test_the_sample_has_the_boxes_of_its_pneumonias(real_data):
    folder = real_data / "nih_chestxray14"
    data = read_nih(folder, size=128)
    boxes = pd.read_csv(folder / "BBox_List_2017.csv.gz").set_index("Image Index")
    boxes = boxes[boxes["Finding Label"] == "Pneumonia"]
    names = [Path(file).name for file in data.column("file")]
    assert data.column("boxes").sum() == boxes.index.isin(names).sum() == 23
    row = names.index("00003064_035.png")
    x, y, w, h = boxes.loc["00003064_035.png"].iloc[1:5] / 8
    rows, columns = np.nonzero(data.masks[row])
    assert abs(columns.min() - x) < 1 and abs(columns.max() + 1 - (x + w)) < 1
    assert abs(rows.min() - y) < 1 and abs(rows.max() + 1 - (y + h)) < 1
    assert not data.masks[data.labels == 0].any()
    has = real_table(real_data)["Finding Labels"].str.contains(r"\bPneumonia\b")
    assert np.array_equal(data.labels == 1, has)


def test_untouched_images_are_found_through_the_official_table(real_data, tmp_path):
    source = real_data / "nih_chestxray14"
    (tmp_path / OFFICIAL).symlink_to(source / OFFICIAL)
    (tmp_path / "images_001").mkdir()
    originals = sorted((source / "originals").glob("*.png"))
    for path in originals:
        (tmp_path / "images_001" / path.name).symlink_to(path)
    table = real_table(real_data)
    table = table.assign(name=[Path(file).name for file in table["file"]])
    table = table[table["name"].isin([path.name for path in originals])].sort_values("name")
    data = read_nih(tmp_path, size=64)
    assert len(data) == len(table) == 18
    assert data.column("patient").tolist() == table["Patient ID"].astype(str).tolist()
    small = np.stack([read_image(source / file, 64) for file in table["file"]])
    assert np.abs(data.images[..., 0].astype(int) - small).mean() < 2


def test_the_whole_official_table_is_split_and_dealt_out(real_data, tmp_path):
    (tmp_path / OFFICIAL).symlink_to(real_data / "nih_chestxray14" / OFFICIAL)
    everything = read_nih_table(tmp_path)
    assert len(everything) == 112_120
    assert everything["patient"].nunique() == 30_805
    counts = dict(zip(FINDINGS, finding_matrix(everything["findings"]).sum(axis=0), strict=True))
    assert (counts["Infiltration"], counts["Pneumonia"], counts["Hernia"]) == (19_894, 1_431, 227)
    table = read_nih_table(tmp_path, "three-class")
    pixels = np.broadcast_to(np.uint8(0), (len(table), 1, 1, 1))
    labels = pd.Categorical(table["label"], categories=THREE_CLASSES).codes.astype(np.int64)
    data = MedicalImages(pixels, labels, THREE_CLASSES, table, "nih")
    train, test = split_by_patient(data)
    hospitals = partition(train, "dirichlet", 100, alpha=0.5)
    assert data.class_counts().tolist() == [60_361, 1_162, 13_048]
    assert not set(patients_of(train)) & set(patients_of(test))
    assert sorted(np.concatenate(hospitals.indices).tolist()) == list(range(len(train)))
