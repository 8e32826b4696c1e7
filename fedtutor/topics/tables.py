"""Hospitals with a table of patients and no images, in the same Flower app.

The core knows images only. A :class:`PatientTable` has what the app asks of them, and
:class:`TableTrainer`, in NumPy and without TensorFlow, is the trainer that it is given:

    make_client_app(lambda context: hospitals[...], trainer_for=table_trainer_for)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedtutor.cores import one_a_thread
from fedtutor.datasets.readers.heart import CLASSES
from fedtutor.datasets.registry import find_dataset
from fedtutor.errors import DataError
from fedtutor.model import Weights
from fedtutor.settings import TrainingSettings
from fedtutor.training import epoch_order

HEART = "fed-heart-disease"


@dataclass(frozen=True)
class PatientTable:
    """What is measured of patients, and who of them is ill.

    Attributes
    ----------
    rows : float32 (n, features), one row a patient.
    labels : int64 (n,), 1 if ill.
    features : what the columns of ``rows`` are.
    table : one row a patient, with at least ``hospital`` (str).
    class_names, name : as in :class:`~fedtutor.images.MedicalImages`.
    """

    rows: np.ndarray
    labels: np.ndarray
    features: tuple[str, ...]
    table: pd.DataFrame
    class_names: tuple[str, ...] = CLASSES
    name: str = HEART

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> np.ndarray:
        """The rows, by the name under which the app looks for what is trained on."""
        return self.rows

    @property
    def form(self) -> dict[str, Any]:
        """What a model for these rows must know, as :class:`TableTrainer` takes it."""
        return {"input_shape": self.rows.shape[1:], "num_classes": 2, "multi_label": False}

    def column(self, name: str) -> np.ndarray:
        """One column of the table as an array of shape (n,)."""
        return self.table[name].to_numpy()

    def take(self, chosen: np.ndarray) -> PatientTable:
        """Return the patients at ``chosen``: int (m,), or bool (n,)."""
        places = np.arange(len(self))[chosen]
        table = self.table.iloc[places].reset_index(drop=True)
        return replace(self, rows=self.rows[places], labels=self.labels[places], table=table)

    def normalised(self, like: PatientTable) -> PatientTable:
        """Return them with each feature shifted and scaled as makes ``like`` of mean 0, spread 1.

        ``like`` are the training patients, of the same hospital unless its means may be shared.
        """
        mean, spread = like.rows.mean(axis=0), like.rows.std(axis=0, ddof=1)
        # A feature that all of a hospital's training patients share says nothing there.
        return replace(self, rows=(self.rows - mean) / np.where(spread > 0, spread, np.inf))


def heart_disease(folder: Path | None = None) -> PatientTable:
    """Load UCI Heart Disease as FLamby does (Ogier du Terrail et al. 2022), not yet normalised.

    The 740 of 920 patients who have all of the ten columns that every hospital filled in; chest
    pain and resting ECG as 0 and 1 for all kinds but the first, so 13 features; ill is ``num`` > 0.
    ``table`` has ``hospital``, ``sex``, ``age`` and FLamby's ``split``, "train" or "test".

    Parameters
    ----------
    folder : where the four files lie; by default where ``fedtutor fetch`` puts them.

    Raises
    ------
    DataError
        If they are not there, or are something else.
    """
    info = find_dataset(HEART)
    raw: pd.DataFrame = info.read(folder or info.folder)
    raw = raw.drop(columns=["slope", "ca", "thal"]).dropna(ignore_index=True)
    kinds = pd.get_dummies(raw.drop(columns=["hospital", "num"]), columns=["cp", "restecg"])
    kinds = kinds.drop(columns=["cp_1.0", "restecg_0.0"], errors="ignore")
    ill = (raw["num"] > 0).to_numpy(np.int64)
    facts = {"hospital": raw["hospital"], "age": raw["age"]}
    facts |= {"sex": np.where(raw["sex"] == 1, "M", "F")}
    facts |= {"split": _flamby_split(raw["hospital"].to_numpy(), ill)}
    rows = kinds.to_numpy(np.float32)
    return PatientTable(rows, ill, tuple(kinds.columns), pd.DataFrame(facts))


def _flamby_split(hospitals: np.ndarray, ill: np.ndarray) -> np.ndarray:
    """Draw FLamby's test patients: 34 % of each hospital, by its seed, ill and well alike."""
    from sklearn.model_selection import train_test_split

    split = np.full(len(ill), "train", object)
    for name in pd.unique(hospitals):
        own = np.flatnonzero(hospitals == name)
        counts = np.bincount(ill[own], minlength=2)
        strata = ill[own] if counts.min() > 2 else None
        sizes = {"train_size": 0.66, "test_size": 1 - 0.66}
        _, test = train_test_split(own, **sizes, random_state=43, stratify=strata)
        split[test] = "test"
    return split


def create_table_model(num_features: int, *, hidden: int = 0, seed: int = 0) -> Weights:
    """Return the first weights of a logistic regression, or of a network with a hidden layer.

    Parameters
    ----------
    num_features : columns of the table.
    hidden : units of the hidden layer (ReLU); 0 for none.
    seed : of the kernels, uniform within 1 / sqrt(inputs); the biases are 0.

    Returns
    -------
    float32 kernels (inputs, outputs) and biases (outputs,) in turn; the last output, of which there
    is one, is the log odds of being ill.
    """
    rng = np.random.default_rng(seed)
    sizes = [num_features, *([hidden] if hidden else []), 1]
    weights: Weights = []
    for inputs, outputs in pairwise(sizes):
        limit = inputs**-0.5
        weights.append(rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32))
        weights.append(np.zeros(outputs, np.float32))
    return weights


def log_odds(weights: Weights, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the log odds of being ill, (n,), and what went into each layer, (n, inputs)."""
    inputs = [rows]
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0))
    return (inputs[-1] @ weights[-2] + weights[-1])[:, 0], inputs


def gradients(weights: Weights, rows: np.ndarray, labels: np.ndarray) -> tuple[Weights, float]:
    """Return the gradient of the mean cross-entropy (backpropagation), and its sum in nats."""
    odds, inputs = log_odds(weights, rows)
    losses = np.logaddexp(0, odds) - labels * odds
    # The derivative by the log odds is the probability minus the truth.
    error = (0.5 * (1 + np.tanh(odds / 2)) - labels).astype(np.float32)[:, None] / len(rows)
    found: Weights = []
    for kernel, values in zip(weights[-2::-2], reversed(inputs), strict=True):
        found[:0] = [values.T @ error, error.sum(axis=0)]
        error = (error @ kernel.T) * (values > 0)
    return found, float(losses.sum())


class TableTrainer:
    """A :class:`~fedtutor.compiled_training.Trainer` for tables; any weights of the kind above.

    Parameters
    ----------
    input_shape, num_classes, multi_label : see :attr:`PatientTable.form`.
    settings : how it trains.
    updates : gradient steps each time, however many patients there are, as FLamby counts; by
        default so many passes over them as are asked for.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        settings: TrainingSettings,
        *,
        multi_label: bool = False,
        updates: int | None = None,
    ) -> None:
        if num_classes != 2 or multi_label or len(input_shape) != 1:
            raise DataError(
                f"a table's model tells two classes apart by a row of numbers; got {num_classes} "
                f"classes of inputs of shape {input_shape}."
            )
        self.settings, self._updates = settings, updates
        self.start(create_table_model(*input_shape))

    def train(self, weights: Weights, data: PatientTable, **how: Any) -> tuple[Weights, float]:
        """Train from ``weights`` with a fresh optimiser; return the new weights and the mean loss.

        The loss is that of the last pass. ``how`` is as for :meth:`more`.
        """
        self.start(weights)
        loss = self.more(data, **how)
        return self.weights(), loss

    def start(self, weights: Weights) -> None:
        """Begin anew from ``weights``, the optimiser's memory wiped."""
        self._weights = [np.array(array, np.float32) for array in weights]
        self._memory = [np.zeros((2, *array.shape), np.float32) for array in weights]
        self._steps = 0

    def more(
        self,
        data: PatientTable,
        *,
        epochs: int = 1,
        seed: int | tuple[int, ...] = 0,
        learning_rate: float | None = None,
    ) -> float:
        """Train on from where it stands; return the mean loss of the last pass.

        The patients' order is that of :class:`~fedtutor.compiled_training.Trainer`.
        """
        rate = self.settings.learning_rate if learning_rate is None else learning_rate
        anchor, mu = self.weights(), self.settings.proximal_mu
        losses: list[float] = []
        for batch in self._batches(len(data), epochs, seed):
            found, loss = gradients(self._weights, data.rows[batch], data.labels[batch])
            if mu:  # FedProx's pull (Li et al. 2020, eq. 2)
                near = zip(found, self._weights, anchor, strict=True)
                found = [g + mu * (w - a) for g, w, a in near]
            self._step(found, rate)
            losses.append(loss)
        return sum(losses[-self._in_a_pass(len(data)) :]) / len(data)

    def _in_a_pass(self, patients: int) -> int:
        return -(-patients // self.settings.batch_size)

    def _batches(
        self, patients: int, epochs: int, seed: int | tuple[int, ...]
    ) -> Iterator[np.ndarray]:
        a_pass, size = self._in_a_pass(patients), self.settings.batch_size
        passes = epochs if self._updates is None else -(-self._updates // a_pass)
        orders = epoch_order(patients, passes, seed=seed)
        every = (order[k * size : (k + 1) * size] for order in orders for k in range(a_pass))
        return islice(every, self._updates)

    def _step(self, found: Weights, rate: float) -> None:
        """Take one step, with Adam's memory as Keras keeps it, with momentum 0.9, or plain."""
        self._steps += 1
        for weight, gradient, (first, second) in zip(
            self._weights, found, self._memory, strict=True
        ):
            if self.settings.optimizer == "adam":  # Kingma & Ba 2015, with section 2's step size
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient**2 - second)
                size = rate * (1 - 0.999**self._steps) ** 0.5 / (1 - 0.9**self._steps)
                weight -= size * first / (np.sqrt(second) + 1e-7)
            elif self.settings.optimizer == "momentum":
                first *= 0.9
                first -= rate * gradient
                weight += first
            else:
                weight -= rate * gradient

    def weights(self) -> Weights:
        """Return the present weights, as copies."""
        return [array.copy() for array in self._weights]

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (n, 2): the probabilities of being well and of being ill."""
        odds, _ = log_odds(self._weights, rows)
        ill = 0.5 * (1 + np.tanh(odds / 2))
        return np.stack([1 - ill, ill], axis=1).astype(np.float32)


table_trainer_for = one_a_thread(TableTrainer)
"""This thread's trainer for such tables; made on the first call, reused ever after."""
