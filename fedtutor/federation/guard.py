"""The guard: a grid around any engine's grid that lets only sound updates through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedtutor.aggregation import check_num_examples, check_update
from fedtutor.errors import FederationError, UpdateError
from fedtutor.federation.in_process import WrappedGrid
from fedtutor.federation.records import arrays_in, config_in, num_bytes, to_record, to_weights
from fedtutor.model import Weights


@dataclass(frozen=True)
class LeftOut:
    """A hospital whose reply did not enter a round, and why."""

    round: int
    hospital: str
    reason: str


@dataclass
class Traffic:
    """What a round of training moved: bytes of weights, and who replied."""

    bytes_down: int = 0
    bytes_up: int = 0
    hospitals: list[str] = field(default_factory=list)


class GuardedGrid(WrappedGrid):
    """Any Flower grid, with every update checked before a strategy sees it.

    Flower's strategies average a NaN without a word and broadcast a wrong shape. Here such an
    update, an error, or silence, leaves the hospital out of the round, by name; the rest go on.

    Parameters
    ----------
    grid : the engine's own grid.
    like : the model's weights; every update must have their number, shapes and dtypes.
    min_hospitals : with fewer sound updates than this the round fails.
    on_reply : called after each sound update with (round, hospital, metrics).

    Attributes
    ----------
    left_out : who was left out of which round, and why.
    traffic : by round, what training moved and who replied.
    names : by node id, what the hospitals met so far are called.
    """

    def __init__(
        self,
        grid: Grid,
        like: Weights,
        *,
        min_hospitals: int = 1,
        on_reply: Callable[[int, str, dict], None] | None = None,
    ) -> None:
        super().__init__(grid)
        self._like = like
        self._min_hospitals = min_hospitals
        self._on_reply = on_reply
        self.names: dict[int, str] = {}
        self.left_out: list[LeftOut] = []
        self.traffic: dict[int, Traffic] = {}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        messages = list(messages)
        if not messages or messages[0].metadata.message_type != MessageType.TRAIN:
            return self._grid.send_and_receive(messages, timeout=timeout)
        self._learn_names(messages, timeout)
        return self._train_replies(messages, timeout)

    def _learn_names(self, messages: list[Message], timeout: float | None) -> None:
        """Ask the nodes met for the first time what they are called (a Flower query)."""
        new = [m.metadata.dst_node_id for m in messages if m.metadata.dst_node_id not in self.names]
        queries = [Message(RecordDict(), node_id, MessageType.QUERY) for node_id in new]
        self.names |= {node_id: f"node {node_id}" for node_id in new}
        if queries:
            for reply in self._grid.send_and_receive(queries, timeout=timeout):
                if reply.has_content() and "hospital" in reply.content:
                    name = reply.content.config_records["hospital"]["name"]
                    self.names[reply.metadata.src_node_id] = str(name)

    def _train_replies(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        """Yield the sound replies only; raise at the end if there were too few."""
        server_round = int(str(config_in(messages[0])["server-round"]))
        sent = self._in_model_dtypes(messages)
        traffic = self.traffic[server_round] = Traffic(bytes_down=num_bytes(sent) * len(messages))
        replies = self.choose(
            server_round, self._sound_replies(server_round, messages, timeout), sent
        )
        for name, reply in replies:
            traffic.bytes_up += num_bytes(arrays_in(reply))
            traffic.hospitals.append(name)
            if self._on_reply:
                self._on_reply(server_round, name, dict(reply.content.metric_records["metrics"]))
            yield reply
        self._check_enough(server_round, len(traffic.hospitals), len(messages))

    def _sound_replies(
        self, server_round: int, messages: list[Message], timeout: float | None
    ) -> Iterator[tuple[str, Message]]:
        """Yield (hospital, reply) as they come in; note the others with the reason."""
        silent = {message.metadata.dst_node_id for message in messages}
        for reply in self._grid.send_and_receive(messages, timeout=timeout):
            node_id = _sender(reply, messages)
            silent.discard(node_id)
            name = self.names[node_id]
            if reason := _what_is_wrong(reply, self._like, name):
                self.leave_out(server_round, name, reason)
            else:
                yield name, reply
        for node_id in sorted(silent):
            reason = f"did not reply within {timeout:g} s"
            self.leave_out(server_round, self.names[node_id], reason)

    def choose(
        self, server_round: int, replies: Iterator[tuple[str, Message]], sent: ArrayRecord
    ) -> Iterator[tuple[str, Message]]:
        """Yield those of the sound (hospital, reply) pairs that may enter the round: here all.

        ``sent`` is the global model that the hospitals began with.
        """
        return replies

    def leave_out(self, server_round: int, hospital: str, reason: str) -> None:
        """Note that a hospital's reply does not enter a round."""
        self.left_out.append(LeftOut(server_round, hospital, reason))

    def _in_model_dtypes(self, messages: list[Message]) -> ArrayRecord:
        """Put the model's own dtypes into the messages, and return what is sent.

        Some strategies compute in float64; sending that would double the traffic for nothing.
        """
        sent = arrays_in(messages[0])
        if [a.dtype for a in sent.values()] != [str(a.dtype) for a in self._like]:
            sent = to_record(like_model(to_weights(sent), self._like))
            for message in messages:
                message.content = RecordDict({**message.content, "arrays": sent})
        return sent

    def _check_enough(self, server_round: int, good: int, asked: int) -> None:
        if good >= self._min_hospitals:
            return
        reasons = [
            f"{out.hospital}: {out.reason}" for out in self.left_out if out.round == server_round
        ]
        raise FederationError(
            f"round {server_round}: {good} of {asked} hospitals sent a usable update and at least "
            f"{self._min_hospitals} are needed; the global model is that of round "
            f"{server_round - 1}. Left out: {'; '.join(reasons)}"
        )


def like_model(weights: Weights, like: Weights) -> Weights:
    """Return the weights in the dtypes of ``like``, copied only where they have others."""
    return [a.astype(b.dtype, copy=False) for a, b in zip(weights, like, strict=True)]


def _sender(reply: Message, messages: list[Message]) -> int:
    """Return the node that a reply is of; Flower signs some error messages itself."""
    asked = {message.metadata.dst_node_id for message in messages}
    if reply.metadata.src_node_id in asked:
        return reply.metadata.src_node_id
    answered = reply.metadata.reply_to_message_id
    return next(m.metadata.dst_node_id for m in messages if m.metadata.message_id == answered)


def _what_is_wrong(reply: Message, like: Weights, hospital: str) -> str | None:
    """Say why a training reply must not be used; None if it may."""
    if reply.has_error():
        return (reply.error.reason or f"error {reply.error.code}").strip().splitlines()[-1]
    content = reply.content
    if set(content.array_records) != {"arrays"} or set(content.metric_records) != {"metrics"}:
        return f"{hospital} replied with {sorted(content)} in place of arrays and metrics."
    try:
        count: Any = content.metric_records["metrics"].get("num-examples", float("nan"))
        check_num_examples(count, hospital=hospital)
        check_update(to_weights(content.array_records["arrays"]), like, hospital=hospital)
    except (UpdateError, ValueError, TypeError) as error:  # also bytes that are no array
        return str(error)
    return None
