"""What is secret in a federation's folder: who can read it, from when on, and that it goes."""

from __future__ import annotations

import os
import stat
import sys

import numpy as np
import pytest
from toy import secrets_in

from fedtutor.deployment import hospital_file
from fedtutor.deployment.certificates import write_key_pair
from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.hospital_file import write_hospital_file
from fedtutor.deployment.private import remove_secrets
from fedtutor.errors import FederationError

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


@pytest.fixture(autouse=True)
def careless():
    """A umask that forbids nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="module")
def images(make_images):
    return make_images(6, size=16)


@pytest.fixture
def folder(images, tmp_path):
    """A federation's folder, all written and nothing started, with a log and a result in it."""
    (tmp_path / "server").mkdir()
    federation = LocalFederation(
        {"North": images}, test=images, folder=tmp_path, options=("--database", "state.db")
    )
    federation._lay_out()
    federation._prepare(federation.sites["North"], images)  # again: all may be there already
    for kept in ("server/superlink.log", "server/results/progress.jsonl", "hospital-1/thesis.key"):
        (tmp_path / kept).parent.mkdir(exist_ok=True)
        (tmp_path / kept).touch()
    return tmp_path


@posix
def test_only_this_user_can_read_what_is_secret(folder):
    secrets = secrets_in(folder)
    assert {str(path.relative_to(folder)) for path in secrets} == {
        *("server/tls/server.key", "server/test.npz", "server/state.db"),
        *("hospital-1/key", "hospital-1/images.npz"),
    }
    assert {mode(path) for path in secrets} == {0o600}
    for home in ("server", "hospital-1", "server/tmp", "hospital-1/tmp", "server/flwr"):
        assert mode(folder / home) == 0o700, home


@posix
def test_a_file_is_shut_before_anything_is_in_it(images, tmp_path, monkeypatch):
    path = tmp_path / "images.npz"
    path.touch(mode=0o666)

    def save(file, **parts):
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
        assert mode(path) == 0o600
        file.write(b"images")

    monkeypatch.setattr(hospital_file.np, "savez_compressed", save)
    write_hospital_file(images, path)
    assert path.read_bytes() == b"images"


@posix
def test_a_key_that_is_written_anew_is_shut_too(tmp_path):
    (tmp_path / "key").touch(mode=0o666)
    write_key_pair(tmp_path / "key")
    assert mode(tmp_path / "key") == 0o600
    assert mode(tmp_path / "key.pub") == 0o666


def test_in_the_end_secrets_go_and_the_rest_stays(folder):
    remove_secrets(folder)
    assert secrets_in(folder) == []
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left == {
        *("server/tls/ca.crt", "server/tls/server.pem", "server/superlink.log"),
        *("server/results/progress.jsonl", "hospital-1/key.pub", "hospital-1/node.toml"),
        "hospital-1/thesis.key",
    }
    remove_secrets(folder)  # nothing to do


def test_the_authority_s_key_is_written_nowhere(folder):
    keys = [
        path for path in folder.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()
    ]
    assert {path.name for path in keys} == {"server.key", "key"}


@pytest.mark.process  # the watchdog
@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_a_folder_that_no_toml_can_name_is_refused_before_anything_starts(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xdcbung")
    with (
        pytest.raises(FederationError, match=r"not in UTF-8.*Rename"),
        LocalFederation({"North": None}, folder=folder),
    ):
        pytest.fail("it started")


def test_images_that_only_we_can_read_are_read(images, tmp_path):
    write_hospital_file(images, tmp_path / "deep" / "images.npz")
    read = hospital_file.read_hospital_file(tmp_path / "deep" / "images.npz", size=16)
    np.testing.assert_array_equal(read.images, images.images)
