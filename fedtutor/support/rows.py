"""Some rows of an array on disk, read when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np


def on_disk(array: Any) -> bool:
    """Tell whether an array is read from a file when it is asked for."""
    return isinstance(array, np.memmap | Rows)


class Rows:
    """Rows of a memory-mapped array, in any order, that take no memory until they are used.

    A hospital's share of 112,120 X-rays is then a list of numbers. Indexing gives plain arrays,
    and ``np.asarray`` reads all of them.

    Parameters
    ----------
    array : of shape (m, ...), mapped, or other ``Rows``.
    indices : int array (n,) into its first axis.
    """

    def __init__(self, array: np.ndarray | Rows, indices: np.ndarray) -> None:
        rows, below = (array._array, array._indices) if isinstance(array, Rows) else (array, None)
        if below is not None:
            indices = below[indices]
        self._array: np.ndarray = rows
        self._indices: np.ndarray = np.arange(len(rows))[indices]  # refuses what is out of range

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the plain array."""
        return (len(self._indices), *self._array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """As of the plain array."""
        return self._array.dtype

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        chosen = self._indices[first]
        rows = np.asarray(self._array[chosen])
        return rows[tuple(rest)] if chosen.ndim == 0 else rows[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)
