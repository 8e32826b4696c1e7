"""A federation in pfl-research: run by its environment's Python, which has nothing of ours.

``python in_pfl.py FOLDER ROUNDS THREADS``; several with pfl's own PFL_WORKER_ADDRESSES and
PFL_WORKER_RANK are one federation in several processes, as its guide to fast simulations says.
"""

from __future__ import annotations

import json
import math
import sys
import time

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel


class CNN(torch.nn.Module):
    """The course's network, with the two methods that pfl asks for."""

    def __init__(self, arrays: list[torch.Tensor]) -> None:
        super().__init__()
        nn = torch.nn
        filters, channels = arrays[0].shape[:2]
        self.layers = nn.Sequential(
            nn.Conv2d(channels, filters, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(filters, len(arrays[2]), 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(arrays[4].shape[1], len(arrays[4])),
            nn.ReLU(),
            nn.Linear(arrays[6].shape[1], len(arrays[6])),
        )
        self.criterion, self.steps = nn.CrossEntropyLoss(), 0
        with torch.no_grad():
            for parameter, array in zip(self.layers.parameters(), arrays, strict=True):
                parameter.copy_(array)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return a batch's mean loss; it is asked for once a gradient step."""
        self.train()
        self.steps += 1
        return self.criterion(self.layers(images), labels)

    @torch.no_grad()
    def metrics(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Weighted]:
        self.eval()
        total = self.criterion(self.layers(images), labels).item() * len(labels)
        return {"loss": Weighted(total, len(labels))}


class Clock(TrainingProcessCallback):
    """When each round ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.ends.append(time.perf_counter())
        return False, Metrics()


def run(arrays: dict[str, torch.Tensor], config: dict, rounds: int) -> dict:
    images, labels = arrays["images"], arrays["labels"]  # (hospitals, n, 1, h, w), (hospitals, n)
    hospitals = len(images)
    cnn = CNN([arrays[f"weight_{k}"] for k in range(8)])
    everything = images.flatten(0, 1), labels.flatten()
    before = mean_loss(cnn, *everything)
    dataset = FederatedDataset(
        lambda k: PyTorchTensorDataset((images[k], labels[k]), user_id=str(k)),
        get_user_sampler("minimize_reuse", list(range(hospitals))),
    )
    clock = Clock()
    FederatedAveraging().run(
        backend=SimulatedBackend(dataset, dataset, postprocessors=[WeightByDatapoints()]),
        model=PyTorchModel(
            cnn,
            local_optimizer_create=torch.optim.Adam,
            central_optimizer=torch.optim.SGD(cnn.parameters(), lr=1.0),
        ),
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,  # before and after the first round only
            train_cohort_size=hospitals,
            val_cohort_size=None,
        ),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1,
            local_learning_rate=config["learning_rate"],
            local_batch_size=config["batch_size"],
        ),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    return {
        "rounds": np.diff(clock.ends).tolist(),
        "steps": cnn.steps,
        "losses": [before, mean_loss(cnn, *everything)],
    }


@torch.no_grad()
def mean_loss(cnn: CNN, images: torch.Tensor, labels: torch.Tensor) -> float:
    parts = zip(images.split(100), labels.split(100), strict=True)
    found = [cnn.metrics(*part)["loss"] for part in parts]
    return math.fsum(one.weighted_value for one in found) / len(labels)


if __name__ == "__main__":
    folder, rounds, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with np.load(f"{folder}/arrays.npz") as file:
        tensors = {name: torch.from_numpy(file[name]) for name in file}
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        settings = json.load(file)
    print(json.dumps(run(tensors, settings, int(rounds))))
