"""A listener on the wire: a TCP proxy on loopback that passes everything on and remembers it."""

from __future__ import annotations

import contextlib
import socket
import threading

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
        self._heard: list[bytearray] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def __enter__(self) -> RecordingProxy:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @property
    def num_bytes(self) -> int:
        """How many bytes have passed, both ways."""
        with self._lock:
            return sum(map(len, self._heard))

    def heard(self, pattern: bytes) -> bool:
        """Whether these bytes went over the wire in one piece, in either direction."""
        with self._lock:
            return any(pattern in stream for stream in self._heard)

    def close(self) -> None:
        """Let nothing through any more."""
        with self._lock:
            doomed = [self._listener, *self._open]
        for end in doomed:
            with contextlib.suppress(OSError):  # the other side may have hung up already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to_port), timeout=10)
            except OSError:  # nobody there: what a client of the server itself would be told
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for source, goal in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pass_on, args=(source, goal), name="wire", daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, goal: socket.socket) -> None:
        heard = bytearray()
        with self._lock:
            self._heard.append(heard)
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                with self._lock:
                    heard += chunk
                goal.sendall(chunk)
        for end in (source, goal):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self._lock:
            self._open -= {source, goal}
