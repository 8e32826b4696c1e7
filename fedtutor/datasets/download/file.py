"""Download one file, whole or not at all, from its source or from the mirror of a class."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock

from fedtutor.datasets.download import RemoteFile
from fedtutor.datasets.download.transfer import PartialFile, TransferError, bring
from fedtutor.datasets.progress import Report, reporting
from fedtutor.errors import DataError
from fedtutor.support.system import patiently


def download_file(file: RemoteFile, folder: Path, *, mirror: str | Path | None = None) -> Path:
    """Download ``file`` into ``folder`` unless it is there, and return its path.

    The file gets its name once its size and hash are right; until then it is ``.NAME.part``, which
    the next call resumes. Of several processes one downloads and the others wait for it.

    Parameters
    ----------
    folder : the data set's folder, made if need be; its name is the data set's in a mirror.
    mirror : a folder, or an http(s) address, that holds ``<data set>/<file name>``; by default
        ``$FEDTUTOR_MIRROR``, and "" for none. With a mirror the internet is never asked, so that
        a class without a network learns at once what is missing.

    Raises
    ------
    DataError
        One line that says what went wrong and how to get the file by hand.
    """
    folder = Path(folder).expanduser().absolute()
    path, source = folder / file.name, _source(file, folder, mirror)
    try:
        # Before the lock, so that a folder that cannot be written serves what it has.
        if _is_present(file, path):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock"):
            if not _is_present(file, path):
                with reporting(file.name, in_bytes=True) as report:
                    _bring(file, path, source, report)
    except TransferError as error:
        raise DataError(f"{source}: {error}. {_by_hand(file, path, source)}") from error
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {error.strerror or error}. Make room or get the right to "
            "write there, or let FEDTUTOR_DATA name another folder; what has come is kept."
        ) from error
    return path


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
    """Tell whether the file is here; one that is here and wrong is left for its owner to judge."""
    if path.exists() and (fault := _fault(file, path)):
        raise DataError(f"{path} is not what it should be: {fault}. Delete it and try again.")
    return path.exists()


def _bring(file: RemoteFile, path: Path, source: str | Path, report: Report) -> None:
    """Complete the partial file, check it, and give it its name."""
    part = PartialFile(path.with_name(f".{file.name}.part"), file, report)
    if isinstance(source, Path) or part.size() != file.num_bytes:
        bring(source, part)
    if fault := _fault(file, part.path):
        part.path.unlink()
        raise TransferError(f"{fault}; try again, and if it is so again, the source has changed")
    patiently(part.path.replace, path)


def _fault(file: RemoteFile, path: Path) -> str:
    """Say what is wrong with the file at ``path``, or return ""."""
    if not path.is_file():
        return "it is no plain file"
    if file.num_bytes not in (None, size := path.stat().st_size):
        return f"expected {file.num_bytes} bytes, found {size}"
    if file.hash is None:
        return ""
    found = hash_of(path, file.hash.partition(":")[0])
    return "" if found == file.hash else f"expected {file.hash}, found {found}"


def hash_of(path: Path, kind: str) -> str:
    """Return the hash of a file as a :class:`RemoteFile` has it, such as "md5:..."."""
    with open(path, "rb") as stream:
        return f"{kind}:{hashlib.file_digest(stream, kind).hexdigest()}"
