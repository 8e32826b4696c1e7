"""Stand-ins for where each data set comes from: generated images in the real layout."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import types
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_isic import write_parquet

from fedtutor.datasets import DATASETS
from fedtutor.datasets.download import RemoteFile
from fedtutor.datasets.readers.heart import FILES
from fedtutor.datasets.readers.medmnist import MEDMNIST_CLASSES
from fedtutor.datasets.readers.nih import FINDINGS

COUNT = 60
"""Images of each set, enough for five hospitals and a test set."""

RNG = np.random.default_rng(0)


def register(monkeypatch, name, **changes):
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], **changes))


def remote(path, url="https://nowhere.invalid/file"):
    content = path.read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    return RemoteFile(path.name, url, f"md5:{md5}", len(content))


def picture(kind="png"):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def pack(archive, files):
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder)]
    return subprocess.run([*command, *arguments], check=True, capture_output=True)


def nih(folder, monkeypatch, count=COUNT):
    """Two archives as the NIH packs them, and its two tables, in a mirror."""
    mirror = folder / "mirror" / "nih-chestxray14"
    names = {
        part: [f"{part:04d}{number:04d}_000.png" for number in range(count)] for part in (1, 2)
    }
    parts = {}
    for part, listed in names.items():
        files = {f"images/{name}": picture() for name in listed}
        parts[str(part)] = remote(pack(mirror / f"images_{part:03d}.tar.gz", files))
    listed = names[1] + names[2]
    rows = pd.DataFrame(
        {
            "Image Index": listed,
            "Finding Labels": ["No Finding", "Pneumonia|Edema"] * count,
            "Follow-up #": 0,
            "Patient ID": [int(name[:8]) for name in listed],
            "Patient Age": 50,
            "Patient Gender": "F",
            "View Position": "PA",
            "OriginalImage[Width,Height]": "2500,2048",
            "OriginalImagePixelSpacing[x,y]": "0.168,0.168",
        }
    )
    boxes = f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{listed[1]},Pneumonia,256,512,128,256\n"
    tables = []
    for file, text in zip(
        DATASETS["nih-chestxray14"].tables,
        (rows.to_csv(index=False).replace('"', ""), boxes),
        strict=True,
    ):
        (mirror / file.name).write_bytes(gzip.compress(text.encode()))
        tables.append(remote(mirror / file.name))
    register(monkeypatch, "nih-chestxray14", parts=parts, tables=tuple(tables))
    return mirror


def kagglehub(release, monkeypatch):
    """A kagglehub that has downloaded ``release``."""
    package = types.SimpleNamespace(dataset_download=lambda _: str(release))
    monkeypatch.setitem(sys.modules, "kagglehub", package)


def radiography(folder, monkeypatch):
    """What kagglehub has downloaded: a folder a class, with images, masks and tables."""
    release = folder / "kagglehub-cache" / "COVID-19_Radiography_Dataset"
    for name in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"):
        for level in ("images", "masks"):
            (release / name / level).mkdir(parents=True)
            for number in range(1, COUNT // 3 + 1):
                (release / name / level / f"{name}-{number}.png").write_bytes(picture())
        (release / f"{name}.metadata.xlsx").write_bytes(b"PK")
    kagglehub(release.parent, monkeypatch)


def isic(folder, monkeypatch):
    """Flower's two parquet files, FLamby's table and the challenge's, in a mirror."""
    pytest.importorskip("pyarrow", reason="the files of fed-isic2019 are written with pyarrow")
    mirror = write_parquet(folder / "mirror" / "fed-isic2019")
    info = DATASETS["fed-isic2019"]
    parts = {
        part: RemoteFile(file.name, "https://nowhere.invalid/file")
        for part, file in info.parts.items()
    }
    tables = tuple(remote(mirror / file.name) for file in info.tables)
    register(monkeypatch, "fed-isic2019", parts=parts, tables=tables)


def tuberculosis(folder, monkeypatch):
    """What kagglehub has downloaded: the sets of both hospitals, with their readings."""
    release = folder / "kagglehub-cache"
    for site, place in (
        ("CHNCXR", "ChinaSet_AllFiles/ChinaSet_AllFiles"),
        ("MCUCXR", "Montgomery"),
    ):
        for part in ("CXR_png", "ClinicalReadings"):
            (release / place / part).mkdir(parents=True)
        for number in range(COUNT // 2):
            stem = f"{site}_{number + 1:04d}_{number % 2}"
            (release / place / "CXR_png" / f"{stem}.png").write_bytes(picture())
            text = release / place / "ClinicalReadings" / f"{stem}.txt"
            text.write_text("male 45yrs\nnormal", encoding="utf-8")
    kagglehub(release, monkeypatch)


def chestxray(folder, monkeypatch):
    """A repository like ieee8023/covid-chestxray-dataset."""
    origin = folder / "origin"
    (origin / "images").mkdir(parents=True)
    rows = []
    for number in range(COUNT):
        (origin / "images" / f"{number}.png").write_bytes(picture())
        finding = ("No Finding", "Pneumonia/Bacterial", "Pneumonia/Viral/COVID-19")[number % 3]
        place = ("Hannover, Germany", "Milan, Italy")[number // 3 % 2]
        rows.append(
            (f"{number}", finding, "PA", "X-ray", place, "images", f"{number}.png", "CC BY")
        )
    columns = ["patientid", "finding", "view", "modality"]
    columns += ["location", "folder", "filename", "license"]
    pd.DataFrame(rows, columns=columns).to_csv(origin / "metadata.csv", index=False)
    (origin / "README.md").write_text("theirs", encoding="utf-8")
    git(origin, "init", "-q")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "x")
    register(monkeypatch, "covid-chestxray", git=origin.as_uri())
    return origin


def oct2017(folder, monkeypatch):
    """Mendeley's archive: split and class folders, with the hidden files of a Mac."""
    files = {
        f"OCT2017/{split}/{name}/{name}-{split == 'test'}{number}-1.jpeg": picture("jpeg")
        for split, count in (("train", COUNT // 4), ("test", 5))
        for name in ("CNV", "DME", "DRUSEN", "NORMAL")
        for number in range(count)
    }
    files = {name.replace("-True", "-9").replace("-False", "-1"): files[name] for name in files}
    files["OCT2017/._train"] = b"x"
    pack(folder / "mirror" / "retinal-oct" / "OCT2017.tar.gz", files)


def medmnist(name, folder, monkeypatch):
    """Zenodo's .npz, in a mirror."""
    mirror = folder / "mirror" / name
    mirror.mkdir(parents=True)
    arrays = {}
    for split, n in {"train": COUNT, "val": 8, "test": 20}.items():
        labels = np.arange(n)[:, None] % len(DATASETS[name].classes)
        if name == "chestmnist":
            labels = np.arange(n)[:, None] % 3 == np.arange(len(FINDINGS)) % 3
        shape = (n, 28, 28, 3) if name == "dermamnist" else (n, 28, 28)
        arrays[f"{split}_images"] = RNG.integers(0, 256, shape, np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    np.savez(mirror / f"{name}.npz", **arrays)
    register(monkeypatch, name, parts={"28": remote(mirror / f"{name}.npz")})


def heart(folder, monkeypatch):
    """UCI's four files, in a mirror: no header, a few gaps."""
    mirror = folder / "mirror" / "fed-heart-disease"
    mirror.mkdir(parents=True)
    tables = []
    for number, name in enumerate(FILES.values()):
        ill = np.arange(COUNT) % (2 + number)
        rows = [
            f"{40 + k % 30},{k % 2},{k % 4 + 1}.0,120,{200 + k},0,{k % 3}" for k in range(COUNT)
        ]
        rows = [f"{row},150,0,{n / 2},?,?,?,{n}" for row, n in zip(rows, ill, strict=True)]
        rows[5] = rows[5].replace(",120,", ",?,")
        (mirror / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
        tables.append(remote(mirror / name))
    register(monkeypatch, "fed-heart-disease", tables=tuple(tables))
    return mirror


def phantoms(name, folder, monkeypatch):
    register(monkeypatch, name, images=COUNT)


SOURCES = {
    "nih-chestxray14": nih,
    "covid19-radiography": radiography,
    "covid-chestxray": chestxray,
    "retinal-oct": oct2017,
    "fed-isic2019": isic,
    "tuberculosis-cxr": tuberculosis,
    "fed-heart-disease": heart,
    **{name: partial(medmnist, name) for name in MEDMNIST_CLASSES},
    **{name: partial(phantoms, name) for name, info in DATASETS.items() if info.synthetic},
}
"""By name what makes the stand-in of a set in a folder, and points the registry to it."""
