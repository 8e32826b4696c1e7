"""tools/check_lock.py: a wheel that is missing somewhere is seen, and no index is no proof."""

from __future__ import annotations

import zipfile

import check_lock
import pytest

pytestmark = pytest.mark.process


def write_wheel(folder, name, tag):
    """Write the least that uv takes for a wheel."""
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as wheel:
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", about)
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder of wheels, which for uv is all that there is."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    config = f"no-index = true\nfind-links = ['{folder.as_posix()}']\n"
    (tmp_path / "uv.toml").write_text(config, encoding="utf-8")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(check_lock, "PYTHONS", ("3.11", "3.13"))
    write_wheel(folder, "packaging", "py3-none-any")
    write_wheel(folder, "anywhere", "py3-none-any")
    write_wheel(folder, "unixonly", "py3-none-manylinux_2_17_x86_64.manylinux_2_17_aarch64")
    write_wheel(folder, "unixonly", "py3-none-macosx_11_0_arm64")
    return folder


@pytest.fixture
def run(wheels, tmp_path, capsys):
    def run(lock, *options):
        path = tmp_path / "a lock"
        path.write_text(lock, encoding="utf-8")
        code = check_lock.main(["--lock", str(path), *options])
        return code, capsys.readouterr().out

    return run


def test_every_system_and_python_is_counted_by_its_markers(run):
    code, out = run("anywhere==1.0\nunixonly==1.0 ; sys_platform != 'win32'\n")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert code == 0
    assert len(rows) == 4 * 2
    assert {row[-1] for row in rows} == {"ok"}
    assert [row[-2] for row in rows] == ["1"] * 2 + ["2"] * 6


def test_a_wheel_that_is_missing_on_one_system_is_named(run):
    code, out = run("anywhere==1.0\nunixonly==1.0\n")
    assert code == 1
    assert [line.split()[-1] for line in out.splitlines()[1:9]] == ["no"] * 2 + ["ok"] * 6
    assert "Windows x86-64, Python 3.11: " in out
    assert "unixonly==1.0 has no" in out


def test_a_lock_of_nothing_proves_nothing(run):
    code, out = run("")
    assert code == 1
    assert "ok" not in out


def test_a_wheel_of_tensorflow_for_intel_macs_would_be_news(run, wheels):
    write_wheel(wheels, "tensorflow", "py3-none-win_amd64.macosx_11_0_arm64")
    write_wheel(wheels, "tensorflow", "py3-none-manylinux_2_17_x86_64.manylinux_2_17_aarch64")
    code, out = run("tensorflow==1.0\n")
    assert code == 0
    assert "(Intel): no wheel of tensorflow==1.0" in out
    write_wheel(wheels, "tensorflow", "py3-none-any")
    code, out = run("tensorflow==1.0\n")
    assert code == 1
    assert "the documents say none" in out


@pytest.mark.parametrize(("options", "expected"), [((), 0), (("--strict",), 1)])
def test_without_an_index_nothing_is_shown_and_that_is_said(options, expected, run, monkeypatch):
    monkeypatch.delenv("UV_CONFIG_FILE")
    monkeypatch.setenv("UV_OFFLINE", "1")
    code, out = run("anywhere==1.0\n", *options)
    assert code == expected
    assert out.startswith("check-lock: skipped, as no package index answers.")
    assert " ok" not in out


def test_an_index_that_is_gone_half_way_is_no_missing_wheel(run, wheels, monkeypatch):
    asked = iter([None])

    def ask_index():
        if next(asked, "gone") == "gone":
            raise check_lock.NoIndex("Failed to fetch")

    monkeypatch.setattr(check_lock, "ask_index", ask_index)
    code, out = run("unixonly==1.0\n", "--strict")
    assert code == 1
    assert "skipped" in out


def test_uv_that_fails_for_another_reason_is_no_missing_index(run, monkeypatch):
    monkeypatch.setattr(check_lock, "PROBE", "packaging==never")
    with pytest.raises(RuntimeError, match="never"):
        run("anywhere==1.0\n")
