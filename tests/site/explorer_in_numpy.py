"""The explorer's federation once more, in NumPy and with the package's own functions.

Chance is the page's mulberry32; average, AUC, intervals and the deal by Dirichlet are fedtutor's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedtutor.aggregation import weighted_average
from fedtutor.evaluation import AucEstimate, auc, estimate_auc, gain_interval, mean_estimate

SIZE, KERNEL, STRIDE, FILTERS, CLASSES, HOSPITALS = 20, 5, 2, 4, 3, 5
SIDE = (SIZE - KERNEL) // STRIDE + 1
BATCH, RATE, NOISE, LIE = 8, 0.05, 0.2, -3
INIT, ORDER, DEAL, DISTURB = 1, 2, 3, 4
WORD = 2**32 - 1


def stream(*keys: int) -> Callable[[], float]:
    """Numbers in [0, 1) by mulberry32, a stream of its own for each purpose."""
    state = 0x9E3779B9
    for key in keys:
        state = (state ^ key) * 0x85EBCA6B & WORD
        state ^= state >> 13

    def random() -> float:
        nonlocal state
        state = state + 0x6D2B79F5 & WORD
        t = (state ^ state >> 15) * (1 | state) & WORD
        t = (t + ((t ^ t >> 7) * (61 | t) & WORD) & WORD) ^ t
        return (t ^ t >> 14) / 2**32

    return random


def shuffle(items: Sequence[int], random: Callable[[], float]) -> np.ndarray:
    order = np.array(items, dtype=np.int64)
    for i in range(len(order) - 1, 0, -1):
        j = int(random() * (i + 1))
        order[[i, j]] = order[[j, i]]
    return order


def normal(random: Callable[[], float]) -> float:
    radius = math.sqrt(-2 * math.log(1 - random()))
    return radius * math.cos(2 * math.pi * random())


def log_gamma(shape: float, random: Callable[[], float]) -> float:
    if shape < 1:
        # Two numbers are drawn in this order.
        more = log_gamma(shape + 1, random)
        return more + math.log(1 - random()) / shape
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = normal(random)
        v = (1 + c * x) ** 3
        if v > 0 and math.log(1 - random()) < 0.5 * x * x + d - d * v + d * math.log(v):
            return math.log(d * v)


class Chance:
    """Stands in for NumPy's generator where ``fedtutor.partition`` deals patients out."""

    def __init__(self, seed: int) -> None:
        self.random = stream(seed, DEAL)

    def permutation(self, items: np.ndarray) -> np.ndarray:
        return shuffle(items, self.random)

    def dirichlet(self, alphas: np.ndarray) -> np.ndarray:
        parts = np.array([log_gamma(alpha, self.random) for alpha in alphas])
        parts = np.exp(parts - parts.max())
        return parts / parts.sum()


@dataclass(frozen=True)
class Data:
    """Standardised images float64 (n, SIZE, SIZE) and their labels, to train with and to test."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Setup:
    """Who has which patient, how each hospital behaves, and what the server takes."""

    owner: np.ndarray
    behaviours: tuple[str, ...] = ("honest",) * HOSPITALS
    rule: str = "average"
    leavesAfter: int = 2
    seed: int = 0

    def own(self, k: int) -> np.ndarray:
        return np.flatnonzero(self.owner == k)


Model = list[np.ndarray]


def standardise(pixels: np.ndarray) -> np.ndarray:
    """As the package's, in float64: over 30 rounds the error of a float32 would show."""
    images = pixels.astype(np.float64)
    mean = images.mean(axis=(1, 2), keepdims=True)
    return (images - mean) / np.maximum(images.std(axis=(1, 2), keepdims=True), 1)


def initial(seed: int) -> Model:
    random, fans = stream(seed, INIT), KERNEL**2 * (1 + FILTERS)
    kernels = [(2 * random() - 1) * math.sqrt(6 / fans) for _ in range(KERNEL**2 * FILTERS)]
    places = SIDE * SIDE * FILTERS
    return [
        np.reshape(kernels, (KERNEL**2, FILTERS)),
        np.zeros(FILTERS),
        np.zeros((places, CLASSES)),
        np.zeros(CLASSES),
    ]


def patches(images: np.ndarray) -> np.ndarray:
    """What each place of the convolution sees, (n, places, taps)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (KERNEL, KERNEL), axis=(1, 2))
    return windows[:, ::STRIDE, ::STRIDE].reshape(len(images), SIDE * SIDE, KERNEL**2)


def forward(model: Model, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Feature maps (n, places, filters) and probabilities (n, classes)."""
    kernels, bias, dense, last = model
    maps = np.maximum(seen @ kernels + bias, 0)
    scores = maps.reshape(len(maps), -1) @ dense + last
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    return maps, chances / chances.sum(axis=1, keepdims=True)


def train(model: Model, data: Data, order: np.ndarray) -> Model:
    seen = patches(data.images)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        maps, chances = forward(model, seen[batch])
        wrong = (chances - np.eye(CLASSES)[data.labels[batch]]) / len(batch)
        back = (wrong @ model[2].T).reshape(maps.shape) * (maps > 0)
        gradients = [
            np.einsum("npt,npf->tf", seen[batch], back),
            back.sum(axis=(0, 1)),
            maps.reshape(len(batch), -1).T @ wrong,
            wrong.sum(axis=0),
        ]
        model = [w - RATE * g for w, g in zip(model, gradients, strict=True)]
    return model


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    return forward(model, patches(images))[1]


def train_place(model: Model, data: Data, setup: Setup, who: np.ndarray, r: int, k: int) -> Model:
    return train(model, data, shuffle(who, stream(setup.seed, ORDER, r, k)))


def sent(model: Model, start: Model, behaviour: str, random: Callable[[], float]) -> Model:
    if behaviour == "lies":
        return [s + LIE * (w - s) for w, s in zip(model, start, strict=True)]
    if behaviour == "noise":
        return [
            w + NOISE * np.reshape([normal(random) for _ in range(w.size)], w.shape) for w in model
        ]
    return model


def federated_round(start: Model, data: Data, setup: Setup, r: int) -> Model:
    models, counts = [], []
    for k, behaviour in enumerate(setup.behaviours):
        gone = behaviour == "out" or (behaviour == "leaves" and r > setup.leavesAfter)
        if gone or not len(setup.own(k)):
            continue
        model = train_place(start, data, setup, setup.own(k), r, k)
        models.append(sent(model, start, behaviour, stream(setup.seed, DISTURB, r, k)))
        counts.append(len(setup.own(k)))
    if setup.rule == "median":
        return [np.median(np.stack(arrays), axis=0) for arrays in zip(*models, strict=True)]
    return weighted_average(models, counts)


def run(data: Data, setup: Setup, rounds: int) -> Iterator[dict]:
    """After each round the AUC of each model and the models."""
    everybody = np.arange(len(setup.owner))
    places = [*(setup.own(k) for k in range(HOSPITALS)), everybody]
    glob = initial(setup.seed)
    models = [initial(setup.seed) for _ in places]

    def score(model: Model) -> float:
        return auc(predict(model, data.test_images), data.test_labels)

    for r in range(rounds + 1):
        if r:
            glob = federated_round(glob, data, setup, r)
            models = [
                train_place(model, data, setup, who, r, k)
                for k, (model, who) in enumerate(zip(models, places, strict=True))
            ]
        alone = [
            score(m) if len(who) else None for m, who in zip(models, places[:-1], strict=False)
        ]
        scores = {"global": score(glob), "pooled": score(models[-1]), "alone": alone}
        yield {"auc": scores, "global": glob, "pooled": models[-1], "alone": models[:-1]}


def join(data: Data, setup: Setup, k: int, rounds: int, seeds: int) -> dict[str, dict]:
    """What hospital ``k`` gains by joining, and what the others do."""
    outside = tuple("out" if j == k else one for j, one in enumerate(setup.behaviours))

    def estimates(models: list[Model]) -> list[AucEstimate]:
        return [estimate_auc(predict(m, data.test_images), data.test_labels) for m in models]

    together, alone, without = [], [], []
    for seed in range(seeds):
        with_it = replace(setup, seed=seed)
        last = list(run(data, with_it, rounds))[-1]
        together.append(last["global"])
        alone.append(last["alone"][k])
        without.append(list(run(data, replace(with_it, behaviours=outside), rounds))[-1]["global"])
    return {
        "itself": _gain(estimates(together), estimates(alone)),
        "others": _gain(estimates(together), estimates(without)),
    }


def _gain(one: list[AucEstimate], other: list[AucEstimate]) -> dict:
    a, b = mean_estimate(one), mean_estimate(other)
    low, high = gain_interval(a, b)
    seeds = [x.auc - y.auc for x, y in zip(one, other, strict=True)]
    return {"value": a.auc - b.auc, "low": low, "high": high, "seeds": seeds}


def heat(model: Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """HiResCAM of each image for its label, laid over the image; (n, SIZE, SIZE)."""
    maps, _ = forward(model, patches(images))
    spoken = model[2].reshape(SIDE * SIDE, FILTERS, CLASSES).transpose(2, 0, 1)[labels]
    small = np.maximum((maps * spoken).sum(axis=2), 0).reshape(-1, SIDE, SIDE)
    centres, pixels = np.arange(SIDE) * STRIDE + KERNEL // 2, np.arange(SIZE)
    weights = np.stack([np.interp(pixels, centres, one) for one in np.eye(SIDE)], axis=1)
    large = weights @ small @ weights.T
    most = small.max(axis=(1, 2), keepdims=True)
    return np.divide(large, most, out=np.zeros_like(large), where=most > 0)
