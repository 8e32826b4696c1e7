"""Any laptop: what Windows does otherwise, played here, and a user of an inconvenient name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedtutor import cores
from fedtutor.cli import main
from fedtutor.datasets.download import RemoteFile
from fedtutor.datasets.download.file import download_file
from fedtutor.deployment.processes import clear_away
from fedtutor.errors import FederationError
from fedtutor.laptop import check
from fedtutor.support import output, system


@pytest.fixture
def windows(monkeypatch):
    """What the module does on Windows, as far as another system can play it."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x8000000, raising=False)
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)


def test_a_program_that_runs_apart_has_neither_our_ctrl_c_nor_our_window(windows, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: options)
    assert system.start_apart(["flwr"], cwd="here") == {
        "cwd": "here",
        "start_new_session": True,
        "creationflags": 0x8000200,
    }


def test_both_signals_that_tell_to_end_are_heeded(windows, monkeypatch):
    heeded = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: heeded.append((number, handler)))
    system.when_told_to_end(signal.SIG_IGN)
    assert heeded == [(number, signal.SIG_IGN) for number in (signal.SIGTERM, 21)]


def test_nobody_is_asked_to_end_where_that_would_kill(windows):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not system.ask_to_end(process)
        assert process.communicate(b"\n") and process.returncode == 0


def test_check_names_the_libraries_that_a_bare_windows_lacks(windows, monkeypatch, capsys):
    def load(name):
        if name == "msvcp140_1.dll":
            raise OSError(126, "The specified module could not be found")

    monkeypatch.setattr(system.ctypes, "WinDLL", load, raising=False)
    assert system.missing_libraries() == ["msvcp140_1.dll"]
    monkeypatch.undo()
    assert system.missing_libraries() == [] or sys.platform == "win32"
    monkeypatch.setattr(check, "missing_libraries", lambda: ["msvcp140_1.dll"])
    assert main(["check"]) == 1
    said = capsys.readouterr().out
    assert "no msvcp140_1.dll" in said and "Visual C++ Redistributable for x64" in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no sockets in folders")
def test_sockets_fit_into_a_short_temporary_folder(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T")
    folder = system.short_temporary_folder()
    folder.rmdir()
    assert len(os.fsencode(folder)) < 30
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix, dir: dir or "the system's own")
    assert system.short_temporary_folder() == Path("the system's own")


@pytest.fixture
def open_elsewhere(monkeypatch):
    """Let ``os.replace`` be refused so many times, as of a file that Windows keeps."""
    honest = os.replace

    def keep(times):
        left = iter(range(times))

        def replace(source, target):
            if next(left, None) is not None:
                raise PermissionError(13, "Access is denied", str(source))
            honest(source, target)

        monkeypatch.setattr(os, "replace", replace)

    monkeypatch.setattr(system, "PAUSES", (0, 0))
    return keep


def test_a_file_that_is_open_elsewhere_for_a_moment_is_replaced(open_elsewhere, tmp_path):
    open_elsewhere(2)
    output.write_text(tmp_path / "summary.json", "new")
    assert (tmp_path / "summary.json").read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("work", [output.set_aside, lambda out: output.write_text(out / "b", "")])
def test_one_that_stays_open_is_said_in_a_sentence(open_elsewhere, work, tmp_path):
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    open_elsewhere(3)
    with pytest.raises(FederationError, match=r"Access is denied.*; make room, close what has a"):
        work(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {"previous"} == {"report.html"}


def test_what_cannot_be_removed_is_left_and_the_rest_goes(tmp_path, monkeypatch):
    def unlink(path, *arguments, honest=os.unlink, **options):
        if Path(path).name == "mapped.raw":
            raise PermissionError(13, "Access is denied", path)
        honest(path, *arguments, **options)

    monkeypatch.setattr(system, "PAUSES", (0,))
    monkeypatch.setattr(os, "unlink", unlink)
    for name in ("key", "mapped.raw", "z"):
        (tmp_path / "folder" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / name).touch()
    clear_away(tmp_path / "folder", leave="nothing")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["mapped.raw"]
    monkeypatch.undo()
    clear_away(tmp_path / "folder", leave="nothing")
    clear_away(tmp_path / "folder", leave="nothing")  # gone already
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_binds_nobody_to_cores_counts_them_all(monkeypatch):
    monkeypatch.delattr(cores.psutil.Process, "cpu_affinity", raising=False)
    assert cores.num_cores() == (os.cpu_count() or 1)


def test_the_same_text_has_the_same_bytes_on_every_system(tmp_path):
    output.write_text(tmp_path / "text", "ü\nα\n")
    assert (tmp_path / "text").read_bytes() == "ü\nα\n".encode()


# A user of an inconvenient name


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The home of somebody whose name has a space and an umlaut; all lies below it."""
    home = tmp_path_factory.mktemp("Users") / "Jürgen Müller"
    for name in ("Temp", "Röntgen (α)/krank", "Röntgen (α)/gesund"):
        (home / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(1000):  # so many are kept in a cache
        pixels = rng.integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(
            home / "Röntgen (α)" / ("krank", "gesund")[k % 2] / f"{k}ü.png"
        )
    return home


def fedtutor(home, encoding, *arguments):
    """Run the command at that home, on a terminal of that encoding; what it says."""
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(home / "Temp"))
    done = subprocess.run(
        [sys.executable, "-m", "fedtutor", *arguments],
        cwd=home,
        env=os.environ
        | places
        | {"HOME": str(home), "USERPROFILE": str(home), "FEDTUTOR_DATA": str(home / "Daten (α)")}
        | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONIOENCODING": encoding},
        capture_output=True,
        encoding=encoding,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.process
def test_a_user_name_with_a_space_and_an_umlaut_is_no_trouble(home):
    said = fedtutor(
        *(home, "cp1252", "run", "--dataset", "Röntgen (α)", "--out", "~/Größe 1"),
        *("--size", "16", "--hospitals", "2", "--rounds", "1"),
    )
    assert str(home / "Größe 1" / "report.html") in said
    assert r"Röntgen (\u03b1): AUC" in said
    results = {path.name for path in (home / "Größe 1").iterdir()}
    assert results == {"model.keras", "report.html", "summary.json"}
    assert len(list((home / "Röntgen (α)" / ".decoded").glob("cache-*/pixels.raw"))) == 1
    assert list((home / "Temp").iterdir()) == []


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_the_commands_that_only_look_speak_every_encoding(home, encoding):
    folder = str(home / "Daten (α)").encode(encoding, "backslashreplace").decode(encoding)
    assert f"Data folder: {folder} (" in fedtutor(home, encoding, "datasets")
    fedtutor(home, encoding, "check")


def test_a_file_comes_from_a_mirror_in_such_a_folder(home):
    source = home / "Spiegel ü" / "set" / "a b.npz"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"1234")
    md5 = "md5:81dc9bdb52d04dc20036dbd8313ed055"
    file = RemoteFile(url="https://example.org/a%20b.npz", name="a b.npz", num_bytes=4, hash=md5)
    path = download_file(file, home / "Daten (α)" / "set", mirror=home / "Spiegel ü")
    assert path.read_bytes() == b"1234"


def test_out_may_be_in_the_home_also_where_the_shell_does_not_say_which(monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("fedtutor.cli._run", lambda arguments, console: arguments.out)
    assert main(["run", "--out", "~/a"]) == tmp_path / "a"
