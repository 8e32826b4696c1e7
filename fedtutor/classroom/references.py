"""What a class's global model is compared with: one model on all images, and each hospital alone.

``python -m fedtutor.classroom.references SETTINGS.json OUT.json SEATS``, beside the run and of low
priority. "All" are the first SEATS hospitals, whose seats are taken. Only where all data are dealt
out by seed: what a laptop brings along is not here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedtutor.cohort import build_cohort
from fedtutor.compiled_training import trainer_for
from fedtutor.deployment.server_settings import settings_of
from fedtutor.evaluation import evaluate
from fedtutor.experiment import round_by_round
from fedtutor.model import create_model
from fedtutor.support.output import write_text


def main(file: str, out: str, seats: str) -> None:
    """Train the pooled model and then each hospital alone; write what is known after each."""
    settings, _ = settings_of(json.loads(Path(file).read_text(encoding="utf-8")))
    cohort = build_cohort(settings)
    initial = create_model(seed=settings.seed, **cohort.train.form).get_weights()
    trainer = trainer_for(settings=replace(settings.training, proximal_mu=0.0), **cohort.train.form)
    found: dict[str, list[float]] = {"pooled": [], "alone": []}

    def judge() -> float:
        return evaluate(trainer.predict(cohort.test.images), cohort.test.labels).auc

    hospitals = cohort.hospitals[: int(seats)]
    pooled = cohort.train.take(np.sort(np.concatenate(cohort.partition.indices[: int(seats)])))
    for _ in round_by_round(trainer, initial, pooled, settings, 0):
        found["pooled"].append(judge())
        write_text(Path(out), json.dumps(found))
    for k, images in enumerate(hospitals):
        for _ in round_by_round(trainer, initial, images, settings, k):
            pass
        found["alone"].append(judge())
        write_text(Path(out), json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
