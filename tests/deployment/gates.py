"""A gate in a thread of the tests, before a SuperLink that is a function."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading

import httpx

from fedtutor.deployment.gate import Gate


@contextlib.contextmanager
def open_gate(files, answer, limits=None):
    """Give the gate's port; ``answer`` takes the place of the SuperLink."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running, begun = [], threading.Event()

        async def serve():
            gate = Gate(1, files, limits)
            if answer is not None:
                gate.superlink = httpx.AsyncClient(
                    base_url="https://superlink", transport=httpx.MockTransport(answer)
                )
            running.extend([asyncio.get_running_loop(), asyncio.current_task()])
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await gate.serve(listener)

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        assert begun.wait(60)
        try:
            yield listener.getsockname()[1]
        finally:
            loop, task = running
            loop.call_soon_threadsafe(task.cancel)
            thread.join()


def connect(port, files, host="localhost"):
    """A TLS connection to a gate, as of somebody who has nothing but ``ca.crt``."""
    context = ssl.create_default_context(cafile=str(files.authority))
    raw = socket.create_connection(("127.0.0.1", port), timeout=60)
    return context.wrap_socket(raw, server_hostname=host)


def say(port, files, said, replies=1):
    """Send bytes, and return so many answers, or what has come when the gate hangs up."""
    with connect(port, files) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(said)
        return hear(connection, replies)


def hear(connection, replies=1):
    """Return so many whole answers, or what has come when the other side hangs up."""
    heard, end = b"", 0
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        for _ in range(replies):
            while not (
                head := re.search(rb"-length: (\d+)\r\n(?:[^\r]+\r\n)*\r\n", heard[end:], re.I)
            ):
                heard += received(connection)
            end += head.end() + int(head[1])
            while len(heard) < end:
                heard += received(connection)
    return heard


def received(connection):
    if not (chunk := connection.recv(2**16)):
        raise ConnectionError
    return chunk


def until_the_end(connection):
    heard = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := connection.recv(2**16):
            heard += chunk
    return heard


def request(path="/v1/fleet/activate-node", body=b"", *headers, method="POST", version="1.1"):
    """The bytes of a request; ``Content-Length`` is said unless it is among ``headers``."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    if not any("-length" in line.lower() for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
