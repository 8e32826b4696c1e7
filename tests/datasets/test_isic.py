from __future__ import annotations

import io
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.datasets import cache
from fedtutor.datasets.readers import files
from fedtutor.datasets.readers.folders import read_path
from fedtutor.datasets.readers.isic import CENTRES, CLASSES, LESIONS, read_fed_isic
from fedtutor.errors import DataError
from fedtutor.images import patients_of, split_by_patient
from fedtutor.partition import partition

COUNT = 48


def name_of(k):
    return f"ISIC_{k:07d}" + ("_downsampled" if k % 6 == 4 else "")


def tables(count=COUNT):
    """FLamby's table in a random order, and the challenge's: image k is of centre k % 6.

    Of each six images of a centre the last is for the test. Two images in a row of a centre show
    one lesion, so that each lesion that is tested is learnt, too.
    """
    numbers = np.random.default_rng(0).permutation(count)
    target, centre, turn = numbers % 8, numbers % 6, numbers // 6
    fold = np.where(turn % 6 == 5, "test", "train")
    split = pd.DataFrame({"image": [name_of(k) for k in numbers]})
    for k, label in enumerate((*CLASSES, "UNK")):
        split[label] = (target == k).astype(float)
    split = split.assign(target=target, center=centre, fold=fold)
    split["fold2"] = split["fold"] + "_" + split["center"].astype(str)
    order = np.arange(count)
    lesions = [f"{'HAM_' if k % 6 else 'BCN_'}{k % 6}{k // 6 // 2:06d}" for k in order]
    people = pd.DataFrame(
        {
            "image": [name_of(k) for k in order],
            "age_approx": np.where(order == 1, "", order),
            "anatom_site_general": np.where(order % 5, "anterior torso", ""),
            "lesion_id": lesions,
            "sex": np.where(order == 2, "", np.where(order % 2, "male", "female")),
        }
    )
    unknown = pd.DataFrame({"image": ["ISIC_9999999"], "lesion_id": [""]})  # not of FLamby's
    return split, pd.concat([people, unknown])


def colour_of(k):
    return (10 + 4 * k, 128, 250 - 4 * k)


def jpeg(k):
    buffer = io.BytesIO()
    Image.new("RGB", (48 + k % 3 * 8, 32), colour_of(k)).save(buffer, "jpeg", quality=95)
    return buffer.getvalue()


def write_tables(folder, split="train_test_split.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in zip((split, LESIONS), tables(), strict=True):
        table.to_csv(folder / name, index=False)
    return folder


def write_challenge(folder, numbers=range(COUNT)):
    """The tables, and the images as the challenge's archive has them."""
    write_tables(folder)
    images = folder / "ISIC_2019_Training_Input"
    images.mkdir()
    (images / "ATTRIBUTION.txt").write_text("who", encoding="utf-8")
    for k in numbers:
        (images / f"{name_of(k)}.jpg").write_bytes(jpeg(k))
    return folder


def write_parquet(folder, change=lambda rows: rows):
    """Flower's two files at Hugging Face: image, center and label, centre by centre."""
    pyarrow = pytest.importorskip("pyarrow", reason="parquet files are written with pyarrow")
    from pyarrow import parquet

    write_tables(folder)
    split = tables()[0]
    for side in ("train", "test"):
        rows = change(split[split["fold"] == side].sort_values("center", kind="stable"))
        numbers = rows["image"].str[5:12].astype(int)
        content = pyarrow.table(
            {
                "image": [{"bytes": jpeg(k), "path": None} for k in numbers],
                "center": rows["center"].to_list(),
                "label": rows["target"].to_list(),
            }
        )
        parquet.write_table(content, folder / f"{side}-00000-of-00001.parquet", row_group_size=7)
    return folder


def numbers_of(data):
    names = data.table["file"].str.rpartition("/")[2]
    return names.str[5:12].astype(int).to_numpy()


def assert_right(data):
    """Each image has its own colours, class and centre."""
    numbers = numbers_of(data)
    assert len(set(numbers)) == len(numbers)
    assert data.image_shape[2] == 3
    colours = np.array([colour_of(k) for k in numbers])
    assert np.abs(data.images[:, 4, 4].astype(int) - colours).max() <= 3
    assert data.labels.tolist() == (numbers % 8).tolist()
    assert data.column("hospital").tolist() == [CENTRES[k % 6] for k in numbers]


def test_images_of_the_challenge_are_read_in_colour_with_centre_lesion_and_person(tmp_path):
    data = read_path(write_challenge(tmp_path), size=16, task="as-published")
    assert_right(data)
    assert (len(data), data.name, data.class_names) == (COUNT, "fed-isic2019", CLASSES)
    row = data.table.set_index(numbers_of(data))
    assert row.loc[7, ["lesion", "sex", "age", "place"]].tolist() == [
        *("HAM_1000000", "M", 7, "anterior torso")
    ]
    assert (
        pd.isna(row.loc[1, "age"]) and pd.isna(row.loc[2, "sex"]) and pd.isna(row.loc[5, "place"])
    )
    assert "cluster" not in data.table and set(data.column("licence")) == {"CC BY-NC 4.0"}


def test_training_images_of_a_lesion_that_is_tested_are_left_out_and_it_is_told(tmp_path, caplog):
    data = read_fed_isic(write_challenge(tmp_path), size=8)
    assert_right(data)
    assert "shares 6 lesions; 6 images of them are left out" in caplog.text
    split = pd.Series(data.column("split"))
    assert split.value_counts().to_dict() == {"train": COUNT - 12, "test": 6}
    train, test = split_by_patient(data)
    assert not set(patients_of(train)) & set(patients_of(test))
    assert set(partition(train, "by:hospital").names) == set(CENTRES)


def test_as_published_nothing_is_left_out_and_the_shared_lesions_are_told(tmp_path, caplog):
    data = read_fed_isic(write_challenge(tmp_path), size=8, task="as-published")
    assert tuple(map(len, split_by_patient(data))) == (COUNT - 6, 6)
    assert "6 of 6 test images show a lesion that is also among the training images" in caplog.text


def test_a_part_of_the_images_will_do(tmp_path, caplog):
    data = read_fed_isic(write_challenge(tmp_path, range(6, 40)), size=8, task="as-published")
    assert sorted(numbers_of(data)) == list(range(6, 40))
    assert "14 of 48 rows have no image here" in caplog.text


def test_parquet_files_are_unpacked_once_under_the_names_of_their_images(tmp_path, monkeypatch):
    data = read_fed_isic(write_parquet(tmp_path), size=16, task="as-published")
    assert_right(data)
    assert len(data) == COUNT
    assert sorted(path.name for path in tmp_path.glob("images/*/")) == ["test", "train"]
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)  # it is not needed again
    again = read_fed_isic(tmp_path, size=16, task="as-published")
    assert np.array_equal(again.images, data.images) and again.table.equals(data.table)


def test_parquet_files_whose_rows_are_in_another_order_are_refused(tmp_path):
    folder = write_parquet(tmp_path, lambda rows: rows.iloc[::-1])
    with pytest.raises(DataError, match="not that of FLamby's 42 in its order"):
        read_fed_isic(folder)
    assert not list(tmp_path.glob("images/t*/"))


@pytest.mark.parametrize("keep", [0, 10, -30])
def test_a_broken_parquet_file_is_refused_and_nothing_of_it_stays(tmp_path, keep):
    path = write_parquet(tmp_path) / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train-0.*\.parquet could not be unpacked"):
        read_fed_isic(tmp_path)
    assert not list(tmp_path.glob("images/tr*/"))


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    path = write_parquet(tmp_path) / "test-00000-of-00001.parquet"
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"image": ["x"], "class": [1]}), path)
    with pytest.raises(DataError, match="could not be unpacked"):
        read_fed_isic(tmp_path)


def test_without_pyarrow_it_is_said_what_to_install(tmp_path, monkeypatch):
    write_tables(tmp_path)
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r'pip install "fedtutor\[parquet\]"\. Or put'):
        read_fed_isic(tmp_path)


@pytest.mark.parametrize("gone", ["train_test_split.csv", LESIONS])
def test_a_missing_table_names_the_command_that_brings_it(tmp_path, gone):
    (write_tables(tmp_path) / gone).unlink()
    with pytest.raises(DataError, match=f"no {gone}.*fetch fed-isic2019 --part tables"):
        read_fed_isic(tmp_path)


def test_the_tables_may_have_their_other_names_too(tmp_path):
    write_challenge(tmp_path)
    (tmp_path / "train_test_split.csv").rename(tmp_path / "train_test_split")
    text = (tmp_path / LESIONS).read_text(encoding="utf-8")
    (tmp_path / LESIONS).write_text(text.replace(",sex", ",gender"), encoding="utf-8")
    assert len(read_path(tmp_path, size=8, task="as-published")) == COUNT


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("train_test_split.csv", "center", "hospital", "has no column center"),
        ("train_test_split.csv", ",7,", ",8,", r"has target '8'; 0 to 7 are known"),
        ("train_test_split.csv", ",5,t", ",6,t", r"has center '6'; 0 to 5 are known"),
        (LESIONS, "lesion_id", "lesion", "has no column lesion_id"),
        (LESIONS, "HAM_1000000", "", "all but 2 of the 48 images"),
    ],
)
def test_tables_that_are_not_what_they_should_be_are_refused(tmp_path, table, old, new, words):
    path = write_challenge(tmp_path) / table
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_fed_isic(tmp_path)


def test_an_unknown_task_and_a_folder_without_images_are_refused(tmp_path):
    write_tables(tmp_path)
    with pytest.raises(DataError, match="no task 'melanoma'; there are: eight-class, as-publ"):
        read_fed_isic(tmp_path, task="melanoma")
    with pytest.raises(DataError, match="none of them is in that folder"):
        read_fed_isic(tmp_path)


def test_a_second_start_is_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CACHE_FROM", 1)
    first = read_fed_isic(write_challenge(tmp_path), size=8)
    monkeypatch.setattr(cache.decode, "decode_each", None)  # it is not asked again
    second = read_fed_isic(tmp_path, size=8)
    assert isinstance(second.images, np.memmap)
    assert np.array_equal(first.images, second.images)
    assert first.table.equals(second.table)
