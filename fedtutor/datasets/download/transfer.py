"""Bring bytes from a server or a folder into a partial file, which a later call completes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import requests
import urllib3

from fedtutor import __version__
from fedtutor.datasets.disk import require_space
from fedtutor.datasets.progress import Report

CHUNK = 2**16

TIMEOUT = (10.0, 30.0)
"""Seconds to wait for a connection, and for each piece of an answer."""

ATTEMPTS = 5
"""Attempts in a row that bring nothing new; 2 where no connection is made at all."""

WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the second attempt, which double from one to the next, and the most there are."""


class TransferError(Exception):
    """Why the bytes cannot be had."""


class _PassingError(TransferError):
    """An answer that may be another in ``wait`` seconds."""

    wait = 0.0


@dataclass(frozen=True)
class PartialFile:
    """What there is so far of a file of ``num_bytes``; None if the size is not known."""

    path: Path
    num_bytes: int | None
    report: Report

    def size(self) -> int:
        """Return the number of bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, chunks: Iterable[bytes], total: int | None) -> None:
        """Append ``chunks`` up to ``total`` bytes, or to the known size if that is None."""
        if total is not None and self.num_bytes not in (None, total):
            raise TransferError(f"it has {total} bytes where {self.num_bytes} are expected")
        total, done = self.num_bytes if total is None else total, self.size()
        require_space(self.path.parent, (total or done) - done)
        with open(self.path, "ab") as stream:
            for chunk in chunks:
                done += len(chunk)
                if total is not None and done > total:
                    raise TransferError(f"it has more than the expected {total} bytes")
                stream.write(chunk)
                self.report(done, total)
        if total is not None and done < total:
            raise _PassingError(f"it ended after {done} of {total} bytes")


def copy(source: Path, part: PartialFile) -> None:
    """Make the partial file a copy of ``source``."""
    try:
        stream = open(source, "rb")  # noqa: SIM115, only this error is the source's
    except OSError as error:
        raise TransferError(error.strerror) from error
    with stream:
        part.path.unlink(missing_ok=True)
        part.append(iter(lambda: stream.read(CHUNK), b""), source.stat().st_size)


def receive(url: str, part: PartialFile) -> None:
    """Complete the partial file from ``url``, with pauses between attempts that bring nothing."""
    failures, best, was_connected = 0, part.size(), False
    with requests.Session() as session:
        session.hooks["response"].append(_refuse_http)
        # Hashes and ranges are of the bytes of the file, not of a compressed copy.
        session.headers["Accept-Encoding"] = "identity"
        session.headers["User-Agent"] = f"fedtutor/{__version__}"
        while True:
            try:
                return _receive_once(session, url, part)
            except (_PassingError, requests.RequestException, urllib3.exceptions.HTTPError) as e:
                failures = 1 if part.size() > best else failures + 1
                best = max(best, part.size())
                cause = e.args[0] if e.args else None
                if isinstance(cause, urllib3.exceptions.MaxRetryError):
                    reason = f"no connection ({cause.reason})"
                else:
                    reason, was_connected = " ".join(str(e).split()).rstrip("."), True
                # Without a network the learner should know at once.
                limit = ATTEMPTS if was_connected else 2
                if failures >= limit or isinstance(e, ValueError):  # an address that is none
                    raise TransferError(reason) from e
                pause = max(WAIT * 2 ** (failures - 1), getattr(e, "wait", 0.0))
                time.sleep(min(pause, LONGEST_WAIT))


def _refuse_http(response: requests.Response, **_: object) -> None:
    """Refuse a redirect from https to http, where anyone on the way could answer."""
    target = urljoin(response.url, response.headers.get("Location", ""))
    is_safe = target.lower().startswith("https:") or not response.url.startswith("https:")
    if response.is_redirect and not is_safe:
        raise TransferError(f"it redirects to {target}, which is refused as it is no https")


def _receive_once(session: requests.Session, url: str, part: PartialFile) -> None:
    """Ask for what the partial file lacks, and append it."""
    have = part.size()
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        total = response.raw.length_remaining
        if response.status_code in (206, 416):
            sent = response.headers.get("Content-Range", "")
            if not (match := re.fullmatch(rf"bytes {have}-\d+/(\d+)", sent)):
                part.path.unlink()
                raise _PassingError(f"asked for the bytes from {have}, it sent {sent!r}")
            total = int(match[1])
        else:
            _check(response)
            part.path.unlink(missing_ok=True)
        part.append(response.raw.stream(CHUNK, decode_content=False), total)


def _check(response: requests.Response) -> None:
    """Raise :class:`TransferError` unless the answer is a file."""
    status = f"the server answered {response.status_code} {response.reason}"
    if response.status_code in (408, 429) or response.status_code >= 500:
        error = _PassingError(status)
        error.wait = urllib3.Retry().get_retry_after(response.raw) or 0.0
        raise error
    if response.status_code != 200:
        raise TransferError(status)
    if "html" in response.headers.get("Content-Type", ""):
        raise TransferError("a web page came in place of the file; the source may want a login")
