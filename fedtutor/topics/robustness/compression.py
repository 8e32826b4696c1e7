"""Fewer bytes: updates made small before they leave a hospital, and measured on the way.

A codec turns an update, the difference that training made, into a few arrays for the wire and
back. :func:`compress` is the hospital's half, a Flower mod; :func:`unpacking` is the
server's, and counts the bytes that Flower would put on the wire.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp

from fedtutor.errors import DataError, UpdateError
from fedtutor.federation.in_process import WrappedGrid
from fedtutor.federation.records import arrays_in, to_record, to_weights
from fedtutor.model import Weights
from fedtutor.topics.robustness.attacks import round_of

LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Codec:
    """How an update travels.

    Attributes
    ----------
    name : for tables.
    encode : from an update, float32 arrays, to the arrays for the wire.
    decode : from those and a model of the same shapes back to the update.
    memory : whether a hospital adds what was lost to its next update, see :func:`with_feedback`.
    """

    name: str
    encode: Callable[[Weights], Weights]
    decode: Callable[[Weights, Weights], Weights]
    memory: bool = False


def _as_it_is(wire: Weights, like: Weights) -> Weights:
    _expect(len(wire) == len(like), f"{len(like)} arrays", len(wire))
    return wire


FLOAT32 = Codec("float32", list, _as_it_is)
"""As Flower sends it: four bytes a number."""


def _to_half(update: Weights) -> Weights:
    # float16 ends at 65,504; beyond it would become infinite, and the update be refused.
    return [np.clip(a, -LARGEST_HALF, LARGEST_HALF).astype(np.float16) for a in update]


def _from_half(wire: Weights, like: Weights) -> Weights:
    return [a.astype(np.float32, copy=False) for a in _as_it_is(wire, like)]


FLOAT16 = Codec("float16", _to_half, _from_half)
"""Two bytes a number, off by at most 2**-11 of its size (below 6e-5: by at most 3e-8)."""


def _to_bytes(update: Weights) -> Weights:
    """Put each array on 256 steps from its smallest to its largest number.

    The last array of the wire has (smallest, step) of each.
    """
    scales = np.zeros((len(update), 2), np.float32)
    wire = []
    for position, array in enumerate(update):
        low, high = float(array.min(initial=0)), float(array.max(initial=0))
        step = (high - low) / 255
        scales[position] = low, step
        codes = np.rint((array - low) / step) if step else np.zeros(array.shape)
        wire.append(np.clip(codes, 0, 255).astype(np.uint8))
    return [*wire, scales]


def _from_bytes(wire: Weights, like: Weights) -> Weights:
    _expect(len(wire) == len(like) + 1, f"{len(like)} arrays of codes and their scales", len(wire))
    *codes, scales = wire
    _expect(scales.shape == (len(like), 2), f"scales of shape ({len(like)}, 2)", scales.shape)
    pairs = zip(codes, scales, strict=True)
    return [low + step * array.astype(np.float32) for array, (low, step) in pairs]


EIGHT_BIT = Codec("8 bits", _to_bytes, _from_bytes)
"""One byte a number, off by at most half of 1/255 of its array's range, which includes 0."""


def top_k(share: float, *, memory: bool = True) -> Codec:
    """Send only the largest numbers of an update, by size, with their places; the others are 0.

    (Aji & Heafield 2017; with memory Stich et al. 2018, algorithm 1.)

    Parameters
    ----------
    share : of all numbers of the model that is sent, above 0 and at most 1; each costs 8 bytes.
    memory : with or without error feedback.
    """
    if not 0 < share <= 1:
        raise DataError(f"share must lie above 0 and be at most 1; got {share}.")

    def encode(update: Weights) -> Weights:
        flat = np.concatenate([array.ravel() for array in update])
        count = max(1, math.ceil(share * flat.size))
        places = np.sort(np.argpartition(np.abs(flat), flat.size - count)[-count:])
        return [places.astype(np.uint32), flat[places].astype(np.float32)]

    def decode(wire: Weights, like: Weights) -> Weights:
        _expect(len(wire) == 2, "places and values", f"{len(wire)} arrays")
        places, values = wire
        flat = np.zeros(sum(array.size for array in like), np.float32)
        good = places.dtype == np.uint32 and places.max(initial=0) < flat.size
        _expect(good, f"places below {flat.size}, as uint32", places.dtype)
        flat[places] = values
        cuts = np.cumsum([array.size for array in like])[:-1]
        pieces = zip(np.split(flat, cuts), like, strict=True)
        return [piece.reshape(array.shape) for piece, array in pieces]

    name = f"largest {100 * share:g} %" + ("" if memory else ", no memory")
    return Codec(name, encode, decode, memory)


def _expect(good: bool, wanted: str, got: object) -> None:
    if not good:
        raise UpdateError(f"a packed update must have {wanted}; got {got}.")


def with_feedback(codec: Codec, update: Weights, memory: Weights) -> tuple[Weights, Weights]:
    """Encode ``update + memory``; return the wire and what it lost, the next memory.

    What was sent and what is remembered always sum to what was to be said, so that nothing is
    lost for ever (Seide et al. 2014, section 2.3).
    """
    wanted = [u + m for u, m in zip(update, memory, strict=True)]
    wire = codec.encode(wanted)
    said = codec.decode(wire, wanted)
    return wire, [w - s for w, s in zip(wanted, said, strict=True)]


def compress(codec: Codec) -> Mod:
    """Pack a hospital's update: a mod that replies with it in place of the weights.

    What error feedback remembers stays in the hospital, in its ``context.state["memory"]``.
    Weights that come in as float16 are made float32 before training.
    """

    def packed(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        sent = [a.astype(np.float32, copy=False) for a in to_weights(arrays_in(message))]
        # A content of its own: others may be sent the same one.
        message.content = RecordDict({**message.content, "arrays": to_record(sent)})
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        pairs = zip(to_weights(arrays_in(reply)), sent, strict=True)
        update = [w_k - w for w_k, w in pairs]
        kept = context.state.array_records.get("memory")
        memory = to_weights(kept) if kept else [np.zeros_like(array) for array in update]
        wire, memory = with_feedback(codec, update, memory)
        if codec.memory:
            context.state["memory"] = to_record(memory)
        reply.content["arrays"] = to_record(wire)
        return reply

    return packed


@dataclass
class Meter:
    """Bytes of the training messages of a round, and how many hospitals there were."""

    bytes_down: int = 0
    bytes_up: int = 0
    num_hospitals: int = 0


class _UnpackingGrid(WrappedGrid):
    """Any Flower grid, whose packed updates become weights again; see :func:`unpacking`."""

    def __init__(self, grid: Grid, codec: Codec, meter: dict[int, Meter], half_down: bool) -> None:
        super().__init__(grid)
        self._codec, self._meter, self._half_down = codec, meter, half_down

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Pass the messages on, and the replies of training back unpacked."""
        messages = list(messages)
        if not messages or messages[0].metadata.message_type != MessageType.TRAIN:
            return self._grid.send_and_receive(messages, timeout=timeout)
        return self._unpacked(messages, timeout)

    def _unpacked(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        meter = self._meter[round_of(messages[0])] = Meter(num_hospitals=len(messages))
        sent = to_weights(arrays_in(messages[0]))
        if self._half_down:
            halves = FLOAT16.encode(sent)
            sent = FLOAT16.decode(halves, sent)
            for message in messages:
                message.content = RecordDict({**message.content, "arrays": to_record(halves)})
        # All hospitals are sent one and the same content.
        meter.bytes_down = message_bytes(messages[0].content) * len(messages)
        asked = {message.metadata.dst_node_id: message for message in messages}
        for reply in self._grid.send_and_receive(messages, timeout=timeout):
            if reply.has_error():
                yield reply
                continue
            meter.bytes_up += message_bytes(reply.content)
            yield self._unpack(reply, asked[reply.metadata.src_node_id], sent)

    def _unpack(self, reply: Message, message: Message, sent: Weights) -> Message:
        try:
            update = self._codec.decode(to_weights(arrays_in(reply)), sent)
            weights = [w + u for w, u in zip(sent, update, strict=True)]
        except (UpdateError, KeyError, ValueError, TypeError) as error:
            reason = f"an update that cannot be unpacked ({self._codec.name}): {error}"
            return Message(Error(ErrorCode.UNKNOWN, reason), reply_to=message)
        reply.content["arrays"] = to_record(weights)
        return reply


def unpacking(
    server_app: ServerApp, codec: Codec, *, half_down: bool = False
) -> tuple[ServerApp, dict[int, Meter]]:
    """Wrap a ServerApp for hospitals that :func:`compress` with the same codec.

    Return it, and for each round its :class:`Meter`, filled as it runs. A reply that cannot be
    unpacked becomes an error, so that the hospital is left out of the round by name and the others
    go on. With ``half_down`` the global model is sent as float16, too.
    """
    outer = ServerApp()
    meter: dict[int, Meter] = {}

    @outer.main()
    def main(grid: Grid, context: Context) -> None:
        server_app(_UnpackingGrid(grid, codec, meter, half_down), context)

    return outer, meter


def message_bytes(content: RecordDict) -> int:
    """Return the bytes of a message's records as Flower serialises them, by its own count."""
    return sum(record.count_bytes() for record in content.values())


def line_seconds(num_bytes: float, megabits: float = 10.0) -> float:
    """Return the seconds that so many bytes take over a line of so many million bits a second."""
    return 8 * num_bytes / (1e6 * megabits)
