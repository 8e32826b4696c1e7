"""``fedtutor run --external`` and ``fedtutor evaluate``, from the command line to the page."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor.cli import main
from fedtutor.datasets.phantoms import chest_phantoms, skin_phantoms
from fedtutor.datasets.registry import DATASETS
from fedtutor.external.card import Card, make_card
from fedtutor.external.page import conclusion
from fedtutor.external.validation import Request, prepare
from fedtutor.settings import RunSettings

pytestmark = pytest.mark.usefixtures("fewer_phantoms")

SMALL = ["--size", "28", "--rounds", "2", "--batch-size", "32"]
CLASSES = DATASETS["chest-phantoms"].classes
NAMES = {"Normal": "No <b>Finding</b>", "Viral pneumonia": "viral_PNEUMONIA", "COVID-19": "TB"}
MAP = ["--map", f"{NAMES['Normal']}=Normal", "--map", "TB=COVID-19"]


def written(folder, data, change=lambda image: image, names=NAMES):
    """A folder of one's own with these images, and its hospitals as columns."""
    files = [f"{k}.png" for k in range(len(data))]
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(files, data.images, strict=True):
        Image.fromarray(change(image[..., 0])).save(folder / name)
    labels = [names.get(data.class_names[k], data.class_names[k]) for k in data.labels]
    table = pd.DataFrame({"file": files, "label": labels, "patient": data.table["patient"]})
    table["hospital"] = data.table["hospital"].str[:6]
    table.to_csv(folder / "labels.csv", index=False)
    return folder


def other_scanner(image):
    """A machine of another kind: a negative, brighter below, with a bright letter in the corner."""
    changed = 255 - image.astype(int)
    changed = changed * np.linspace(0.4, 1, len(image))[:, None]
    changed[:5, :5] = 255
    return changed.astype(np.uint8)


@pytest.fixture(scope="module")
def abroad(tmp_path_factory):
    """A hospital abroad with a scanner of its own, and 250 images of phantoms of another seed."""
    data = chest_phantoms(250, size=28, seed=9)
    return written(tmp_path_factory.mktemp("abroad") / "<i>far", data, other_scanner)


@pytest.fixture(scope="module")
def finished(fewer_phantoms, tmp_path_factory, abroad):
    folder = tmp_path_factory.mktemp("run")
    further = ["--external", str(abroad), "--external", "chest-phantoms", "--by", "hospital"]
    assert main(["run", *SMALL, *further, *MAP, "--out", str(folder)]) == 0
    return folder, json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def evaluated(model, out, *further):
    code = main(["evaluate", str(model), *map(str, further), "--out", str(out)])
    if code:
        return code, None
    return code, json.loads((out / "evaluation.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_is_read_in_the_colour_that_the_model_takes(tmp_path, channels):
    data = skin_phantoms(40, size=28)
    for k, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        place = tmp_path / "skin" / data.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{k}.png")
    said = make_card(RunSettings(), data) | {"image_shape": [28, 28, channels]}
    (found,) = prepare(Request([tmp_path / "skin"]), Card.from_json(said), None)
    assert found.data.image_shape == (28, 28, channels)
    assert len(found.data) == 40


@pytest.mark.slow
def test_a_run_tells_what_its_models_are_worth_abroad(finished):
    _, summary = finished
    far, near = summary["external"]
    names = [row["name"] for row in summary["hospitals"]]
    assert list(far["models"]) == ["federated", "pooled", *(f"{name} alone" for name in names)]
    assert far["auc"] == far["models"]["federated"]["auc"]
    assert summary["home"]["auc"] == summary["auc"]["federated"]
    assert far["auc"] < near["auc"] - 0.1
    assert far["from_home"][0] == pytest.approx(far["auc"] - summary["home"]["auc"])
    assert far["from_home"][2] < 0  # worse, and not by chance
    assert near["from_home"][1] < 0 < near["from_home"][2]
    assert far["classes"] == {NAMES[name]: name for name in CLASSES}
    assert near["removed_twins"] == near["removed_known"] == 0
    assert len(far["groups"]["hospital"]) == 5
    assert near["num_images"] == 800


@pytest.mark.slow
def test_a_run_has_its_hospitals_at_home_and_away(finished):
    _, summary = finished
    table = summary["home_and_away"]
    assert len(table["auc"]) == len(summary["hospitals"]) + 2
    for row, hospital in zip(table["auc"], summary["hospitals"], strict=False):
        assert len(row) == len(table["hospitals"])
        k = hospital["id"]
        if len(table["hospitals"][k]["classes"]) == 3:
            assert row[k] == pytest.approx(hospital["auc_local_own_test"])


@pytest.mark.slow
def test_the_report_shows_home_and_abroad_and_escapes_every_name(finished):
    folder, summary = finished
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in (
        "Home against away",
        "In another hospital: &lt;i&gt;far",
        "Can it be taken at its word?",
        "What an alarm would mean",
        "Where it looks abroad",
        "By hospital",
    ):
        assert words in page
    assert "<i>far" not in page
    assert "<b>Finding" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert f"{summary['external'][0]['auc']:.3f}" in page


@pytest.mark.slow
def test_evaluate_gives_what_the_run_gave(finished, abroad, tmp_path):
    folder, summary = finished
    code, found = evaluated(
        folder / "model.keras", tmp_path, "--dataset", abroad, *MAP, "--by", "hospital"
    )
    assert code == 0
    one, there = found["external"][0], summary["external"][0]
    assert found["home"] == summary["home"]
    for key in ("auc", "auc_interval", "class_counts", "from_home", "groups", "num_images"):
        assert one[key] == pytest.approx(there[key]) if key == "auc" else one[key] == there[key]
    page = (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == 3
    for image in images:
        assert len(re.search(r'alt="([^"]*)"', image).group(1)) > 30
    assert "lower than at home" in conclusion(one)
    assert "must not be used to diagnose" in page
    assert "<i>far" not in page
    assert "<b>Finding" not in page


@pytest.mark.slow
def test_who_was_trained_on_is_left_out(finished, tmp_path):
    folder, summary = finished
    code, found = evaluated(folder / "model.keras", tmp_path, "--dataset", "chest-phantoms")
    assert code == 0
    one = found["external"][0]
    assert one["removed_twins"] == summary["num_train"]
    assert one["num_images"] == summary["num_test"]
    assert one["auc"] == pytest.approx(summary["auc"]["federated"], abs=1e-6)
    assert "images are left out" in found["warnings"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("further", "words"),
    [
        ([], "is no class of the model"),
        ([*MAP, "--by", "scanner"], "has no column 'scanner'"),
        ([*MAP, "--prevalence", "0.1"], "say which with --finding"),
        ([*MAP, "--threshold", "2"], "threshold must lie between 0 and 1"),
        (["--map", "TB", *MAP], "--map takes THEIRS=OURS"),
    ],
)
def test_what_cannot_be_answered_ends_in_one_line(
    finished, abroad, tmp_path, capsys, further, words
):
    folder, _ = finished
    code, _ = evaluated(folder / "model.keras", tmp_path, "--dataset", abroad, *further)
    assert code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("fedtutor: ")
    assert words in message


@pytest.mark.slow
def test_one_class_alone_is_nothing_to_tell_apart(finished, tmp_path, capsys):
    data = chest_phantoms(60, size=28, seed=9)
    folder = written(tmp_path / "images", data)
    drop = ["--map", f"{NAMES['Normal']}=Normal", "--map", "TB=", "--map", "viral pneumonia="]
    code, _ = evaluated(finished[0] / "model.keras", tmp_path, "--dataset", folder, *drop)
    assert code == 2
    assert "nothing to tell apart" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_drawn")
def test_patients_of_ones_own_folder_are_known_by_their_ids_unless_they_are_others(tmp_path):
    home, again = (
        written(tmp_path / name, chest_phantoms(280, size=28, seed=seed), names={})
        for name, seed in (("home", 4), ("again", 5))
    )
    out = tmp_path / "run"
    assert main(["run", *SMALL, "--dataset", str(home), "--out", str(out)]) == 0
    model = out / "model.keras"
    _, found = evaluated(model, tmp_path / "a", "--dataset", again)
    _, others = evaluated(model, tmp_path / "b", "--dataset", again, "--other-patients")
    one, other = found["external"][0], others["external"][0]
    assert one["removed_known"] > 0
    assert other["removed_known"] == 0
    assert other["num_images"] > one["num_images"]
    without = ["run", *SMALL, "--dataset", str(home), "--no-traces", "--out", str(out)]
    assert main(without) == 0
    _, blind = evaluated(model, tmp_path / "c", "--dataset", home)
    assert blind["external"][0]["overlap_known"] is False
    assert any("does not say whom it was trained on" in text for text in blind["warnings"])


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_drawn")
def test_real_images_of_one_hospital_are_tested_on_those_of_another(real_data, tmp_path):
    """Children in Guangzhou against adults with COVID-19, most of them in Hannover."""
    out = tmp_path / "run"
    command = ["run", "--dataset", str(real_data / "kermany_cxr"), *SMALL, "--hospitals", "2"]
    there = ["--external", str(real_data / "covid_chestxray"), "--map", "No Finding=NORMAL"]
    there += ["--map", "COVID-19=PNEUMONIA", "--map", "Other pneumonia=", "--by", "view"]
    assert main([*command, *there, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    one = summary["external"][0]
    assert one["class_counts"]["PNEUMONIA"] > one["class_counts"]["NORMAL"] > 0
    assert one["overlap_known"]
    assert 0 <= one["auc"] <= 1
    assert summary["home_and_away"] is None  # nobody can tell whose the test patients are
    code, found = evaluated(
        out / "model.keras", tmp_path / "e", "--dataset", real_data / "kermany_cxr"
    )
    assert code == 0
    assert found["external"][0]["removed_known"] == summary["num_train"]
