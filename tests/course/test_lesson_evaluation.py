"""What notebook 06 is built on; its exercises are tested in test_exercises.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedtutor.course.lessons import evaluation
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.images import MedicalImages, check_no_leakage


@pytest.fixture
def phantoms(monkeypatch) -> MedicalImages:
    data = chest_phantoms(200, size=16, seed=3)
    monkeypatch.setattr(evaluation, "load", lambda *args, **kwargs: data)
    return data


def without(data, *columns):
    return replace(data, table=data.table.drop(columns=list(columns)))


def test_at_most_so_many_images_are_taken(phantoms):
    assert len(evaluation.hospital_images("any", most=50)) == 50
    assert len(evaluation.hospital_images("any")) == 200


def test_patients_without_a_hospital_are_dealt_out_whole(phantoms, monkeypatch):
    monkeypatch.setattr(evaluation, "load", lambda *args, **kwargs: without(phantoms, "hospital"))
    table = evaluation.hospital_images("any").table
    assert table["hospital"].nunique() == 5
    assert (table.groupby("patient")["hospital"].nunique() == 1).all()


def test_of_several_findings_it_is_asked_whether_there_is_any(phantoms, monkeypatch):
    findings = np.stack([phantoms.labels == 1, phantoms.labels == 2], axis=1).astype(np.uint8)
    several = replace(phantoms, labels=findings, class_names=("Mass", "Nodule"))
    monkeypatch.setattr(evaluation, "load", lambda *args, **kwargs: several)
    data = evaluation.hospital_images("any")
    assert not data.multi_label
    assert (data.labels == (phantoms.labels > 0)).all()


def test_the_three_parts_share_no_patient(phantoms):
    train, validation, test = evaluation.three_parts(phantoms)
    assert len(train) + len(validation) + len(test) == len(phantoms)
    for one, other in ((train, validation), (train, test), (validation, test)):
        check_no_leakage(one, other)


def test_an_official_test_set_stays_the_test_set(phantoms):
    official = np.where(
        phantoms.column("hospital") == phantoms.column("hospital")[0], "test", "train"
    )
    data = replace(phantoms, table=phantoms.table.assign(split=official))
    train, validation, test = evaluation.three_parts(data)
    assert len(test) == (official == "test").sum()
    assert len(train) + len(validation) == (official == "train").sum()


def test_the_commonest_disease_is_not_health(phantoms):
    assert phantoms.class_counts().argmax() == 0
    assert evaluation.commonest_disease(phantoms) > 0


def test_intervals_say_value_and_bounds():
    rows = [(0.25, (0.125, 0.375)), (np.nan, (np.nan, np.nan))]
    picture = evaluation.intervals(["A", "B"], {"gain": rows}, x="gain", zero=True)
    assert "A: gain 0.25 (95 % interval 0.12 to 0.38)" in picture.alt
    assert "B: gain nan (too few patients to tell how sure)" in picture.alt
    assert "≈0.25" in repr(picture)


def test_three_views_draw_the_curves_and_mark_the_threshold():
    curve = np.array([[0.0, 0.5, 1.0], [0.0, 0.8, 1.0]])
    figure = evaluation.three_views(curve, curve, {"model": curve, "nobody": 0 * curve}, 0.3)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["ROC curve", "calibration", "decision curve"]
    assert [line.get_label() for line in figure.axes[2].lines[:2]] == ["model", "nobody"]
    assert figure.axes[2].lines[2].get_xdata() == [0.3, 0.3]
