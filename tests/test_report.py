"""A report is true: it has every warning, says what is known, and shows names as they are."""

from __future__ import annotations

import html
import io
import json
import logging
import re
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fedtutor import cli, explaining, figures, report
from fedtutor.cohort import build_cohort
from fedtutor.console import LiveProgress
from fedtutor.datasets.readers.folders import read_path
from fedtutor.datasets.warned import heard_warnings
from fedtutor.errors import visible
from fedtutor.experiment import Outcome
from fedtutor.external.away import home_and_away
from fedtutor.figures.table import print_table
from fedtutor.images import patients_of
from fedtutor.partition import own_test_images, partition
from fedtutor.settings import RunSettings
from fedtutor.summary import compare, describe, versions
from fedtutor.support.output import plain


def save_scans(folder, counts):
    """As many images as ``counts`` says in each sub-folder, all of them different."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8))
            coarse.resize((32, 32)).save(folder / name / f"{k}.png")
    return folder


def outcome_of(settings, **further):
    """What a run with these settings finds if its models guess, and no TensorFlow is asked."""
    cohort, rng = build_cohort(settings), np.random.default_rng(0)
    test, classes = cohort.test, len(cohort.test.class_names)
    models = ["federated", "pooled", *(f"local {k}" for k in range(len(cohort.hospitals)))]
    said = {name: rng.dirichlet(np.ones(classes), len(test)) for name in models}
    scores = compare(cohort, said)
    rows = [
        {"round": r, "auc": scores["auc"]["federated"], "bytes_up": 1e6, "bytes_down": 1e6}
        for r in (0, 1)
    ]
    summary = {
        **describe(settings, cohort),
        **scores,
        "rounds": rows,
        "left_out": [],
        "grad_cam": {"lesions_known": False, "num_images": 0},
        "seconds": {"load": 1.0},
        "versions": versions(),
        "home": None,
        "external": [],
        "home_and_away": home_and_away(cohort, said),
        **further,
    }
    maps = rng.random((2, *test.image_shape[:2]))
    shown = explaining.Explained(np.arange(2), test.strata[:2], maps, maps)
    return Outcome(settings, cohort, plain(summary), None, said, shown)


def page_of(outcome):
    return report.render(outcome)


def without_handlers(monkeypatch):
    """Take pytest's own handlers of logging away, which it adds when a test begins."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


def test_warnings_are_heard_and_printed_once_as_before(monkeypatch, capsys):
    without_handlers(monkeypatch)
    logger = logging.getLogger("fedtutor.datasets.anything")
    with heard_warnings() as heard:
        with heard_warnings() as inner:
            logger.warning("%d files are no images: %s", 2, "a\x1b[2J\n.png")
        logger.info("not a warning")
        logger.warning("another")
    logger.warning("too late")
    first = r"2 files are no images: a\x1b[2J\n.png"
    assert (heard, inner) == ([first, "another"], [first])
    assert capsys.readouterr().err.splitlines() == [first, "another", "too late"]


def test_where_logging_has_a_handler_it_alone_prints(caplog, capsys):
    with heard_warnings() as heard:
        logging.getLogger("fedtutor.cohort").warning("once")
    assert heard == caplog.messages == ["once"]
    assert not capsys.readouterr().err


def radiography(folder):
    """COVID-19 Radiography in small, with one image of COVID that is there twice."""
    save_scans(folder, {"COVID": 30, "Normal": 90, "Viral Pneumonia": 90})
    (folder / "COVID" / "twin.png").write_bytes((folder / "COVID" / "0.png").read_bytes())
    return outcome_of(RunSettings(dataset=str(folder), size=32, hospitals=2))


def test_the_report_has_every_warning_that_is_printed(tmp_path, monkeypatch, capsys):
    without_handlers(monkeypatch)
    outcome = radiography(tmp_path)
    printed = capsys.readouterr().err.splitlines()
    assert outcome.summary["warnings"] == printed
    assert "class is confounded with source and age" in printed[0]
    assert re.match(r"The test set has few images: \d+ of COVID\. Below 20, each moves", printed[1])
    assert len(printed) == 2
    page = html.unescape(page_of(outcome))
    for sentence in printed:
        assert f"<li>{sentence}</li>" in page
    assert page.index(printed[0]) < page.index("<img")
    console = io.StringIO()
    print_table(outcome.summary, cli.Console(file=console, width=100))
    assert "Warnings, printed above and in the report: 2." in console.getvalue()


@pytest.mark.usefixtures("nothing_drawn")
def test_near_twins_are_not_taken_for_known_patients(tmp_path):
    outcome = radiography(tmp_path)
    assert outcome.summary["patients_known"] is False
    assert outcome.summary["clusters_known"] is True
    page = page_of(outcome)
    assert "Patients are known" not in page
    assert "one person may be on both sides" in page
    assert "near-identical ones, were kept on one side" in page
    assert "AUC on images that no hospital" in repr(figures.headline(outcome.summary))


@pytest.mark.usefixtures("nothing_drawn")
def test_known_patients_and_a_large_test_set_need_no_warning():
    outcome = outcome_of(RunSettings(size=28))
    assert outcome.summary["warnings"] == []
    page = page_of(outcome)
    assert "class=warnings" not in page
    assert "AUC on patients that no hospital" in repr(figures.headline(outcome.summary))


@pytest.mark.usefixtures("nothing_drawn")
def test_without_patients_and_twins_the_report_says_so(tmp_path):
    save_scans(tmp_path, {"ill": 100, "normal": 100})
    outcome = outcome_of(RunSettings(dataset=str(tmp_path), size=32, hospitals=2))
    assert (outcome.summary["patients_known"], outcome.summary["clusters_known"]) == (False, False)
    page = page_of(outcome)
    assert "one person may be on both sides" in page
    assert "kept on one side" not in page


def test_patients_and_not_images_make_a_test_set_large(make_images, monkeypatch):
    labels = np.zeros((600, 2), np.uint8)
    labels[:300, 0] = 1
    labels[300:320, 1] = 1
    data = make_images(600, classes=2, labels=labels, patients=np.arange(600) // 20)
    monkeypatch.setattr("fedtutor.cohort.load", lambda *_, **__: replace(data, synthetic=True))
    (sentence,) = build_cohort(RunSettings(hospitals=2)).warnings
    assert re.match(r"The test set has few patients: [34] of a, [01] of b\. Below 20", sentence)


@pytest.mark.parametrize(("count", "warned"), [(2, 1), (19, 1), (20, 0)])
def test_shares_of_few_heat_maps_are_warned_of(make_images, monkeypatch, count, warned):
    def heat(model, images, classes, *, method):
        return np.ones((len(images), 16, 16))

    monkeypatch.setattr("fedtutor.gradcam.grad_cam", heat)
    masks = np.zeros((40, 16, 16), bool)
    masks[:count, :4, :4] = True
    data = make_images(40, masks=masks)
    with heard_warnings() as heard:
        scores, _ = explaining.explain(None, data, np.eye(3)[data.labels])
    assert scores["num_images"] == count
    assert len(heard) == warned
    assert all(f"come from few images: {count} with a lesion" in one for one in heard)


HOSTILE = {
    "\x1b[31;5mClinic\x07": r"\x1b[31;5mClinic\x07",
    "North\nSouth\tWest": r"North\nSouth\tWest",
    "[red]Red[/red] :skull:": "[red]Red[/red] :skull:",
    r"$\frac$ and $": r"$\frac$ and $",
    "🏥 协和医院": "🏥 协和医院",
    "<script>alert(1)</script>&amp;": "<script>alert(1)</script>&amp;",
    "caf\udce9": r"caf\udce9",
    "evil\u202egnp.exe": r"evil\u202egnp.exe",
}


@pytest.mark.parametrize(("name", "shown"), HOSTILE.items())
def test_what_cannot_be_seen_in_a_name_is_written_out(name, shown):
    assert visible(name) == shown
    assert visible(shown) == shown


@pytest.fixture
def hostile(make_images):
    """400 images of eight hospitals, whose names and whose data set's name are crafted."""
    names = list(HOSTILE) * 50
    data = make_images(400, classes=2, patients=np.arange(400), hospital=names)
    return replace(data, name="set\n[b]$\\frac$", class_names=("a\x1b[2J", r"[u]$\frac$ 肺炎"))


def test_hospitals_with_crafted_names_are_told_apart_and_lose_no_image(hostile):
    parts = partition(hostile, "by:hospital")
    assert set(parts.names) == set(HOSTILE.values())
    assert [len(own) for own in parts.indices] == [50] * 8
    for name, own in zip(parts.names, parts.indices, strict=True):
        assert np.array_equal(np.flatnonzero(own_test_images("by:hospital", name, hostile)), own)


@pytest.mark.parametrize("hospitals", [2, 3, 4, 6])
def test_a_name_like_those_that_are_made_hides_no_hospital(make_images, hospitals):
    names = ["x", "y", "x + y", "x #2", "x #3"]
    data = make_images(100, hospital=np.repeat(names, [8, 9, 20, 50, 13]))
    parts = partition(data, "by:hospital", hospitals)
    assert len(set(parts.names)) == len(parts) == hospitals
    assert np.sort(np.concatenate(parts.indices)).tolist() == list(range(100))
    seen = [patient for own in parts.indices for patient in patients_of(data)[own]]
    assert len(seen) == len(set(seen))


@pytest.fixture
def hostile_outcome(hostile, monkeypatch):
    monkeypatch.setattr("fedtutor.cohort.load", lambda *_, **__: replace(hostile, synthetic=True))
    left_out = [{"round": 1, "hospital": "[b]<b>", "reason": "<i>NaN</i>"}]
    return outcome_of(RunSettings(task="<task>"), left_out=left_out)


def test_crafted_names_are_text_in_figures(hostile_outcome):
    cohort, said = hostile_outcome.cohort, hostile_outcome.probabilities["federated"]
    names, classes, test = list(cohort.names), cohort.test.class_names, cohort.test
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of signs that its font lacks
        pictures = [
            figures.who_has_what(names, cohort.partition.strata_counts(cohort.train), classes),
            figures.train_and_test(names, np.full((8, 8), 0.7)),
            figures.examples(test),
            figures.mistakes(said, test.labels, list(classes)),
            figures.heat_maps(test, np.arange(2), {"CAM": np.ones((2, 16, 16))}),
            figures.rows(names, {"AUC": [0.5] * 8}, x="AUC"),
            figures.lines({name: ([0, 1], [0, 1]) for name in names}, x="x", y="y"),
            figures.looks(names, cohort.hospitals),
        ]
        for picture in pictures:
            assert picture.to_png().startswith(b"\x89PNG")
            assert not any(text.get_parse_math() for text in texts_in(picture.figure))
    for name in HOSTILE.values():
        assert all(name in pictures[k].alt for k in (0, 5, 6))
        drawn = name.replace("🏥 协和医院", r"\U0001f3e5 \u534f\u548c\u533b\u9662")
        assert all(drawn in repr(pictures[k]) for k in (0, 5))


def texts_in(figure):
    return figure.findobj(lambda artist: hasattr(artist, "get_parse_math"))


def test_crafted_names_are_text_in_the_report(hostile_outcome):
    page = page_of(hostile_outcome)
    page.encode("utf-8")
    for name in HOSTILE.values():
        assert f"<td>{html.escape(name).replace('&#x27;', '&#39;')}</td>" in page
    assert "<script" not in page
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)
    assert "<title>fedtutor: set\\n[b]$\\frac$, &lt;task&gt;</title>" in page
    assert "round 1, [b]&lt;b&gt;: &lt;i&gt;NaN&lt;/i&gt;" in page
    assert json.loads(json.dumps(hostile_outcome.summary))["hospitals"][0]["name"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp437", "ascii"])
def test_crafted_names_are_text_in_any_terminal(hostile_outcome, monkeypatch, encoding):
    def run(arguments, console):
        console.width = 400
        with LiveProgress(console) as progress:
            for name in hostile_outcome.cohort.names:
                progress.stage(f"alone: {name}")
        print_table(hostile_outcome.summary, console)
        return 0

    monkeypatch.setattr(cli, "_run", run)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert cli.main(["run"]) == 0
    sys.stdout.flush()
    shown = sys.stdout.buffer.getvalue().decode(encoding)
    for name in HOSTILE.values():
        assert shown.count(name.encode(encoding, "backslashreplace").decode(encoding)) == 2
    assert r"set\n[b]$\frac$ (synthetic)" in shown
    assert "\x1b" not in shown


def test_a_long_name_is_whole_in_a_narrow_terminal(hostile_outcome):
    summary = hostile_outcome.summary
    rows = [
        row | {"name": 70 * "x" + name}
        for name, row in zip("ab", summary["hospitals"], strict=False)
    ]
    shown = io.StringIO()
    print_table(summary | {"hospitals": rows}, cli.Console(file=shown, width=80))
    lines = [line.split("│") for line in shown.getvalue().splitlines() if line.startswith("│")]
    column = "".join(cells[1].strip() for cells in lines)
    assert all(70 * "x" + name in column for name in "ab")


def test_a_live_line_shows_crafted_names_as_text():
    shown = io.StringIO()
    console = cli.Console(file=shown, force_terminal=True, width=200, markup=False, emoji=False)
    with LiveProgress(console) as progress:
        progress.start(1)
        progress.stage("alone: [red]Red[/red]")
        progress._bar.refresh()
    assert "alone: [red]Red[/red]" in shown.getvalue()


def test_a_folders_and_a_classes_crafted_name_is_text(tmp_path):
    folder = save_scans(tmp_path / "a\x1b[2Jb", {"x\ny": 1, "normal": 1})
    data = read_path(folder, size=16)
    assert (data.name, data.class_names) == (r"a\x1b[2Jb", ("normal", r"x\ny"))


def test_a_table_of_crafted_hospitals_is_dealt_out_by_them(tmp_path):
    names = [name for name in HOSTILE if name.isascii()]
    save_scans(tmp_path, {"img": 2 * len(names)})
    rows = [(f"img/{k}.png", "ab"[k % 2], names[k // 2]) for k in range(2 * len(names))]
    table = pd.DataFrame(rows, columns=["file", "label", "hospital"])
    table.to_csv(tmp_path / "labels.csv", index=False, encoding="utf-8")
    parts = partition(read_path(tmp_path, size=16), "by:hospital")
    assert set(parts.names) == {HOSTILE[name] for name in names}
