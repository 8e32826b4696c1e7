"""Every core: hospitals side by side, beside one at a time and beside one process a core.

``python -m benchmarks.every_core --scaling`` prints how the speed grows with the cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack

from benchmarks.__main__ import machine, number
from benchmarks.clients import GIL_NOTE
from benchmarks.harness import (
    ITS_OWN_THREADS,
    Child,
    Row,
    answer,
    from_pairs,
    in_child,
    print_rows,
    runs,
    seconds,
    usable_cores,
)
from benchmarks.work import Run, hospital_images, initial_weights, our_client
from fedtutor.cores import WORKERS, num_workers
from fedtutor.settings import TrainingSettings

IMAGES = {28: 200, 64: 120, 128: 30}
"""Of one hospital, by their pixels a side."""
FASTER = {28: 2, 64: 1.25, 128: 1.0}
SHARE = {28: 0.9, 64: 0.9, 128: 0.8}
SETTINGS = TrainingSettings(batch_size=8)
NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
BEFORE = {**NO_GPU, **ITS_OWN_THREADS, WORKERS: "1"}
"""One hospital at a time, each operation on all cores: how the course trained before."""


def core_rows() -> list[Row]:
    return [row for size in IMAGES for row in rows_at(size)]


def rows_at(size: int) -> list[Row]:
    """Both rows of one size; the ways of working take turns, each in processes of its own."""
    cores = usable_cores()
    hospitals, rounds = hospitals_for(len(cores)), runs(4, 2)
    images = hospitals * IMAGES[size]
    name, counts = __spec__.name, (size, hospitals, rounds)
    with ExitStack() as stack:
        ours = stack.enter_context(Child(name, "grid", *counts, env=NO_GPU))
        before = stack.enter_context(Child(name, "grid", *counts, env=BEFORE))
        alone = [
            stack.enter_context(
                Child(name, "share", *counts, k, len(cores), env=NO_GPU, cores=[core])
            )
            for k, core in enumerate(cores)
        ]
        ways = [child.answer() for child in (ours, before, *alone)]
        ms = 1e3 / images
        found = [(ms * ours(), ms * before(), ms * slowest(alone)) for _ in range(runs(7, 3))]
    pixels = f"{size}²"
    work = (
        f"a round of FedAvg, {hospitals} hospitals × {IMAGES[size]} images, one epoch, batches of "
        f"{SETTINGS.batch_size}, Adam; {ways[0]}; median of {rounds} warm rounds"
    )
    return [
        from_pairs(
            f"client throughput at {pixels}",
            [(now, then) for now, then, _ in found],
            work=work,
            beside=f"the same grid as it worked before: {ways[1]}",
            target=f"≥ {FASTER[size]}",
            unit="ms an image",
            note=GIL_NOTE * (size == 28),
        ),
        from_pairs(
            f"share of the ceiling at {pixels}",
            [(now, ceiling) for now, _, ceiling in found],
            work=work,
            beside="the same hospitals' training in one process a core, each bound to its core, "
            "one thread each; nothing is sent, averaged or shared; the slowest process counts",
            target=f"≥ {SHARE[size]}",
            unit="ms an image",
            note=GIL_NOTE * (size == 28),
        ),
    ]


def slowest(children: list[Child]) -> float:
    """Let all work at the same time; the seconds of the slowest one."""
    for child in children:
        child.ask()
    return max([child.answer() for child in children])


def hospitals_for(cores: int) -> int:
    """At least ten and two for each core, and as many for each."""
    each = max(2, -(-10 // cores))
    return each * cores


def be_the_grid(size: int, hospitals: int, rounds: int) -> None:
    """Be a child that runs a federation; it answers with the seconds of a warm round."""
    run = grid(size, hospitals)
    answer(lambda _: run(rounds + 1), way_of_working())


def grid(size: int, hospitals: int):
    """A function from a number of rounds to the seconds of one, the first not counted."""
    for k in range(hospitals):
        hospital_images(k, IMAGES[size], size)
    initial, app = initial_weights(size), our_client(size, IMAGES[size])
    return lambda rounds: statistics.median(  # in the first one every worker traces its loop
        Run("ours", app, initial, hospitals=hospitals, rounds=rounds, settings=SETTINGS).rounds
    )


def way_of_working() -> str:
    threads = os.environ["TF_NUM_INTRAOP_THREADS"]
    each = "all cores" if threads == "0" else f"{threads} thread{'s' * (threads != '1')}"
    workers = num_workers()
    return f"{workers} hospital{'s' * (workers > 1)} at a time, {each} for each operation"


def be_a_share(size: int, hospitals: int, rounds: int, k: int, shares: int) -> None:
    """Be a child that trains every ``shares``-th hospital and nothing else."""
    from fedtutor.compiled_training import Trainer
    from fedtutor.model import create_model

    data = [hospital_images(n, IMAGES[size], size) for n in range(k, hospitals, shares)]
    initial = initial_weights(size)
    trainer = Trainer(create_model((size, size, 1), 3), SETTINGS)

    def train() -> None:
        for images in data:
            trainer.train(initial, images)

    train()
    answer(lambda _: statistics.median(seconds(train) for _ in range(rounds)))


Speeds = dict[int, dict[int, float]]
"""Images a second, by pixels a side and number of cores."""


def measure_scaling(repeat: int) -> str:
    """Return the tables of how speed grows with the cores, in Markdown; the ways take turns."""
    cores = usable_cores()
    counts, hospitals = core_counts(len(cores)), hospitals_for(len(cores))
    times: dict[int, dict[int, list[float]]] = {s: {n: [] for n in counts} for s in IMAGES}
    jobs: dict[int, list[float]] = {n: [] for n in (counts[0], counts[-1])}
    for _ in range(repeat):
        for size in IMAGES:
            for n in counts:
                with Child(
                    __spec__.name, "grid", size, hospitals, 3, env=NO_GPU, cores=cores[:n]
                ) as child:
                    child.answer()
                    times[size][n].append(child())
        for n in jobs:
            jobs[n].append(in_child(__spec__.name, "job", env=NO_GPU, cores=cores[:n])["seconds"])
    speeds = {
        size: {n: hospitals * IMAGES[size] / statistics.median(of[n]) for n in counts}
        for size, of in times.items()
    }
    head = f"On {machine()}: {hospitals} hospitals, batches of {SETTINGS.batch_size}, FedAvg."
    job = job_line({n: statistics.median(found) for n, found in jobs.items()})
    return "\n".join([head, "", scaling_table(speeds), "", job])


def core_counts(cores: int) -> list[int]:
    """1, 2, 4 and so on, and all."""
    return [*(2**k for k in range(cores.bit_length()) if 2**k < cores), cores]


def scaling_table(speeds: Speeds) -> str:
    """One line for each size and number of cores, in Markdown."""
    lines = [
        "| images | cores | images a second | speed-up | a core, beside one alone |",
        "|---|---|---|---|---|",
    ]
    for size, by_cores in speeds.items():
        for cores, speed in by_cores.items():
            faster = speed / by_cores[1]
            cells = (f"{size}²", str(cores), number(speed), number(faster), f"{faster / cores:.0%}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def job_line(took: dict[int, float]) -> str:
    """How long the main job takes, in seconds, by number of cores."""
    (_, one), *more = took.items()
    on_more = [f", {s:.0f} s on {n}, {one / s:.2f} times as fast" for n, s in more]
    return (
        f"`fedtutor run` as it comes, from start to exit: {one:.0f} s on 1 core{''.join(on_more)}."
    )


def be_the_job() -> None:
    """The main job in a process of its own, which inherits the cores."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fedtutor", "run", "--out", f"{folder}/run"]
        took = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    print(f'{{"seconds": {took}}}')


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.every_core", description=__doc__)
    parser.add_argument("--scaling", type=int, nargs="?", const=1, metavar="REPEAT")
    parser.add_argument("child", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    children = {"grid": be_the_grid, "share": be_a_share, "job": be_the_job}
    if arguments.child:
        name, *numbers = arguments.child
        children[name](*map(int, numbers))
    elif arguments.scaling:
        print(measure_scaling(arguments.scaling))
    else:
        print_rows(core_rows())


if __name__ == "__main__":
    main()
