"""The package as a Flower app: its config, what it takes along, and whose images it reads."""

from __future__ import annotations

import io
import json
import tomllib
import zipfile
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Context, RecordDict

import fedtutor
from fedtutor import federation
from fedtutor.cohort import build_cohort
from fedtutor.deployment import halves as app
from fedtutor.deployment.hospital_file import read_hospital_file, write_hospital_file
from fedtutor.deployment.server_settings import ServerSettings, run_config, settings_of
from fedtutor.errors import DataError, FederationError
from fedtutor.federation.in_process import SUPERLINK_NODE_ID, InProcessGrid
from fedtutor.federation.records import to_weights
from fedtutor.model import load_keras
from fedtutor.settings import RunSettings, TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SMALL = RunSettings(hospitals=2, rounds=2, size=28, training=TrainingSettings("sgd", 0.05, 32))


@pytest.fixture(scope="session")
def small(corners):
    return replace(SMALL, dataset=str(corners), size=16)


def context(config, **node):
    return Context(
        run_id=1, node_id=SUPERLINK_NODE_ID, node_config=node, state=RecordDict(), run_config=config
    )


def test_flower_and_python_are_told_the_same_version():
    assert PROJECT["project"]["version"] == fedtutor.__version__


def test_the_project_lists_every_key_of_the_run_config_with_a_value_that_works():
    config = PROJECT["tool"]["flwr"]["app"]["config"]
    settings, server = settings_of(config)
    assert run_config(settings, server) == config
    assert server == ServerSettings()


def test_settings_survive_the_way_through_a_run_config():
    settings = RunSettings(
        dataset="oct-phantoms",
        hospitals=4,
        partition="iid",
        alpha=0.1,
        local_epochs=2,
        strategy="fedmedian",
        size=28,
        seed=5,
        min_hospitals=2,
        training=TrainingSettings("momentum", 0.5, 4, schedule="cosine"),
    )
    server = ServerSettings(test_data="a/b.npz", out="there", round_timeout=5.0)
    assert settings_of(run_config(settings, server)) == (settings, server)
    nothing = RunSettings()
    assert settings_of(run_config(nothing, server))[0] == nothing


@pytest.mark.slow
def test_what_flwr_run_takes_along_is_the_package_and_nothing_else():
    from flwr.cli.build import build_fab_from_disk

    bundle = build_fab_from_disk(ROOT)
    names = zipfile.ZipFile(io.BytesIO(bundle)).namelist()
    assert "fedtutor/deployment/app.py" in names
    assert "fedtutor/federation/client.py" in names
    strange = [
        name
        for name in names
        if not (name.startswith("fedtutor/") and Path(name).suffix in (".py", ".toml"))
    ]
    assert sorted(strange) == [".info/CONTENT", "pyproject.toml"]
    assert len(bundle) < 2_000_000  # Flower takes 10 MB


@pytest.mark.slow
def test_in_a_simulation_a_node_has_its_share_of_the_data_set(small):
    config = run_config(small, ServerSettings())
    cohort = build_cohort(small)
    for k in range(2):
        node = context(config, **{"partition-id": k, "num-partitions": 2})
        np.testing.assert_array_equal(app.images_of(node).images, cohort.hospitals[k].images)
        assert app.name_of(node) == cohort.partition.names[k]


@pytest.mark.slow
def test_nodes_and_hospitals_of_different_number_are_refused_with_the_command_that_helps(small):
    config = run_config(small, ServerSettings())
    node = context(config, **{"partition-id": 0, "num-partitions": 5})
    with pytest.raises(FederationError, match=r'2 hospitals .* 5 nodes.*"num-supernodes=2"'):
        app.images_of(node)


def test_in_a_deployment_a_hospital_reads_its_own_file_and_no_other(tmp_path, make_images):
    config = run_config(RunSettings(dataset="not-there"), ServerSettings())
    own = make_images(12, size=16, seed=3)
    write_hospital_file(own, tmp_path / "images.npz")
    node = context(config, data=str(tmp_path / "images.npz"), name="Harbour")
    np.testing.assert_array_equal(app.images_of(node).images, own.images)
    assert app.name_of(node) == "Harbour"


@pytest.mark.parametrize("findings", [False, True])
def test_a_file_gives_back_what_was_written_but_for_who_the_patients_are(
    tmp_path, make_images, findings
):
    labels = np.eye(3, dtype=np.uint8)[[0, 1, 2, 0]] if findings else None
    images = make_images(4, patients=["Ann", "Bob", "Ann", "Cy"], labels=labels, age=[1, 2, 3, 4])
    write_hospital_file(images, tmp_path / "deep" / "images.npz")
    back = read_hospital_file(tmp_path / "deep" / "images.npz")
    np.testing.assert_array_equal(back.images, images.images)
    np.testing.assert_array_equal(back.labels, images.labels)
    assert (back.class_names, back.name, back.synthetic) == (images.class_names, "toy", False)
    assert list(back.table.columns) == ["patient"]
    assert list(back.table["patient"]) == ["0", "1", "0", "2"]
    assert b"Ann" not in (tmp_path / "deep" / "images.npz").read_bytes()


def test_a_file_keeps_clusters_together_where_patients_are_not_known(tmp_path, make_images):
    write_hospital_file(make_images(4, cluster=["t", "s", "t", "u"]), tmp_path / "images.npz")
    back = read_hospital_file(tmp_path / "images.npz")
    assert list(back.table["patient"]) == ["1", "0", "1", "2"]


def test_what_is_no_file_of_ours_is_read_as_any_data_set(tmp_path, make_images):
    with pytest.raises(DataError, match="does not exist"):
        read_hospital_file(tmp_path / "nothing.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="broken"):
        read_hospital_file(tmp_path / "broken.npz")
    write_hospital_file(make_images(4, size=16), tmp_path / "ours.npz")
    with pytest.raises(DataError, match="16 pixels; size says 28"):
        read_hospital_file(tmp_path / "ours.npz", size=28)


OTHERS = {
    "labels": (
        {"class_names": ("b", "a", "c")},
        "the server's labels are a, b, c, and this hospital's b, a, c",
    ),
    "colours": (
        {"images": np.zeros((9, 12, 12, 3), np.uint8)},
        "takes images of 12x12 pixels in grey, and this hospital has 12x12 pixels in colour",
    ),
    "size": (
        {"images": np.zeros((9, 14, 12, 1), np.uint8)},
        "takes images of 12x12 pixels in grey, and this hospital has 14x12 pixels in grey",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "reason"), OTHERS.values(), ids=OTHERS)
def test_a_hospital_whose_data_mean_something_else_is_left_out_by_name(
    make_images, monkeypatch, changes, reason
):
    ours = make_images(9, size=12)
    theirs = replace(ours, **changes)
    grids = []
    from fedtutor.model import create_model

    config = federation.train_config(SMALL.training, num_rounds=1)
    config["class-names"], config["image-shape"] = list(ours.class_names), [12, 12, 1]
    server = federation.make_server_app(
        create_model((12, 12, 1), 3).get_weights(),
        federation.make_strategy("fedavg", 2),
        num_rounds=1,
        config=config,
        on_round=lambda r, weights, grid: grids.append(grid),
    )
    monkeypatch.setattr(app, "images_of", lambda c: (ours, theirs)[c.node_config["partition-id"]])
    client = federation.make_client_app(app.images_of, mods=[app.check_classes])
    federation.run_in_process(server, client, ["Alike", "Other"])
    (out,) = grids[-1].left_out
    assert out.hospital == "Other"
    assert reason in out.reason


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """The module's own two apps run in this process; the tests look at what has come of it."""
    told = SimpleNamespace(settings=small)
    told.out, told.cohort = tmp_path_factory.mktemp("out"), build_cohort(told.settings)
    config = run_config(told.settings, ServerSettings(out=str(told.out)))
    server = context(config)
    with redirect_stdout(io.StringIO()) as said:
        app.lead(InProcessGrid(app.client_app, told.cohort.names, config), server)
    told.said, told.weights = said.getvalue(), to_weights(server.state["arrays"])
    return told


@pytest.mark.slow
def test_the_app_keeps_a_journal_and_the_last_good_model(finished):
    lines = [json.loads(line) for line in (finished.out / app.PROGRESS).read_text().splitlines()]
    kinds, names = [line["event"] for line in lines], finished.cohort.names
    assert kinds == ["round", *["reply", "reply", "round"] * 2, "end"]
    assert lines[1]["hospital"] == names[0]
    assert lines[-1]["auc"]["federated"] == lines[-2]["auc"]
    low, high = lines[-1]["auc_interval"]["federated"]
    assert low <= lines[-1]["auc"]["federated"] <= high
    kept = load_keras().models.load_model(finished.out / app.LAST_GOOD)
    for ours, theirs in zip(kept.get_weights(), finished.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert f"round 2 of 2: AUC {lines[-2]['auc']:.3f}" in finished.said
    claims = dict(zip(names, map(len, finished.cohort.hospitals), strict=True))
    assert lines[-1]["claims"] == claims
    assert finished.said.count(f"{names[0]} says that it has {claims[names[0]]} images") == 1


@pytest.mark.slow
def test_the_app_s_result_is_that_of_the_main_job(finished):
    from fedtutor.experiment import run_experiment

    job = run_experiment(finished.settings).model.get_weights()
    for ours, theirs in zip(finished.weights, job, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.slow
def test_a_run_that_cannot_go_on_says_why_in_its_journal(corners, tmp_path):
    with pytest.raises(FederationError, match="2 of 5 hospitals"):
        config = run_config(
            RunSettings(dataset=str(corners), hospitals=5, size=16, min_hospitals=3),
            ServerSettings(out=str(tmp_path), patience=0.05),
        )
        app.lead(InProcessGrid(app.client_app, ["a", "b"], config), context(config))
    last = json.loads((tmp_path / app.PROGRESS).read_text().splitlines()[-1])
    assert last["event"] == "stopped"
    assert "2 of 5 hospitals" in last["reason"]
    assert "at least 3" in last["reason"]
