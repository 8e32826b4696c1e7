from __future__ import annotations

import numpy as np
import pytest

from fedtutor.data.rows import Rows, take


@pytest.fixture
def mapped(tmp_path):
    """A uint8 (20, 4, 5, 1) array on disk."""
    np.save(tmp_path / "a.npy", np.arange(400, dtype=np.uint8).reshape(20, 4, 5, 1))
    return np.load(tmp_path / "a.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "key",
    [
        3,
        -1,
        slice(1, 4),
        np.array([2, 0, 0]),
        np.array([True, False] * 3),
        (2, ..., 0),
        (2, 1),
        (slice(0, 2), ..., 0),
        (np.array([1, 1]), 2),
    ],
    ids=str,
)
def test_rows_are_indexed_like_the_array_they_stand_for(mapped, key):
    indices = np.array([7, 3, 3, 19, 0, 11])
    rows, plain = take(mapped, indices), np.asarray(mapped)[indices]
    assert isinstance(rows, Rows)
    np.testing.assert_array_equal(rows[key], plain[key])
    assert type(rows[key]) is type(plain[key])


def test_rows_of_rows_and_their_form(mapped):
    rows = take(take(mapped, np.arange(19, 9, -1)), np.array([0, 9]))
    np.testing.assert_array_equal(np.asarray(rows), np.asarray(mapped)[[19, 10]])
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == ((2, 4, 5, 1), np.uint8, 4, 2)


def test_rows_out_of_range_are_refused_at_once(mapped):
    with pytest.raises(IndexError):
        take(mapped, np.array([20]))


def test_an_array_in_memory_is_taken_from_as_ever():
    array = np.arange(6)
    taken = take(array, np.array([1, 2]))
    assert type(taken) is np.ndarray
    taken[:] = 0
    assert array[1] == 1
