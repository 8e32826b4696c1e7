"""The parts of the book that are pure: links, tables, pictures, style sheets, recorded panels.

``make site`` builds it, and ``make site-test`` opens it in a browser.
"""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from math import prod
from pathlib import Path

import book_check
import book_material
import book_panels
import book_styles
import lint
import nbformat
import panel_states
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from packaging.requirements import Requirement

from fedtutor.course.panels import Panel, choice, slider
from fedtutor.figures import Picture

ROOT = Path(__file__).resolve().parents[2]
PANELS = sorted(ROOT.glob("site/panels/*.zip"))


def picture(height=1.0, alt="A line & its end"):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, height])
    return Picture(figure, alt)


def test_a_link_to_a_page_stays_and_one_to_another_file_leads_to_github():
    known = {Path("notebooks/glossary.md")}

    def mended(link):
        return book_material.mended_links(f"see [it]({link}).", Path("notebooks/x.md"), known)

    assert mended("glossary.md#Non-IID") == "see [it](glossary.md#non-iid)."
    assert mended("../Makefile") == f"see [it]({book_material.GITHUB}/blob/main/Makefile)."
    assert mended("../tools") == f"see [it]({book_material.GITHUB}/tree/main/tools)."
    assert mended("https://a.example/B#C") == "see [it](https://a.example/B#C)."
    assert mended("not_there.md") == "see [it](not_there.md)."  # which ends the build


def test_a_picture_becomes_a_file_that_is_loaded_late_and_keeps_its_place(tmp_path):
    text = book_material.with_files(picture().to_html(), tmp_path, "../")
    (file,) = tmp_path.iterdir()
    assert f'src="../pictures/{file.name}"' in text
    assert 'alt="A line &amp; its end"' in text
    assert re.search(r'width="\d+" height="\d+" loading="lazy"', text)
    assert file.read_bytes()[8:12] == b"WEBP"


def test_the_headers_of_a_table_say_what_they_are_for():
    import pandas as pd

    text = book_material.with_headers(pd.DataFrame({"AUC": [0.9]}, index=["Harbour"]).to_html())
    assert '<th scope="col">AUC</th>' in text
    assert '<th scope="row">Harbour</th>' in text
    assert "<td></td>" in text  # the corner heads nothing
    assert 'tabindex="0" role="region" aria-label="Table: AUC"' in text
    assert "<style" not in book_material.with_headers("<style scoped>b {}</style><p>x</p>")


@pytest.mark.parametrize(
    ("jupyter", "answers", "tags"),
    [
        ({}, False, []),
        ({"source_hidden": True}, False, ["hide-input"]),
        ({"source_hidden": True, "outputs_hidden": True}, False, ["hide-cell"]),
        ({}, True, ["hide-cell"]),
    ],
)
def test_what_jupyterlab_folds_is_folded_and_so_are_answers(jupyter, answers, tags):
    assert book_material.tags(jupyter, answers) == tags


def site(folder, **pages):
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return list(book_check.problems(folder))


def test_a_page_that_loads_from_elsewhere_is_found_and_a_mere_link_is_not(tmp_path):
    found = site(
        tmp_path,
        a='<script src="https://x.example/a.js"></script><a href="https://x.example">x</a>',
        b='<link rel="stylesheet" href="//x.example/b.css"><link rel="canonical" href="//x">',
        c="<style>@import 'https://x.example/c.css';</style>",
        d='<p style="background: url(https://x.example/d.png)"><img src="data:image/png;base64,A">',
    )
    assert [sentence.split()[0] for sentence in found] == ["a.html", "b.html", "c.html", "d.html"]


def test_a_broken_link_is_found(tmp_path):
    text = '<h1 id="top">x</h1><a href="{}">y</a>'
    assert site(tmp_path, a=text.format("b.html#top"), b=text.format("#top")) == []
    assert site(tmp_path, a=text.format("c.html")) == ["a.html links to c.html, which is not there"]
    (sentence,) = site(tmp_path, a=text.format("b.html#no"))
    assert sentence == "a.html links to b.html#no; that page has no such place"


def test_the_first_view_counts_what_is_loaded_at_once(tmp_path):
    (tmp_path / "late.webp").write_bytes(bytes(300_000))
    (tmp_path / "book.css").write_bytes(b"a" * 499_000)
    late = '<link rel="stylesheet" href="book.css"><img src="late.webp" loading="lazy">'
    assert site(tmp_path, a=late) == []
    (sentence,) = site(tmp_path, a=late.replace(' loading="lazy"', ""))
    assert "799," in sentence


def test_unused_rules_leave_a_style_sheet_and_the_others_stay():
    css = """@charset "UTF-8"; /* x */ p{a:b} .used .gone{c:d} .used,.gone{e:f}
        @media print{.gone{g:h}} @media screen{.used:not(.gone){i:"}"}} @font-face{j:k}
        @keyframes turn{from{l:m}}"""
    kept = book_styles.purged(css, {"used"})
    assert kept == (
        '@charset "UTF-8";p{a:b}.used{e:f}@media screen{.used:not(.gone){i:"}"}}'
        "@keyframes turn{from{l:m}}"
    )


KINDS = st.sampled_from(["slider", "buttons", "box"])


@given(st.lists(st.tuples(st.integers(2, 12), st.integers(0, 11), KINDS), min_size=1, max_size=8))
def test_a_panel_keeps_at_most_so_many_settings_and_always_the_one_it_begins_with(controls):
    sizes = [size for size, _, _ in controls]
    starts = [start % size for size, start, _ in controls]
    kinds = [kind for _, _, kind in controls]
    kept = panel_states.keep(sizes, starts, kinds, 200)
    if kept is None:
        assert prod(sizes) > 200
        return
    assert prod(map(len, kept)) <= 200
    assert all(start in one for start, one in zip(starts, kept, strict=True))
    assert all(one == sorted(one) for one in kept)
    assert 2 * sum(len(one) > 1 for one in kept) >= len(kept)
    if prod(sizes) <= 200:
        assert [len(one) for one in kept] == sizes


def test_a_slider_loses_values_between_its_ends_and_buttons_stand_still_before_boxes():
    assert panel_states.keep([9], [4], ["slider"], 5) == [[0, 2, 4, 6, 8]]
    assert panel_states.keep([4, 4, 4], [0, 0, 1], ["buttons"] * 3, 20) == [
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [1],
    ]
    assert panel_states.keep([2] * 10, [0] * 10, ["box"] * 10, 200) is None


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A panel of two controls as the book has it: (panel, its HTML, the folder of its files)."""
    folder = tmp_path_factory.mktemp("panels")
    panel = Panel(
        lambda size, kind: (picture(size), f"Size {size} < 9 & {kind}."),
        size=slider("Size", [1, 2, 3]),
        kind=choice("Kind", ["a", "b"]),
    )
    repr(panel)  # as its cell shows it
    panel.set(size=3)  # and a later one moves it
    panel_states.record({"panel": panel, "x": 3}, {"panel": "c1", "x": "c2"}, "", folder / "n.zip")
    notebook = {"cells": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book_panels, "code_of", lambda _: "")
        (one,) = book_panels.read(folder / "n.zip", notebook, folder).values()
    return one, book_panels.to_html(one, folder, "../"), folder


def test_what_a_panel_shows_is_recorded_for_each_setting_and_equal_pictures_once(recorded):
    panel, _, folder = recorded
    said = [state["say"] for state in panel["states"]]
    assert said == [f"Size {size} < 9 & {kind}." for size in (1, 2, 3) for kind in "ab"]
    assert len(list(folder.glob("*.webp"))) == 3
    assert [control["start"] for control in panel["controls"]] == [0, 0]


def test_a_panel_of_the_book_can_be_read_without_a_script_and_names_its_controls(recorded):
    _, text, folder = recorded
    assert "Size 1 &lt; 9 &amp; a." in text
    assert 'alt="A line &amp; its end"' in text
    assert re.search(r'<label for="(\S+)">Size</label><input type="range" id="\1"', text)
    assert text.count('type="radio"') == 2
    assert "<legend>Kind</legend>" in text
    (script,) = folder.glob("panel-*.js")
    assert script.stem in text
    data = json.loads(script.read_text(encoding="utf-8").partition("] = ")[2].rstrip(";\n"))
    assert data["n"] == [3, 2]
    assert len(data["s"]) == 6


def test_a_panel_of_changed_code_is_not_shown_moving(tmp_path, capsys):
    panel = Panel(lambda size: (picture(size), "x"), size=slider("Size", [1, 2]))
    panel_states.record({"panel": panel}, {"panel": "c1"}, "old", tmp_path / "n.zip")
    assert book_panels.read(tmp_path / "n.zip", {"cells": []}, tmp_path) == {}
    assert "make refresh" in capsys.readouterr().err


@pytest.mark.skipif(not PANELS, reason="an sdist has no recorded panels")
@pytest.mark.parametrize("path", PANELS, ids=lambda path: path.stem)
def test_recorded_panels_are_of_this_code_and_not_large(path):
    notebook = nbformat.read(ROOT / "notebooks" / f"{path.stem}.ipynb", as_version=4)
    with zipfile.ZipFile(path) as archive:
        code = json.loads(archive.read("panels.json"))["code"]
    assert code == lint.code_hash(notebook), "run make refresh"
    assert path.stat().st_size < 2 * panel_states.MOST_BYTES


def test_the_book_reads_the_same_hash_of_the_code_as_the_lint():
    path = ROOT / "notebooks" / "00_start_here.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert book_panels.code_of(notebook) == lint.code_hash(nbformat.read(path, as_version=4))


def test_the_lock_of_the_book_holds_what_its_extra_asks_for():
    lines = (ROOT / "requirements-site.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in project["optional-dependencies"]["site"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[wanted.name])


def test_the_book_is_published_for_tags_only_and_ci_builds_it():
    workflow = yaml.safe_load((ROOT / ".github/workflows/site.yml").read_text(encoding="utf-8"))
    assert workflow[True]["push"] == {"tags": ["v*"]}  # YAML reads "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    assert "make site-test" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_every_page_has_the_version_and_asks_nobody_for_a_script():
    conf = (ROOT / "site" / "conf.py").read_text(encoding="utf-8")
    assert "fedtutor {version}" in conf
    assert "nb_ipywidgets_js: dict = {}" in conf
    for path in (*ROOT.glob("site/templates/**/*.html"), *ROOT.glob("site/static/*")):
        assert not re.search(r"https?://(?!www\.w3\.org)", path.read_text(encoding="utf-8")), path


def test_the_front_page_lists_every_lesson_with_its_minutes():
    table = book_material.table_of_notebooks((ROOT / "README.md").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| \[\d+\. .+\]\((notebooks/\S+)\) \| \d+ \|$", table, flags=re.M)
    lessons = sorted(path.name for path in ROOT.glob("notebooks/*.ipynb"))
    assert [Path(file).name for file in rows] == lessons
