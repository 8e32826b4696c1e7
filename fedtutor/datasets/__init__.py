"""Data sets: synthetic phantoms and real images, all as one ``MedicalImages`` value."""

from __future__ import annotations

from typing import Any

__all__ = ["DATASETS", "Dataset", "data_folder", "dataset_names", "load"]


def __getattr__(name: str) -> Any:  # the command line's help need not wait for pandas
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fedtutor.datasets import registry

    return getattr(registry, name)
