"""Home against away: each hospital's model, and the common ones, on each one's own patients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedtutor.cohort import Cohort
from fedtutor.external.scores import enough_auc
from fedtutor.partition import own_test_images


def home_and_away(cohort: Cohort, probabilities: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Compare all models of a run on each hospital's own test patients.

    On-domain is a hospital's model on its own patients, off-domain on those of the others. Tayebi
    Arasteh et al. 2023 ("Enhancing domain generalization in the AI-based analysis of chest
    radiographs with federated learning", Scientific Reports 13, 22576) found, on 610,000
    radiographs of five institutions, that size decides on-domain, and diversity off-domain.

    Parameters
    ----------
    cohort : the data of the run.
    probabilities : float (images, classes) of the test set by "federated", "pooled", "local 0", ...

    Returns
    -------
    None where the test set does not say whose patients they are, as under "dirichlet". Otherwise
    ``hospitals`` (the columns: name, images, patients, and ``classes``, those of which there are
    enough patients), ``models`` (the rows), and ``auc``, a row a model, NaN where there are too few
    patients; ``at_home`` and ``away``, the means on and off the diagonal, are of the hospitals
    alone, and ``federated`` of that model, in the columns that have an AUC.
    """
    if not cohort.scheme.startswith("by:"):
        return None
    test, local = cohort.test, [f"local {k}" for k in range(len(cohort.names))]
    models = [*local, "federated", "pooled"]
    auc, columns = np.full((len(models), len(local)), math.nan), []
    for j, name in enumerate(cohort.names):
        own = np.flatnonzero(own_test_images(cohort.scheme, name, test))
        data, classes = test.take(own), list[str]()
        for i, model in enumerate(models):
            one, classes = enough_auc(probabilities[model][own], data)
            auc[i, j] = one.auc
        columns.append({"name": name, "num_images": len(own), "classes": classes})
    known = ~np.isnan(auc[0])
    alone, diagonal = auc[: len(local), known], np.eye(len(local), dtype=bool)[:, known]
    return {
        "hospitals": columns,
        "models": [*cohort.names, "federated", "pooled"],
        "auc": auc,
        "at_home": float(alone[diagonal].mean()) if known.any() else math.nan,
        "away": float(alone[~diagonal].mean()) if alone[~diagonal].size else math.nan,
        "federated": float(auc[-2, known].mean()) if known.any() else math.nan,
    }
