"""A listener on the wire: a TCP proxy on loopback that passes everything on and remembers it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

CHUNK = 2**16


class RecordingProxy:
    """Passes bytes between ``port`` and a server's port, and keeps a copy of all of them.

    Whoever sits on a cable between two hospitals sees what this proxy sees, and no more.

    Parameters
    ----------
    to_port : where the server listens, on 127.0.0.1.

    Attributes
    ----------
    port : where to connect in place of it.
    """

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._heard: list[tuple[str, bytearray]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        _in_background(self._accept)

    @property
    def num_bytes(self) -> int:
        """How many bytes have passed, both ways."""
        with self._lock:
            return sum(len(stream) for _, stream in self._heard)

    def streams(self, *ways: str) -> list[bytes]:
        """Return what has passed "up" to the server, or "down" from it, a piece a connection."""
        with self._lock:
            return [bytes(stream) for way, stream in self._heard if way in ways]

    def heard(self, pattern: bytes) -> bool:
        """Return whether these bytes went over the wire in one piece, in either direction."""
        return any(pattern in stream for stream in self.streams("up", "down"))

    def close(self) -> None:
        """Let nobody in any more; connections end when one of their two sides hangs up."""
        with contextlib.suppress(OSError):  # closed already, or a system that has no such call
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to_port))
            except OSError:  # nobody there: what a client of the server itself would be told
                client.close()
                continue
            _in_background(self._pass_on, client, server, "up")
            _in_background(self._pass_on, server, client, "down")

    def _pass_on(self, source: socket.socket, goal: socket.socket, way: str) -> None:
        heard = bytearray()
        with self._lock:
            self._heard.append((way, heard))
        with contextlib.suppress(OSError):  # one side has hung up
            while chunk := source.recv(CHUNK):
                with self._lock:
                    heard += chunk
                goal.sendall(chunk)
        for end in (source, goal):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _in_background(work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, name="wire", daemon=True).start()
