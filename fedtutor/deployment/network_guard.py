"""A guard for a network: it waits for hospitals, and looks at how long their updates are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from fedtutor.aggregation import update_norm
from fedtutor.deployment.roll import Roll
from fedtutor.errors import FederationError
from fedtutor.federation import GuardedGrid
from fedtutor.federation.records import arrays_in, to_weights
from fedtutor.model import Weights


class NetworkGuard(GuardedGrid):
    """A :class:`~fedtutor.federation.GuardedGrid` for hospitals that may be absent, or lie.

    Parameters
    ----------
    grid, like, further : as for :class:`~fedtutor.federation.GuardedGrid`.
    max_ratio : leave out an update more than so many times as long as the round's median one,
        length being the Euclidean distance from the model that was sent. The updates of a round
        are held together for that.
    roll : whom a round waits for, by default for nobody; the strategy's ``min_available_nodes``
        must not be above its minimum.
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
        if not max_ratio > 1:
            raise FederationError(f"max_ratio must be above 1, such as 10; got {max_ratio}.")
        super().__init__(grid, like, **further)
        self._max_ratio, self._roll = max_ratio, roll

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that take part, once they are there."""
        nodes = super().get_node_ids
        return self._roll.call(nodes) if self._roll else nodes()

    def choose(
        self, server_round: int, replies: Iterator[tuple[str, Message]], sent: ArrayRecord
    ) -> Iterator[tuple[str, Message]]:
        """Yield the replies but those that are far longer than the median one.

        Of an even number the lower median, so that the longer of two is the suspect.
        """
        self._note_absent(server_round)
        start, held = to_weights(sent), list(replies)
        trained = (to_weights(arrays_in(reply)) for _, reply in held)
        lengths = [
            update_norm([a - b for a, b in zip(weights, start, strict=True)]) for weights in trained
        ]
        usual = sorted(lengths)[(len(lengths) - 1) // 2] if lengths else 0.0
        for (name, reply), length in zip(held, lengths, strict=True):
            if usual and length > self._max_ratio * usual:
                reason = (
                    f"its update is {length / usual:.3g} times as long as the median one; at most "
                    f"{self._max_ratio:g} times is let in."
                )
                self.leave_out(server_round, name, reason)
            else:
                yield name, reply

    def _note_absent(self, server_round: int) -> None:
        """Note who took part before and is not connected now."""
        for node_id in sorted(set(self.names) - set(self._grid.get_node_ids())):
            self.leave_out(server_round, self.names[node_id], "is not connected")
