"""Download data sets: resumed if cut off, checked, and unpacked whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Attributes
    ----------
    name : its name in the set's folder, without separators.
    url : the https address it comes from.
    hash : "md5:..." or "sha256:...", in lower case; None if the source publishes none.
    num_bytes : the exact size; None if the source does not tell.
    max_bytes : where it does not, no more than this is taken.
    """

    name: str
    url: str
    hash: str | None = None
    num_bytes: int | None = None
    max_bytes: int = 2**33

    @property
    def size(self) -> str:
        """How much is downloaded, such as "2,008 MB" or "at most 100 MB"."""
        return size_of(self.num_bytes) if self.num_bytes else f"at most {size_of(self.max_bytes)}"


def size_of(num_bytes: int) -> str:
    """Say a number of bytes, such as "2,008 MB" or "18 kB"."""
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"
