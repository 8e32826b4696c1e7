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


def save(path, image=GREY, kind=None, **options):
    """Write pixels or an image; ``kind`` is what is in the file, whatever its name says."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, kind, **options)
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


def palette(indices):
    image = Image.fromarray(indices)
    image.putpalette([200, 200, 200, 255, 0, 0, 0, 0, 0])
    return image


# What is read, and as which grey


PLAIN = {
    "8 bit": GREY,
    "16 bit": GREY.astype(np.uint16) * 257,
    "8 bit in a 16-bit file": GREY.astype(np.uint16),
    "RGBA": np.dstack([GREY, GREY, GREY, OPAQUE]),
    "grey with alpha": np.dstack([GREY, OPAQUE]),
    "RGBA of no opacity, as some exports leave it": np.dstack([GREY] * 3 + [NOTHING]),
    "grey of no opacity": np.dstack([GREY, NOTHING]),
}


@pytest.mark.parametrize("pixels", PLAIN.values(), ids=PLAIN)
def test_grey_values_are_kept(path, pixels):
    found = read_image(save(path, pixels), 16)
    assert found.dtype == np.uint8
    assert np.array_equal(found, GREY)


@pytest.mark.parametrize(
    ("pixels", "transparent"), [(GREY, 0), (np.dstack([GREY] * 3), (0, 0, 0))], ids=["grey", "rgb"]
)
def test_a_colour_that_is_declared_transparent_is_kept(path, pixels, transparent):
    assert np.array_equal(read_image(save(path, pixels, transparency=transparent), 16), GREY)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (255, 0, 0), 76),
        ("RGB", (0, 255, 0), 150),
        ("RGB", (0, 0, 255), 29),
        ("CMYK", (0, 0, 0, 0), 255),
        ("CMYK", (0, 0, 0, 255), 0),
        ("CMYK", (0, 0, 0, 128), 127),
    ],
)
def test_colours_become_their_luminance(path, mode, colour, expected):
    save(path, Image.new(mode, (16, 16), colour), "JPEG", quality=95)
    np.testing.assert_allclose(read_image(path, 16), expected, atol=2)


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])])
def test_a_palette_is_looked_up_and_keeps_its_colours(path, transparency):
    options = {} if transparency is None else {"transparency": transparency}
    save(path, palette(GREY % 3), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(path, 16)
    assert np.array_equal(found, np.array([200, 76, 0])[GREY % 3])


def test_black_and_white_of_one_bit_become_0_and_255(path):
    assert np.array_equal(read_image(save(path, GREY > 99), 16), np.where(GREY > 99, 255, 0))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_is_scaled_by_the_bits_that_are_used(path, bits):
    white = 2**bits - 1
    values = np.linspace(0, white, 256).reshape(16, 16).round().astype(np.uint16)
    found = read_image(save(path, values), 16)
    np.testing.assert_array_equal(found, (values * (255 / white)).round())
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (3000, round(3000 * 255 / 4095))])
def test_a_deep_image_without_white_is_not_stretched(path, value, expected):
    found = read_image(save(path, np.full((16, 16), value, np.uint16)), 16)
    assert np.unique(found).tolist() == [expected]


@pytest.mark.parametrize(
    ("dtype", "white"), [("<u2", 4095), (">u2", 4095), ("<i4", 4095), ("<f4", 4095), ("<f4", 1)]
)
def test_deep_grey_and_fractions_in_a_tiff_are_scaled_likewise(path, dtype, white):
    values = np.linspace(0, white, 256).reshape(16, 16).astype(dtype)
    np.testing.assert_allclose(read_image(save(path, values, "TIFF"), 16), GREY, atol=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1000, 70_000])
def test_values_with_no_agreed_black_and_white_are_refused(path, value):
    values = np.full((16, 16), 100, np.float32)
    values[3, 3] = value
    with pytest.raises(BadImageError, match=r"x\.png has grey values from .*; 0 to 65535 are read"):
        read_image(save(path, values, "TIFF"), 16)


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


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "TIFF"])
def test_what_a_file_is_counts_and_not_its_name(tmp_path, kind):
    path = save(tmp_path / "Röntgen 肺 ½.png", GREY, kind)
    np.testing.assert_allclose(read_image(path, 16), GREY, atol=2)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_of_an_animation_the_first_frame_is_read(path, kind):
    save(path, GREY, kind, save_all=True, append_images=[Image.fromarray(255 - GREY)])
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


def test_sides_that_are_no_multiple_are_averaged_as_finely_as_pil_can(path):
    pixels = np.random.default_rng(0).integers(0, 256, (625, 500), np.uint8)
    plain = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BOX)
    assert np.array_equal(read_image(save(path, pixels), 64), np.asarray(plain))


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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_a_file_with_damaged_bytes_is_read_or_refused_by_name(path, kind):
    rng, refused = np.random.default_rng(0), 0
    exif = Image.Exif()
    exif[274] = 6
    whole = save(path, GREY, kind, **({"exif": exif} if kind in ("PNG", "JPEG") else {}))
    whole = whole.read_bytes()
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
    thread.join(10)
    assert reasons == ["is a folder or a device, not a file"]


@pytest.mark.parametrize(
    ("error", "words", "passing"),
    [
        (ValueError("bad"), r"cannot be decoded \(bad\)", False),
        (ZeroDivisionError(), r"cannot be decoded \(ZeroDivisionError\)", False),
        (OSError("broken data"), r"cannot be decoded \(broken data\)", False),
        (PermissionError(13, "Permission denied"), r"cannot be read \(Permission denied\)", True),
        (FileNotFoundError(2, "No such file"), r"cannot be read \(No such file\)", True),
    ],
)
def test_trouble_with_the_disk_is_told_from_trouble_with_the_image(
    path, error, words, passing, monkeypatch
):
    def stumble(_):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", stumble)
    with pytest.raises(BadImageError, match=rf"x\.png {words}") as refusal:
        read_image(save(path), 16)
    assert refusal.value.passing == passing
    again = pickle.loads(pickle.dumps(refusal.value))  # it can be sent to another process
    assert (str(again), again.file, again.passing) == (str(refusal.value), path, passing)


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
    found = read_images(iter(mixed), size=4)
    good = [k for k in range(120) if k not in (5, 50, 119)]
    assert found.kept.tolist() == good
    assert (found.images.shape, found.images.dtype) == ((117, 4, 4, 1), np.uint8)
    assert found.images[:, 0, 0, 0].tolist() == found.images.min(axis=(1, 2, 3)).tolist() == good
    assert found.bad["position"].tolist() == [5, 50, 119]
    assert found.bad["file"].tolist() == [str(mixed[k]) for k in (5, 50, 119)]
    assert found.bad["reason"].str.startswith("is not an image").all()
    nothing = read_images(mixed[:5], size=4).bad
    assert len(nothing) == 0
    assert nothing.dtypes.equals(found.bad.dtypes)


def test_strict_refuses_the_first_bad_file_and_decodes_no_further(mixed, monkeypatch):
    asked = []

    def watch(path, size):
        asked.append(path)
        return read_image(path, size)

    monkeypatch.setattr(decode, "read_image", watch)
    with pytest.raises(BadImageError, match=r"5\.png is not an image"):
        read_images(mixed[:10] + mixed * 100, size=4, strict=True)
    assert len(asked) < 1000


@pytest.mark.parametrize(
    ("chosen", "size", "words"),
    [
        ((119, 50), 4, r"none of 2 files .*; the first: .*119\.png is not an image"),
        ((), 4, "none of 0 files"),
        ((1, 2), 0, "at least 1 pixel; got 0"),
        ((1, 2), -3, "at least 1 pixel; got -3"),
    ],
)
def test_nothing_to_decode_is_refused(mixed, chosen, size, words):
    with pytest.raises(DataError, match=words):
        read_images([mixed[k] for k in chosen], size=size)


def test_progress_is_told_of_every_file(mixed):
    told = []
    read_images(mixed, size=4, progress=lambda *step: told.append(step))
    assert told == [(k, 120) for k in range(1, 121)]


def test_files_are_decoded_on_all_cores_at_once(mixed, monkeypatch):
    monkeypatch.setattr(decode, "_cores", lambda: 3)
    meeting = threading.Barrier(3, timeout=10)

    def meet(path, size):
        meeting.wait()
        return GREY[:size, :size]

    monkeypatch.setattr(decode, "read_image", meet)
    assert len(read_images(mixed, size=4).images) == 120


def test_decoding_does_not_run_away_from_the_writer(mixed, monkeypatch):
    decoded, written, ahead = [], [], []

    def watch(path, size):
        decoded.append(path)
        return GREY[:size, :size]

    def write(image):
        ahead.append(len(decoded) - len(written))
        written.append(image)

    monkeypatch.setattr(decode, "read_image", watch)
    decode.decode_each(mixed * 20, write, size=4)
    assert max(ahead) <= decode.PER_CORE * decode._cores()


def test_ctrl_c_ends_decoding_at_once(mixed, monkeypatch):
    decoded, interrupted = [], threading.Event()

    def watch(path, size):
        decoded.append(path)
        if len(decoded) > 1:
            interrupted.wait(10)
        return GREY[:size, :size]

    def interrupt(*_):
        threading.Timer(0.3, interrupted.set).start()  # those being decoded can then end
        raise KeyboardInterrupt

    monkeypatch.setattr(decode, "_cores", lambda: 2)
    monkeypatch.setattr(decode, "read_image", watch)
    with pytest.raises(KeyboardInterrupt):
        read_images(mixed, size=4, progress=interrupt)
    assert len(decoded) <= 3


def test_the_version_changes_with_the_code_and_with_pillow(tmp_path, monkeypatch):
    def version():
        return decode.version.__wrapped__()

    before = version()
    assert version() == before
    edited = tmp_path / "decode.py"
    edited.write_bytes(Path(decode.__file__).read_bytes() + b"# edited")
    with monkeypatch.context() as context:
        context.setattr(decode, "__file__", str(edited))
        assert version() != before
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert version() != before


def test_the_untouched_nih_images_come_out_as_plain_pil_makes_them(real_data):
    files = sorted((real_data / "nih_chestxray14" / "originals").glob("*.png"))[:6]
    modes = {Image.open(file).mode for file in files}
    assert modes == {"L", "RGBA"}
    found = read_images(files, size=128, strict=True)
    for file, image in zip(files, found.images[..., 0], strict=True):
        plain = Image.open(file).convert("L").resize((128, 128), Image.Resampling.BOX)
        np.testing.assert_allclose(image, np.asarray(plain), atol=1)
