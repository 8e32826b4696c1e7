"""``fedtutor lab``: what it copies, what it leaves alone, and what it says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import nbformat
import pytest
from lint import LINK, course, prose

from fedtutor.cli import main
from fedtutor.laptop import commands, lab

ROOT = Path(__file__).resolve().parents[1]
FIRST = "notebooks/00_start_here.ipynb"
CARD = "datasets/pneumoniamnist/README.md"


def notebook(text, output="1"):
    cell = nbformat.v4.new_code_cell(text, id="a")
    cell.outputs = [nbformat.v4.new_output("stream", text=output)]
    return nbformat.writes(nbformat.v4.new_notebook(cells=[cell]))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a course of the given files, in place of the one that was there."""
    root = tmp_path / "installed"
    monkeypatch.setattr(lab, "material", lambda: root)

    def install(**texts):
        names = {"first": FIRST, "card": CARD}
        for what, text in texts.items():
            (root / names[what]).parent.mkdir(parents=True, exist_ok=True)
            (root / names[what]).write_text(text, encoding="utf-8")

    install(first=notebook("old"), card="old")
    return install


@pytest.fixture
def mine(installed, tmp_path):
    """A learner's folder, with the old course in it."""
    folder = tmp_path / "my course"
    assert lab.copy_course(folder) == {"copied": [CARD, FIRST]}
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def text_of(file):
    (cell,) = nbformat.read(file, as_version=4).cells
    return cell.source


def test_a_second_time_nothing_is_copied(mine):
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    assert lab.copy_course(mine) == {}
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


def test_what_the_learner_has_changed_is_kept_and_a_newer_one_put_beside(mine, installed):
    (mine / FIRST).write_text(notebook("my answer"), encoding="utf-8")
    assert lab.copy_course(mine) == {"kept": [FIRST]}
    installed(first=notebook("new"))
    beside = "notebooks/00_start_here.new.ipynb"
    assert lab.copy_course(mine) == {"kept": [FIRST], "beside": [beside]}
    assert text_of(mine / FIRST) == "my answer"
    assert text_of(mine / beside) == "new"
    assert lab.copy_course(mine) == {"kept": [FIRST]}


def test_a_newer_one_that_was_put_beside_is_the_learner_s_too(mine, installed):
    for text, name in (("new", "new"), ("newer", "new1"), ("newest", "new2")):
        (mine / FIRST).write_text(notebook("my answer"), encoding="utf-8")
        installed(first=notebook(text))
        assert lab.copy_course(mine)["beside"] == [f"notebooks/00_start_here.{name}.ipynb"]
    assert text_of(mine / "notebooks/00_start_here.new.ipynb") == "new"


def test_a_notebook_that_was_only_run_gives_way_to_a_newer_one(mine, installed):
    (mine / FIRST).write_text(notebook("old", output="2"), encoding="utf-8")
    assert lab.copy_course(mine) == {}
    assert "2" in (mine / FIRST).read_text(encoding="utf-8")
    installed(first=notebook("new"), card="new")
    assert lab.copy_course(mine) == {"updated": [CARD, FIRST]}
    assert text_of(mine / FIRST) == "new"


def test_a_deleted_notebook_is_copied_again(mine):
    (mine / FIRST).unlink()
    assert lab.copy_course(mine) == {"copied": [FIRST]}


@pytest.mark.parametrize("text", ["not JSON", "{}", "[]", '{"cells": [1]}', '{"cells": [{}]}'])
def test_a_broken_notebook_is_kept_like_any_other(text, mine, installed):
    (mine / FIRST).write_text(text, encoding="utf-8")
    installed(first=notebook("new"))
    assert lab.copy_course(mine)["kept"] == [FIRST]
    assert (mine / FIRST).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("note", [None, "", "{", "[1]", "null", "\ufeff{}"])
def test_without_the_note_of_what_was_copied_all_that_differs_is_kept(note, mine, installed):
    (mine / lab.NOTE).unlink()
    if note is not None:
        (mine / lab.NOTE).write_text(note, encoding="utf-8")
    installed(first=notebook("new"))
    assert set(lab.copy_course(mine)) == {"kept", "beside"}
    assert text_of(mine / FIRST) == "old"
    assert lab.copy_course(mine) == {"kept": [FIRST]}


def test_files_of_the_learner_s_own_are_left_alone(mine):
    (mine / "notebooks" / "thoughts.md").write_text("mine", encoding="utf-8")
    lab.copy_course(mine)
    assert (mine / "notebooks" / "thoughts.md").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["file", "file/course"])
def test_a_folder_that_cannot_be_written_to_is_named(name, tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["lab", str(tmp_path / name), "--copy-only"]) == 2
    assert f"cannot write to {tmp_path / name} (" in capsys.readouterr().err


def test_the_command_says_what_it_did(mine, installed, capsys):
    (mine / FIRST).write_text(notebook("my answer"), encoding="utf-8")
    installed(first=notebook("new"), card="new")
    assert main(["lab", str(mine), "--copy-only"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"The course is in {mine}",
        "  1 updated",
        "  1 kept, with your changes",
        "  1 newer, put beside yours:",
        "    notebooks/00_start_here.new.ipynb",
    ]


@pytest.fixture
def started(monkeypatch):
    """What JupyterLab would have been started with."""
    calls = []
    monkeypatch.setattr(lab, "serve", lambda *arguments: calls.append(arguments) or 0)
    return calls


@pytest.mark.parametrize("arguments", [[], [str(ROOT)]], ids=["without FOLDER", "with its own"])
def test_a_clone_s_notebooks_are_opened_where_they_are(arguments, started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lab", *arguments]) == 0
    assert started == [(ROOT, ["--port=8888"])]
    assert files(tmp_path) == set()
    assert not (ROOT / lab.NOTE).exists()


def test_without_a_clone_the_folder_is_named_after_the_course(started, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "clone", lambda: None)
    assert main(["lab", "--no-browser", "--port", "9"]) == 0
    assert started == [(Path("fedtutor-course"), ["--port=9", "--no-browser"])]
    assert (tmp_path / "fedtutor-course" / FIRST).is_file()


def test_the_whole_course_is_copied_and_nothing_else(tmp_path):
    lab.copy_course(tmp_path)
    tracked = {p.relative_to(ROOT).as_posix() for p in (ROOT / "notebooks").glob("**/*.ipynb")}
    tracked = {name for name in tracked if ".ipynb_checkpoints" not in name}
    copied = files(tmp_path)
    assert {name for name in copied if name.endswith(".ipynb")} == tracked
    others = {Path(name).name for name in copied - tracked}
    pages = {"README.md", "AUTHORING.md", "TEACHING.md", "LAW.md", "glossary.md"}
    assert others == {lab.NOTE, *pages, "for_tff.py", "explorer.html"}
    assert json.loads((tmp_path / lab.NOTE).read_text(encoding="utf-8")) == lab.course_hashes()


def test_every_link_leads_somewhere_in_the_copy(tmp_path):
    lab.copy_course(tmp_path)
    texts = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.md")}
    folders = (tmp_path / "notebooks", tmp_path / "notebooks" / "appendix")
    paths = [path for folder in folders for path in course(folder)]
    texts |= {path: prose(nbformat.read(path, as_version=4)) for path in paths}
    for path, text in texts.items():
        for _, _, link in LINK.findall(text):
            target = link.partition("#")[0]
            assert "://" in link or not target or (path.parent / target).exists(), (path, link)


def test_without_jupyterlab_it_is_said_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["lab", str(tmp_path)]) == 2
    assert "'fedtutor check' says how to get it" in capsys.readouterr().err
