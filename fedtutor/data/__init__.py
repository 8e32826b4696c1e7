"""Data sets: synthetic phantoms and real images, all as one :class:`MedicalImages` value."""

from fedtutor.data.images import MedicalImages, check_no_leakage, patients_of, split_by_patient
from fedtutor.data.registry import DATASETS, Dataset, data_folder, dataset_names, load

__all__ = [
    "DATASETS",
    "Dataset",
    "MedicalImages",
    "check_no_leakage",
    "data_folder",
    "dataset_names",
    "load",
    "patients_of",
    "split_by_patient",
]
