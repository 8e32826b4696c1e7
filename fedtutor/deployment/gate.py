"""The gate: the one port that hospitals see, before a SuperLink that only this machine reaches.

Flower 1.41 serves hospitals (Fleet), whoever starts an app (Control) and its own programs
(Runtime) on one port, and asks only hospitals for a key. The gate passes on what a hospital needs,
compared with ``FLEET`` byte for byte, so that no other spelling of a path gets by, and nothing
else. The key is asked for by the SuperLink, as before.

It is a program of its own: it ends like the others of a federation, and what is thrown at it does
not touch the SuperLink or a notebook's kernel. It reads with h11, as uvicorn does; uvicorn itself
has no time-out for a header, and counts nobody before the end of the TLS handshake.

What remains: a *user of this machine* reaches the SuperLink on 127.0.0.1 without the gate. Flower
signs only the time: whoever sees a hospital's headers, which needs the inside of TLS, can use them
for five minutes. A hospital that was let in can fill the SuperLink's memory, and many addresses
together can take all connections.

In a classroom the gate also passes on what a laptop asks before it is a hospital, ``CLASS``, to the
class's desk, which listens on 127.0.0.1 like the SuperLink.

``python -m fedtutor.deployment.gate PORT SUPERLINK_PORT CA CERTIFICATE KEY [HOST DESK_PORT]``
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h11
import httpx

from fedtutor.deployment.certificates import TlsFiles

READY = "The gate is open on"
CALLS = (
    *("activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "pull-object"),
    *("push-messages", "push-object", "get-run", "get-fab", "confirm-message-received"),
)
FLEET = {
    f"/v1/fleet/{call}".encode(): 2**23 if call.startswith("push") else 2**16 for call in CALLS
}
"""What a SuperNode with a key calls, and the most bytes it may send.

However large a model is, Flower pushes it in pieces of 5 MiB, after a list of their names.
"""
ALIVE = "/v1/fleet/send-node-heartbeat"
CLASS = {b"/class/hello": 2**10, b"/class/enrol": 2**12}
"""What a laptop asks a class's desk, and the most bytes it may send."""
HOSPITALS_ONLY = (
    "This port is for hospitals only: apps are started and keys are registered at the server."
)
NOT_HTTP = "This is not HTTP/1.1 as a SuperNode speaks it."
PAUSES = (0.1, 0.3, 1.0, 0.0)
"""Seconds after which the SuperLink is asked again for what it has failed at."""
COME_AGAIN = "The server is not ready at the moment; come again."


@dataclass(frozen=True)
class Limits:
    """What callers may do. A classroom may be behind one address, and its hospitals must fit in."""

    patience: float = 10.0  # seconds for a handshake, for a header, and between two requests
    slowest: float = 2.0**15  # bytes a second at least, beyond ``patience``
    connections: int = 400
    connections_of_one: int = 200
    bytes_of_one: int = 2**28  # of bodies under way, all connections of an address together
    rate: float = 300.0  # connections and requests a second; who is faster waits for his turn

    def seconds_for(self, size: int) -> float:
        """Return how long so many bytes may be on their way."""
        return self.patience + size / self.slowest


@dataclass
class Caller:
    """What is remembered of an address."""

    address: str
    connections: int = 0
    held: int = 0
    due: float = 0.0
    noted: Counter[str] = field(default_factory=Counter)

    def turn(self, rate: float) -> float:
        """Return how many seconds it must wait for its turn."""
        now = time.monotonic()
        begins = max(now, self.due)
        self.due = begins + 1 / rate
        return begins - now

    def note(self, what: str, detail: str = "") -> None:
        """Log it the first, second, fourth, eighth ... time, so that no log overflows."""
        self.noted[what] += 1
        times = self.noted[what]
        if times & (times - 1) == 0:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            print(f"{now} {self.address} ({times}.) {what} {detail}".rstrip(), flush=True)


@dataclass(eq=False)
class RefusedError(Exception):
    """A request that is not passed on: the status and the sentence that its caller gets."""

    status: int
    sentence: str


class Gate:
    """Passes hospitals' requests from a listening socket on to a SuperLink.

    Parameters
    ----------
    superlink : its port on 127.0.0.1.
    tls : the certificate for callers, and the authority by which the SuperLink is known.
    limits : what callers may do.
    desk : the port of a class's desk on 127.0.0.1, if there is a class.
    """

    def __init__(
        self, superlink: int, tls: TlsFiles, limits: Limits | None = None, desk: int | None = None
    ) -> None:
        self._calls = FLEET | CLASS if desk else FLEET
        self._desk = f"http://127.0.0.1:{desk}"
        self._limits = limits or Limits()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.load_cert_chain(tls.certificate, tls.key)
        self.superlink = httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{superlink}",
            verify=ssl.create_default_context(cafile=str(tls.authority)),
            trust_env=False,
            timeout=60.0,
            headers={"accept-encoding": "identity"},
            # The SuperLink hangs up after 5 s, which must not be while a request is on its way.
            limits=httpx.Limits(max_connections=16, keepalive_expiry=2.0),
        )
        # Of two that write at once Flower's SQLite refuses one, with 500, and a reply is lost. Who
        # only says that it is alive does not wait behind large replies: after 60 s it is gone.
        self._turn = asyncio.Semaphore(1)
        self._callers: dict[str, Caller] = {}

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever calls, without end."""
        listener.setblocking(False)
        tasks: set[asyncio.Task] = set()
        while True:
            try:
                sock, (address, *_) = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # gone again, or no more files can be opened
                await asyncio.sleep(0.1)
                continue
            caller = self._caller(address)
            taken = caller.connections >= self._limits.connections_of_one
            if taken or len(tasks) >= self._limits.connections:
                caller.note("hung up: too many connections")
                sock.close()
                continue
            task = asyncio.create_task(self._receive(sock, caller))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def _caller(self, address: str) -> Caller:
        if len(self._callers) >= 10_000:
            self._callers = {a: caller for a, caller in self._callers.items() if caller.connections}
        return self._callers.setdefault(address, Caller(address))

    async def _receive(self, sock: socket.socket, caller: Caller) -> None:
        """Talk with who has connected until one of us hangs up."""
        caller.connections += 1
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        patience = self._limits.patience
        waits = {"ssl_handshake_timeout": patience, "ssl_shutdown_timeout": patience}
        try:
            await asyncio.sleep(caller.turn(self._limits.rate))
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._tls, **waits
            )
            try:
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                await self._talk(reader, writer, caller)
                writer.close()
                await writer.wait_closed()
            finally:
                transport.abort()
        except (ConnectionResetError, BrokenPipeError):
            pass  # the caller has hung up
        except (OSError, h11.ProtocolError) as error:  # time-outs and TLS among them
            caller.note(f"hung up: {type(error).__name__}")
        finally:
            caller.connections -= 1

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller
    ) -> None:
        """Answer one request after the other, up to the first that is refused."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**14)
        while reply := await self._answer(connection, reader, caller):
            names = (b"content-type", b"content-length", b"connection", b"flwr-")
            headers = [(n, v) for n, v in reply.headers.raw if n.lower().startswith(names)]
            start = h11.Response(status_code=reply.status_code, headers=headers)
            for event in (start, h11.Data(data=reply.content), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
            async with asyncio.timeout(self._limits.seconds_for(len(reply.content))):
                await writer.drain()
            if connection.our_state is h11.MUST_CLOSE:
                break
            connection.start_next_cycle()
        with contextlib.suppress(TimeoutError, RefusedError):  # a caller hears when it has spoken
            async with asyncio.timeout(self._limits.patience):
                while connection.their_state is h11.SEND_BODY:
                    await _next_event(connection, reader)

    async def _answer(
        self, connection: h11.Connection, reader: asyncio.StreamReader, caller: Caller
    ) -> httpx.Response | None:
        """Return the answer to the next request; None if the caller hangs up."""
        target, body = "", bytearray()
        try:
            async with asyncio.timeout(self._limits.patience):
                request = await _next_event(connection, reader)
            if not isinstance(request, h11.Request):
                return None
            target = ascii(request.target.partition(b"?")[0][:60])
            await asyncio.sleep(caller.turn(self._limits.rate))
            async with asyncio.timeout(self._limits.seconds_for(_size(request, self._calls))):
                while isinstance(part := await _next_event(connection, reader), h11.Data):
                    body += part.data
                    caller.held += len(part.data)
                    if caller.held > self._limits.bytes_of_one:
                        raise RefusedError(503, COME_AGAIN)
            return await self._ask(request, bytes(body))
        except RefusedError as refused:
            caller.note(f"{refused.status} {refused.sentence}", target)
            said = {"code": refused.status, "detail": refused.sentence}  # as Flower says it
            return httpx.Response(refused.status, json=said, headers={"connection": "close"})
        finally:
            caller.held -= len(body)

    async def _ask(self, request: h11.Request, body: bytes) -> httpx.Response:
        """Return the SuperLink's answer; it gets the headers that Flower reads and no other."""
        headers = [(n, v) for n, v in request.headers if n.startswith((b"content-type", b"flwr-"))]
        place = request.target.decode()
        try:
            if request.target in CLASS:
                return await self.superlink.post(self._desk + place, content=body, headers=headers)
            for pause in PAUSES:  # the server's own app may have been writing
                async with contextlib.nullcontext() if place == ALIVE else self._turn:
                    reply = await self.superlink.post(place, content=body, headers=headers)
                if reply.status_code != 500:
                    break
                await asyncio.sleep(pause)
            return reply
        except httpx.TransportError as error:
            late = isinstance(error, httpx.TimeoutException)
            raise RefusedError(504 if late else 502, COME_AGAIN) from error


def _size(request: h11.Request, calls: Mapping[bytes, int]) -> int:
    """Return how long the body of a request will be; raise a :class:`RefusedError` if too long."""
    headers = dict(request.headers)
    if request.method != b"POST" or request.target not in calls:
        raise RefusedError(403, HOSPITALS_ONLY)
    if request.http_version != b"1.1":
        raise RefusedError(505, NOT_HTTP)
    if b"content-length" not in headers or b"transfer-encoding" in headers:
        raise RefusedError(411, "A request must say in its header how long it is.")
    size, most = int(headers[b"content-length"]), calls[request.target]
    if size > most:
        raise RefusedError(413, f"A request of this kind has at most {most} bytes.")
    return size


async def _next_event(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    """Return what h11 makes of the next bytes."""
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(2**16))
    except h11.RemoteProtocolError as error:
        raise RefusedError(error.error_status_hint, NOT_HTTP) from error
    return event


def main(port: str, superlink: str, *further: str) -> None:
    """Open the gate and keep it open."""
    host, desk = further[3:] or ("127.0.0.1", "0")
    gate = Gate(int(superlink), TlsFiles(*map(Path, further[:3])), desk=int(desk) or None)
    with socket.create_server((host, int(port))) as listener:
        print(f"{READY} {host}:{port}", flush=True)
        asyncio.run(gate.serve(listener))


if __name__ == "__main__":
    main(*sys.argv[1:])
