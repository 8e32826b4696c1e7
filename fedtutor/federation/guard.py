"""The guard: a grid around any engine's grid that lets only sound updates through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedtutor.aggregation import check_num_examples, check_update
from fedtutor.errors import FederationError, UpdateError
from fedtutor.federation.in_process import WrappedGrid
from fedtutor.federation.records import (
    arrays_in,
    config_in,
    num_bytes,
    to_record,
    to_weights,
)
from fedtutor.federation.roll import Roll
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
    max_ratio : leave out an update more than so many times as long as the round's median one,
        length being the Euclidean distance from the model that was sent. For that the updates of
        a round are held together; by default they are not looked at, and pass one by one.
    roll : whom a round waits for; by default for nobody, as one process has all its hospitals.
    """

    def __init__(
        self,
        grid: Grid,
        like: Weights,
        *,
        min_hospitals: int = 1,
        on_reply: Callable[[int, str, dict], None] | None = None,
        max_ratio: float | None = None,
        roll: Roll | None = None,
    ) -> None:
        if max_ratio is not None and not max_ratio > 1:
            raise FederationError(f"max_ratio must be above 1, such as 10; got {max_ratio}.")
        super().__init__(grid)
        self._like = like
        self._min_hospitals = min_hospitals
        self._on_reply = on_reply
        self._max_ratio = max_ratio
        self._roll = roll
        self._names: dict[int, str] = {}
        self.left_out: list[LeftOut] = []
        self.traffic: dict[int, Traffic] = {}

    def get_node_ids(self) -> Iterable[int]:
        if self._roll is None:
            return super().get_node_ids()
        return self._roll.call(super().get_node_ids)

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
        new = [
            m.metadata.dst_node_id for m in messages if m.metadata.dst_node_id not in self._names
        ]
        queries = [Message(RecordDict(), node_id, MessageType.QUERY) for node_id in new]
        self._names |= {node_id: f"node {node_id}" for node_id in new}
        if queries:
            for reply in self._grid.send_and_receive(queries, timeout=timeout):
                if reply.has_content() and "hospital" in reply.content:
                    name = reply.content.config_records["hospital"]["name"]
                    self._names[reply.metadata.src_node_id] = str(name)

    def _train_replies(self, messages: list[Message], timeout: float | None) -> Iterator[Message]:
        """Yield the sound replies only; raise at the end if there were too few."""
        server_round = int(str(config_in(messages[0])["server-round"]))
        sent = self._in_model_dtypes(messages)
        traffic = self.traffic[server_round] = Traffic(bytes_down=num_bytes(sent) * len(messages))
        self._note_absent(server_round)
        replies = self._sound_replies(server_round, messages, timeout)
        if self._max_ratio is not None:
            near = self._of_usual_length(
                server_round, list(replies), to_weights(sent), self._max_ratio
            )
            replies = near
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
            name = self._names[node_id]
            if reason := _what_is_wrong(reply, self._like, name):
                self.left_out.append(LeftOut(server_round, name, reason))
            else:
                yield name, reply
        for node_id in sorted(silent):
            reason = f"did not reply within {timeout:g} s"
            self.left_out.append(LeftOut(server_round, self._names[node_id], reason))

    def _of_usual_length(
        self,
        server_round: int,
        replies: list[tuple[str, Message]],
        sent: Weights,
        max_ratio: float,
    ) -> Iterator[tuple[str, Message]]:
        """Yield the replies but those that are far longer than the median one.

        Of an even number the lower median, so that the longer of two is the suspect.
        """
        lengths = [distance(to_weights(arrays_in(reply)), sent) for _, reply in replies]
        usual = sorted(lengths)[(len(lengths) - 1) // 2] if lengths else 0.0
        for (name, reply), length in zip(replies, lengths, strict=True):
            if usual and length > max_ratio * usual:
                reason = (
                    f"its update is {length / usual:.3g} times as long as the median one; at most "
                    f"{max_ratio:g} times is let in."
                )
                self.left_out.append(LeftOut(server_round, name, reason))
            else:
                yield name, reply

    def _note_absent(self, server_round: int) -> None:
        """Note who took part before and is not connected now."""
        if self._roll is None:
            return
        here = set(self._grid.get_node_ids())
        for node_id in sorted(set(self._names) - here):
            self.left_out.append(LeftOut(server_round, self._names[node_id], "is not connected"))

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


def distance(one: Weights, other: Weights) -> float:
    """Return the Euclidean distance of two models, all numbers taken together, in float64."""
    squares = (np.square(a - b, dtype=np.float64).sum() for a, b in zip(one, other, strict=True))
    return float(np.sqrt(sum(squares)))


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
