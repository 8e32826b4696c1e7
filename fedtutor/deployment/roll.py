"""The roll: which hospitals are connected, and how long a round waits for the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from fedtutor.errors import FederationError

POLL = 0.5
"""Seconds between two looks at who is there."""


class Roll:
    """Waits for hospitals, says so, and does not wait for ever.

    Flower's strategies wait for ``min_available_nodes`` without end. Here a round waits up to
    ``patience`` seconds for all that are expected. Then it goes on with those that are there, if
    they are enough, and the next rounds do not wait for the missing ones again; whoever comes
    back takes part again.

    Parameters
    ----------
    expected : how many hospitals there should be.
    minimum : with fewer the run ends; 1..expected.
    patience : seconds.
    tell : called with a line of text when the wait begins, changes or ends.
    """

    def __init__(
        self,
        expected: int,
        *,
        minimum: int = 1,
        patience: float = 120.0,
        tell: Callable[[str], None] = print,
    ) -> None:
        self._expected = expected
        self._minimum = minimum
        self._patience = patience
        self._tell = tell

    def call(self, node_ids: Callable[[], Iterable[int]]) -> list[int]:
        """Return the nodes once all are there, or when the patience is at its end.

        Raises :class:`FederationError` if fewer than the minimum have come by then.
        """
        deadline = time.monotonic() + self._patience
        said = None
        while len(here := list(node_ids())) < self._expected:
            if len(here) != said:
                self._tell(f"waiting for hospitals: {len(here)} of {self._expected} are connected")
                said = len(here)
            if time.monotonic() >= deadline:
                self._give_up(len(here))
                break
            time.sleep(min(POLL, self._patience))
        self._expected = len(here)
        return here

    def _give_up(self, here: int) -> None:
        if here < self._minimum:
            raise FederationError(
                f"{here} of {self._expected} hospitals are connected after {self._patience:g} s, "
                f"and at least {self._minimum} are needed. Start the others (flower-supernode; "
                "its log says why a SuperNode is turned away), or ask for fewer (min-hospitals)."
            )
        self._tell(f"going on with {here} of {self._expected} hospitals")
