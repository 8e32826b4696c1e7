"""Work side by side: in order, bounded, stopped when nobody waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from fedtutor import cores
from fedtutor.cores import Stopped, check_stopped, side_by_side
from fedtutor.errors import FederationError

PATIENCE = 600
"""Seconds; only a test that fails waits for so long."""


@pytest.fixture
def three_workers(monkeypatch):
    monkeypatch.setenv(cores.WORKERS, "3")


@pytest.mark.usefixtures("three_workers")
def test_results_come_in_order_however_the_work_ends():
    done = [threading.Event() for _ in range(7)]

    def work(item):
        if item % 3 < 2:  # each but the last of three waits for the next one
            assert done[item + 1].wait(PATIENCE)
        done[item].set()
        return item * item

    done.append(threading.Event())
    done[7].set()
    assert list(side_by_side(work, range(7))) == [item * item for item in range(7)]


@pytest.mark.usefixtures("three_workers")
def test_no_more_is_begun_ahead_than_two_for_a_worker():
    taken = []
    results = side_by_side(lambda item: item, (taken.append(k) or k for k in range(100)))
    assert next(results) == 0 and len(taken) == 6
    assert next(results) == 1 and len(taken) == 7
    results.close()


@pytest.mark.usefixtures("three_workers")
def test_what_goes_on_is_stopped_when_nobody_waits_for_it():
    begun, ended = threading.Barrier(3, timeout=PATIENCE), threading.Semaphore(0)
    later = []

    def work(item):
        if item == 0:
            return item
        if item > 2:
            later.append(item)
            return item
        begun.wait()
        try:
            while True:
                check_stopped()
        except Stopped:
            ended.release()
            raise

    with closing(side_by_side(work, range(6))) as results:
        assert next(results) == 0
        begun.wait()
    assert all(ended.acquire(timeout=PATIENCE) for _ in range(2))
    assert len(later) <= 3


@pytest.mark.usefixtures("three_workers")
def test_an_error_is_raised_where_its_result_is_asked_for():
    results = side_by_side(lambda item: 1 / item, [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.usefixtures("three_workers")
def test_a_worker_does_in_turns_what_it_would_have_done_side_by_side():
    def work(item):
        own = threading.get_ident()
        return all(found == own for found in side_by_side(lambda _: threading.get_ident(), "abc"))

    assert all(side_by_side(work, range(5)))


def test_one_worker_works_in_the_callers_thread(monkeypatch):
    monkeypatch.setenv(cores.WORKERS, "1")
    assert set(side_by_side(lambda _: threading.get_ident(), "abc")) == {threading.get_ident()}


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5"])
def test_a_number_of_workers_that_cannot_be_is_refused(said, monkeypatch):
    monkeypatch.setenv(cores.WORKERS, said)
    with pytest.raises(FederationError, match=f"FEDTUTOR_WORKERS .* at least 1; got '{said}'"):
        list(side_by_side(str, "ab"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind cores")
def test_the_cores_are_those_that_the_process_may_use():
    code = (
        "import os; from fedtutor.cores import num_cores, num_workers; "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "assert num_cores() == num_workers() == 1"
    )
    environment = {name: value for name, value in os.environ.items() if name != cores.WORKERS}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_with_a_gpu_one_works_alone(monkeypatch):
    class Config:
        @staticmethod
        def list_physical_devices(kind):
            return ["a GPU"] if kind == "GPU" else []

    class TensorFlow:
        config = Config

    monkeypatch.delenv(cores.WORKERS, raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", TensorFlow)
    assert cores.num_workers() == 1


def test_each_thread_has_its_own_and_keeps_it(monkeypatch):
    monkeypatch.setenv(cores.WORKERS, "2")
    meeting, make = threading.Barrier(2, timeout=PATIENCE), cores.one_a_thread(lambda kind: [kind])

    def work(_):
        meeting.wait()
        return make("a"), make("a"), make("b")

    (first, again, other), (elsewhere, *_) = side_by_side(work, range(2))
    assert first is again and first is not elsewhere
    assert first == elsewhere == ["a"] and other == ["b"]
