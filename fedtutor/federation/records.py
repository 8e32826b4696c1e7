"""Between lists of weights and Flower's records, without copying."""

from __future__ import annotations

import math

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message

from fedtutor.errors import UpdateError
from fedtutor.model import Weights


class ArrayView(Array):
    """A Flower ``Array`` that keeps the ndarray and serialises it only when asked for bytes.

    Inside one process nobody asks, which saves two copies of the model a message; on a wire it
    is an ordinary ``Array``.
    """

    _ndarray: np.ndarray

    def __init__(self, ndarray: np.ndarray) -> None:
        view = ndarray.view()
        view.flags.writeable = False  # all hospitals are sent the same one
        self.__dict__.update(
            dtype=str(view.dtype), shape=view.shape, stype="numpy.ndarray", _ndarray=view
        )

    @property
    def data(self) -> bytes:  # type: ignore[override]  # a field in Flower, read only here
        """The bytes, made now."""
        return Array(self._ndarray).data

    def numpy(self) -> np.ndarray:
        """Return the array itself."""
        return self._ndarray

    def deflate(self) -> bytes:
        """Return the record as Flower sends it."""
        return Array(self._ndarray).deflate()


def to_record(weights: Weights) -> ArrayRecord:
    """Return weights as Flower sends them, under the keys "0", "1", ...; do not change them."""
    record = ArrayRecord()
    for position, array in enumerate(weights):
        record[str(position)] = ArrayView(np.asarray(array))
    return record


def to_weights(record: ArrayRecord) -> Weights:
    """Return the arrays of a record by their names, "0", "1", ...; read-only where shared.

    Raises
    ------
    UpdateError
        If the names are others, which would put arrays into the wrong places.
    """
    names = [str(position) for position in range(len(record))]
    if set(record) != set(names):
        raise UpdateError(f"the arrays are named {', '.join(record)}, not {', '.join(names)}.")
    return [record[name].numpy() for name in names]


def num_bytes(record: ArrayRecord) -> int:
    """Return the bytes of the arrays, without the hundred or so of each one's header."""
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in record.values())


def arrays_in(message: Message) -> ArrayRecord:
    """Return the weights in a message of training."""
    return message.content.array_records["arrays"]


def config_in(message: Message) -> ConfigRecord:
    """Return what the server says in a message of training."""
    return message.content.config_records["config"]
