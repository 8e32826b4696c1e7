"""The course's training as Keras does it, for tests to compare with."""

from __future__ import annotations

from fedtutor.model import standardise
from fedtutor.training import create_optimizer, loss_function


def fit_keras(model, data, order, settings):
    """Train as Keras does it; returns the last epoch's mean loss."""
    model.compile(optimizer=create_optimizer(settings), loss=loss_function(model))
    for epoch in order:
        history = model.fit(
            standardise(data.images[epoch]),
            data.labels[epoch],
            batch_size=settings.batch_size,
            shuffle=False,
            verbose=0,
        )
    return history.history["loss"][-1]
