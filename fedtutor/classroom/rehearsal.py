"""A class on this machine alone, to see a week before whether it will work: ``check --class``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fedtutor.classroom import PORT
from fedtutor.classroom.desk import open_class
from fedtutor.classroom.join import Laptop
from fedtutor.classroom.network import own_addresses
from fedtutor.errors import FederationError, FedtutorError
from fedtutor.settings import RunSettings

SECONDS = 120.0
"""How long a hospital may take to be here."""


def rehearse(port: int = PORT) -> Iterator[tuple[str, str]]:
    """Open a class, join it, and yield (what, how it went) for each step.

    Raises :class:`FedtutorError` where it does not work.
    """
    addresses = own_addresses()
    yield "addresses of this machine", ", ".join(addresses)
    with tempfile.TemporaryDirectory(prefix="fedtutor-", ignore_cleanup_errors=True) as temporary:
        began = time.monotonic()
        folder, settings = Path(temporary), RunSettings(hospitals=1, size=16)
        room, desk = open_class(settings, folder / "host", port=port, address=addresses[0])
        try:
            yield "a class, opened", f"port {port}, after {time.monotonic() - began:.0f} s"
            began = time.monotonic()
            where, home = f"{addresses[0]}:{port}", folder / "laptop"
            with Laptop(where, room.code, folder=home, tell=lambda line: None):
                while not room.is_here(0):
                    if time.monotonic() - began > SECONDS:
                        raise FederationError(f"the hospital is not here after {SECONDS:.0f} s.")
                    time.sleep(0.2)
            yield "a hospital, joined", f"at {where}, after {time.monotonic() - began:.0f} s"
        except FedtutorError as error:
            error.add_note(f"Other laptops need {addresses[0]}:{port}: let Python receive calls.")
            raise
        finally:
            room.close()
            desk.close()
