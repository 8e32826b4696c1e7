"""Bring bytes from a server or a folder into a partial file, which a later call completes."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError, MaxRetryError

from fedtutor import __version__
from fedtutor.datasets.disk import require_space
from fedtutor.datasets.download import RemoteFile
from fedtutor.datasets.progress import Report

CHUNK = 2**16

TIMEOUT = (10.0, 30.0)
"""Seconds to wait for a connection, and for each piece of an answer."""

ATTEMPTS = 5
"""Attempts in a row that bring nothing new; 2 where no connection is made at all."""

WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second attempt, which double from one to the next, and the most there are."""

SLOWEST, GRACE, LOOK = 20_000, 600.0, 1.0
"""Bytes a second that have to come on average once ``GRACE`` seconds are over, and how often that
is looked at. Fifty laptops behind 10 Mbit/s have 25,000 each; a server that never falls silent,
but sends a byte now and then, is left after ten minutes and not after years."""


class TransferError(Exception):
    """Why the bytes cannot be had."""


class _PassingError(TransferError):
    """An answer that may be another in ``wait`` seconds."""

    wait = 0.0


@dataclass(frozen=True)
class PartialFile:
    """What there is so far of a file, at ``path``; not touched any more once it is given up."""

    path: Path
    file: RemoteFile
    report: Report
    given_up: threading.Event = field(default_factory=threading.Event)

    def size(self) -> int:
        """Return the number of bytes so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def forget(self) -> None:
        """Begin anew."""
        self._check()
        self.path.unlink(missing_ok=True)

    def append(self, chunks: Iterable[bytes], total: int | None) -> None:
        """Append ``chunks`` up to ``total`` bytes, or to the known size if that is None."""
        known = self.file.num_bytes
        total, done, most = total or known, self.size(), known or self.file.max_bytes
        if total and total not in range(known or 0, most + 1):
            expected = known or f"at most {most}"
            raise TransferError(f"it has {total} bytes where {expected} are expected")
        require_space(self.path.parent, (total or done) - done)
        with open(self.path, "ab") as stream:
            for chunk in chunks:
                done += len(chunk)
                if done > (total or most):
                    raise TransferError(f"it has more than the expected {total or most} bytes")
                self._check()
                require_space(self.path.parent, len(chunk))
                stream.write(chunk)
                self.report(done, total)
        if total and done < total:
            raise _PassingError(f"it ended after {done} of {total} bytes")

    def _check(self) -> None:
        if self.given_up.is_set():
            raise TransferError("it was given up")


def bring(source: str | Path, part: PartialFile) -> None:
    """Complete the partial file from an address or a file, unless that takes too long.

    The bytes come in a thread: no call that waits for them can be interrupted, and each byte of a
    header makes it wait anew.
    """
    future: Future[None] = Future()

    def work() -> None:
        try:
            copy(source, part) if isinstance(source, Path) else receive(source, part)
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)

    begin, least = time.monotonic(), part.size()
    threading.Thread(target=work, daemon=True).start()
    try:
        while not wait([future], LOOK).done:
            size = part.size()
            least = min(least, size)
            if time.monotonic() - begin > GRACE + (size - least) / SLOWEST:
                raise TransferError(f"it comes at less than {SLOWEST:,} bytes a second")
    finally:
        part.given_up.set()
    future.result()


def copy(source: Path, part: PartialFile) -> None:
    """Make the partial file a copy of ``source``."""
    try:
        if not source.is_file() and source.exists():  # opening a pipe waits for its writer
            raise TransferError("it is no plain file")
        stream = open(source, "rb")  # noqa: SIM115, only this error is the source's
    except OSError as error:
        raise TransferError(error.strerror) from error
    with stream:
        part.forget()
        part.append(iter(lambda: stream.read(CHUNK), b""), source.stat().st_size)


def receive(url: str, part: PartialFile) -> None:
    """Complete the partial file from ``url``, with pauses between attempts that bring nothing."""
    failures, best, was_connected = 0, part.size(), False
    with requests.Session() as session:
        session.hooks["response"].append(_do_not_read_or_go_to_http)
        # Hashes and ranges are of the bytes of the file, not of a compressed copy.
        session.headers["Accept-Encoding"] = "identity"
        session.headers["User-Agent"] = f"fedtutor/{__version__}"
        while True:
            try:
                return _receive_once(session, url, part)
            except (_PassingError, requests.RequestException, HTTPError, ValueError) as e:
                failures = 1 if part.size() > best else failures + 1
                best = max(best, part.size())
                cause = e.args[0] if e.args else None
                if isinstance(cause, MaxRetryError):
                    reason = f"no connection ({cause.reason})"
                else:
                    reason, was_connected = " ".join(str(e).split()).rstrip("."), True
                # Without a network the learner should know at once.
                limit = ATTEMPTS if was_connected else 2
                in_vain = part.given_up.is_set() or isinstance(e, ValueError)  # no such address
                if in_vain or failures >= limit:
                    raise TransferError(reason) from e
                pause = max(WAIT * 2 ** (failures - 1), getattr(e, "wait", 0.0))
                time.sleep(min(pause, LONGEST_WAIT))


def _do_not_read_or_go_to_http(response: requests.Response, **_: object) -> None:
    """Close a redirect, of which all would be read, and refuse one from https to http."""
    if not response.is_redirect:
        return
    response.close()
    target = urljoin(response.url, response.headers["Location"])
    if response.url.startswith("https:") and not target.lower().startswith("https:"):
        raise TransferError(f"it redirects to {target}, which is refused as it is no https")


def _receive_once(session: requests.Session, url: str, part: PartialFile) -> None:
    """Ask for what the partial file lacks, and append it."""
    have = part.size()
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        raw, total = response.raw, response.raw.length_remaining
        if response.status_code in (206, 416):
            sent = response.headers.get("Content-Range", "")[:100]
            if not (match := re.fullmatch(rf"bytes {have}-\d+/(\d{{1,15}})", sent)):
                part.forget()
                raise _PassingError(f"asked for the bytes from {have}, it sent {sent!r}")
            total = int(match[1])
        else:
            _check(response)
            part.forget()
        # Not stream(): in older urllib3 the line before a chunk may be of any length.
        part.append(iter(lambda: raw.read(CHUNK, decode_content=False), b""), total)


def _check(response: requests.Response) -> None:
    """Raise :class:`TransferError` unless the answer is a file."""
    status = f"the server answered {response.status_code} {response.reason}"
    if response.status_code in (408, 429) or response.status_code >= 500:
        error, wish = _PassingError(status), response.headers.get("Retry-After", "")
        error.wait = float(wish) if wish.isdecimal() else 0.0
        raise error
    if response.status_code != 200:
        raise TransferError(status)
    if "html" in response.headers.get("Content-Type", ""):
        raise TransferError("a web page came in place of the file; the source may want a login")
