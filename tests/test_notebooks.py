"""The lint on this course, and on notebooks that are broken in one way each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import compare
import nbformat
import pytest
from compare import agree
from lint import (
    NOTEBOOKS,
    TIMINGS,
    appendix,
    chosen,
    code_hash,
    course,
    minutes,
    problems,
    timing_key,
)
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from refresh import MAPS, map_of_notebooks, read_timings, settle, timing

PATHS = [*course(), *appendix()]
GLOSSARY = NOTEBOOKS / "glossary.md"
FIRST = "# 1. Title\n\n**You will learn** much.\n\n**Time** NN minutes.\n\n**You need** nothing."
LAST = "## Key points\n\n- one\n\n## What next\n\nMore."
PNG = "iVBORw0KGgo="


@pytest.mark.parametrize("path", PATHS, ids=timing_key)
def test_the_notebook_is_as_it_should_be(path):
    assert problems(path) == []


@pytest.mark.parametrize("path", PATHS, ids=timing_key)
def test_a_second_refresh_would_change_nothing(path):
    assert settle(nbformat.read(path, as_version=4)) == path.read_text(encoding="utf-8")


def test_the_glossary_is_in_order_and_leads_to_notebooks_that_are_there():
    entries = GLOSSARY.read_text(encoding="utf-8").split("\n\n")[2:]
    terms = [re.match(r"\*\*(.+?)\*\*.*\]\((\w+\.ipynb)\)", entry) for entry in entries]
    names = [term[1] if term else entry for term, entry in zip(terms, entries, strict=True)]
    assert names == sorted(names, key=str.casefold)
    assert all(term and (NOTEBOOKS / term[2]).exists() for term in terms)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0[0-7]_*.ipynb")), ids=timing_key)
def test_the_first_lessons_lead_to_the_glossary(path):
    assert "](glossary.md)" in path.read_text(encoding="utf-8")


def test_the_note_of_times_is_of_the_notebooks_that_are_there():
    assert list(json.loads(TIMINGS.read_text(encoding="utf-8"))) == sorted(map(timing_key, PATHS))


def test_the_appendix_is_run_only_when_it_is_named():
    assert chosen([]) == course()
    assert not {*course()} & {*appendix()}
    assert chosen(["appendix/"]) == appendix()
    assert chosen(["no such notebook"]) == []


def said(text):
    return [new_output("stream", name="stdout", text=text)]


def shown(**data):
    kinds = {key.replace("_", "/"): value for key, value in data.items()}
    return [new_output("display_data", data=kinds)]


@pytest.fixture
def broken(tmp_path):
    """Write a notebook with one more cell, or changed otherwise, and give its problems."""

    def lint(*more, says=None, last=LAST, name="01_toy.ipynb", change=None, seconds=(2, 1)):
        checks = [
            new_code_cell(f'check("01.{k}", f)', execution_count=k, outputs=said("not done yet"))
            for k in (1, 2)
        ]
        cells = [new_markdown_cell(FIRST), *checks, *more, new_markdown_cell(last)]
        notebook = new_notebook(cells=cells)
        if change:
            change(notebook)
        told = says or minutes(notebook, seconds[0])
        first = notebook.cells[0]
        first.source = first.source.replace("NN", str(told))
        path = tmp_path / name
        nbformat.write(notebook, path)
        total, slowest = seconds
        note = {"code": code_hash(notebook), "seconds": total, "slowest": slowest}
        return problems(path, {name: note})

    return lint


def code(source="1 + 1", outputs=(), count=3, **metadata):
    return new_code_cell(source, outputs=list(outputs), execution_count=count, metadata=metadata)


def test_a_sound_notebook_has_no_problems(broken):
    assert broken(code("x = 1")) == []


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (code(count=None), "code cell 3 was not executed"),
        (code("print(1)", count=None), "code cell 3 was not executed"),
        (code(count=7), "run as number 7, so not in order"),
        (code(" "), "code cell 3 is empty"),
        (code(outputs=[new_output("error", ename="E", evalue="", traceback=[])]), "an error"),
        (code("# NBVAL_IGNORE_OUTPUT\n1"), "does not say `# nbval: because"),
        (code("# NBVAL_SKIP\n1"), "does not say `# nbval: because"),
        (code("1", tags=["nbval-ignore-output"]), "does not say `# nbval: because"),
        (code("1", tags=["raises-exception"]), "does not say `# nbval: because"),
        (code("open('/home/me/x.png')"), "an absolute path: /home/me/x.png"),
        (code(outputs=said("saved to /tmp/run")), "an absolute path: /tmp/run"),
        (code(outputs=said("C:\\Users\\me")), "an absolute path"),
        (code(outputs=said("line\n" * 101)), "prints 101 lines; at most 100"),
        (code(outputs=said("as good: True\n" * 4)), "4 printed lines end in True or False"),
        (code(outputs=[new_output("stream", name="stderr", text="W")]), "writes to stderr"),
        (code(outputs=shown(image_png=PNG)), "a bare image/png, without alt"),
        (code(outputs=shown(text_html='<img src="x.png">')), "an image without alt text"),
        (code(outputs=shown(text_html='<img alt=" ">')), "an image without alt text"),
        (code(outputs=shown(text_plain="<matplotlib.lines.Line2D>")), "an object's address"),
        (code(outputs=shown(text_plain="<f at 0x7f00deadbeef>")), "an object's address"),
        (new_markdown_cell("[there](nowhere.ipynb)"), "the link to nowhere.ipynb leads nowhere"),
        (new_markdown_cell("[up](#Nothing)"), "01_toy.ipynb has no heading #Nothing"),
        (new_markdown_cell("![](01_toy.ipynb)"), "the image 01_toy.ipynb has no alt text"),
        (new_markdown_cell('<img src="a.png">'), "an <img> in the text has no alt text"),
        (code('check("02.1", f)', outputs=said("x")), "exercise 02.1 is another notebook's"),
    ],
)
def test_a_broken_cell_is_found(broken, cell, problem):
    (found,) = broken(cell)
    assert problem in found


def test_a_widget_view_is_found(broken):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    (found,) = broken(code(outputs=[new_output("display_data", data=view)]))
    assert "stored with a widget view" in found


def test_stored_widget_state_is_found(broken):
    (found,) = broken(change=lambda notebook: notebook.metadata.update(widgets={}))
    assert "widget state is stored" in found


def test_a_bloated_file_is_found(broken):
    (found,) = broken(new_markdown_cell("x" * 2_000_001))
    assert "bytes; at most" in found


def test_a_comparison_may_be_skipped_with_a_reason_but_three_times_only(broken):
    cells = [
        code(f"# NBVAL_IGNORE_OUTPUT\n# nbval: because it prints the time\n{k}", count=3 + k)
        for k in range(4)
    ]
    assert broken(*cells[:3]) == []
    (found,) = broken(*cells)
    assert "4 cells are not compared; at most 3" in found


def test_links_to_headings_and_files_that_are_there_are_fine(broken):
    text = "[a](#Key-points) [b](01_toy.ipynb#What-next) [c](https://example.org) `[d](e)`"
    assert broken(new_markdown_cell(text)) == []


@pytest.mark.parametrize(
    ("seconds", "problem"),
    [((40, 31), "a cell takes 31 s; at most 30"), ((181, 9), "takes 181 s; at most 180")],
)
def test_what_takes_too_long_is_found(broken, seconds, problem):
    assert any(problem in found for found in broken(seconds=seconds))


def test_the_notebooks_of_whole_experiments_may_take_longer_but_not_for_ever(broken):
    found = broken(name="13_toy.ipynb", seconds=(290, 59))
    assert not any("takes" in problem for problem in found)
    found = broken(name="13_toy.ipynb", seconds=(301, 61))
    assert "a cell takes 61 s; at most 60" in found
    assert "the notebook takes 301 s; at most 300" in found


def test_outputs_of_other_code_are_found(tmp_path):
    path = tmp_path / "solutions" / "x.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=[code(count=1)]), path)
    note = {"code": "0" * 16, "seconds": 1, "slowest": 1}
    assert problems(path, {"solutions/x.ipynb": note}) == [
        "the outputs are not of this code; run `make refresh`"
    ]


@pytest.mark.parametrize("part", ["# 1. Title", "You will learn", "minutes", "You need"])
def test_a_missing_part_of_the_first_cell_is_found(broken, part):
    def remove(notebook):
        notebook.cells[0].source = notebook.cells[0].source.replace(part, "-")

    assert any("the first cell does not say" in found for found in broken(change=remove))


def test_wrong_minutes_missing_sections_and_too_few_exercises_are_found(broken):
    assert any("says 90 minutes; it is about" in found for found in broken(says=90))
    assert any("'## Key points'" in found for found in broken(last="## What next"))
    assert any("'## What next'" in found for found in broken(last="## Key points"))
    (found,) = broken(change=lambda notebook: notebook.cells.pop(2))
    assert "there are 1 exercises" in found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("AUC ≈0.87", "AUC ≈0.90", True),
        ("AUC ≈0.87", "AUC ≈0.91", False),
        ("AUC 0.87", "AUC 0.88", False),
        ("AUC ≈0.87", "AUC ≈0.9", False),
        ("AUC ≈0.87", "F1 ≈0.87", False),
        ("≈0.87 ≈0.10", "≈0.86 ≈0.20", False),
        ("≈0.87 ≈0.10", "≈0.87", False),
        ("≈-0.01", "≈0.01", True),
    ],
)
def test_only_approximate_numbers_may_differ_and_only_a_little(one, other, same):
    assert agree(one, other) == same


def test_a_time_is_noted_again_only_if_the_machine_was_clearly_quicker():
    notebook = new_notebook(cells=[code()])
    before = timing(notebook, [20.0, 10.0], None)
    assert before == {"code": code_hash(notebook), "seconds": 30.0, "slowest": 20.0}
    assert timing(notebook, [40.0, 30.0], before) == before
    assert timing(notebook, [20.0, 8.5], before) == before
    assert timing(notebook, [5.0, 5.0], before)["seconds"] == 10.0


def test_refresh_leaves_out_what_changes_from_run_to_run():
    noisy = code(outputs=said("a\n") + said("b\n"), execution={"iopub.status.busy": "now"})
    notebook = new_notebook(cells=[noisy], metadata={"widgets": {"state": 1}, "author": "me"})
    text = settle(notebook)
    (cell,) = json.loads(text)["cells"]
    assert cell["metadata"] == {}
    assert cell["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["a\n", "b\n"]}]
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}
    assert settle(nbformat.reads(text, as_version=4)) == text


@pytest.mark.process
@pytest.mark.slow
def test_nbval_fails_where_outputs_differ_or_cells_need_another_order(tmp_path):
    """Compares a notebook from another folder than the repository's, and a cell at a time."""
    cells = {
        "print('AUC ≈0.88')": (said("AUC ≈0.87\n"), "passed"),
        "print('AUC ≈0.80')": (said("AUC ≈0.87\n"), "failed"),
        "print('something')": ([], "failed"),
        "later": (said("1\n"), "failed"),
        "later = 1": ([], "passed"),
    }
    notebook = new_notebook(
        cells=[
            code(source, stored, count=number)
            for number, (source, (stored, _)) in enumerate(cells.items(), start=1)
        ]
    )
    nbformat.write(notebook, tmp_path / "one.ipynb")
    command = [sys.executable, compare.__file__, "one.ipynb", "-p", "no:cacheprovider"]
    options = ["-c", os.devnull, "--junitxml=result.xml"]
    run = subprocess.run([*command, *options], capture_output=True, cwd=tmp_path)
    assert run.returncode == 1, run.stdout.decode()
    cases = ElementTree.parse(tmp_path / "result.xml").iter("testcase")
    found = ["failed" if list(case) else "passed" for case in cases]
    assert found == [verdict for _, verdict in cells.values()]


@pytest.mark.parametrize("readme", MAPS, ids=lambda path: path.parent.name)
def test_the_map_shows_what_was_measured(readme):
    assert map_of_notebooks(read_timings(), MAPS[readme]) in readme.read_text(encoding="utf-8")
