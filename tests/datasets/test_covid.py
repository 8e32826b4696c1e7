from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.datasets.readers.covid import read_covid_chestxray, read_radiography
from fedtutor.errors import DataError
from fedtutor.images import patients_of, split_by_patient


def scan(seed):
    """A smooth grey image like no other, uint8 (64, 64)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


FOLDERS = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def write_radiography(folder, level="images", count=3, folders=FOLDERS):
    """The layout of Kaggle: ``count`` images a class, lung masks and tables beside them."""
    for k, name in enumerate(folders):
        for n in range(1, count + 1):
            save(folder / name / level / f"{name}-{n}.png", scan(100 * k + n))
            if level:
                save(folder / name / "masks" / f"{name}-{n}.png", Image.new("RGB", (64, 64)))
        (folder / f"{name}.metadata.xlsx").write_bytes(b"PK\x03\x04")
    (folder / "README.md.txt").write_text("about")
    return folder


@pytest.mark.parametrize("root", ["", "COVID-19_Radiography_Dataset"])
@pytest.mark.parametrize("level", ["images", ""])
def test_both_layouts_are_read_and_masks_are_no_images(tmp_path, root, level):
    write_radiography(tmp_path / root, level)
    data = read_radiography(tmp_path, size=32)
    assert data.class_names == ("Normal", "Viral Pneumonia", "COVID")
    assert data.class_counts().tolist() == [3, 3, 3]
    assert not data.table["file"].str.contains("masks").any()
    assert (data.images.std(axis=(1, 2, 3)) > 0).all()
    folders = data.table["file"].str.extract(f"({'|'.join(FOLDERS)})/")[0]
    assert np.array(data.class_names)[data.labels].tolist() == folders.tolist()
    assert data.name == "covid19-radiography"
    assert data.masks is None


def test_lung_opacity_is_the_fourth_class_when_asked(tmp_path):
    data = read_radiography(write_radiography(tmp_path), size=32, task="four-class")
    assert data.class_names == ("Normal", "Viral Pneumonia", "COVID", "Lung_Opacity")
    assert data.class_counts().tolist() == [3, 3, 3, 3]


def test_the_source_of_each_class_is_kept_and_the_confounding_told(tmp_path, caplog):
    data = read_radiography(write_radiography(tmp_path), size=32)
    sources = pd.Series(data.column("source")).groupby(data.labels).unique()
    assert all(len(own) == 1 for own in sources)
    assert "Guangzhou (children)" in sources[1][0]
    assert "adults" in sources[2][0]
    assert "confounded with source and age" in caplog.text
    assert "9 images make 9 clusters of near twins" in caplog.text


def test_twins_are_a_cluster_of_no_known_patient_and_never_straddle_a_split(tmp_path):
    write_radiography(tmp_path, count=8)
    folder = tmp_path / "COVID" / "images"
    save(folder / "COVID-2.png", scan(1))
    brighter = scan(1).point(lambda value: min(255, value + 8)).resize((80, 80))
    save(folder / "COVID-7.png", brighter)
    data = read_radiography(tmp_path, size=64)
    files = pd.Series(data.column("file")).str.rpartition("/")[2]
    cluster = dict(zip(files, data.column("cluster"), strict=True))
    assert "patient" not in data.table
    assert cluster["COVID-1.png"] == cluster["COVID-2.png"] == cluster["COVID-7.png"]
    assert len(set(cluster.values())) == 24 - 2
    for seed in range(5):
        train, test = split_by_patient(data, seed=seed)
        assert not set(patients_of(train)) & set(patients_of(test))


def test_a_folder_of_something_else_is_no_radiography_set(tmp_path):
    (tmp_path / "COVID").mkdir()
    with pytest.raises(DataError, match="has no folders Normal, Viral Pneumonia, COVID, Lung"):
        read_radiography(tmp_path)


def test_an_unknown_task_is_refused(tmp_path):
    with pytest.raises(DataError, match="no task 'binary'; there are: three-class, four-class"):
        read_radiography(tmp_path, task="binary")
    with pytest.raises(DataError, match="no task 'binary'; there are: three-class, COVID-19"):
        read_covid_chestxray(tmp_path, task="binary")


def test_a_bad_image_is_left_out_or_refused(tmp_path, caplog):
    write_radiography(tmp_path)
    (tmp_path / "Normal" / "images" / "Normal-2.png").write_bytes(b"")
    data = read_radiography(tmp_path, size=32)
    assert data.class_counts().tolist() == [2, 3, 3]
    assert "1 of 9 files are left out" in caplog.text
    with pytest.raises(DataError, match=r"Normal-2\.png is not an image"):
        read_radiography(tmp_path, size=32, strict=True)


# finding, view, modality, location, sex, age, license: as in the table of the clone
ROWS = (
    ("Pneumonia/Viral/COVID-19", "PA", "X-ray", "A, Ho Chi Minh City, Vietnam", "M", 65, "CC BY 4"),
    ("Pneumonia/Viral/COVID-19", "L", "X-ray", "Hanoi, Vietnam", "M", 65, "CC BY"),
    ("Pneumonia/Viral/COVID-19", "Axial", "CT", "Hanoi, Vietnam", "M", 65, "CC BY"),
    ("Pneumonia/Viral/COVID-19", "PA", "CT", "Hanoi, Vietnam", "M", 65, "CC BY"),
    ("Pneumonia/Viral/SARS", "AP", "X-ray", "Mount Sinai, Toronto, Ontario, Canada", "F", 29, ""),
    ("Pneumonia", "AP Supine", "X-ray", "", "", "", "CC BY-SA"),
    ("No Finding", "AP semi erect", "X-ray", "Changhua City, Taiwan ", "F", 52, "CC BY"),
    ("Tuberculosis", "PA", "X-ray", "Italy", "F", 30, "CC BY"),
    ("todo", "PA", "X-ray", "Italy", "F", 30, "CC BY"),
    ("COVID-19, ARDS", "AP erect", "X-ray", "Boca Raton, Florida, USA", "F", 30, "CC BY"),
    ("Pneumocystis", "PA", "X-ray", "Boca Raton, Florida , United States", "F", 30, "CC BY"),
)
USED = [0, 4, 5, 6, 9, 10]


def write_chestxray(folder, keep=range(11)):
    columns = ["finding", "view", "modality", "location", "sex", "age", "license"]
    table = pd.DataFrame(ROWS, columns=columns)
    table["patientid"] = [f"{k}a" for k in range(len(ROWS))]
    table["offset"] = 0
    table["folder"] = ["images" if view != "Axial" else "volumes" for view in table["view"]]
    table["filename"] = [f"{k}.png" for k in range(len(ROWS))]
    table["url"] = [f"https://example.org/{k}" for k in range(len(ROWS))]
    table["clinical_notes"] = 'fever, "98%"'
    table.iloc[list(keep)].to_csv(folder / "metadata.csv", index=False)
    for k in keep:
        save(folder / "images" / f"{k}.png", Image.new("L", (20, 20), 10 * k))
    return folder


def rows_of(data):
    return (data.images.mean(axis=(1, 2, 3)) / 10).astype(int).tolist()


def test_frontal_x_rays_of_the_three_classes_are_read(tmp_path, caplog):
    data = read_covid_chestxray(write_chestxray(tmp_path), size=16)
    assert data.class_names == ("No Finding", "Other pneumonia", "COVID-19")
    assert rows_of(data) == USED
    assert data.labels.tolist() == [2, 1, 1, 0, 2, 1]
    for column, k in (("finding", 0), ("view", 1)):
        assert data.column(column).tolist() == [ROWS[row][k] for row in USED]
    assert "5 of 11 rows are not used" in caplog.text
    assert "class is confounded with source" in caplog.text


def test_the_country_is_the_hospital_and_the_rest_is_kept(tmp_path):
    data = read_covid_chestxray(write_chestxray(tmp_path), size=16)
    countries = ["Vietnam", "Canada", "unknown", "Taiwan", "United States", "United States"]
    assert data.column("hospital").tolist() == countries
    assert data.column("location")[0] == "A, Ho Chi Minh City, Vietnam"
    assert data.column("licence").tolist()[:3] == ["CC BY 4", "unknown", "CC BY-SA"]
    assert data.column("source")[1] == "https://example.org/4"
    assert data.column("patient").tolist()[:2] == ["0a", "4a"]
    assert data.column("file")[0] == "images/0.png"
    assert data.column("age").tolist()[:2] == [65, 29]
    assert pd.isna(data.column("age")[2]) and pd.isna(data.column("sex")[2])


def test_covid_can_be_told_from_no_finding_alone(tmp_path):
    data = read_covid_chestxray(write_chestxray(tmp_path), size=16, task="COVID-19")
    assert data.class_names == ("No Finding", "COVID-19")
    assert rows_of(data) == [0, 6, 9]
    assert data.labels.tolist() == [1, 0, 1]


def test_a_clone_without_a_usable_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="fewer than two of the classes"):
        read_covid_chestxray(write_chestxray(tmp_path, keep=[0, 9]), size=16)
    with pytest.raises(DataError, match=r"has no metadata\.csv"):
        read_covid_chestxray(tmp_path / "images")


def test_the_sample_agrees_with_its_table(real_data):
    folder = real_data / "covid_chestxray"
    table = pd.read_csv(folder / "labels.csv")
    data = read_covid_chestxray(folder, size=28)
    classes = table["finding"].replace("Pneumocystis", "Other pneumonia")
    assert len(data) == 100
    assert data.class_counts().tolist() == [8, 2, 90]
    assert np.array(data.class_names)[data.labels].tolist() == classes.tolist()
    assert data.column("file").tolist() == table["file"].tolist()
    assert data.column("patient").tolist() == table["patientid"].astype(str).tolist()
    assert data.column("view").tolist() == table["view"].tolist()
    assert data.column("licence").tolist() == table["license"].tolist()
    assert data.column("location").tolist() == table["location"].fillna("unknown").tolist()
    countries = pd.Series(data.column("hospital")).value_counts()
    assert countries[["Germany", "Philippines", "China"]].tolist() == [92, 3, 2]
    train, test = split_by_patient(data)
    assert len(train) + len(test) == 100
    assert not set(patients_of(train)) & set(patients_of(test))
