"""The two large sets: load, deal out, one round; peak memory, and a second start from the cache.

Each measurement is a process of its own. The files are generated, in the real sets' layout and with
real codecs: COVID-19 Radiography's 13,808 images of Normal and COVID as PNG of 299², and NIH
ChestX-ray14's 112,120 as PNG of 160², where the real ones have 1024². Of NIH's five hospitals one
trains in the round. ``--table`` measures a quarter, a half and the whole, and prints the lines of
the README's table.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from benchmarks.harness import Row, from_pairs, in_child, print_rows, runs
from benchmarks.hospitals import peak_mb
from fedtutor.cores import num_cores, side_by_side

SIZE = 128
HOSPITALS = 5
TRAINED = {"covid19-radiography": 5, "nih-chestxray14": 1}
"""How many of the hospitals train in the round."""
COUNTS = {"covid19-radiography": runs(13_808, 1_600), "nih-chestxray14": runs(112_120, 4_000)}
SIDES = {"covid19-radiography": 299, "nih-chestxray14": 160}
COVID_SHARE = 3_616 / 13_808
FINDINGS = ("No Finding", "Effusion", "Mass|Nodule", "Infiltration", "Pneumonia")
TASKS = {"covid19-radiography": "three-class", "nih-chestxray14": "multi-label"}
SHARES = (0.25, 0.5, 1)
MB = 1e6


def write_image(path: Path, side: int, number: int) -> None:
    """A soft grey pattern like no other, with a film's grain."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8))
    soft = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    grain = rng.normal(0, 2, soft.shape).astype(np.float32)
    Image.fromarray(np.uint8(np.clip(soft + grain, 0, 255))).save(path, compress_level=1)


def write_set(folder: Path, name: str, count: int) -> None:
    """Write ``count`` images in the layout of the real set."""
    (write_radiography if name == "covid19-radiography" else write_nih)(folder, count)


def write_radiography(folder: Path, count: int) -> None:
    """Kaggle's folders of two classes, with ``images/`` in each."""
    ill = round(count * COVID_SHARE)
    for label, members in {"COVID": ill, "Normal": count - ill}.items():
        (folder / label / "images").mkdir(parents=True)
        names = [f"{label}/images/{label}-{k}.png" for k in range(1, members + 1)]
        write_all(folder, names, SIDES["covid19-radiography"], 0 if label == "COVID" else ill)


def write_nih(folder: Path, count: int) -> None:
    """NIH's table, its official lists and its twelve folders; four images a patient."""
    numbers = np.arange(count)
    names = [f"{k // 4 + 1:08d}_{k % 4:03d}.png" for k in numbers]
    table = pd.DataFrame(
        {
            "Image Index": names,
            "Finding Labels": [FINDINGS[k // 4 % len(FINDINGS)] for k in numbers],
            "Follow-up #": numbers % 4,
            "Patient ID": numbers // 4 + 1,
            "Patient Age": 20 + numbers // 4 % 60,
            "Patient Gender": np.where(numbers // 4 % 2, "F", "M"),
            "View Position": np.where(numbers % 2, "PA", "AP"),
        }
    )
    folder.mkdir(parents=True)
    table.to_csv(folder / "Data_Entry_2017_v2020.csv", index=False)
    for side, rows in {"train_val": numbers // 4 % 4 > 0, "test": numbers // 4 % 4 == 0}.items():
        text = "\n".join(table["Image Index"][rows])
        (folder / f"{side}_list.txt").write_text(text, encoding="utf-8")
    places = [f"images_{12 * k // count + 1:03d}/images" for k in numbers]
    for place in dict.fromkeys(places):
        (folder / place).mkdir(parents=True)
    files = [f"{place}/{name}" for place, name in zip(places, names, strict=True)]
    write_all(folder, files, SIDES["nih-chestxray14"], 0)


def write_all(folder: Path, names: list[str], side: int, first: int) -> None:
    work = [partial(write_image, folder / name, side, first + k) for k, name in enumerate(names)]
    for _ in side_by_side(lambda write: write(), work, num_cores()):
        pass


class Watch:
    """The most memory of its own that this process has had, in MB, looked at every 10 ms.

    On Linux what it has written and nobody else could give back. The mapped pages of the cache,
    which the system takes back when it wants them, count in ``peak_mb`` only. Elsewhere, where the
    two are not told apart so easily, all that is resident.
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self._start = time.perf_counter()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, own_mb())
            time.sleep(0.01)

    def so_far(self) -> dict:
        """Seconds since the last time, and the peak since the start."""
        now = time.perf_counter()
        self._start, seconds = now, now - self._start
        return {"seconds": seconds, "own_mb": max(self.peak, own_mb()), "resident_mb": peak_mb()}


def own_mb() -> float:
    """Memory of this process that is not a mapped file, where the system tells it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("RssAnon:")[1].split()[0]) * 1024 / MB
    except (OSError, IndexError):
        return psutil.Process().memory_info().rss / MB


def measure(folder: Path, train: bool) -> dict:
    """Load, deal out and, if wanted, train one round in this process; what each step took."""
    from fedtutor import federation
    from fedtutor.cohort import build_cohort
    from fedtutor.datasets import load
    from fedtutor.model import create_model
    from fedtutor.settings import RunSettings, TrainingSettings

    name, watch, found = folder.parent.name, Watch(), {}
    task, trained = TASKS[name], TRAINED[name]
    data = load(folder, size=SIZE, task=task)
    found["load"] = {"images": len(data), **watch.so_far()}
    if not train:
        return found
    del data
    settings = RunSettings(
        dataset=str(folder),
        task=task,
        size=SIZE,
        partition="iid",
        hospitals=HOSPITALS,
        rounds=1,
        training=TrainingSettings(batch_size=32),
    )
    cohort = build_cohort(settings)
    found["partition"] = {"images": len(cohort.train), **watch.so_far()}
    client = federation.make_client_app(
        lambda context: cohort.hospitals[int(context.node_config["partition-id"])]
    )
    server = federation.make_server_app(
        create_model(**cohort.train.form).get_weights(),
        federation.strategy_for(
            settings, HOSPITALS, fraction_train=trained / HOSPITALS, min_train_nodes=trained
        ),
        num_rounds=1,
        config=federation.train_config(settings.training, num_rounds=1),
    )
    federation.run_in_process(server, client, cohort.names)
    found["round"] = watch.so_far()
    return found


def part_of(whole: Path, share: float) -> Path:
    """Return a folder beside ``whole`` with hard links to the first images of each folder."""
    folder = whole.with_name(f"{share:g}")
    chosen: list[str] = []
    for place in sorted({path.parent for path in whole.rglob("*.png")}):
        names = sorted(path.name for path in place.glob("*.png"))
        (folder / place.relative_to(whole)).mkdir(parents=True)
        for name in names[: round(share * len(names))]:
            os.link(place / name, folder / place.relative_to(whole) / name)
            chosen.append(name)
    for table in whole.glob("*_list.txt"):
        shutil.copy(table, folder)
    for table in whole.glob("*.csv"):
        rows = pd.read_csv(table, dtype=str)
        rows[rows["Image Index"].isin(chosen)].to_csv(folder / table.name, index=False)
    return folder


def all_sizes(whole: Path) -> dict[float, dict]:
    """Measure a quarter, a half and the whole, and the second start of each."""
    found = {}
    for share in SHARES:
        folder = whole if share == 1 else part_of(whole, share)
        shutil.rmtree(folder / ".decoded", ignore_errors=True)
        found[share] = in_child(__spec__.name, folder, "train")
        found[share]["again"] = in_child(__spec__.name, folder)["load"]
        if share != 1:
            shutil.rmtree(folder)
    return found


def table_lines(name: str, found: dict[float, dict]) -> list[str]:
    """The lines of the README's table."""
    return [
        f"| {name} | {run['load']['images']:,} | {run['load']['seconds']:.0f} s"
        f" | {run['again']['seconds']:.1f} s"
        f" | {run['partition']['seconds']:.0f} s | {run['round']['seconds']:.0f} s"
        f" | {run['load']['own_mb']:,.0f} MB | {run['partition']['own_mb']:,.0f} MB"
        f" | {run['round']['own_mb']:,.0f} MB | {run['round']['resident_mb']:,.0f} MB |"
        for run in found.values()
    ]


def measured() -> Iterator[tuple[str, dict[float, dict]]]:
    """Write each set, measure it and delete it."""
    for name, count in COUNTS.items():
        with tempfile.TemporaryDirectory() as folder:
            write_set(whole := Path(folder) / name / "whole", name, count)
            yield name, all_sizes(whole)


def scale_rows() -> list[Row]:
    """Peak memory of the whole beside a quarter, and the second start beside the first."""
    rows = []
    for name, found in measured():
        work = f"{COUNTS[name]:,} generated files in the layout of {name}, at {SIZE}²"
        few, many = found[SHARES[0]], found[1]
        rows.append(
            from_pairs(
                f"{name}: peak memory",
                [(many["round"]["own_mb"], few["round"]["own_mb"])],
                work=f"{work}: load, deal out, one round",
                beside="a quarter of them",
                target="≤ 1.1",
                unit="MB",
            )
        )
        rows.append(
            from_pairs(
                f"{name}: second start",
                [(many["again"]["seconds"], many["load"]["seconds"])],
                work=f"{work}, from the cache",
                beside="the first, which decodes",
                target="≥ 5",
                unit="s",
            )
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        for name, found in measured():
            print(*table_lines(name, found), sep="\n", flush=True)
    elif sys.argv[1:]:
        print(json.dumps(measure(Path(sys.argv[1]), train="train" in sys.argv)))
    else:
        print_rows(scale_rows())
