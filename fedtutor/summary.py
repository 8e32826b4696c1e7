"""What a run found, in numbers: the parts of ``summary.json``."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from typing import TYPE_CHECKING

import numpy as np

from fedtutor.evaluation import bootstrap_aucs, evaluate, interval
from fedtutor.images import patients_of
from fedtutor.partition import label_divergence, own_test_images

if TYPE_CHECKING:
    from fedtutor.experiment import Cohort, RunSettings

PACKAGES = ("tensorflow", "keras", "flwr", "numpy", "scikit-learn", "pandas")


def compare(cohort: Cohort, probabilities: dict[str, np.ndarray], seed: int) -> dict:
    """The parts of the summary that compare the models on the central test set."""
    test = cohort.test
    names = [f"local {k}" for k in range(len(cohort.hospitals))]
    single = {name: evaluate(p, test.labels) for name, p in probabilities.items()}
    samples = {
        name: bootstrap_aucs(p, test.labels, patients=patients_of(test), seed=seed)
        for name, p in probabilities.items()
    }
    best = max(names, key=lambda name: single[name].auc)
    local_samples = np.mean([samples[name] for name in names], axis=0)
    by_key = {"pooled": "pooled", "fedavg": "fedavg", "local_best": best}
    return {
        "hospitals": _hospital_rows(cohort, probabilities, single),
        "auc": {key: single[name].auc for key, name in by_key.items()}
        | {"local_mean": float(np.mean([single[name].auc for name in names]))},
        "accuracy": {key: single[name].accuracy for key, name in by_key.items()}
        | {"local_mean": float(np.mean([single[name].accuracy for name in names]))},
        "class_auc": {key: single[name].class_aucs for key, name in by_key.items()}
        | {"local_mean": np.mean([single[name].class_aucs for name in names], axis=0)},
        "auc_interval": {key: interval(samples[name]) for key, name in by_key.items()}
        | {"local_mean": interval(local_samples)},
        "auc_gain": {
            "fedavg_over_local_mean": interval(samples["fedavg"] - local_samples),
            "pooled_over_fedavg": interval(samples["pooled"] - samples["fedavg"]),
        },
    }


def _hospital_rows(cohort: Cohort, probabilities: dict, single: dict) -> list[dict]:
    test = cohort.test
    rows = []
    counts = cohort.partition.class_counts(cohort.train)
    for k, name in enumerate(cohort.partition.names):
        own = own_test_images(cohort.scheme, name, test)
        own_auc = {
            model: evaluate(probabilities[model][own], test.labels[own]).auc if own.any() else None
            for model in (f"local {k}", "fedavg")
        }
        rows.append(
            {
                "id": k,
                "name": name,
                "num_examples": len(cohort.hospitals[k]),
                "class_counts": counts[k],
                "auc_local": single[f"local {k}"].auc,
                "auc_fedavg": single["fedavg"].auc,
                "num_own_test_images": int(own.sum()),
                "auc_local_own_test": own_auc[f"local {k}"],
                "auc_fedavg_own_test": own_auc["fedavg"],
            }
        )
    return rows


def describe(settings: RunSettings, cohort: Cohort) -> dict:
    data = cohort.train
    return {
        "dataset": data.name,
        "task": settings.task,
        "multi_label": data.multi_label,
        "synthetic": data.synthetic,
        "seed": settings.seed,
        "classes": data.class_names,
        "image_size": data.image_shape[0],
        "num_train": len(data),
        "num_test": len(cohort.test),
        "test_class_counts": cohort.test.class_counts(),
        "patients_known": "patient" in data.table.columns,
        "partition": cohort.scheme,
        "alpha": settings.alpha if cohort.scheme in ("dirichlet", "quantity") else None,
        "label_divergence": label_divergence(cohort.partition.strata_counts(data)),
        "strategy": settings.strategy,
        "num_rounds": settings.rounds,
        "local_epochs": settings.local_epochs,
        "training": vars(settings.training),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def plain(value):
    """The value in JSON's types: arrays as lists, NaN as None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
