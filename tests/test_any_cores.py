"""The same seed gives the same bits, whatever the number of cores and of workers."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from fedtutor.datasets.phantoms import chest_phantoms

pytestmark = [pytest.mark.slow, pytest.mark.process]

RUNS = """
import json, os, sys
from pathlib import Path

cores, data, folder, *numbers_of_workers = sys.argv[1:]
if cores != "all":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])

import numpy as np
from fedtutor.cores import WORKERS
from fedtutor.experiment import run_experiment
from fedtutor.settings import RunSettings
from fedtutor.support.keras_import import NOT_OPENED
from fedtutor.support.output import plain

for workers in numbers_of_workers:
    os.environ[WORKERS] = workers
    settings = RunSettings(data, hospitals=3, rounds=2, strategy="fedprox")
    outcome = run_experiment(settings)
    summary = json.dumps(plain(outcome.summary) | {"seconds": 0})
    out = Path(folder) / f"{cores} cores, {workers or 'as many'} workers.npz"
    np.savez(out, summary, *outcome.probabilities.values(), *outcome.model.get_weights())
assert not set(NOT_OPENED) & set(sys.modules)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """48 synthetic images of 64 pixels to train on, 32 to test on."""
    data, arrays = chest_phantoms(80, size=64), {}
    for split, rows in (("train", slice(32)), ("val", slice(32, 48)), ("test", slice(48, 80))):
        arrays[f"{split}_images"] = data.images[rows, ..., 0]
        arrays[f"{split}_labels"] = data.labels[rows, None]
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind cores")
def test_the_same_seed_gives_the_same_bits_on_any_number_of_cores(data, tmp_path):
    """A process is bound to cores for good, but each number of workers has threads of its own."""
    for cores, *workers in (("1", "1", "3"), ("all", "", "4")):
        program = [sys.executable, "-c", RUNS, cores, str(data), str(tmp_path), *workers]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    first, *others = (np.load(path) for path in sorted(tmp_path.iterdir()))
    assert len(others) == 3
    for other in others:
        assert other.files == first.files
        for name in first.files:
            np.testing.assert_array_equal(other[name], first[name])
