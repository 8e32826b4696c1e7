"""The benchmarks' own arithmetic, and that the READMEs show what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import (
    BEGIN,
    END,
    FRONT_README,
    FRONT_ROWS,
    GROUPS,
    README,
    front_table,
    full_table,
)
from benchmarks.harness import from_pairs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("target", "ratio", "met"),
    [("≥ 3", 4.0, True), ("≥ 5", 4.0, False), ("≤ 0.3", 0.25, True), ("≤ 0.2", 0.25, False)],
)
def test_a_row_is_judged_by_the_median_of_paired_ratios(target, ratio, met):
    pairs = [(1.0, 4.0), (2.0, 8.0), (1.0, 90.0), (50.0, 50.0)]
    row = from_pairs("x", pairs[:3], work="", beside="", target=target, unit="s")
    assert row.ratio == pytest.approx(ratio)
    assert row.met is met
    assert (row.ours, row.theirs, row.runs) == (1.0, 8.0, 3)


def between_the_marks(readme: Path) -> str:
    return readme.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def test_both_readmes_show_the_results():
    assert between_the_marks(README) == full_table(RESULTS)
    assert between_the_marks(FRONT_README) == front_table(RESULTS)


def test_the_front_page_shows_rows_that_exist_and_one_that_misses_its_target():
    met = {row["name"]: row["met"] for row in RESULTS["rows"]}
    assert {met[name] for name in FRONT_ROWS} == {True, False}


def test_every_row_says_what_was_done_beside_what_and_why_a_target_was_missed():
    for row in RESULTS["rows"]:
        assert row["work"] and row["beside"] and row["unit"] and row["runs"] >= 1
        limit = float(row["target"].split()[1])
        at_least = row["target"].startswith("≥")
        assert row["met"] == (row["ratio"] >= limit if at_least else row["ratio"] <= limit)
        assert row["met"] or row["note"], f"{row['name']} misses its target without a reason"


def test_every_group_exists():
    for group in GROUPS:
        assert (ROOT / "benchmarks" / f"{group}.py").is_file()
