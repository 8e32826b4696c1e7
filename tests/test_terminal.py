"""What the commands print: whole in a pipe, and in 80 columns where it is a terminal."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from rich.console import Console

from fedtutor.cli import BAD_INPUT, main
from fedtutor.datasets import DATASETS
from fedtutor.figures.table import print_table
from fedtutor.support.places import material


@pytest.fixture(params=["a pipe", "a terminal of 80 columns"])
def output(request, monkeypatch, tmp_path):
    """Where the output goes."""
    monkeypatch.setenv("FEDTUTOR_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "20" if request.param == "a pipe" else "80")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if request.param != "a pipe":
        monkeypatch.setenv("FORCE_COLOR", "1")
    return request.param


def plain(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def said(capsys, *arguments):
    assert main(list(arguments)) == 0
    return plain(capsys.readouterr().out)


def test_every_name_is_whole_and_a_row_is_a_line_of_at_most_80_signs(output, capsys):
    *lines, _ = said(capsys, "datasets").splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(DATASETS)]] == list(DATASETS)
    assert max(map(len, lines)) <= 80
    assert all("…" not in line for line in lines)
    for info, line in zip(DATASETS.values(), lines[1:], strict=False):
        assert line.split()[-1] == ("drawn" if info.synthetic else "no")
        assert info.images is None or f"{info.images:,}" in line


@pytest.mark.parametrize("name", DATASETS)
def test_all_of_a_set_is_told_with_the_commands_as_they_are_typed(output, capsys, name):
    info = DATASETS[name]
    text = said(capsys, "datasets", name)
    lines = [line.strip() for line in text.splitlines()]
    assert (f"fedtutor run --dataset {name}" in lines) == bool(info.size)
    assert (info.fetching in lines) == (not info.synthetic)
    assert ("pip install kagglehub" in lines) == bool(info.kaggle)
    words = " ".join(text.split())
    assert info.synthetic or f"Here: no; its folder: {info.folder}" in words
    assert ", ".join(info.tasks) in words
    for part, file in info.parts.items():
        assert f"--part {part} {file.size}" in words
    size = {"fed-heart-disease": "40 kB", "nih-chestxray14": "1 MB", "fed-isic2019": "3 MB"}
    assert (f"--part tables {size.get(info.name)}" in words) == bool(info.tables)
    assert ('pip install "fedtutor[parquet]"' in lines) == (name == "fed-isic2019")
    card = (material() / "datasets" / name / "README.md").read_text(encoding="utf-8")
    if output == "a pipe":
        assert card.rstrip() in text
    else:
        assert max(len(line) for line in lines if str(info.folder) not in line) <= 80
        for point in ("Licence: ", "Traps: ", "Who must not be harmed: "):
            assert point in text
    assert "…" not in text


def test_an_unknown_name_is_refused_with_those_there_are(capsys):
    assert main(["datasets", "nih"]) == BAD_INPUT
    text = capsys.readouterr().err
    assert all(name in text for name in DATASETS)


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_real_terminal_of_80_columns_shows_every_name():
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "fedtutor", "datasets"]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how Linux tells the end
            while piece := os.read(ours, 65536):
                shown += piece
    os.close(ours)
    assert process.returncode == 0
    lines = shown.decode().splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(DATASETS)]] == list(DATASETS)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False), ({}, False)],
    ids=["a terminal", "a terminal without colours", "a pipe"],
)
def test_check_is_in_colour_only_on_a_terminal(environment, coloured, monkeypatch, capsys):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    assert main(["check"]) == 0
    text = capsys.readouterr().out
    assert ("\x1b[32mok" in text) == ("\x1b" in text) == coloured
    assert re.match(" ok +Python ", plain(text))


def summary(classes, hospitals):
    rows = [
        {
            "name": name,
            "num_examples": 1234,
            "class_counts": [1000] * len(classes),
            "auc_local": 0.9,
            "auc_federated": 0.95,
        }
        for name in hospitals
    ]
    auc = {"local_mean": 0.9, "federated": 0.95, "pooled": 0.96}
    told = {"synthetic": False, "multi_label": False, "warnings": [], "left_out": []}
    return {"dataset": "toy", "classes": classes, "hospitals": rows, "auc": auc, **told}


def printed(width, classes, hospitals):
    file = io.StringIO()
    print_table(summary(classes, hospitals), Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("count", [2, 3, 4, 12])
def test_no_class_or_number_of_the_table_of_a_run_is_cut_on_80_columns(count):
    classes = ["No Finding", "Pleural_Thickening", "Viral Pneumonia", "Lung_Opacity"] * 3
    text = printed(80, classes[:count], ["North", "United States"])
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "1234" in text and "0.950" in text


def test_the_table_of_a_run_is_whole_where_there_is_no_terminal():
    classes = [f"class_number_{k}" for k in range(12)]
    text = printed(10_000, classes, ["a hospital with a name of many words"])
    assert all(name in text for name in (*classes, "a hospital with a name of many words"))
