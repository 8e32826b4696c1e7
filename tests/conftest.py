from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from fedtutor.images import MedicalImages

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("fedtutor", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("fedtutor")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, and let one wait while three compute.

    Files on deployment wait for other programs; with ``--dist loadfile --no-loadscope-reorder``
    and four workers the notebooks and the other files, the longest first, compute meanwhile.
    """
    long = Counter(item.path for item in items if "slow" in item.keywords)
    long.update(item.path for item in items if "process" in item.keywords)
    files = sorted(dict.fromkeys(item.path for item in items), key=lambda path: -long[path])
    files.sort(key=lambda path: path.suffix != ".ipynb")  # in the order they were given
    waits = [path for path in files if "deployment" in path.parent.name + path.stem]
    computes = [path for path in files if path not in waits]
    in_turn = chain.from_iterable(zip_longest(waits, *[iter(computes)] * 3))
    place = {path: number for number, path in enumerate(in_turn)}
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, which are never part of the repository."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("FEDTUTOR_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is not a folder; FEDTUTOR_TEST_DATA names another")
    return folder


@pytest.fixture(scope="session")
def make_images():
    """Random images with every class in turn; ``patients`` is who each image is of.

    ``labels`` with a row of 0 and 1 an image are findings.
    """

    def make(n, *, classes=3, size=16, patients=None, labels=None, seed=0, masks=None, **columns):
        if patients is not None:
            columns["patient"] = np.asarray(patients).astype(str)
        return MedicalImages(
            images=np.random.default_rng(seed).integers(0, 256, (n, size, size, 1), np.uint8),
            labels=np.arange(n) % classes if labels is None else _as_labels(labels),
            class_names=tuple("abcdefghijkl"[:classes]),
            table=pd.DataFrame(columns, index=range(n)),
            name="toy",
            masks=masks,
        )

    return make


@pytest.fixture(scope="module")
def fewer_phantoms():
    """Have the X-ray phantoms be 800 and not 2,000, for a file where their number is no matter."""
    from fedtutor.datasets import DATASETS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "chest-phantoms", replace(DATASETS["chest-phantoms"], images=800))
        yield


@pytest.fixture
def nothing_drawn(monkeypatch):
    """Leave a report's figures out, where they are not the matter."""
    monkeypatch.setattr("fedtutor.figures.to_html", lambda draw: "")


def _as_labels(labels):
    return np.asarray(labels, np.uint8 if np.ndim(labels) == 2 else np.int64)


@pytest.fixture(scope="session")
def corners(tmp_path_factory):
    """A file of a hundred images, of which every second has a bright corner; drawn in no time."""
    rng, arrays = np.random.default_rng(0), {}
    for split, n in {"train": 60, "val": 20, "test": 20}.items():
        images, labels = rng.integers(0, 160, (n, 16, 16), np.uint8), np.arange(n) % 2
        images[labels == 1, 2:8, 2:8] += 90
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    path = tmp_path_factory.mktemp("data") / "corners.npz"
    np.savez(path, **arrays)
    return path
