"""Decode image files to pixels, grey or in colour, on all cores; what is no image is refused."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from fedtutor.cores import num_cores, side_by_side
from fedtutor.datasets.progress import Report
from fedtutor.errors import DataError

MAX_PIXELS = 50_000_000
"""A larger image is refused before it is unpacked; a large chest X-ray has 20 million."""

READERS: dict[bytes, type[ImageFile]] = {b"\x89PNG": PngImageFile, b"\xff\xd8\xff": JpegImageFile}
"""How a file begins, and what reads it. ``Image.open`` would also start Ghostscript for an EPS
named .png, and warns of large images, which threads cannot hold back."""

GREY_BITS = (8, 10, 12, 14, 16)
"""The depths that X-ray detectors have."""


class BadImageError(DataError):
    """A file that is no image we can use; ``reason`` is a clause whose subject is the path."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(file, reason)  # both, so that it can be pickled
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return f"{self.file} {self.reason}."


class Decoded(NamedTuple):
    """The good images of a list of files; a bad file has no row, so it cannot pass for an image.

    Attributes
    ----------
    images : uint8 (n_good, size, size, 1), in colour (n_good, size, size, 3); 0 is black.
    bad : the position in the list of each other file, and what is wrong with it, as in
        :class:`BadImageError`.
    """

    images: np.ndarray
    bad: dict[int, str]

    @property
    def kept(self) -> np.ndarray:
        """The position in the list of the file of each image: int64 (n_good,), ascending."""
        return np.delete(np.arange(len(self.images) + len(self.bad)), list(self.bad))


@functools.cache
def version() -> str:
    """Name what this module makes of a file; it changes with this text and with Pillow."""
    source = Path(__file__).read_bytes() + PIL.__version__.encode()
    return hashlib.blake2b(source, digest_size=8).hexdigest()


def read_images(files: Sequence[Path], *, size: int, colour: bool = False) -> Decoded:
    """Decode image files on all cores, each as :func:`read_image` does, to size x size pixels.

    Raises
    ------
    DataError
        If no file is good, or the disk refuses to give one.
    """
    images = np.empty((len(files), size, size, 3 if colour else 1), np.uint8)
    rows = iter(images if colour else images[..., 0])

    def write(image: np.ndarray) -> None:
        next(rows)[:] = image

    bad = decode_each(files, write, size, colour=colour)
    return Decoded(images[: len(files) - len(bad)], bad)


def decode_each(
    files: Sequence[Path],
    write: Callable[[Any], object],
    size: int,
    report: Report | None = None,
    *,
    colour: bool = False,
) -> dict[int, str]:
    """Hand each good image, as :func:`read_image` gives it, to ``write``; return the bad ones.

    Holds a few images at a time, however many files there are. Raises as :func:`read_images`.
    """
    bad: dict[int, str] = {}
    # Threads suffice: the decoders of PIL work without the interpreter's lock.
    work = side_by_side(lambda file: _image_or_error(file, size, colour), files, num_cores())
    with closing(work) as images:  # Ctrl-C need not wait for those that were begun
        for position, image in enumerate(images):
            if isinstance(image, np.ndarray):
                write(image)
            else:
                bad[position] = image.reason
            if report:
                report(position + 1, len(files))
    if len(bad) == len(files):
        first = f"; the first: {BadImageError(files[0], bad[0])}" if bad else "."
        raise DataError(f"none of {len(files)} files is an image that can be read{first}")
    return bad


def _image_or_error(file: Path, size: int, colour: bool) -> np.ndarray | BadImageError:
    try:
        return read_image(file, size, colour=colour)
    except BadImageError as error:
        return error


def read_image(path: Path, size: int, *, colour: bool = False) -> np.ndarray:
    """Read one PNG or JPEG file as uint8 (size, size), grey, 0 is black; or in colour, RGB last.

    - The aspect ratio is not kept. Of an animation the first frame is taken. A photograph is
      turned the way its EXIF orientation says.
    - Colours become their luminance; in ``colour`` they stay, and grey is three times the same.
    - Opacity is dropped: what was measured is in the colours, the alpha channel came with an
      export. The RGBA files of NIH ChestX-ray14 are opaque, so nothing changes there; blending
      a channel that some program left at 0 would give a black image.
    - Grey of more than 8 bits is scaled by the smallest of 8, 10, 12, 14 and 16 bits that holds
      the file's largest value, so that 12 bits in a 16-bit file do not come out nearly black.

    Raises
    ------
    BadImageError
        For anything that is not a whole image of at most ``MAX_PIXELS`` pixels.
    DataError
        If the disk does not give the bytes, which may pass and says nothing of the image.
    """
    try:
        return _decode(path, size, "RGB" if colour else "L")
    except (BadImageError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise BadImageError(path, "is not there") from error
    except Exception as error:  # a damaged file makes PIL stumble in every way there is
        if isinstance(error, OSError) and error.errno is not None:  # PIL's own have no number
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        what = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise BadImageError(path, f"cannot be decoded ({what}); fetch it again") from error


def _decode(path: Path, size: int, mode: str) -> np.ndarray:
    """Do what :func:`read_image` does, but with PIL's own errors for damaged files."""
    # Opening a pipe would wait for a writer for ever.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise BadImageError(path, "is a folder or a device, not a file")
    with open(path, "rb") as stream, _open(path, stream) as image:
        if image.width * image.height > MAX_PIXELS:
            raise BadImageError(
                path, f"has {image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are read"
            )
        image.draft(mode, (size, size))  # lets a JPEG be decoded at a fraction of its size
        return resize(_unpack(path, image, mode), size)


def _open(path: Path, stream: BinaryIO) -> ImageFile:
    """Read the header of an image, and none of its pixels."""
    start = stream.read(8)
    stream.seek(0)
    for magic, reader in READERS.items():
        if start.startswith(magic):
            return reader(stream)
    if not start:
        raise BadImageError(path, "is not an image but an empty file; fetch it again")
    raise BadImageError(path, "is not an image, whatever its name says; PNG and JPEG are read")


def _unpack(path: Path, image: ImageFile, mode: str) -> Image.Image:
    """Unpack the pixels, upright and in 8 bits, "L" or "RGB", as in :func:`read_image`."""
    # How the pixels are stored is forgotten once they are loaded.
    deep = re.search(";16[BLN]", str(image.tile[:1]))
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        white = next(2**bits - 1 for bits in GREY_BITS if values.max() < 2**bits)
        scaled = np.multiply(values, 255 / white, dtype=np.float32)
        return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert(mode)
    # Of 16-bit colours PIL keeps the upper bytes, in which 14 bits or fewer leave little.
    if deep and np.asarray(image)[..., :3].max() < 64:
        raise BadImageError(
            path, "has 16-bit colours of which only the lower bits are used; save it as 16-bit grey"
        )
    if image.mode == mode:
        return image
    image.info.pop("transparency", None)  # PIL would warn that the opacity is lost
    return image.convert(mode)


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Return an 8-bit image as uint8 (size, size), RGB last; averaged where it shrinks."""
    if image.size != (size, size):
        filter_ = Image.Resampling.BOX if min(image.size) >= size else Image.Resampling.BICUBIC
        # Beyond the gap PIL shrinks by a whole number first; a line of 50 million pixels would
        # otherwise take gigabytes.
        image = image.resize((size, size), filter_, reducing_gap=16.0)
    return np.asarray(image, dtype=np.uint8)
