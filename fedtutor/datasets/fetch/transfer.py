"""Bytes from a server or a folder into a partial file, which a later call goes on with."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from fedtutor import __version__

CHUNK = 2**16
RESERVE = 2**27
"""Bytes that a download leaves free on the disk."""

LONGEST_WAIT = 60.0
"""Seconds between two attempts, whatever the server's Retry-After asks for."""

GOOD_PART = 2**24
"""Bytes; an attempt that brought as much is not counted, as 4 GB over a poor line need many."""

Report = Callable[[int, int | None], None]
"""Called with the bytes done so far and the bytes in all, or None where nobody knows."""

T = TypeVar("T")


class TransferError(Exception):
    """Why the bytes cannot be had."""


class _BrokenTransferError(TransferError):
    """An answer that another attempt may better, after ``wait`` seconds if the server asks so."""

    wait = 0.0


@dataclass(frozen=True)
class PartialFile:
    """What there is so far of a file of ``num_bytes``, or None where the size is not known.

    ``hashed`` says that its owner will check a hash, and so could tell if two versions were glued.
    """

    path: Path
    num_bytes: int | None
    hashed: bool
    report: Report

    @property
    def validator(self) -> Path:
        """Holds the ETag or the date of what this is a part of."""
        return self.path.with_name(f"{self.path.name}.etag")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for a connection and for each piece of an answer, and how often to try."""

    timeout: tuple[float, float]
    attempts: int
    wait: float


class _Session(requests.Session):
    """Follows redirects, but not from https to http, where anyone on the way could answer."""

    def __init__(self) -> None:
        super().__init__()
        # Hashes and ranges are of the bytes of the file, not of a compressed copy.
        self.headers["Accept-Encoding"] = "identity"
        self.headers["User-Agent"] = f"fedtutor/{__version__}"

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https":
            target = urljoin(resp.url, target)
            if urlsplit(target).scheme != "https":
                raise TransferError(f"it redirects to {target}, which is refused as it is no https")
        return target


def fetch(url: str, part: PartialFile, patience: Patience) -> None:
    """Complete the partial file from ``url``."""
    with _Session() as session:
        _persist(lambda: _receive(session, url, part, patience.timeout), part.size, patience)


def read_text(url: str, patience: Patience) -> str:
    """The text at ``url``, or "" if there is none."""

    def read() -> str:
        with session.get(url, timeout=patience.timeout) as response:
            if response.status_code == 404:
                return ""
            _check(response)
            return response.text

    with _Session() as session:
        return _persist(read, lambda: 0, patience)


def copy(source: Path, part: PartialFile) -> None:
    """Make the partial file a copy of ``source``."""
    try:
        stream = open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise TransferError(error.strerror) from error
    with stream:
        total = os.fstat(stream.fileno()).st_size
        _save(iter(lambda: stream.read(CHUNK), b""), part, 0, total, "")


def _persist(action: Callable[[], T], size: Callable[[], int], patience: Patience) -> T:
    """Try, waiting longer each time, until it works or nothing more can be hoped for."""
    failures, best, reached = 0, size(), False
    while True:
        try:
            return action()
        except (_BrokenTransferError, requests.RequestException, urllib3.exceptions.HTTPError) as e:
            failures += 1
            if size() >= best + GOOD_PART:
                failures, best = 1, size()
            reason, limit = " ".join(str(e).split()).rstrip("."), patience.attempts
            if e.args and isinstance(e.args[0], urllib3.exceptions.MaxRetryError):
                reason = f"no connection ({e.args[0].reason})"
                # Without a network the learner should know at once.
                limit = limit if reached else min(2, limit)
            else:
                reached = True
            # No attempt makes a wrong address right.
            if failures >= limit or isinstance(e, ValueError):
                raise TransferError(reason) from e
            pause = max(patience.wait * 2 ** (failures - 1), getattr(e, "wait", 0.0))
            time.sleep(min(pause, LONGEST_WAIT))


def _receive(
    session: requests.Session, url: str, part: PartialFile, timeout: tuple[float, float]
) -> None:
    """One attempt: ask for what is missing of the partial file and append it."""
    have, headers = part.size(), {}
    validator = part.validator.read_text() if part.validator.exists() else ""
    if have and (validator or part.hashed):
        headers = {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
    with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
        total = response.raw.length_remaining
        if response.status_code in (206, 416):
            sent = response.headers.get("Content-Range", "")
            if not (match := re.fullmatch(rf"bytes {have}-\d+/(\d+)", sent)):
                part.delete()
                raise _BrokenTransferError(f"asked for the bytes from {have}, it sent {sent!r}")
            total = int(match[1])
        else:
            have = 0
        _check(response)
        etag = response.headers.get("ETag", "W/")
        validator = response.headers.get("Last-Modified", "") if etag[:2] == "W/" else etag
        chunks = response.raw.stream(CHUNK, decode_content=False)
        _save(chunks, part, have, total, validator)


def _check(response: requests.Response) -> None:
    status = f"the server answered {response.status_code} {response.reason}"
    if response.status_code in (408, 429) or response.status_code >= 500:
        error = _BrokenTransferError(status)
        error.wait = urllib3.Retry().get_retry_after(response.raw) or 0.0
        raise error
    if response.status_code not in (200, 206):
        raise TransferError(status)
    if "html" in response.headers.get("Content-Type", ""):
        raise TransferError("a web page came in place of the file; the source may want a login")


def _save(
    chunks: Iterable[bytes], part: PartialFile, done: int, total: int | None, validator: str
) -> None:
    """Append the chunks to the partial file, or begin a new one if ``done`` is 0."""
    expected = part.num_bytes
    if None not in (total, expected) and total != expected:
        raise TransferError(f"it has {total} bytes where {expected} are expected")
    total = expected if total is None else total
    if not done:
        part.delete()
        part.validator.write_text(validator)
    needed = (total or 0) - done + RESERVE
    if (free := shutil.disk_usage(part.path.parent).free) < needed:
        raise TransferError(
            f"{part.path.parent} has {free / 1e6:,.0f} MB free and {needed / 1e6:,.0f} are needed; "
            "make room, or let FEDTUTOR_DATA name another folder"
        )
    with open(part.path, "ab") as stream:
        for chunk in chunks:
            done += len(chunk)
            if total is not None and done > total:
                raise TransferError(f"it has more than the expected {total} bytes")
            stream.write(chunk)
            part.report(done, total)
    if total is not None and done < total:
        raise _BrokenTransferError(f"it ended after {done} of {total} bytes")
