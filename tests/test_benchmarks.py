"""The benchmarks' own arithmetic, and that the READMEs show what was measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import beside_pfl, every_core, scale
from benchmarks.__main__ import (
    BEGIN,
    END,
    EXTRA,
    FILES,
    FRONT_README,
    FRONT_ROWS,
    GROUPS,
    README,
    front_table,
    full_table,
    merged,
)
from benchmarks.harness import Child, from_pairs, in_child
from fedtutor.datasets import load

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
        assert (ROOT / "benchmarks" / f"{FILES.get(group, group)}.py").is_file()
    table = README.read_text(encoding="utf-8").split("## Do the intervals hold?")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(GROUPS)


def row(name, ours=1.0):
    return {"name": name, "ours": ours}


def test_some_groups_take_the_place_of_their_rows_and_all_that_of_all_but_the_extra():
    former = [row("a"), row("b"), row(f"c{EXTRA}")]
    some = merged(former, [row("b", 2.0), row("d")], anew=False)
    assert some == [row("a"), row("b", 2.0), row(f"c{EXTRA}"), row("d")]
    assert merged(former, [row("d")], anew=True) == [row("d"), row(f"c{EXTRA}")]


WORKER = """
import os, sys
from benchmarks.harness import answer
if sys.argv[1] == "fails":
    raise SystemExit("no such thing")
if sys.argv[1] == "once":
    cores = getattr(os, "sched_getaffinity", lambda _: [])(0)
    print('{"cores": %r, "said": "%s"}' % (sorted(cores), os.environ["SAID"]))
else:
    answer(lambda line: [sys.argv[1], line], os.environ["SAID"])
"""


@pytest.fixture
def worker(tmp_path):
    """The environment in which ``python -m worker`` is a child."""
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "SAID": "ready"}


@pytest.mark.process
def test_children_work_when_they_are_asked_and_leave_at_the_end(worker):
    with Child("worker", "one", env=worker) as one, Child("worker", 2, env=worker) as two:
        assert one.answer() == two.answer() == "ready"
        one.ask("a")
        two.ask("b")
        assert (one.answer(), two.answer()) == (["one", "a"], ["2", "b"])
        assert one(7) == ["one", "7"]
        processes = one._process, two._process
    assert [process.returncode for process in processes] == [0, 0]


@pytest.mark.process
def test_a_child_that_fails_says_why(worker):
    with pytest.raises(RuntimeError, match="no such thing"):
        in_child("worker", "fails", env=worker)
    with (
        pytest.raises(RuntimeError, match="no such thing"),
        Child("worker", "fails", env=worker) as child,
    ):
        child.answer()


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind cores")
def test_a_child_has_the_cores_and_the_environment_it_was_given(worker):
    core = max(os.sched_getaffinity(0))
    assert in_child("worker", "once", env=worker, cores=[core]) == {
        "cores": [core],
        "said": "ready",
    }


@pytest.mark.process
def test_every_core_and_its_federation_do_without_what_only_others_need():
    program = (
        "import sys, benchmarks.every_core; "
        "print(*{'ray', 'flwr_datasets', 'torch', 'tf_keras_vis'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("cores", range(1, 33))
def test_every_core_has_at_least_two_hospitals_and_as_many_as_the_others(cores):
    hospitals = every_core.hospitals_for(cores)
    assert hospitals % cores == 0
    assert hospitals >= max(10, 2 * cores)


def test_the_hospitals_are_ten_on_two_cores_and_thirty_two_on_sixteen():
    assert [every_core.hospitals_for(cores) for cores in (1, 2, 4, 16)] == [10, 10, 12, 32]


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])]
)
def test_the_numbers_of_cores_double_up_to_all(cores, counts):
    assert every_core.core_counts(cores) == counts


def test_the_scaling_table_shows_speed_up_and_what_a_core_still_does():
    table = every_core.scaling_table({28: {1: 1000.0, 2: 1900.0}, 64: {1: 250.0, 2: 400.0}})
    assert table.splitlines()[2:] == [
        "| 28² | 1 | 1,000 | 1.00 | 100% |",
        "| 28² | 2 | 1,900 | 1.90 | 95% |",
        "| 64² | 1 | 250 | 1.00 | 100% |",
        "| 64² | 2 | 400 | 1.60 | 80% |",
    ]
    assert every_core.job_line({1: 90.0, 16: 30.0}).endswith(
        "90 s on 1 core, 30 s on 16, 3.00 times as fast."
    )
    assert every_core.job_line({1: 90.0}).endswith("90 s on 1 core.")


def test_the_fastest_setting_of_the_other_side_counts():
    assert beside_pfl.best_of({"a": [5.0, 1.0, 5.0], "b": [4.0, 4.0, 9.0]}) == "b"
    assert list(beside_pfl.ways_of_theirs(1).values()) == [(1, 1)]
    assert list(beside_pfl.ways_of_theirs(2).values()) == [(1, 1), (1, 2), (2, 1)]


def test_both_sides_must_take_as_many_steps_and_bring_the_same_loss_down_alike():
    def side(start, end, steps=100):
        return {"losses": [start, end], "steps": steps}

    beside_pfl.check_agreement(side(1.1, 0.6), side(1.1, 0.65))
    for other in (side(1.1, 0.6, steps=99), side(1.2, 0.6), side(1.1, 0.9), side(1.1, 1.1)):
        with pytest.raises(AssertionError):
            beside_pfl.check_agreement(side(1.1, 0.6), other)


@pytest.mark.slow
def test_the_other_side_is_handed_the_same_images_and_weights(tmp_path):
    beside_pfl.hand_over(tmp_path, 28)
    with np.load(tmp_path / "arrays.npz") as arrays:
        shapes = [arrays[f"weight_{k}"].shape for k in range(8)]
        images, labels = arrays["images"], arrays["labels"]
    assert shapes[::2] == [(32, 1, 3, 3), (64, 32, 3, 3), (128, 1600), (3, 128)]
    assert images.shape == (10, 200, 1, 28, 28)
    ours = beside_pfl.images_of(3, 28)
    np.testing.assert_array_equal(labels[3], ours.labels)
    np.testing.assert_array_equal(images[3, :, 0], beside_pfl.standardise(ours.images)[..., 0])
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config == {"size": 28, "learning_rate": 0.001, "batch_size": 8}


def test_the_other_environment_pins_only_the_two_packages_it_is_for():
    lines = (ROOT / "requirements-pfl.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z]+==[0-9.]+", line) for line in lines)
    assert [line.split("==")[0] for line in lines] == ["pfl", "torch"]


@pytest.mark.parametrize("name", scale.COUNTS)
def test_the_large_sets_are_in_the_real_layout_and_a_part_of_them_is_a_set(tmp_path, name):
    whole = tmp_path / name / "whole"
    scale.write_set(whole, name, 96)
    for folder, count in ((whole, 96), (scale.part_of(whole, 0.25), 24)):
        data = load(folder, size=16, task=scale.TASKS[name])
        assert (len(data), data.name) == (count, name)
    if name == "nih-chestxray14":
        assert "split" in data.table and len(set(data.column("patient"))) < 24
        assert len({file.split("/")[0] for file in data.column("file")}) == 12


def test_the_memory_of_a_process_is_told_on_every_system():
    assert 10 < scale.own_mb() < 1e5
