"""Image files of every kind, whole, odd, damaged or hostile."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from fedtutor.datasets import decode
from fedtutor.datasets.decode import BadImageError, read_image, read_images
from fedtutor.errors import DataError

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
OPAQUE, NOTHING = np.full_like(GREY, 255), np.zeros_like(GREY)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.png"


def save(path, image=GREY, format=None, **options):
    """Write pixels or an image; ``format`` is what is in the file, whatever its name says."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, format, **options)
    return path


def write_png(path, width, height, *, bits=8, colour=0, rows=b""):
    """A PNG as the format says, for what PIL does not write."""

    def chunk(name, content):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


# What is read, and as which grey


def rgb(channel):
    return np.dstack([GREY * (k == channel) for k in range(3)])


def palette():
    image = Image.fromarray(GREY % 3)
    image.putpalette([200, 200, 200, 255, 0, 0, 0, 0, 0])
    return image


def deep(white):
    """Grey from 0 to ``white`` in even steps."""
    return np.linspace(0, white, 256).reshape(16, 16).round().astype(np.uint16)


FROM_PALETTE = np.array([200, 76, 0])[GREY % 3]
KINDS = {
    "8 bit": (GREY, {}, GREY),
    "1 bit": (GREY > 99, {}, np.where(GREY > 99, 255, 0)),
    "RGBA": (np.dstack([GREY, GREY, GREY, OPAQUE]), {}, GREY),
    "grey with alpha": (np.dstack([GREY, OPAQUE]), {}, GREY),
    "RGBA of no opacity, as some exports leave it": (np.dstack([GREY] * 3 + [NOTHING]), {}, GREY),
    "grey of no opacity": (np.dstack([GREY, NOTHING]), {}, GREY),
    "a grey declared transparent": (GREY, {"transparency": 0}, GREY),
    "a colour declared transparent": (np.dstack([GREY] * 3), {"transparency": (0, 0, 0)}, GREY),
    "red": (rgb(0), {}, GREY * 0.299),
    "green": (rgb(1), {}, GREY * 0.587),
    "blue": (rgb(2), {}, GREY * 0.114),
    "CMYK": (Image.new("CMYK", (16, 16), (0, 0, 0, 128)), {"format": "JPEG"}, 127),
    "palette": (palette(), {}, FROM_PALETTE),
    "palette, one colour transparent": (palette(), {"transparency": 1}, FROM_PALETTE),
    "palette of opacities": (palette(), {"transparency": bytes([0, 128, 255])}, FROM_PALETTE),
    "8 bit in 16": (GREY.astype(np.uint16), {}, GREY),
    "10 bit in 16": (deep(2**10 - 1), {}, GREY),
    "12 bit in 16": (deep(2**12 - 1), {}, GREY),
    "14 bit in 16": (deep(2**14 - 1), {}, GREY),
    "16 bit": (GREY.astype(np.uint16) * 257, {}, GREY),
    "12 bit without black and white": (np.full((16, 16), 3000, np.uint16), {}, 3000 * 255 / 4095),
    "nearly black": (np.full((16, 16), 1, np.uint16), {}, 1),
}


@pytest.mark.parametrize(("image", "options", "expected"), KINDS.values(), ids=KINDS)
def test_every_kind_of_pixel_becomes_its_luminance(path, image, options, expected):
    save(path, image, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(path, 16)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, expected, atol=1 if np.ndim(expected) else 2)
    if expected is GREY and not options:
        assert np.array_equal(found, GREY)


@pytest.mark.parametrize(("colour", "channels", "alpha"), [(2, 3, 0), (4, 1, 1), (6, 3, 1)])
def test_16_bit_colours_are_read_if_their_upper_bits_are_used(path, colour, channels, alpha):
    def write(scale):
        grey, opaque = GREY.astype(np.int64)[..., None] * scale, np.full((16, 16, 1), 65535)
        pixels = np.dstack([grey] * channels + [opaque] * alpha)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        return write_png(path, 16, 16, bits=16, colour=colour, rows=rows)

    assert np.array_equal(read_image(write(257), 16), GREY)
    with pytest.raises(BadImageError, match=r"x\.png has 16-bit colours"):
        read_image(write(64), 16)  # 14 bits


def test_what_a_file_is_counts_and_not_its_name(tmp_path):
    path = save(tmp_path / "Röntgen 肺 ½.png", GREY, "JPEG")
    np.testing.assert_allclose(read_image(path, 16), GREY, atol=2)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_another_format_is_refused_by_name(path, kind):
    with pytest.raises(BadImageError, match=r"x\.png is not an image, whatever its name"):
        read_image(save(path, GREY, kind), 16)


def test_of_an_animation_the_first_frame_is_read(path):
    save(path, GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert np.array_equal(read_image(path, 16), GREY)


UPRIGHT = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(np.transpose(image), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_turned_upright(path, orientation, size):
    stored = np.kron(np.random.default_rng(0).integers(0, 256, (4, 4)), np.ones((16, 32)))
    exif = Image.Exif()
    exif[274] = orientation
    plain = read_image(save(path, stored.astype(np.uint8), "JPEG", quality=95), size)
    save(path, stored.astype(np.uint8), "JPEG", exif=exif, quality=95)
    np.testing.assert_allclose(read_image(path, size), UPRIGHT[orientation](plain), atol=3)


# The size


def test_a_smaller_size_averages_the_pixels(path):
    pixels = np.kron(np.array([[0, 100], [200, 40]]), np.ones((8, 8)))
    pixels[::2] += 10
    assert read_image(save(path, pixels.astype(np.uint8)), 2).tolist() == [[5, 105], [205, 45]]


@pytest.mark.parametrize("shape", [(2, 2), (2, 32)])
def test_a_larger_size_is_smooth(path, shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[1] = 200
    column = read_image(save(path, pixels), 16)[:, 5].astype(int)
    assert (np.diff(column) < 50).all()
    assert column[0] < 10 and column[-1] > 190


@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (7, 9), (1, 1), (1, 8000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_of_any_shape_become_squares(path, shape, kind):
    found = read_image(save(path, np.full(shape, 77, np.uint8), kind), 20)
    assert (found.shape, found.dtype) == ((20, 20), np.uint8)
    np.testing.assert_allclose(found, 77, atol=1)


def test_a_jpeg_is_unpacked_at_a_fraction_of_its_size(path, monkeypatch):
    sizes, load = [], ImageFile.ImageFile.load

    def watch(image):
        sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watch)
    read_image(save(path, np.full((512, 600), 99, np.uint8), "JPEG"), 64)
    assert sizes[0] == (75, 64)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_line_of_millions_of_pixels_takes_little_memory(path):
    Image.new("1", (1, 4_000_000)).save(path)
    code = r"""
import re, sys
from fedtutor.datasets.decode import read_image
def peak():  # of this program only, which ru_maxrss is not
    return int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = peak()
read_image(sys.argv[1], 128)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True)
    assert 1e6 < int(done.stdout) < 130e6


# What is no whole image


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><title>404</title></html>", "is not an image, whatever its name"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not an image, whatever its name"),  # for Ghostscript
        (b"", "is not an image but an empty file"),
    ],
)
def test_what_is_no_image_is_refused_by_name(path, content, words):
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=rf"x\.png {words}"):
        read_image(path, 16)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_refused_by_name(path, kind, fraction):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    whole = save(path, noise, kind).read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(BadImageError, match=r"x\.png cannot be decoded"):
        read_image(path, 16)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_with_damaged_bytes_is_read_or_refused_by_name(path, kind):
    rng, refused = np.random.default_rng(0), 0
    exif = Image.Exif()
    exif[274] = 6
    whole = save(path, GREY, kind, exif=exif).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns of damaged EXIF
        for _ in range(80):
            content = np.frombuffer(whole, np.uint8).copy()
            where = rng.integers(0, min(len(content), 300), 2)
            content[where] = rng.integers(0, 256, 2)
            path.write_bytes(content.tobytes())
            try:
                assert read_image(path, 8).shape == (8, 8)
            except BadImageError as error:
                assert str(error).startswith(f"{path} ")
                refused += 1
    assert refused


@pytest.mark.parametrize(
    "sides", [(8000, 8000), (10_000, 10_000), (20_000, 10_000), (2**31 - 1,) * 2]
)
def test_an_image_too_large_to_unpack_is_refused_by_its_header(path, sides, monkeypatch):
    write_png(path, *sides, rows=b"\0" * 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it was unpacked"))
    words = rf"{sides[0]}x{sides[1]} pixels; at most 50,000,000"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PIL warns of 90 million pixels and more
        with pytest.raises(BadImageError, match=words):
            read_image(path, 16)


@pytest.mark.parametrize("make", [os.mkdir, getattr(os, "mkfifo", os.mkdir)])
def test_a_folder_or_a_pipe_is_refused_and_not_waited_for(path, make):
    make(path)
    reasons = []

    def read():
        with pytest.raises(BadImageError) as refusal:
            read_image(path, 16)
        reasons.append(refusal.value.reason)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(600)
    assert reasons == ["is a folder or a device, not a file"]


@pytest.mark.parametrize(
    ("error", "words", "is_bad"),
    [
        (ValueError("bad"), r"cannot be decoded \(bad\)", True),
        (ZeroDivisionError(), r"cannot be decoded \(ZeroDivisionError\)", True),
        (OSError("broken data"), r"cannot be decoded \(broken data\)", True),
        (FileNotFoundError(2, "No such file"), "is not there", True),
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied", False),
        (OSError(5, "Input/output error"), "cannot be read: Input/output error", False),
    ],
)
def test_trouble_with_the_disk_is_told_from_trouble_with_the_image(
    path, error, words, is_bad, monkeypatch
):
    def stumble(_):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", stumble)
    with pytest.raises(DataError, match=rf"x\.png {words}") as refusal:
        read_image(save(path), 16)
    assert isinstance(refusal.value, BadImageError) == is_bad
    again = pickle.loads(pickle.dumps(refusal.value))  # it can be sent to another process
    assert (str(again), vars(again)) == (str(refusal.value), vars(refusal.value))


def test_want_of_memory_is_not_blamed_on_the_image(path, monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    with pytest.raises(MemoryError):
        read_image(save(path), 16)


# Many files


@pytest.fixture
def mixed(tmp_path):
    """120 files, each as bright as its position; those at 5, 50 and 119 are bad."""
    files = [tmp_path / f"{k}.png" for k in range(120)]
    for k, path in enumerate(files):
        save(path, np.full((4, 4), k, np.uint8))
        if k in (5, 50, 119):
            path.write_text("<html>", encoding="utf-8")
    return files


def test_bad_files_are_listed_and_have_no_row(mixed):
    found = read_images(mixed, size=4)
    good = [k for k in range(120) if k not in (5, 50, 119)]
    assert found.kept.tolist() == good
    assert (found.images.shape, found.images.dtype) == ((117, 4, 4, 1), np.uint8)
    assert found.images[:, 0, 0, 0].tolist() == found.images.min(axis=(1, 2, 3)).tolist() == good
    assert list(found.bad) == [5, 50, 119]
    assert all(reason.startswith("is not an image") for reason in found.bad.values())
    whole = read_images(mixed[:5], size=4)
    assert whole.bad == {}
    assert whole.kept.tolist() == [0, 1, 2, 3, 4]
    assert whole.kept.dtype == found.kept.dtype == np.int64


def test_what_the_disk_refuses_to_give_is_not_left_out(mixed, monkeypatch):
    def refuse(path, *mode):
        if path == mixed[7]:
            raise PermissionError(13, "Permission denied")
        return open(path, *mode)

    monkeypatch.setattr(decode, "open", refuse, raising=False)
    with pytest.raises(DataError, match=r"7\.png cannot be read: Permission denied"):
        read_images(mixed, size=4)


@pytest.mark.parametrize(
    ("chosen", "size", "words"),
    [
        ((119, 50), 4, r"none of 2 files .*; the first: .*119\.png is not an image"),
        ((), 4, "none of 0 files"),
    ],
)
def test_nothing_to_decode_is_refused(mixed, chosen, size, words):
    with pytest.raises(DataError, match=words):
        read_images([mixed[k] for k in chosen], size=size)


def test_files_are_decoded_on_all_cores_at_once(mixed, monkeypatch):
    monkeypatch.setattr(decode, "num_cores", lambda: 3)
    meeting = threading.Barrier(3, timeout=600)

    def meet(path, size, **_):
        meeting.wait()
        return GREY[:size, :size]

    monkeypatch.setattr(decode, "read_image", meet)
    assert len(read_images(mixed, size=4).images) == 120


def test_ctrl_c_ends_decoding_at_once(mixed, monkeypatch):
    decoded = []

    def watch(path, size, **_):
        decoded.append(path)
        return GREY[:size, :size]

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(decode, "num_cores", lambda: 2)
    monkeypatch.setattr(decode, "read_image", watch)
    with pytest.raises(KeyboardInterrupt):
        decode.decode_each(mixed, interrupt, size=4)
    assert len(decoded) <= 4  # of 120: two for each core


def test_the_version_changes_with_the_code_and_with_pillow(tmp_path, monkeypatch):
    edited, versions = tmp_path / "decode.py", {decode.version.__wrapped__()}
    edited.write_bytes(Path(decode.__file__).read_bytes() + b"# edited")
    for place, value in ((f"{decode.__name__}.__file__", str(edited)), ("PIL.__version__", "99")):
        with monkeypatch.context() as patch:
            patch.setattr(place, value)
            versions.add(decode.version.__wrapped__())
    assert len(versions) == 3


def test_the_untouched_nih_images_come_out_as_plain_pil_makes_them(real_data):
    files = sorted((real_data / "nih_chestxray14" / "originals").glob("*.png"))[:6]
    modes = {Image.open(file).mode for file in files}
    assert modes == {"L", "RGBA"}
    found = read_images(files, size=128)
    for file, image in zip(files, found.images[..., 0], strict=True):
        plain = Image.open(file).convert("L").resize((128, 128), Image.Resampling.BOX)
        np.testing.assert_allclose(image, np.asarray(plain), atol=1)
