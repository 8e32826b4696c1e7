"""TensorFlow Federated's environment, and what fedtutor hands over to it.

That both give the same global weights is shown by the notebook, which ``make tff`` runs.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from keras_fit import fit_keras

from fedtutor.aggregation import weighted_average
from fedtutor.model import create_model

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "notebooks" / "appendix" / "for_tff.py"
PINS = (ROOT / "requirements-tff.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def for_tff():
    spec = importlib.util.spec_from_file_location("for_tff", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def given(for_tff, fewer_phantoms, tmp_path_factory):
    """What the script writes, of one round only."""
    for_tff.NUM_ROUNDS = 1
    path = tmp_path_factory.mktemp("tff") / "given.npz"
    for_tff.main(path)
    return dict(np.load(path))


def weights_of(given, server_round):
    return [given[f"weights_{server_round}_{i}"] for i in range(8)]


def test_the_environment_is_pinned_in_full():
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+]*", line) for line in PINS)
    pins = dict(line.split("==") for line in PINS)
    assert len(pins) == len(PINS)
    assert pins["tensorflow-federated"] == "0.87.0"
    assert pins["tensorflow"].startswith("2.14.")
    assert pins["jax"] == pins["jaxlib"] == "0.4.30"
    assert {"nbval", "ipykernel", "matplotlib", "scikit-learn"} <= set(pins)


def test_conda_uses_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment-tff.yml").read_text(encoding="utf-8"))
    *packages, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements-tff.txt"]}
    assert "python=3.11" in packages


@pytest.mark.slow
def test_the_round_handed_over_is_fedavg_over_keras(given, for_tff, make_images):
    start = weights_of(given, 0)
    updates, sizes = [], []
    for k in range(len(given["names"])):
        images, labels = given[f"images_{k}"], given[f"labels_{k}"]
        hospital = make_images(len(images), size=32)
        hospital.images[:], hospital.labels[:] = images, labels
        model = create_model((32, 32, 1), 3)
        model.set_weights(start)
        fit_keras(model, hospital, given[f"order_1_{k}"][None], for_tff.SETTINGS)
        updates.append(model.get_weights())
        sizes.append(len(images))
    expected = weighted_average(updates, sizes)
    for ours, keras in zip(weights_of(given, 1), expected, strict=True):
        np.testing.assert_allclose(ours, keras, rtol=0, atol=1e-5)


def test_the_nudge_is_of_one_part_in_ten_million(for_tff):
    weights = create_model((32, 32, 1), 3).get_weights()
    moved = for_tff.nudged(weights)
    assert 0 < for_tff.distance(weights, moved) < 2e-7 * max(np.abs(w).max() for w in weights)
    assert all(a.dtype == b.dtype for a, b in zip(weights, moved, strict=True))


@pytest.mark.slow
def test_all_that_the_notebook_reads_is_there(given):
    count = len(given["names"])
    for k in range(count):
        images, labels, order = (given[f"{key}_{k}"] for key in ("images", "labels", "order_1"))
        assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 1)
        assert sorted(order) == list(range(len(images))) and len(labels) == len(images)
    assert given["auc"].shape == (2,) and given["seconds"].shape == given["nudged"].shape == (1,)
    assert given["nudged"][0] < 1e-2
    assert len(given["test_images"]) == len(given["test_labels"])
