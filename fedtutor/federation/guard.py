"""The guard: a grid around any engine's grid that lets only sound updates through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedtutor.errors import FederationError, UpdateError
from fedtutor.federation import records
from fedtutor.federation.in_process import WrappedGrid
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
    """Any Flower grid, with every reply checked before a strategy sees it.

    Flower's strategies average a NaN without a word, broadcast a wrong shape, and end the run at
    what they cannot read. Here such a reply, an error, or silence, leaves the hospital out of the
    round, by name; the rest go on. A message is answered once.

    Parameters
    ----------
    grid : the engine's own grid.
    like : the model's weights; every update must have their number, shapes and dtypes.
    min_hospitals : with fewer sound updates than this the round fails.
    registered : by the hospitals' names, the examples that each registered; a reply that claims
        more, or is of another name, is left out. By default any claim is believed.
    on_reply : called after each sound update with (round, hospital, metrics).

    Attributes
    ----------
    needs : the metrics, beside "num-examples", that an update must have.
    left_out : who was left out of which round, and why.
    traffic : by round, what training moved and who replied.
    names : by node id, what the hospitals met so far are called, no two of them alike.
    """

    def __init__(
        self,
        grid: Grid,
        like: Weights,
        *,
        min_hospitals: int = 1,
        registered: Mapping[str, float] | None = None,
        on_reply: Callable[[int, str, dict], None] | None = None,
    ) -> None:
        super().__init__(grid)
        self._registered = registered
        self._like, self._min_hospitals, self._on_reply = like, min_hospitals, on_reply
        self.needs: Iterable[str] = ()
        self.names: dict[int, str] = {}
        self.left_out: list[LeftOut] = []
        self.traffic: dict[int, Traffic] = {}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        messages = list(messages)
        kind = messages[0].metadata.message_type if messages else None
        if kind not in (MessageType.TRAIN, MessageType.EVALUATE):
            return self._grid.send_and_receive(messages, timeout=timeout)
        server_round = int(str(records.config_in(messages[0])["server-round"]))
        self._learn_names(messages, timeout)
        sound = self._sound_replies(server_round, messages, timeout)
        if kind == MessageType.TRAIN:
            return records.with_common_metrics(self._chosen(server_round, messages, sound))
        return records.with_common_metrics(reply for _, reply in sound)

    def _learn_names(self, messages: list[Message], timeout: float | None) -> None:
        """Ask new nodes what they are called (a Flower query); no two are called the same."""
        # Sorted, as in one process the replies come in this order, and each is found at once.
        new = sorted({m.metadata.dst_node_id for m in messages} - self.names.keys())
        queries = [Message(RecordDict(), node_id, MessageType.QUERY) for node_id in new]
        claimed = {node_id: f"node {node_id}" for node_id in new}
        for reply in self._grid.send_and_receive(list(queries), timeout=timeout) if new else ():
            if (query := _answered(reply, queries)) and (name := records.name_in(reply)):
                claimed[query.metadata.dst_node_id] = name
        claims, taken = Counter(claimed.values()), set(self.names.values())
        for node_id, name in claimed.items():
            while claims[name] > 1 or name in taken:
                name += f" (node {node_id})"
            self.names[node_id] = name
            taken.add(name)

    def _chosen(
        self, server_round: int, messages: list[Message], sound: Iterator[tuple[str, Message]]
    ) -> Iterator[Message]:
        """Yield the replies that enter the round; raise at the end if there were too few."""
        sent = self._in_model_dtypes(messages)
        traffic = self.traffic[server_round] = Traffic(records.num_bytes(sent) * len(messages))
        for name, reply in self.choose(server_round, sound, sent):
            traffic.bytes_up += records.num_bytes(records.arrays_in(reply))
            traffic.hospitals.append(name)
            if self._on_reply:
                self._on_reply(server_round, name, dict(reply.content["metrics"]))
            yield reply
        self._check_enough(server_round, len(traffic.hospitals), len(messages))

    def _sound_replies(
        self, server_round: int, messages: list[Message], timeout: float | None
    ) -> Iterator[tuple[str, Message]]:
        """Yield (hospital, reply) as they come in; note the others with the reason."""
        waiting = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        for reply in self._grid.send_and_receive(messages, timeout=timeout):
            message = _answered(reply, waiting)
            node_id = message.metadata.dst_node_id if message else reply.metadata.src_node_id
            name = self.names.get(node_id, f"node {node_id}")
            try:
                if message is None:
                    raise UpdateError("replied twice, or to what it was not asked; that is dropped")
                sound = records.open_reply(reply, message, name, self._like, self.needs)
                if self._registered is not None:
                    records.check_claim(sound, name, self._registered.get(name, 0))
            except Exception as error:  # whatever it is, it came with the reply
                known = isinstance(error, UpdateError)
                reason = str(error) if known else f"{name}'s reply cannot be read: {error!r}"
                self.leave_out(server_round, name, reason)
            else:
                yield name, sound
            del reply  # or its weights would be held while the next hospital trains
        for message in waiting:
            reason = f"did not reply within {timeout:g} s"
            self.leave_out(server_round, self.names[message.metadata.dst_node_id], reason)

    def choose(
        self, server_round: int, replies: Iterator[tuple[str, Message]], sent: ArrayRecord
    ) -> Iterator[tuple[str, Message]]:
        """Yield those of the sound (hospital, reply) pairs that may enter the round: here all.

        ``sent`` is the global model that the hospitals began with.
        """
        return replies

    def leave_out(self, server_round: int, hospital: str, reason: str) -> None:
        """Note that a hospital's reply does not enter a round."""
        reason = records.one_line(reason) or "gave no reason"
        self.left_out.append(LeftOut(server_round, hospital, reason))

    def _in_model_dtypes(self, messages: list[Message]) -> ArrayRecord:
        """Put the model's own dtypes into the messages, and return what is sent.

        Some strategies compute in float64; sending that would double the traffic for nothing.
        """
        sent = records.arrays_in(messages[0])
        if [a.dtype for a in sent.values()] != [str(a.dtype) for a in self._like]:
            sent = records.to_record(like_model(records.to_weights(sent), self._like))
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


def _answered(reply: Message, waiting: list[Message]) -> Message | None:
    """Take the message that this answers from those that wait for it; None if none does."""
    for message in waiting:
        if message.metadata.message_id == reply.metadata.reply_to_message_id:
            waiting.remove(message)
            return message
    return None
