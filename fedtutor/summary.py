"""What a run found, in numbers: the parts of ``summary.json``."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numpy as np

from fedtutor import evaluation
from fedtutor.cohort import Cohort
from fedtutor.images import patients_of
from fedtutor.partition import label_divergence, own_test_images
from fedtutor.settings import RunSettings

PACKAGES = ("tensorflow", "keras", "flwr", "numpy", "scikit-learn", "pandas")


def compare(cohort: Cohort, probabilities: dict[str, np.ndarray]) -> dict[str, Any]:
    """Compare the models on the central test set.

    Parameters
    ----------
    cohort : the data of the run.
    probabilities : float (images, classes) by each model: "federated", "pooled", "local 0", ...

    Returns
    -------
    Parts of the summary: a row a hospital; AUC, accuracy and AUC by class of the models called
    "federated", "pooled", "local_best" (the best hospital alone) and "local_mean" (the mean over
    the hospitals alone); and 95 % intervals of AUC and of gains in AUC.
    """
    test = cohort.test
    alone = [f"local {k}" for k in range(len(cohort.hospitals))]
    labels, of = test.labels, patients_of(test)
    single = {n: evaluation.evaluate(p, labels, patients=of) for n, p in probabilities.items()}
    lone = evaluation.mean_estimate([single[name] for name in alone])
    federated, best = single["federated"], max(alone, key=lambda name: single[name].auc)
    shown = {"pooled": "pooled", "federated": "federated", "local_best": best}

    def of_each(score: str) -> dict[str, Any]:
        known = {key: getattr(single[name], score) for key, name in shown.items()}
        return known | {"local_mean": np.mean([getattr(single[n], score) for n in alone], axis=0)}

    return {
        "hospitals": _hospital_rows(cohort, probabilities, single),
        "auc": of_each("auc"),
        "accuracy": of_each("accuracy"),
        "class_auc": of_each("class_aucs"),
        "auc_interval": of_each("auc_interval") | {"local_mean": evaluation.interval(lone)},
        "auc_gain": {
            "federated_over_local_mean": evaluation.gain_interval(federated, lone),
            "pooled_over_federated": evaluation.gain_interval(single["pooled"], federated),
        },
    }


def describe_hospitals(cohort: Cohort) -> list[dict[str, Any]]:
    """Return a row a hospital: number, name, how many images, and of which classes."""
    counts = cohort.partition.class_counts(cohort.train)
    return [
        {"id": k, "name": name, "num_examples": len(images), "class_counts": counts[k]}
        for k, (name, images) in enumerate(zip(cohort.names, cohort.hospitals, strict=True))
    ]


def _hospital_rows(
    cohort: Cohort, probabilities: dict[str, np.ndarray], single: dict[str, evaluation.Evaluation]
) -> list[dict[str, Any]]:
    rows = describe_hospitals(cohort)
    for k, row in enumerate(rows):
        own = own_test_images(cohort.scheme, row["name"], cohort.test)
        row["num_own_test_images"] = int(own.sum())
        for key, model in (("auc_local", f"local {k}"), ("auc_federated", "federated")):
            row[key], p = single[model].auc, probabilities[model]
            row[f"{key}_own_test"] = evaluation.auc(p[own], cohort.test.labels[own])
    return rows


def describe(settings: RunSettings, cohort: Cohort) -> dict[str, Any]:
    """Return what was asked for and on which data it was run."""
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
        "clusters_known": "cluster" in data.table.columns,
        "warnings": cohort.warnings,
        "partition": cohort.scheme,
        "alpha": settings.alpha if cohort.scheme in ("dirichlet", "quantity") else None,
        "label_divergence": label_divergence(cohort.partition.strata_counts(data)),
        "strategy": settings.strategy,
        "num_rounds": settings.rounds,
        "local_epochs": settings.local_epochs,
        "training": vars(settings.training),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}
