"""Notebook 14's helpers, and its cells on the four real hospitals."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from fedtutor.course.lessons import capstone
from fedtutor.course.lessons.capstone import Consortium
from fedtutor.datasets import DATASETS, load
from fedtutor.errors import DataError
from fedtutor.evaluation import estimate_auc, gain_interval
from fedtutor.settings import TrainingSettings
from fedtutor.topics.tables import PatientTable, create_table_model, table_trainer_for

ROOT = Path(__file__).resolve().parents[2]


def as_two(ill):
    return np.stack([1 - ill, ill], axis=1)


def estimate(n, seed, lift):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    scores = 1 / (1 + np.exp(-rng.normal(size=n) - lift * labels))
    return estimate_auc(as_two(scores), labels)


def test_the_gain_in_one_hospital_is_that_of_the_evaluation():
    ours, rival = estimate(80, 1, 2.0), estimate(80, 1, 1.0)
    value, bounds = capstone.gain([ours], [rival])
    assert value == pytest.approx(ours.auc - rival.auc)
    assert bounds == pytest.approx(gain_interval(ours, rival))


def test_two_hospitals_know_more_than_one_and_their_variances_add_up():
    ours, rivals = ([estimate(80, s, lift) for s in (1, 2)] for lift in (2.0, 1.0))
    value, (low, high) = capstone.gain(ours, rivals)
    single = [gain_interval(*pair) for pair in zip(ours, rivals, strict=True)]
    widths = [b - a for a, b in single]
    assert value == pytest.approx(
        np.mean([a.auc - b.auc for a, b in zip(ours, rivals, strict=True)])
    )
    assert high - low == pytest.approx(math.hypot(*widths) / 2)
    assert high - low < min(widths)


def test_a_hospital_with_too_few_patients_is_left_out_of_a_gain():
    few, many = estimate(6, 1, 1.0), estimate(80, 2, 1.0)
    assert capstone.gain([few, many], [few, many]) == capstone.gain([many], [many])
    value, bounds = capstone.gain([few], [few])
    assert math.isnan(value) and all(map(math.isnan, bounds))


def test_at_the_threshold_at_least_the_promised_share_is_found_and_no_higher_one_would_do():
    rng = np.random.default_rng(0)
    for n in (1, 7, 40):
        p, labels = as_two(rng.random(2 * n)), np.repeat([0, 1], n)
        limit = capstone.threshold_for(p, labels, 0.9)
        assert capstone.called(p, labels, limit)[0] >= 0.9
        assert capstone.called(p, labels, np.nextafter(limit, 1))[0] < 0.9
    only_ill = capstone.called(as_two(np.array([0.2, 0.8])), np.array([1, 1]), 0.5)
    assert only_ill[0] == 0.5 and math.isnan(only_ill[1])


def tables(*, shared=0, n=40):
    """Two hospitals with tables; ``shared`` rows are in both training and test."""

    def patients(seed, hospital):
        rows = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
        table = pd.DataFrame({"hospital": [hospital] * n})
        labels = (rows[:, 0] > 0).astype(np.int64)
        return PatientTable(rows, labels, ("age", "chol"), table)

    parts = [[patients(3 * k + part, name) for k, name in enumerate("ab")] for part in range(3)]
    parts[2][0].rows[:shared] = parts[0][1].rows[:shared]
    settings = TrainingSettings("sgd", 0.1, 4)
    start = create_table_model(2)
    return Consortium(("a", "b"), *parts, (None, None), start, table_trainer_for, settings)


def test_rows_on_both_sides_are_counted_whichever_hospital_has_them():
    for shared in (0, 3):
        (found,) = capstone.leaks(tables(shared=shared)).values()
        assert found == shared


def test_images_of_one_patient_or_of_one_exposure_on_both_sides_are_counted(make_images):
    train, other, test = (
        make_images(8, classes=2, size=32, patients=range(a, a + 8), seed=s, hospital="h")
        for a, s in ((0, 1), (8, 2), (6, 3))  # patients 6, 7 and 8 to 13 come again
    )
    us = replace(tables(), train=[train], validation=[other], test=[test])
    assert capstone.leaks(us)["patients in both training and test"] == 8
    same = "the same in training and test, to the last number"
    assert capstone.leaks(us)[same] == 0
    test.images[2] = train.images[5]
    assert capstone.leaks(us)[same] == 1


def test_blinded_nothing_is_left_in_the_middle_and_the_truth_stays(make_images):
    us = tables()
    blind = capstone.blinded(us)
    assert (blind.test[0].rows[:, 1] == 0).all()
    assert np.array_equal(blind.test[0].rows[:, 0], us.test[0].rows[:, 0])
    images = make_images(4, classes=2, size=25)
    (painted,) = capstone.blinded(replace(us, test=[images])).test
    assert np.array_equal(painted.labels, images.labels)
    assert (np.ptp(painted.images[:, 3:22, 3:22], axis=(1, 2)) == 0).all()
    assert np.array_equal(painted.images[:, :3], images.images[:, :3])
    assert np.ptp(images.images[0, 3:22, 3:22]) > 0  # the originals are as they were


def test_a_memo_is_a_page_and_says_what_is_not_shown():
    limits = capstone.limits_of(tables(n=30))
    assert "fewer than 20 ill, or well" in " ".join(limits)
    assert not any("drawn by a program" in one for one in limits)
    text = capstone.memo("Memo", [("Question", "why " * 60), ("Answer", "none")], limits)
    assert max(map(len, text.splitlines())) <= 92
    assert text.index("Question") < text.index("Answer") < text.index("What this does not show")


@pytest.mark.slow
def test_images_without_a_healthy_class_and_places_with_too_few_are_refused(monkeypatch):
    small = replace(DATASETS["chest-phantoms"], images=30)
    monkeypatch.setitem(DATASETS, "chest-phantoms", small)
    with pytest.raises(DataError, match="too few patients to train, validate and test on"):
        capstone.consortium("chest-phantoms")
    monkeypatch.setattr(capstone, "HEALTHY", ("nobody",))
    with pytest.raises(DataError, match="has no class nobody to tell the ill from"):
        capstone.consortium("chest-phantoms")


@pytest.mark.slow
def test_moles_are_a_consortium_too_and_ill_is_who_has_a_melanoma(monkeypatch):
    monkeypatch.setitem(DATASETS, "skin-phantoms", replace(DATASETS["skin-phantoms"], images=600))
    us = capstone.consortium("skin-phantoms")
    assert us.train[0].image_shape == (28, 28, 3)
    everybody = load("skin-phantoms", size=28)
    parts = (*us.train, *us.validation, *us.test)
    counts = sum((part.class_counts() for part in parts), np.zeros(2, int))
    assert counts.sum() <= len(everybody)
    assert 0 < counts[1] / counts.sum() < 1
    first, rows = us.test[0], {image.tobytes(): k for k, image in enumerate(everybody.images)}
    labels = [everybody.labels[rows[image.tobytes()]] for image in first.images]
    np.testing.assert_array_equal(first.labels, labels)


@pytest.mark.slow
def test_the_notebooks_cells_run_on_the_four_real_hospitals(
    real_data, tmp_path, monkeypatch, capsys
):
    shutil.copytree(real_data / "heart_disease", tmp_path / "fed-heart-disease")
    monkeypatch.setenv("FEDTUTOR_DATA", str(tmp_path))
    notebook = nbformat.read(ROOT / "notebooks/14_capstone.ipynb", as_version=4)
    names: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source.replace('"chest-phantoms"', '"fed-heart-disease"', 1), names)
    assert names["names"] == ("Budapest", "Cleveland", "Long Beach VA", "Zürich and Basel")
    home = dict(zip(names["names"], names["verdicts"][0], strict=True))
    assert home["Zürich and Basel"] == "cannot tell"  # one of its 16 test patients is well
    cleveland, budapest = (names["joined"][k].auc for k in (1, 0))
    assert cleveland > 0.8 and budapest > 0.8
    assert names["only_hospital"] > 0.6  # the hospital alone tells much in one pot
    said = capsys.readouterr().out
    assert "the plan is the one we sealed" in said
    memo = said[said.index("Decision memo: fed-heart-disease by hospital") :]
    assert "drawn by a program" not in memo
    assert "Much about Long Beach VA, Zürich and Basel" in memo
