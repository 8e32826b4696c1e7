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

_NAMES = {
    "datasets": "load dataset_names",
    "images": "MedicalImages split_by_patient",
    "partition": "partition Partition label_divergence",
    "model": "create_model predict",
    "compiled_training": "Trainer",
    "settings": "TrainingSettings RunSettings",
    "aggregation": "weighted_average plain_mean",
    "evaluation": "evaluate",
    "gradcam": "grad_cam",
    "experiment": "run_experiment",
    "errors": "FedtutorError",
}
_HOME = {name: f"fedtutor.{module}" for module, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fedtutor' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
