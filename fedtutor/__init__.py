"""fedtutor: learn federated learning on medical images, hands on.

The names below are imported when they are first used, so that ``import fedtutor`` is instant;
TensorFlow is loaded only when a model is asked for.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# Before Flower is imported: nothing may be sent home from a hospital, or from a classroom.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_LOG_LEVEL", "ERROR")

_HOME = {
    "load": "fedtutor.datasets",
    "dataset_names": "fedtutor.datasets",
    "MedicalImages": "fedtutor.images",
    "split_by_patient": "fedtutor.images",
    "partition": "fedtutor.partition",
    "Partition": "fedtutor.partition",
    "label_divergence": "fedtutor.partition",
    "create_model": "fedtutor.model",
    "predict": "fedtutor.model",
    "Trainer": "fedtutor.compiled_training",
    "TrainingSettings": "fedtutor.settings",
    "weighted_average": "fedtutor.aggregation",
    "plain_mean": "fedtutor.aggregation",
    "evaluate": "fedtutor.evaluation",
    "grad_cam": "fedtutor.gradcam",
    "RunSettings": "fedtutor.settings",
    "run_experiment": "fedtutor.experiment",
    "FedtutorError": "fedtutor.errors",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fedtutor' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
