"""TOML: what goes into a node's or an app's config comes out of it."""

from __future__ import annotations

import math
import tomllib

import pytest
from flwr.common.config import get_project_config, parse_config_args
from hypothesis import given
from hypothesis import strategies as st

from fedtutor.deployment.appfolder import to_toml, write_app
from fedtutor.deployment.server_settings import ServerSettings, run_config
from fedtutor.errors import FederationError
from fedtutor.settings import RunSettings

KEYS = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz-"), min_size=1)
VALUES = st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
ODD = (
    "C:\\Users\\\u00dcbung 1\\new",
    '"North"',
    "\x1b[31mRed\x1b[0m [red] $\\frac{1}{2}$",
    "two\r\nlines\tand a NUL\0 and a DEL\x7f",
    "\U0001f3e5 \u5317\u4eac \u2028",
    "'''",
    "",
)


@given(st.dictionaries(KEYS, VALUES))
def test_a_table_comes_out_as_it_went_in(values):
    assert tomllib.loads(to_toml(values)) == values


@pytest.mark.parametrize("text", ODD)
def test_odd_names_and_paths_come_out_of_flower_s_own_reader(text, tmp_path):
    (tmp_path / "node.toml").write_text(to_toml({"name": text, "partition-id": 0}), "utf-8")
    read = parse_config_args([str(tmp_path / "node.toml")])
    assert read == {"name": text, "partition-id": 0}


def test_numbers_without_end_survive():
    read = tomllib.loads(
        to_toml({"up": math.inf, "down": -math.inf, "none": math.nan, "yes": True})
    )
    assert (read["up"], read["down"], read["yes"]) == (math.inf, -math.inf, True)
    assert math.isnan(read["none"])


def test_a_run_config_is_read_from_the_app_s_folder(tmp_path):
    config = run_config(RunSettings(dataset=ODD[0]), ServerSettings(out=ODD[2]))
    project = get_project_config(write_app(tmp_path / "app", config))
    assert project["tool"]["flwr"]["app"]["config"] == config


def test_a_text_that_is_no_text_is_named():
    with pytest.raises(FederationError, match=r"not in UTF-8: 'path = .*Rename"):
        to_toml({"name": "North", "path": "/data/\udcdcbung", "more": 1})
