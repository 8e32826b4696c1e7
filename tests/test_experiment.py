"""The main job on small inputs: what it writes is whole, true to itself and readable."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedtutor.cli import main
from fedtutor.cohort import build_cohort
from fedtutor.compiled_training import Trainer
from fedtutor.evaluation import auc
from fedtutor.experiment import run_experiment
from fedtutor.images import MedicalImages, split_by_patient
from fedtutor.model import load_keras, predict
from fedtutor.settings import RunSettings
from fedtutor.support.output import plain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fewer_phantoms")]

SMALL = ["--size", "28", "--rounds", "2"]


@pytest.fixture(scope="module")
def finished(fewer_phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert main(["run", *SMALL, "--out", str(folder)]) == 0
    return folder, json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_a_run_leaves_three_files_and_no_crumbs(finished):
    folder, _ = finished
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.keras",
        "report.html",
        "summary.json",
    ]


def test_the_summary_says_all_that_was_promised(finished):
    _, summary = finished
    assert summary["dataset"] == "chest-phantoms"
    assert summary["synthetic"] is True
    assert summary["partition"] == "by:hospital"
    assert len(summary["hospitals"]) == 5
    keys = {"pooled", "federated", "local_mean", "local_best"}
    assert set(summary["auc"]) == set(summary["accuracy"]) == set(summary["auc_interval"]) == keys
    for row in summary["hospitals"]:
        assert sum(row["class_counts"]) == row["num_examples"]
        assert 0 <= row["auc_local"] <= 1
        assert row["auc_federated"] == summary["auc"]["federated"]
        assert 0 <= row["auc_federated_own_test"] <= 1
    assert sum(row["num_examples"] for row in summary["hospitals"]) == summary["num_train"]
    local = [row["auc_local"] for row in summary["hospitals"]]
    assert summary["auc"]["local_mean"] == pytest.approx(np.mean(local))
    assert summary["auc"]["local_best"] == max(local)
    for key, (low, high) in summary["auc_interval"].items():
        assert low <= summary["auc"][key] <= high
    assert [row["round"] for row in summary["rounds"]] == [0, 1, 2]
    assert summary["rounds"][-1]["auc"] == summary["auc"]["federated"]
    assert {
        "pointing_game",
        "pointing_game_hirescam",
        "pointing_game_random",
        "mass_in_lesion",
    } <= (set(summary["grad_cam"]))
    assert set(summary["seconds"]) >= {"federated", "local 4", "pooled", "evaluate", "explain"}
    assert summary["versions"]["flwr"].startswith("1.41")


def test_the_traffic_is_the_model_to_and_from_every_hospital(finished):
    folder, summary = finished
    model = load_keras().models.load_model(folder / "model.keras")
    once = 5 * 4 * model.count_params()
    for row in summary["rounds"][1:]:
        assert (row["bytes_down"], row["bytes_up"]) == (once, once)


def test_the_saved_model_is_the_one_that_was_scored(finished):
    folder, summary = finished
    model = load_keras().models.load_model(folder / "model.keras")
    cohort = build_cohort(RunSettings(size=28))
    again = auc(predict(model, cohort.test.images), cohort.test.labels)
    assert again == pytest.approx(summary["auc"]["federated"], abs=1e-6)


def test_the_report_needs_no_other_file_and_describes_its_figures(finished):
    folder, summary = finished
    page = (folder / "report.html").read_text(encoding="utf-8")
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == 7
    for image in images:
        assert 'src="data:image/png;base64,' in image
        assert len(re.search(r'alt="([^"]*)"', image).group(1)) > 30
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert f"{summary['auc']['federated']:.3f}" in page
    assert "synthetic" in page
    assert "does not diagnose" in page
    for row in summary["hospitals"]:
        assert row["name"].replace("'", "&#39;") in page


def test_no_test_patient_is_in_any_hospital():
    cohort = build_cohort(RunSettings(size=28, seed=3))
    seen = set().union(*(set(images.table["patient"]) for images in cohort.hospitals))
    assert not seen & set(cohort.test.table["patient"])
    train, test = split_by_patient(cohort.train, seed=1)
    assert len(train) + len(test) == len(cohort.train)


@pytest.mark.usefixtures("nothing_drawn")
def test_a_failing_hospital_is_named_and_the_others_go_on(monkeypatch, tmp_path):
    honest = Trainer.train

    def train(self, weights, data, **kwargs):
        if data.table["hospital"].iloc[0] == "Harbour General":
            raise RuntimeError("no power")
        return honest(self, weights, data, **kwargs)

    monkeypatch.setattr(Trainer, "train", train)
    assert main(["run", *SMALL, "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert [out["hospital"] for out in summary["left_out"]] == ["Harbour General"] * 2
    assert "no power" in (tmp_path / "report.html").read_text(encoding="utf-8")


def _stop_in_round_two(monkeypatch, error):
    honest = Trainer.train

    def train(self, weights, data, *, seed, **kwargs):
        if seed[1] == 2:
            raise error
        return honest(self, weights, data, seed=seed, **kwargs)

    monkeypatch.setattr(Trainer, "train", train)


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [(RuntimeError("no power"), 1, "0 of 5 hospitals"), (KeyboardInterrupt(), 130, "stopped")],
)
def test_a_run_that_stops_keeps_the_last_good_model(
    monkeypatch, tmp_path, capsys, error, code, word
):
    _stop_in_round_two(monkeypatch, error)
    assert main(["run", *SMALL, "--out", str(tmp_path)]) == code
    message = capsys.readouterr().err
    assert word in message
    assert "round 1" in message
    assert {path.name for path in tmp_path.iterdir()} == {"last-good-model.keras", "checkpoint.npz"}
    model = load_keras().models.load_model(tmp_path / "last-good-model.keras")
    assert np.isfinite(model.get_weights()[0]).all()


def test_a_diverging_run_says_so(tmp_path, capsys):
    arguments = ["--learning-rate", "1e30", "--optimizer", "sgd"]
    assert main(["run", *SMALL, *arguments, "--out", str(tmp_path)]) in (1, 2)
    assert "lower" in capsys.readouterr().err
    assert not list(tmp_path.glob("report.html"))


@pytest.mark.usefixtures("nothing_drawn")
@pytest.mark.parametrize(
    ("name", "arguments", "hospitals"),
    [
        ("nih_chestxray14", ["--partition", "by:view"], ["AP", "PA"]),
        (
            "covid_chestxray",
            ["--hospitals", "2", "--partition", "iid"],
            ["Hospital 1", "Hospital 2"],
        ),
        ("kermany_cxr", ["--hospitals", "2"], ["Hospital 1", "Hospital 2"]),
        ("oct2017", ["--hospitals", "2"], ["Hospital 1", "Hospital 2"]),
        ("pneumoniamnist.npz", ["--hospitals", "3"], ["Hospital 1", "Hospital 2", "Hospital 3"]),
    ],
)
def test_real_images_run(real_data, tmp_path, name, arguments, hospitals):
    path, out = few_of(real_data / name, tmp_path), tmp_path / "run"
    command = ["run", "--dataset", str(path), *arguments, "--size", "28"]
    assert main([*command, "--rounds", "1", "--batch-size", "64", "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["synthetic"] is False
    assert [row["name"] for row in summary["hospitals"]] == hospitals
    # Only NIH's radiologists drew boxes, and few of them fall into the sample's test set.
    assert ("pointing_game" in summary["grad_cam"]) == (summary["grad_cam"]["num_images"] > 0)
    assert name.startswith("nih") or not summary["grad_cam"]["num_images"]


def few_of(path, folder):
    """A large ``.npz`` with the first 600 images of each of its parts; folders are small."""
    if path.suffix != ".npz":
        return path
    with np.load(path) as whole:
        np.savez(folder / path.name, **{part: array[:600] for part, array in whole.items()})
    return folder / path.name


CORNERS = {"effusion": (0, 0), "mass": (0, 10), "nodule": (10, 0), "hernia": (10, 10)}


@pytest.fixture(scope="module")
def planted():
    """Noise with a bright square in the corner of each finding; nobody has a hernia."""
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 4)) < (0.3, 0.2, 0.1, 0.0)).astype(np.uint8)
    images, masks = rng.integers(60, 120, (400, 16, 16, 1), np.uint8), np.zeros((400, 16, 16), bool)
    for k, (row, column) in enumerate(CORNERS.values()):
        masks[np.flatnonzero(labels[:, k]), row : row + 6, column : column + 6] = True
    images[masks] += 100
    table = pd.DataFrame({"patient": np.arange(400) // 2, "view": ["PA", "AP"] * 200})
    table["patient"] = table["patient"].astype(str)
    return MedicalImages(images, labels, tuple(CORNERS), table, "planted", True, masks)


@pytest.fixture(scope="module", params=[True, False], ids=["lesions known", "lesions unknown"])
def several_findings(planted, request, tmp_path_factory):
    """The folder and summary of a run on images with several findings, and what load was asked."""
    folder, asked = tmp_path_factory.mktemp("findings"), []
    data = planted if request.param else replace(planted, masks=None, synthetic=False)

    def load(*_, **options):
        asked.append(options)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedtutor.cohort.load", load)
        arguments = ["--task", "findings", "--hospitals", "3", "--rounds", "4", "--alpha", "1"]
        assert main(["run", *arguments, "--out", str(folder)]) == 0
    return folder, json.loads((folder / "summary.json").read_text(encoding="utf-8")), asked


def test_several_findings_are_learned_and_scored_one_by_one(several_findings):
    _, summary, asked = several_findings
    assert [options["task"] for options in asked] == [summary["task"]] == ["findings"]
    assert summary["multi_label"] is True
    assert summary["auc"]["federated"] > 0.8
    assert set(summary["class_auc"]) == set(summary["auc"])
    for key, aucs in summary["class_auc"].items():
        assert aucs[3] is None
        assert np.mean(aucs[:3]) == pytest.approx(summary["auc"][key])
    assert summary["test_class_counts"][3] == 0
    assert sum(row["num_examples"] for row in summary["hospitals"]) == summary["num_train"]
    assert 0 < summary["label_divergence"] < 1


def test_the_report_has_a_row_for_each_finding_and_says_what_it_leaves_out(several_findings):
    folder, summary, _ = several_findings
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<img [^>]*>", page)) == 6
    for k, name in enumerate(CORNERS):
        fedavg = summary["class_auc"]["federated"][k]
        row = re.search(rf"<tr><td>{name}</td>.*?</tr>", page).group()
        assert f"<td>{'–' if fedavg is None else f'{fedavg:.3f}'}</td>" in row
    assert "<title>fedtutor: planted, findings</title>" in page
    for words in ("no confusion matrix", "mean over the findings", "drawn as the rarest"):
        assert words in page


def test_heat_maps_ask_for_a_finding_that_is_there(planted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedtutor.cohort.load", lambda *_, **__: planted)
        outcome = run_experiment(RunSettings(rounds=4, hospitals=2, partition="iid"))
    test, shown = outcome.cohort.test, outcome.explained
    assert len(shown.indices) == 6
    assert test.labels[shown.indices, shown.classes].all()
    likeliest = np.where(test.labels, outcome.probabilities["federated"], -1).argmax(axis=1)
    assert np.array_equal(shown.classes, likeliest[shown.indices])
    assert len(set(shown.classes)) == 3
    scores = outcome.summary["grad_cam"]
    assert scores["num_images"] == test.labels.any(axis=1).sum()
    assert scores["pointing_game_hirescam"] > 2 * scores["pointing_game_random"]


def test_nan_becomes_null_and_arrays_lists():
    assert plain({"a": float("nan"), "b": np.arange(2), "c": (np.float32(0.5),)}) == {
        "a": None,
        "b": [0, 1],
        "c": [0.5],
    }
