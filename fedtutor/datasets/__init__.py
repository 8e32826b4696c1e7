"""Data sets: synthetic phantoms and real images, all as one ``MedicalImages`` value."""

from fedtutor.datasets.registry import DATASETS, Dataset, data_folder, dataset_names, load

__all__ = ["DATASETS", "Dataset", "data_folder", "dataset_names", "load"]
