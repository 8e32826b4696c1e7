"""Find images that are in a data set twice, exactly or nearly, and must not straddle its split."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image

from fedtutor.datasets.decode import resize
from fedtutor.images import MedicalImages
from fedtutor.support.rows import Rows

MAX_DISTANCE = 44
"""Of the 255 bits of two hashes, how many may differ between twins."""

MIN_CORRELATION = 0.85
"""How alike the details of twins' thumbnails are at least."""

THUMBNAIL, FREQUENCIES, NEIGHBOURHOOD = 32, 16, 7
"""Side of a thumbnail; frequencies kept in each direction; side of the box of a local mean."""

BLOCK, WIDTH = 1024, 8192
"""Hashes compared at a time with how many others, so that memory does not grow with the pairs."""

logger = logging.getLogger(__name__)


def find_duplicates(images: np.ndarray | Rows) -> pd.DataFrame:
    """Find the pairs of images that show the same exposure.

    A hash of 255 bits, the signs of the low frequencies of a 32x32 thumbnail (a perceptual hash,
    Zauner 2010), proposes pairs; chest X-rays are all alike, so the correlation of the
    thumbnails' details, what is left without the local mean, has to confirm them.

    Both limits were chosen on the 982 real images of the tests, at 128x128, and measured on them
    too. Of 481,197 pairs of different patients (178,210 within one set) none is reported; 64 bits
    and no second look report 143 where they find as many of the cropped twins. All twins are
    found that were made by resizing to 5/8, by JPEG at quality 70, by a tenth more brightness, or
    by 20 grey levels less; 99 % of those with 1 % cut off at each side, 59 % of those with 2 %.
    Mirrored or turned twins are not found. Of 474 pairs of one patient two are reported: one is
    the same file under two names, one a follow-up. A set of 20,000 has four hundred times as many
    pairs, so expect some false alarms there.

    Parameters
    ----------
    images : uint8 (n, height, width, channels), in memory or on disk; of colours the luminance is
        looked at, and "exact" compares all of them.

    Returns
    -------
    DataFrame
        A row a pair: ``first`` < ``second`` (positions, int64), ``distance`` (bits, int64),
        ``correlation`` (-1 to 1) and ``exact`` (bool: the same in every pixel).
    """
    return _pairs(_Fingerprints.of(images))


def duplicate_groups(pairs: pd.DataFrame, count: int) -> np.ndarray:
    """Give one number to images that belong together: twins, and their twins.

    Parameters
    ----------
    pairs : of :func:`find_duplicates`, on ``count`` images.

    Returns
    -------
    int64 (count,), the position of the first image of its group.
    """
    groups, before = np.arange(count), np.arange(0)
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    # The lowest number spreads from neighbour to neighbour, and jumps to its own lowest.
    while not np.array_equal(groups, before):
        before = groups.copy()
        np.minimum.at(groups, second, groups[first])
        np.minimum.at(groups, first, groups[second])
        groups = groups[groups]
    return groups


def remove_across(
    train: MedicalImages, test: MedicalImages
) -> tuple[MedicalImages, MedicalImages, pd.DataFrame]:
    """Remove from ``train`` what has a twin in ``test``, and say how many.

    The test set stays as it is, so that its score can stand beside published ones.

    Returns
    -------
    (train, test, removed)
        ``removed`` has a row for each image taken out, with its nearest twin: ``train`` and
        ``test`` (positions in the sets given), ``distance``, ``correlation`` and ``exact``.
    """
    pairs = _pairs(_Fingerprints.of(train.images), _Fingerprints.of(test.images))
    removed = (
        pairs.sort_values(["first", "exact", "correlation"], ascending=[True, False, False])
        .drop_duplicates("first", ignore_index=True)
        .rename(columns={"first": "train", "second": "test"})
    )
    if len(removed):
        logger.warning(
            "%s: %d of %d training images have a twin in the test set (%d in every pixel) "
            "and are left out.",
            train.name,
            len(removed),
            len(train),
            removed["exact"].sum(),
        )
        train = train.take(np.setdiff1d(np.arange(len(train)), removed["train"]))
    return train, test, removed


@dataclass(frozen=True)
class _Fingerprints:
    """What is compared, 1.3 kB an image: int8 (n, 255), -1 or 1; uint8 (n, 32, 32); n digests."""

    bits: np.ndarray
    thumbnails: np.ndarray
    digests: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray | Rows) -> _Fingerprints:
        bits = np.empty((len(images), FREQUENCIES**2 - 1), np.int8)
        thumbnails = np.empty((len(images), THUMBNAIL, THUMBNAIL), np.uint8)
        digests = np.empty(len(images), dtype="S16")
        for start in range(0, len(images), BLOCK):  # they may be on disk
            for k, image in enumerate(np.asarray(images[start : start + BLOCK]), start):
                image = np.ascontiguousarray(image if image.shape[2] == 3 else image[..., 0])
                thumbnails[k] = resize(Image.fromarray(image).convert("L"), THUMBNAIL)
                # NumPy drops trailing zero bytes of an S16, alike on both sides of a comparison.
                digests[k] = hashlib.blake2b(image.data, digest_size=16).digest()
            part = slice(start, start + BLOCK)
            bits[part] = _bits(thumbnails[part])
        return cls(bits, thumbnails, digests)


def _bits(thumbnails: np.ndarray) -> np.ndarray:
    """Tell for each low frequency but the mean whether it is stronger than their median."""
    # The cosine transform, (16, 32), scaled so that no frequency is favoured.
    frequency, position = np.ogrid[:FREQUENCIES, :THUMBNAIL]
    cosines = np.cos(np.pi * frequency * (position + 0.5) / THUMBNAIL)
    cosines = (cosines / np.linalg.norm(cosines, axis=1, keepdims=True)).astype(np.float32)
    spectrum = (cosines @ thumbnails.astype(np.float32) @ cosines.T).reshape(-1, FREQUENCIES**2)
    spectrum = spectrum[:, 1:]
    above = spectrum > np.median(spectrum, axis=1, keepdims=True)
    # As -1 and 1, the distance of all pairs is one matrix product.
    return np.where(above, np.int8(1), np.int8(-1))


def _details(thumbnails: np.ndarray) -> np.ndarray:
    """Take the local mean off the thumbnails, as unit vectors; 0 where there is no detail."""
    near = np.abs(np.subtract.outer(range(THUMBNAIL), range(THUMBNAIL))) <= NEIGHBOURHOOD // 2
    mean = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
    thumbnails = thumbnails.astype(np.float32)
    details = (thumbnails - mean @ thumbnails @ mean.T).reshape(-1, THUMBNAIL**2)
    details -= details.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(details, axis=1, keepdims=True)
    return details / np.where(lengths > 1e-3, lengths, np.inf)


def _pairs(a: _Fingerprints, other: _Fingerprints | None = None) -> pd.DataFrame:
    """List the twins among all pairs of ``a`` and ``other``, or of ``a`` alone, in their order."""
    b, tables = other or a, []
    for start in range(0, max(len(a.bits), 1), BLOCK):  # one block at least, though it be empty
        ahead = 0 if other else start
        for column in range(ahead, max(len(b.bits), ahead + 1), WIDTH):
            first, second, distance = _near(a, b, start, column)
            if not other:
                first, second, distance = (v[second > first] for v in (first, second, distance))
            tables.append(_confirmed(a, b, first, second, distance))
    return pd.concat(tables).sort_values(["first", "second"], ignore_index=True)


def _near(a: _Fingerprints, b: _Fingerprints, row: int, column: int) -> tuple[np.ndarray, ...]:
    """Return the positions in ``a`` and in ``b`` and the distance of the near ones of one block."""
    rows, columns = a.bits[row : row + BLOCK], b.bits[column : column + WIDTH]
    agreement = rows.astype(np.float32) @ columns.astype(np.float32).T
    num_bits = a.bits.shape[1]
    first, second = np.nonzero(agreement >= num_bits - 2 * MAX_DISTANCE)
    distance = np.rint((num_bits - agreement[first, second]) / 2).astype(np.int64)
    return first + row, second + column, distance


def _confirmed(
    a: _Fingerprints, b: _Fingerprints, first: np.ndarray, second: np.ndarray, distance: np.ndarray
) -> pd.DataFrame:
    """Take a second look at pairs that are near, and return those that are twins."""
    exact = a.digests[first] == b.digests[second]
    correlation = np.empty(len(first))
    for k in range(0, len(first), BLOCK):  # no more pairs at a time than images in a block
        part = slice(k, k + BLOCK)
        pair = _details(a.thumbnails[first[part]]) * _details(b.thumbnails[second[part]])
        correlation[part] = pair.sum(axis=1)
    correlation[exact] = 1  # an even image has no details to compare
    pairs = pd.DataFrame({"first": first, "second": second, "distance": distance})
    pairs = pairs.assign(correlation=correlation, exact=exact)
    return pairs[correlation >= MIN_CORRELATION]


def fingerprints(images: np.ndarray | Rows) -> tuple[np.ndarray, list[bytes]]:
    """Return what tells an image's twins without the image.

    Returns
    -------
    (outlines, digests)
        uint8 (n, 32), the 255 bits that :func:`find_duplicates` compares first, and for each image
        a digest of all its pixels.
    """
    outlines, digests = [np.empty((0, 32), np.uint8)], list[bytes]()
    for start in range(0, len(images), BLOCK):  # what is compared otherwise is 4 kB an image
        found = _Fingerprints.of(images[start : start + BLOCK])
        outlines.append(np.packbits(found.bits > 0, axis=1))
        digests += found.digests.tolist()
    return np.concatenate(outlines), digests


def have_twins(outlines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell which of ``outlines``, uint8 (n, 32), is near one of ``others``: bool (n,).

    Without the second look of :func:`find_duplicates`, which needs the images: of 414,977 pairs of
    different patients among the real images of the tests, read at 64x64, one is called a twin.
    """
    ours, theirs = (
        np.unpackbits(one, axis=1, count=FREQUENCIES**2 - 1).astype(np.float32) * 2 - 1
        for one in (outlines, others)
    )
    near = np.zeros(len(ours), bool)
    for start in range(0, len(theirs), BLOCK):
        agreement = ours @ theirs[start : start + BLOCK].T
        near |= (agreement >= ours.shape[1] - 2 * MAX_DISTANCE).any(axis=1)
    return near
