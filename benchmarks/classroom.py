"""A class of many laptops on this machine alone: ``python benchmarks/classroom.py [hospitals]``.

Opens a class, joins all at once over loopback, runs rounds, kills a sixth of the hospitals in one,
brings them back, and prints seconds and megabytes. Every hospital has its own SuperNode and its own
TensorFlow, as on thirty laptops; here they share the cores, and a round takes as much longer.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import psutil

from fedtutor.classroom.desk import open_class
from fedtutor.classroom.host import Classroom
from fedtutor.classroom.join import Laptop
from fedtutor.deployment.processes import end_all_in, free_port, processes_in
from fedtutor.settings import RunSettings


def megabytes(folder: Path) -> float:
    """Return the memory (proportional set size, where the system has it) of all in a folder."""
    total = 0
    for process in processes_in(folder):
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        except psutil.Error:
            continue  # gone meanwhile
    return total / 1e6


def wait_until_here(room: Classroom, numbers: list[int], wanted: bool = True) -> None:
    """Wait until these hospitals are connected, or are not."""
    while not all(room.is_here(k) == wanted for k in numbers):
        time.sleep(0.2)


def say(what: str, figure: str) -> None:
    """Print a row of the table at once."""
    print(f"| {what} | {figure} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hospitals", type=int, nargs="?", default=30)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    count, lost = given.hospitals, max(1, given.hospitals // 6)
    settings = RunSettings(hospitals=count, size=28, rounds=given.rounds, partition="iid")
    print(f"| {count} hospitals, {psutil.cpu_count()} cores, {platform.system()} | |\n|---|---|")
    with tempfile.TemporaryDirectory(prefix="fedtutor-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        start = time.monotonic()
        room, desk = open_class(settings, folder / "host", port=free_port(), address="127.0.0.1")
        say("the class is open after", f"{time.monotonic() - start:.0f} s")
        where, laptops = f"127.0.0.1:{room.hospitals_port}", []

        def join(k: int) -> Laptop:
            home = folder / f"laptop-{k:02d}"
            return Laptop(where, room.code, folder=home, tell=lambda line: None).start()

        try:
            start = time.monotonic()
            with ThreadPoolExecutor(count) as pool:
                laptops += pool.map(join, range(count))
            say("all are enrolled after", f"{time.monotonic() - start:.0f} s")
            wait_until_here(room, list(range(count)))
            say("all are connected after", f"{time.monotonic() - start:.0f} s")
            _run(room, laptops, lost, join)
        finally:
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(lambda laptop: laptop.close(), laptops))
            room.close()
            desk.close()
        say("processes left in the end", str(len(processes_in(folder))))


def _run(room: Classroom, laptops: list[Laptop], lost: int, join: Callable[[int], Laptop]) -> None:
    run = room.start_run({})
    run.running.wait_for_round(1)
    host = megabytes(room.folder)
    each = [megabytes(laptop.folder) for laptop in laptops[:5]]
    say("memory of the host's programs, while training", f"{host:.0f} MB")
    say("memory of a hospital, median of five", f"{statistics.median(each):.0f} MB")
    victims = laptops[-lost:]
    for laptop in victims:
        end_all_in(laptop.folder)
    events = [run.running.wait_for_round(r) for r in range(2, run.settings.rounds + 1)]
    run.running.wait()
    left = sorted({out["round"] for event in events for out in event["left_out"]})
    times = [event["seconds"] for event in run.running.events() if event["event"] == "round"]
    took = [later - one for one, later in pairwise(times)]
    say("seconds of the rounds", ", ".join(f"{seconds:.0f}" for seconds in took))
    say(f"{lost} lost their power in round 2; left out in rounds", ", ".join(map(str, left)))
    start = time.monotonic()
    for laptop in victims:
        laptop.close()
        laptops.remove(laptop)
    with ThreadPoolExecutor(lost) as pool:
        laptops += pool.map(join, range(len(laptops), len(laptops) + lost))
    wait_until_here(room, list(range(len(laptops))))
    say("they are back after", f"{time.monotonic() - start:.0f} s")
    again = room.start_run({"rounds": 1})
    last = again.running.wait_for_round(1)
    say("a round with all of them has so many", str(last["hospitals"]))
    again.running.wait()


if __name__ == "__main__":
    main()
