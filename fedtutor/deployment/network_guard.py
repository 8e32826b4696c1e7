"""A guard for a network: it waits for hospitals, and believes none of them too much."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import numpy as np
from flwr.app import ArrayRecord, Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedtutor.aggregation import update_norm
from fedtutor.deployment.roll import Roll
from fedtutor.federation import GuardedGrid
from fedtutor.federation.in_process import WrappedGrid
from fedtutor.federation.records import arrays_in, to_weights
from fedtutor.model import Weights

PAUSE = 0.25
"""Seconds after a look for a reply that has not come."""
_log = logging.getLogger(__name__)


class OneByOne(WrappedGrid):
    """A network's grid that fetches each reply by itself, for the message that it answers.

    Flower fetches all that have come at once; one that cannot be unpacked takes the others along
    and ends the run. How much a hospital sends, and that a node is who it says, is Flower's part.
    One is looked for each ``PAUSE``, in turn: each look is a transaction of the SuperLink's.
    """

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        """Yield the replies as they come in."""
        messages = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        waiting = dict(zip(self.push_messages(messages), messages, strict=True))
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while waiting and time.monotonic() < deadline:
            for message_id, message in list(waiting.items()):
                if reply := self._fetch(message_id, message):
                    del waiting[message_id]
                    yield reply
                else:
                    time.sleep(PAUSE)

    def _fetch(self, message_id: str, message: Message) -> Message | None:
        try:
            for reply in self.pull_messages([message_id]):
                if reply.metadata.reply_to_message_id == message_id:
                    found = reply.error if reply.has_error() else reply.content
                    return Message(found, reply_to=message)
        except httpx.HTTPStatusError as error:  # of the SuperLink's, which may be better later
            _log.warning("the SuperLink has failed at a look for a reply: %r", error)
        except Exception as error:  # whatever it is, it came with the reply
            what = Error(ErrorCode.UNKNOWN, f"its reply cannot be unpacked: {error!r}")
            return Message(what, reply_to=message)
        return None


class NetworkGuard(GuardedGrid):
    """A :class:`~fedtutor.federation.GuardedGrid` for hospitals that may be absent, or lie.

    Parameters
    ----------
    grid, like, further : as for :class:`~fedtutor.federation.GuardedGrid`.
    max_ratio : above 1. Leave out an update more than so many times as long as the round's median
        one, length being the Euclidean distance from the model that was sent, or from a hospital
        that claims more than the square of that, 100 for 10, times the examples of the median one.
        The updates of a round are held together for that.
    roll : whom a round waits for, by default for nobody; the strategy's ``min_available_nodes``
        must not be above its minimum.

    Attributes
    ----------
    examples : by node, how many examples each has claimed in its first reply, and may not exceed
        later. Whether that was true only ``registered`` can tell; with nine others, a hundred
        times their examples is still 92 % of the weight. Median and Krum ask for no examples.
    """

    def __init__(
        self,
        grid: Grid,
        like: Weights,
        *,
        max_ratio: float = math.inf,
        roll: Roll | None = None,
        **further: Any,
    ) -> None:
        super().__init__(grid, like, **further)
        self._max_ratio, self._roll = max_ratio, roll
        self.examples: dict[int, float] = {}

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that take part, once they are there."""
        nodes = super().get_node_ids
        return self._roll.call(nodes) if self._roll else nodes()

    def choose(
        self, server_round: int, replies: Iterator[tuple[str, Message]], sent: ArrayRecord
    ) -> Iterator[tuple[str, Message]]:
        """Yield the replies but those that are far longer, or claim far more, than the median one.

        Of an even number the lower median, so that the larger of two is the suspect.
        """
        # Who took part before and is not connected now.
        for node_id in sorted(set(self.names) - set(self._grid.get_node_ids())):
            self.leave_out(server_round, self.names[node_id], "is not connected")
        start, held = to_weights(sent), list(replies)
        lengths = [_distance(to_weights(arrays_in(reply)), start) for _, reply in held]
        claims: dict[int, Any] = {
            reply.metadata.src_node_id: reply.content["metrics"]["num-examples"]
            for _, reply in held
        }
        usual = _median(lengths)
        many = self._max_ratio**2 * _median((claims | self.examples).values())
        for (name, reply), length, (node_id, claim) in zip(
            held, lengths, claims.items(), strict=True
        ):
            most = min(self.examples.get(node_id, claim), many)
            if usual and length > self._max_ratio * usual:
                reason = (
                    f"its update is {length / usual:.3g} times as long as the median one; at most "
                    f"{self._max_ratio:g} times is let in."
                )
            elif claim > most:
                reason = (
                    f"it claims {claim:g} examples; at most {most:g} are believed: as many as it "
                    f"said at first, and {self._max_ratio**2:g} (max-update-ratio squared) times "
                    "the median hospital's."
                )
            else:
                self.examples.setdefault(node_id, claim)
                yield name, reply
                continue
            self.leave_out(server_round, name, reason)


def _distance(weights: Weights, start: Weights) -> float:
    with np.errstate(over="ignore"):  # then it is infinite
        return update_norm([a - b for a, b in zip(weights, start, strict=True)])


def _median(numbers: Iterable[float]) -> float:
    ordered = sorted(numbers) or [0.0]
    return ordered[(len(ordered) - 1) // 2]
