"""Between weights and Flower's records: without copying, and without trust in what comes back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import islice
from threading import Lock
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedtutor.aggregation import check_finite, check_form, check_num_examples
from fedtutor.errors import UpdateError, visible
from fedtutor.model import Weights

_PARSING = Lock()
MAX_HEADER, MAX_METRICS = 1024, 100  # NumPy's header of an array has 128 bytes


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
    """Return the arrays of a record by their names, "0", "1", ...; read-only.

    They are read once for all hospitals, in place. NumPy parses the header of each, which two
    threads must not do at a time, see :func:`~fedtutor.compiled_training.compiled`.

    Raises
    ------
    UpdateError
        If the names are others, which would put arrays into the wrong places.
    """
    with _PARSING:
        for name, array in record.items():
            if not isinstance(array, ArrayView):
                record[name] = ArrayView(array.numpy())
    return [array.numpy() for array in _in_order(record)]


def _in_order(record: ArrayRecord) -> list[Array]:
    names = [str(position) for position in range(len(record))]
    if set(record) != set(names):
        raise UpdateError(f"the arrays are named {', '.join(record)}, not {', '.join(names)}.")
    return [record[name] for name in names]


def num_bytes(record: ArrayRecord) -> int:
    """Return the bytes of the arrays, without the hundred or so of each one's header."""
    return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in record.values())


def arrays_in(message: Message) -> ArrayRecord:
    """Return the weights in a message of training."""
    return cast(ArrayRecord, message.content["arrays"])


def config_in(message: Message) -> ConfigRecord:
    """Return what the server says in a message of training."""
    return cast(ConfigRecord, message.content["config"])


def open_reply(
    reply: Message, message: Message, hospital: str, like: Weights, needs: Iterable[str]
) -> Message:
    """Return a hospital's reply to ``message`` made anew, of what was asked for and no more.

    It has "metrics", all numbers, with "num-examples"; of training also "arrays", not copied, that
    are finite and in the form of ``like``, and among the metrics, finite, those it ``needs``. Of
    anything else no more is read than the model has; what is then raised can be of any type. A lie
    in good form gets through, and that a node is who it says is for Flower to know.
    """
    if reply.has_error():
        raise UpdateError(str(reply.error.reason or f"error {reply.error.code}"))
    numbers: dict[str, Any] = {
        name: value
        for name, value in islice(reply.content["metrics"].items(), MAX_METRICS)
        if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64)
    }
    check_num_examples(numbers.get("num-examples", math.nan), hospital=hospital)
    content = RecordDict({"metrics": MetricRecord(numbers)})
    if message.metadata.message_type == "train":
        if lacking := [key for key in needs if not math.isfinite(numbers.get(key, math.nan))]:
            raise UpdateError(f"{hospital} sent no finite number as {', '.join(lacking)}.")
        arrays = _in_order(arrays_in(reply))
        check_form(arrays, like, hospital=hospital)  # by their own word; none is read yet
        weights = list(map(_read, arrays, like))
        check_finite(weights, hospital=hospital)
        content["arrays"] = to_record(weights)
    return Message(content, reply_to=message)


def check_claim(reply: Message, hospital: str, registered: float) -> None:
    """Raise :class:`UpdateError` if it counts itself for more than it registered."""
    if (claim := cast(float, reply.content["metrics"]["num-examples"])) > registered:
        raise UpdateError(f"{hospital} claims {claim:g} examples; it has registered {registered:g}")


def _read(array: Array, like: np.ndarray) -> np.ndarray:
    """Return the array in its own bytes. Flower's ``numpy()`` opens any file, and of any size."""
    if isinstance(array, ArrayView):
        return array.numpy()
    header = BytesIO(array.data[:MAX_HEADER])
    np.lib.format.read_magic(header)
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(header, MAX_HEADER)
    form = shape, dtype, len(array.data) - header.tell()
    if form != (like.shape, like.dtype, like.nbytes):
        raise ValueError(f"an array of shape {shape} and dtype {dtype} in {form[2]} bytes")
    flat = np.frombuffer(array.data, dtype, offset=header.tell())
    return flat.reshape(shape, order="F" if in_columns else "C")


def name_in(reply: Message) -> str:
    """Return what a hospital says that it is called, "" if that is no text."""
    content = reply.content if reply.has_content() else None
    said = content.get("hospital") if isinstance(content, RecordDict) else None
    name = said.get("name") if isinstance(said, ConfigRecord) else None
    return visible(name.strip()[:200])[:200] if isinstance(name, str) else ""


def one_line(text: str, most: int = 500) -> str:
    """Return a text's last line, of at most so many characters, all of which can be seen."""
    lines = text[-100 * most :].strip().splitlines() or [""]
    return visible(lines[-1][:most])[:most]


def with_common_metrics(replies: Iterable[Message]) -> Iterator[Message]:
    """Pass replies on; at the end take out the metrics that not all have: Flower bears none."""
    records: list[Any] = []
    for reply in replies:
        records.append(reply.content["metrics"])
        yield reply
    common = set.intersection(*map(set, records)) if records else set()
    for record in records:
        for name in set(record) - common:
            del record[name]
