"""The same seed gives the same bits, whatever the number of cores and of workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fedtutor.cores import WORKERS
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.support.keras_import import load_keras

pytestmark = [pytest.mark.slow, pytest.mark.process]

RUN = """
import os, sys
cores = int(sys.argv.pop(1))
if cores:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
from fedtutor.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """``run`` with its options, on 200 synthetic images of 64 pixels."""
    data, arrays = chest_phantoms(200, size=64), {}
    for split, rows in (("train", slice(120)), ("val", slice(120, 160)), ("test", slice(160, 200))):
        arrays[f"{split}_images"] = data.images[rows, ..., 0]
        arrays[f"{split}_labels"] = data.labels[rows, None]
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, **arrays)
    options = "--hospitals 3 --rounds 2 --strategy fedprox --out"
    return ["run", "--dataset", str(path), *options.split()]


def result(job, folder, cores, workers):
    """Run the main job on so many cores (0: all) with so many workers; its numbers and model."""
    environment = os.environ | {WORKERS: workers}
    program = [sys.executable, "-c", RUN, str(cores), *job, str(folder)]
    subprocess.run(program, check=True, env=environment, stdout=subprocess.DEVNULL)
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    del summary["seconds"]
    return summary, load_keras().models.load_model(folder / "model.keras").get_weights()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind cores")
def test_the_same_seed_gives_the_same_bits_on_any_number_of_cores(job, tmp_path):
    first, weights = result(job, tmp_path / "first", 1, "1")
    for cores, workers in ((1, "3"), (0, ""), (0, "4")):
        summary, others = result(job, tmp_path / f"{cores}-{workers}", cores, workers)
        assert summary == first, f"{cores} cores, {workers} workers"
        for one, other in zip(weights, others, strict=True):
            np.testing.assert_array_equal(one, other)
