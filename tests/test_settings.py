"""The one table of settings, and what comes from it."""

from __future__ import annotations

import argparse
import json

import pytest

from fedtutor.cli import main
from fedtutor.deployment.server_settings import ServerSettings, run_config, settings_of
from fedtutor.errors import DataError
from fedtutor.options import add_settings, settings_from
from fedtutor.settings import (
    FEDPROX_MU,
    RunSettings,
    TrainingSettings,
    from_config,
    settings_in,
    to_config,
)

TABLES = (TrainingSettings, RunSettings, ServerSettings)


def parse(*words):
    parser = argparse.ArgumentParser()
    add_settings(parser, (RunSettings, TrainingSettings))
    return settings_from(parser.parse_args(words))


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_has_a_help_and_a_default_of_its_kind(table):
    for one in settings_in(table):
        assert len(one.metadata["help"]) > 8
        assert one.default is None or type(one.default) is one.metadata["kind"]


def test_a_command_line_without_words_asks_for_the_defaults():
    assert parse() == RunSettings()


def test_every_option_reaches_its_setting():
    words = "--hospitals 3 --alpha 0.1 --local-epochs 2 --batch-size 4 --schedule cosine"
    settings = parse(*words.split(), "--dataset", "a/b", "--proximal-mu", "0.5")
    training = TrainingSettings(batch_size=4, schedule="cosine", proximal_mu=0.5)
    assert settings == RunSettings(
        dataset="a/b", hospitals=3, alpha=0.1, local_epochs=2, training=training
    )


@pytest.mark.parametrize("table", TABLES)
def test_a_config_brings_the_settings_back(table):
    config = to_config(table())
    assert all(isinstance(value, str | int | float) for value in config.values())
    assert from_config(table, config) == table()


def test_a_run_config_brings_everything_back():
    settings = RunSettings(hospitals=4, training=TrainingSettings("sgd", 0.5), strategy="krum")
    server = ServerSettings(out="there", round_timeout=5.0)
    assert settings_of(run_config(settings, server)) == (settings, server)


def test_what_hospitals_registered_is_read_by_name():
    assert ServerSettings().register() is None
    found = ServerSettings(registered="St Synth=80, North=1200").register()
    assert found == {"St Synth": 80, "North": 1200}


def test_fedprox_pulls_and_the_settings_say_so():
    assert RunSettings(strategy="fedprox").training.proximal_mu == FEDPROX_MU
    strong = RunSettings(strategy="fedprox", training=TrainingSettings(proximal_mu=0.5))
    assert strong.training.proximal_mu == 0.5
    assert RunSettings().training.proximal_mu == 0


@pytest.mark.slow
@pytest.mark.usefixtures("fewer_phantoms", "nothing_drawn")
def test_the_summary_says_what_fedprox_really_trained_with(tmp_path):
    arguments = ["--size", "16", "--rounds", "1", "--hospitals", "2", "--strategy", "fedprox"]
    assert main(["run", *arguments, "--proximal-mu", "0.3", "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["training"]["proximal_mu"] == 0.3
    assert summary["strategy"] == "fedprox"
    assert "μ 0.3" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"max_update_ratio": ratio} for ratio in (1, 0, float("nan"))),
        {"round_timeout": 0},
        {"patience": -1},
        {"registered": "North"},
        {"registered": "North=nan"},
    ],
    ids=str,
)
def test_a_server_that_cannot_be_is_refused(wrong):
    with pytest.raises(DataError, match="must be"):
        ServerSettings(**wrong)
