"""Whole processes from start to exit: importing the package, and the main job."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import ITS_OWN_THREADS, Row, print_rows, runs, side_by_side

EPOCHS = 12


def python(*args: str, **env: str) -> None:
    command = [sys.executable, *args]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | env)


def import_row() -> Row:
    return side_by_side(
        "import fedtutor",
        lambda: python("-c", "import fedtutor"),
        lambda: python("-c", "import numpy"),
        work="a Python that imports it and exits",
        beside="import numpy",
        target="≤ 3",
        repeat=15,
        quick=7,
    )


def main_job_row() -> Row:
    epochs = runs(EPOCHS, 1)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            python("-m", "fedtutor", "run", "--rounds", str(epochs), "--out", str(out))
            assert (out / "summary.json").is_file()

    return side_by_side(
        "fedtutor run" + (f" --rounds {epochs}" if epochs != EPOCHS else ""),
        ours,
        lambda: python("-m", "benchmarks.processes", "plain", str(epochs), **ITS_OWN_THREADS),
        work="set-up, local, federated and pooled training, evaluation, Grad-CAM, report",
        beside="the same images and gradient steps with model.fit, and nothing else, with "
        "TensorFlow's own threads",
        target="≤ 1.5",
        repeat=5,
        quick=1,
        scale=1,
        unit="s",
        warm_up=False,
    )


def plain_keras(epochs: int) -> None:
    """The training steps of ``fedtutor run``: every hospital twice (alone, federated), pooled."""
    from fedtutor.cohort import build_cohort
    from fedtutor.model import create_model, standardise
    from fedtutor.settings import RunSettings
    from fedtutor.training import create_optimizer

    settings = RunSettings(rounds=epochs)
    cohort = build_cohort(settings)
    model = create_model(cohort.train.image_shape, len(cohort.train.class_names))
    model.compile(
        optimizer=create_optimizer(settings.training), loss="sparse_categorical_crossentropy"
    )
    for data in [*cohort.hospitals, *cohort.hospitals, cohort.train]:
        model.fit(
            standardise(data.images),
            data.labels,
            batch_size=settings.training.batch_size,
            epochs=epochs,
            verbose=0,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["plain"]:
        plain_keras(int(sys.argv[2]))
    else:
        print_rows([import_row(), main_job_row()])
