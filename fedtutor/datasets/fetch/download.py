"""Fetch one file, whole or not at all, from its source or from the mirror of a class."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urljoin

import pooch
from filelock import FileLock
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from fedtutor.datasets.fetch.transfer import (
    PartialFile,
    Patience,
    Report,
    TransferError,
    copy,
    fetch,
    read_text,
)
from fedtutor.errors import DataError

SUMS = "SHA256SUMS"
"""Lists the files whose source publishes no hash, for ``sha256sum --check``."""


class DownloadError(DataError):
    """A file that could not be fetched, or that is not the one it should be."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set: its ``name`` in the set's folder and the https ``url`` it comes from.

    ``hash`` is "md5:..." or "sha256:...", and ``num_bytes`` the exact size; None where the source
    does not publish them.
    """

    name: str
    url: str
    hash: str | None = None
    num_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..", SUMS) or re.search(r"[/\\:]", self.name):
            raise DataError(f"a file needs a plain name without separators; got {self.name!r}.")
        known = r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}"
        if self.hash is not None and not re.fullmatch(known, self.hash):
            raise DataError(f"{self.name}: a hash is md5:... or sha256:...; got {self.hash!r}.")


def download(
    file: RemoteFile,
    folder: Path,
    *,
    mirror: str | Path | None = None,
    progress: Report | Progress | None = None,
    timeout: tuple[float, float] = (10.0, 30.0),
    attempts: int = 5,
    wait: float = 1.0,
) -> Path:
    """Fetch ``file`` into ``folder`` unless it is there, and return its path.

    The file gets its name once its size and hash are right; until then it is ``.NAME.part``, which
    the next call resumes. Of several processes one downloads and the others wait for it. The
    SHA-256 of a file without a published hash goes into the folder's ``SHA256SUMS``.

    Parameters
    ----------
    folder : the data set's folder, made if need be; its name is the data set's in a mirror.
    mirror : a folder, or an http(s) address, that holds ``<data set>/<file name>``; by default
        ``$FEDTUTOR_MIRROR``, and "" for none. With a mirror the internet is never asked, so that
        a class without a network learns at once what is missing. A file without a published hash
        is checked against the mirror's own ``SHA256SUMS``, if it has one.
    progress : a function of the bytes done and in all, or a bar; by default one on a terminal.
    timeout : seconds to wait for a connection, and for each piece of an answer.
    attempts, wait : how often to try, and the seconds before the second attempt, which double from
        one to the next. Where no connection is made at all, the second attempt is the last.

    Raises
    ------
    DownloadError
        One line that says what went wrong and how to get the file by hand.
    """
    folder = Path(folder).expanduser().absolute()
    path = folder / file.name
    source = _source(file, folder, mirror)
    try:
        # Before the lock, so that a folder that cannot be written serves what it has.
        if _is_present(file, path):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock"):
            if not _is_present(file, path):
                with show_progress(progress, file.name) as report:
                    part = PartialFile(
                        folder / f".{file.name}.part", file.num_bytes, bool(file.hash), report
                    )
                    _fill(part, file, source, Patience(timeout, attempts, wait))
    except TransferError as error:
        raise DownloadError(f"{source}: {error}. {_by_hand(file, path, source)}") from error
    except OSError as error:
        raise DownloadError(
            f"{error.filename or folder}: {error.strerror or error}. Make room or get the right to "
            "write there, or let FEDTUTOR_DATA name another folder; what has come is kept."
        ) from error
    return path


@contextmanager
def show_progress(progress: Report | Progress | None, name: str) -> Iterator[Report]:
    """Give the function to call with bytes; by default it draws a bar, on a terminal only."""
    if callable(progress):
        yield progress
        return
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    bar = progress or Progress(*columns, console=console, disable=not console.is_terminal)
    with nullcontext() if progress else bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _source(file: RemoteFile, folder: Path, mirror: str | Path | None) -> str | Path:
    mirror = os.environ.get("FEDTUTOR_MIRROR", "") if mirror is None else mirror
    if "://" in str(mirror):
        return f"{str(mirror).rstrip('/')}/{quote(folder.name)}/{quote(file.name)}"
    return Path(mirror).expanduser() / folder.name / file.name if mirror else file.url


def _by_hand(file: RemoteFile, path: Path, source: str | Path) -> str:
    place = f"{path.parent.name}/{path.name}"
    if source == file.url:
        mirror = f"set FEDTUTOR_MIRROR to a folder or an address that has {place}"
    else:
        mirror = f"put {place} into the mirror, or unset FEDTUTOR_MIRROR"
    return f"By hand: save {file.url} as {path} ({file.hash or 'no known hash'}); or {mirror}."


def _is_present(file: RemoteFile, path: Path) -> bool:
    """Whether the file is here; one that is here and wrong is left for its owner to judge."""
    if not path.exists():
        return False
    expected, wrong = file.hash or _listed(_read(path.with_name(SUMS)), file.name), ""
    if file.num_bytes not in (None, found := path.stat().st_size):
        wrong = f"expected {file.num_bytes} bytes, found {found}"
    elif expected and not pooch.hashes.hash_matches(path, expected):
        found = pooch.file_hash(path, expected.partition(":")[0])
        wrong = f"expected {expected}, found {found}"
    if wrong:
        raise DownloadError(f"{path} is not what it should be: {wrong}. Delete it and try again.")
    return True


def _fill(part: PartialFile, file: RemoteFile, source: str | Path, patience: Patience) -> None:
    """Fetch or copy, check, and give the file its name."""
    expected = file.hash
    if expected is None and source != file.url:
        is_folder = isinstance(source, Path)
        sums = source.with_name(SUMS) if is_folder else urljoin(source, SUMS)
        expected = _listed(_read(sums) if is_folder else read_text(sums, patience), file.name)
    if isinstance(source, Path):
        copy(source, part)
    elif part.size() != file.num_bytes:
        fetch(source, part, patience)
    expected = expected or f"sha256:{pooch.file_hash(part.path)}"
    _accept(part, file, expected)
    if file.hash is None:
        _record(part.path.with_name(SUMS), file.name, expected)


def _accept(part: PartialFile, file: RemoteFile, expected: str) -> None:
    """Let pooch check the hash and move the file to its name."""

    def hand_over(_url: str, output: str, _pooch: object) -> None:
        os.unlink(output)
        try:
            # A second name, so that the partial file outlives an interrupted check.
            os.link(part.path, output)
        except OSError:
            os.replace(part.path, output)

    folder = part.path.parent
    for left_by_a_kill in folder.glob("tmp*"):
        with suppress(FileNotFoundError):
            if left_by_a_kill.samefile(part.path):
                left_by_a_kill.unlink()
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(file.url, expected, file.name, folder, downloader=hand_over)
    except ValueError as error:
        part.delete()
        raise TransferError(f"{error} Try again; if it is so again, the source changed") from error
    part.delete()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _listed(sums: str, name: str) -> str | None:
    """The hash of a file in the text of a ``SHA256SUMS``."""
    match = re.search(rf"^([0-9a-f]{{64}}) [ *]{re.escape(name)}\r?$", sums, re.MULTILINE)
    return f"sha256:{match[1]}" if match else None


def _record(sums: Path, name: str, hash: str) -> None:
    with FileLock(sums.with_name(f".{SUMS}.lock")):
        lines = [line for line in _read(sums).splitlines() if line[66:] != name]
        lines.append(f"{hash.partition(':')[2]}  {name}")
        temporary = sums.with_name(f".{SUMS}.part")
        temporary.write_text("\n".join(lines) + "\n")
        os.replace(temporary, sums)
