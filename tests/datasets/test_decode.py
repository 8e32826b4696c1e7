from __future__ import annotations

import io
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
NOTHING = np.zeros_like(GREY)


def save(path, pixels=GREY, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def named_png(path, image, kind, **options):
    """``image`` in a file of another kind that is named .png."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    path.write_bytes(content.getvalue())
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


def write_deep_png(path, channels, colour):
    """16-bit channels (16, 16, n) as a PNG of colour type 2 (RGB), 4 (LA) or 6 (RGBA)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    return write_png(path, 16, 16, bits=16, colour=colour, rows=rows)


def test_grey_values_of_8_bit_are_kept(tmp_path):
    assert np.array_equal(read_image(save(tmp_path / "x.png"), 16), GREY)


def test_16_bit_values_are_scaled_to_8_bit(tmp_path):
    path = save(tmp_path / "x.png", GREY.astype(np.uint16) * 257)
    assert Image.open(path).mode.startswith("I")
    assert np.array_equal(read_image(path, 16), GREY)


def test_8_bit_values_in_a_16_bit_file_are_kept(tmp_path):
    assert np.array_equal(read_image(save(tmp_path / "x.png", GREY.astype(np.uint16)), 16), GREY)


def test_rgba_becomes_grey(tmp_path):
    pixels = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    assert np.array_equal(read_image(save(tmp_path / "x.png", pixels), 16), GREY)


def test_grey_with_alpha_becomes_grey(tmp_path):
    pixels = np.dstack([GREY, np.full_like(GREY, 255)])
    assert np.array_equal(read_image(save(tmp_path / "x.png", pixels), 16), GREY)


@pytest.mark.parametrize(
    ("colour", "expected"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)]
)
def test_colours_become_their_luminance(tmp_path, colour, expected):
    pixels = np.full((16, 16, 3), colour, np.uint8)
    assert np.unique(read_image(save(tmp_path / "x.png", pixels), 16)).tolist() == [expected]


def test_a_palette_is_looked_up_and_not_taken_for_grey(tmp_path):
    image = Image.fromarray(GREY % 3)
    image.putpalette([200, 200, 200, 255, 0, 0, 0, 0, 0])
    image.save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == "P"
    expected = np.array([200, 76, 0])[GREY % 3]
    assert np.array_equal(read_image(tmp_path / "x.png", 16), expected)


@pytest.mark.parametrize(
    ("ink", "expected"), [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((0, 0, 0, 128), 127)]
)
def test_a_cmyk_jpeg_is_as_bright_as_its_ink_lets_it(tmp_path, ink, expected):
    path = tmp_path / "x.jpg"
    Image.new("CMYK", (16, 16), ink).save(path, quality=95)
    assert Image.open(path).mode == "CMYK"
    np.testing.assert_allclose(read_image(path, 16), expected, atol=2)


def test_black_and_white_of_one_bit_become_0_and_255(tmp_path):
    Image.fromarray(GREY > 99).save(tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").mode == "1"
    assert np.array_equal(read_image(tmp_path / "x.png", 16), np.where(GREY > 99, 255, 0))


def test_a_smaller_size_averages_the_pixels(tmp_path):
    pixels = np.kron(np.array([[0, 100], [200, 40]]), np.ones((8, 8)))
    pixels[::2] += 10
    small = read_image(save(tmp_path / "x.png", pixels.astype(np.uint8)), 2)
    assert small.tolist() == [[5, 105], [205, 45]]


@pytest.mark.parametrize("shape", [(2, 2), (2, 32)])
def test_a_larger_size_is_smooth(tmp_path, shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[1] = 200
    column = read_image(save(tmp_path / "x.png", pixels), 16)[:, 5].astype(int)
    assert (np.diff(column) < 50).all()
    assert column[0] < 10 and column[-1] > 190


@pytest.mark.parametrize("shape", [(40, 16), (16, 40), (7, 9)])
@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG"])
def test_images_of_any_shape_become_squares(tmp_path, shape, suffix):
    path = save(tmp_path / f"x{suffix}", np.full(shape, 77, np.uint8))
    found = read_image(path, 20)
    assert (found.shape, found.dtype) == ((20, 20), np.uint8)
    np.testing.assert_allclose(found, 77, atol=1)


def test_a_text_named_png_is_refused(tmp_path):
    path = tmp_path / "x.png"
    path.write_text("this is no image")
    with pytest.raises(DataError, match=r"x\.png is not an image, whatever its name says"):
        read_image(path, 16)


def test_an_empty_file_named_png_is_refused(tmp_path):
    (tmp_path / "x.png").touch()
    with pytest.raises(DataError, match=r"x\.png is not an image but an empty file"):
        read_image(tmp_path / "x.png", 16)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_refused_by_name(tmp_path, suffix, fraction):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = save(tmp_path / f"x{suffix}", noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(DataError, match=f"x{suffix} "):
        read_image(path, 16)


def test_a_png_with_a_damaged_middle_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = save(tmp_path / "x.png", noise)
    content = bytearray(path.read_bytes())
    content[60:80] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.png cannot be decoded"):
        read_image(path, 16)


@pytest.mark.parametrize(
    "sides", [(8000, 8000), (10_000, 10_000), (20_000, 10_000), (2**31 - 1,) * 2]
)
def test_an_image_too_large_to_unpack_is_refused_by_its_header(tmp_path, sides, monkeypatch):
    path = write_png(tmp_path / "x.png", *sides, rows=b"\0" * 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it was unpacked"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PIL warns of 90 million pixels and more
        with pytest.raises(
            BadImageError, match=rf"{sides[0]}x{sides[1]} pixels; at most 50,000,000"
        ):
            read_image(path, 16)


def test_a_page_of_html_named_png_is_refused(tmp_path):
    path = tmp_path / "x.png"
    path.write_text("<!DOCTYPE html><html><title>404</title></html>")
    with pytest.raises(BadImageError, match=r"x\.png is not an image, whatever its name says"):
        read_image(path, 16)


def test_an_eps_named_png_is_not_given_to_ghostscript(tmp_path):
    path = named_png(tmp_path / "x.png", Image.fromarray(GREY), "EPS")
    with pytest.raises(BadImageError, match=r"x\.png is not an image"):
        read_image(path, 16)


def test_an_image_without_pixels_is_refused(tmp_path):
    with pytest.raises(BadImageError, match=r"x\.png cannot be decoded"):
        read_image(write_png(tmp_path / "x.png", 0, 5), 16)


def test_a_folder_named_png_is_refused(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(BadImageError, match=r"x\.png is a folder or a device"):
        read_image(tmp_path / "x.png", 16)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_named_png_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    reasons = []

    def read():
        with pytest.raises(BadImageError) as refusal:
            read_image(tmp_path / "x.png", 16)
        reasons.append(refusal.value.reason)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert reasons == ["is a folder or a device, not a file"]


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(BadImageError, match=r"x\.png cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "x.png", 16)


def test_trouble_with_the_disk_is_told_from_trouble_with_the_image(tmp_path, monkeypatch):
    with pytest.raises(BadImageError) as refusal:
        read_image(write_png(tmp_path / "x.png", 9, 9), 16)
    assert not refusal.value.passing

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decode, "open", refuse, raising=False)
    with pytest.raises(
        BadImageError, match=r"x\.png cannot be read \(Permission denied\)"
    ) as refusal:
        read_image(save(tmp_path / "x.png"), 16)
    assert refusal.value.passing


def test_want_of_memory_is_not_blamed_on_the_image(tmp_path, monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    with pytest.raises(MemoryError):
        read_image(save(tmp_path / "x.png"), 16)


def test_a_refusal_can_be_sent_to_another_process(tmp_path):
    error = BadImageError(tmp_path / "x.png", "is torn", True)
    again = pickle.loads(pickle.dumps(error))
    assert (again.file, again.reason, again.passing) == (tmp_path / "x.png", "is torn", True)
    assert str(again) == f"{tmp_path / 'x.png'} is torn."


@pytest.mark.parametrize("error", [ValueError("bad"), KeyError(3), ZeroDivisionError()])
def test_whatever_pil_stumbles_over_is_a_refusal_by_name(tmp_path, error, monkeypatch):
    def stumble(_):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", stumble)
    words = str(error) or "ZeroDivisionError"
    with pytest.raises(BadImageError, match=rf"x\.png cannot be decoded \({words}\)"):
        read_image(save(tmp_path / "x.png"), 16)


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "TIFF"])
def test_what_a_file_is_counts_and_not_its_name(tmp_path, kind):
    path = named_png(tmp_path / "x.png", Image.fromarray(GREY), kind)
    np.testing.assert_allclose(read_image(path, 16), GREY, atol=2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_a_file_with_damaged_bytes_is_read_or_refused_by_name(tmp_path, kind):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6
    options = {"exif": exif} if kind in ("PNG", "JPEG") else {}
    path = named_png(tmp_path / "x.png", Image.fromarray(GREY), kind, **options)
    whole = path.read_bytes()
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns of damaged EXIF
        for _ in range(150):
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


@pytest.mark.parametrize("channels", [3, 1])
def test_opacity_is_dropped_even_where_an_export_left_it_at_nothing(tmp_path, channels):
    pixels = np.dstack([GREY] * channels + [NOTHING])
    assert np.array_equal(read_image(save(tmp_path / "x.png", pixels), 16), GREY)


@pytest.mark.parametrize("transparency", [1, bytes([0, 128, 255])])
def test_a_palette_with_transparency_keeps_its_colours(tmp_path, transparency):
    image = Image.fromarray(GREY % 3)
    image.putpalette([200, 200, 200, 255, 0, 0, 0, 0, 0])
    image.save(tmp_path / "x.png", transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(tmp_path / "x.png", 16)
    assert np.array_equal(found, np.array([200, 76, 0])[GREY % 3])


@pytest.mark.parametrize(
    ("pixels", "transparent"), [(GREY, 0), (np.dstack([GREY] * 3), (0, 0, 0))], ids=["grey", "rgb"]
)
def test_a_colour_that_is_declared_transparent_is_kept(tmp_path, pixels, transparent):
    path = save(tmp_path / "x.png", pixels, transparency=transparent)
    assert np.array_equal(read_image(path, 16), GREY)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_is_scaled_by_the_bits_that_are_used(tmp_path, bits):
    white = 2**bits - 1
    values = np.linspace(0, white, 256).reshape(16, 16).round().astype(np.uint16)
    found = read_image(save(tmp_path / "x.png", values), 16)
    np.testing.assert_array_equal(found, (values * (255 / white)).round())
    assert (found.min(), found.max()) == (0, 255)


def test_the_darkest_of_deep_greys_stay_dark(tmp_path):
    path = save(tmp_path / "x.png", (GREY % 2).astype(np.uint16))
    assert np.array_equal(read_image(path, 16), GREY % 2)


def test_a_12_bit_image_without_white_is_not_stretched(tmp_path):
    found = read_image(save(tmp_path / "x.png", np.full((16, 16), 3000, np.uint16)), 16)
    assert np.unique(found).tolist() == [round(3000 * 255 / 4095)]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", "<f4"])
def test_deep_grey_of_other_kinds_is_scaled_likewise(tmp_path, dtype):
    image = Image.fromarray(np.linspace(0, 4095, 256).reshape(16, 16).astype(dtype))
    assert image.mode in ("I;16", "I;16B", "I", "F")
    found = read_image(named_png(tmp_path / "x.png", image, "TIFF"), 16)
    np.testing.assert_allclose(found, GREY, atol=1)


def test_floats_up_to_1_are_fractions_of_white(tmp_path):
    image = Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16))
    assert np.array_equal(read_image(named_png(tmp_path / "x.png", image, "TIFF"), 16), GREY)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1000, 70_000])
def test_values_with_no_agreed_black_and_white_are_refused(tmp_path, value):
    values = np.full((16, 16), 100, np.float32)
    values[3, 3] = value
    path = named_png(tmp_path / "x.png", Image.fromarray(values), "TIFF")
    with pytest.raises(BadImageError, match=r"x\.png has grey values from .*; 0 to 65535 are read"):
        read_image(path, 16)


DEEP = GREY.astype(np.int64)[..., None]
OPAQUE = np.full((16, 16, 1), 65535)


@pytest.mark.parametrize(("colour", "channels", "alpha"), [(2, 3, 0), (4, 1, 1), (6, 3, 1)])
def test_16_bit_colours_are_read_if_their_upper_bits_are_used(tmp_path, colour, channels, alpha):
    full = np.dstack([DEEP * 257] * channels + [OPAQUE] * alpha)
    assert np.array_equal(read_image(write_deep_png(tmp_path / "x.png", full, colour), 16), GREY)
    low = np.dstack([DEEP * 64] * channels + [OPAQUE] * alpha)  # 14 bits
    with pytest.raises(BadImageError, match=r"y\.png has 16-bit colours"):
        read_image(write_deep_png(tmp_path / "y.png", low, colour), 16)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, kind):
    more = [Image.fromarray(255 - GREY)]
    path = named_png(
        tmp_path / "x.png", Image.fromarray(GREY), kind, save_all=True, append_images=more
    )
    assert Image.open(path).n_frames == 2
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
def test_photographs_are_turned_upright(tmp_path, orientation, size):
    stored = np.kron(np.random.default_rng(0).integers(0, 256, (4, 4)), np.ones((16, 32)))
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / "x.jpg", stored.astype(np.uint8), exif=exif, quality=95)
    plain = save(tmp_path / "y.jpg", stored.astype(np.uint8), quality=95)
    expected = UPRIGHT[orientation](read_image(plain, size))
    np.testing.assert_allclose(read_image(path, size), expected, atol=3)


def test_names_may_have_any_letters(tmp_path):
    assert np.array_equal(read_image(save(tmp_path / "Röntgen 肺 ½.png"), 16), GREY)


def test_one_pixel_fills_the_square(tmp_path):
    path = save(tmp_path / "x.png", np.full((1, 1), 99, np.uint8))
    assert np.unique(read_image(path, 16)).tolist() == [99]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_very_long_image_becomes_a_square(tmp_path, axis):
    line = np.repeat(np.arange(16, dtype=np.uint8) * 10, 500)
    found = read_image(save(tmp_path / "x.png", np.expand_dims(line, axis)), 16)
    np.testing.assert_allclose(
        found, np.expand_dims(np.arange(16) * 10, axis).repeat(16, axis), atol=1
    )


PEAK = r"""
def peak():  # of this program only, which ru_maxrss is not
    return int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_line_of_millions_of_pixels_takes_little_memory(tmp_path):
    Image.new("1", (1, 4_000_000)).save(tmp_path / "x.png")
    code = f"""
import re, sys
from fedtutor.datasets.decode import read_image
{PEAK}
before = peak()
read_image(sys.argv[1], 128)
print(peak() - before)
"""
    command = [sys.executable, "-c", code, tmp_path / "x.png"]
    grown = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert 1e6 < grown < 130e6


def test_sides_that_are_no_multiple_are_averaged_as_finely_as_pil_can(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (625, 500), np.uint8)
    plain = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BOX)
    assert np.array_equal(read_image(save(tmp_path / "x.png", pixels), 64), np.asarray(plain))


def test_a_jpeg_is_unpacked_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    path = save(tmp_path / "x.jpg", np.full((512, 600), 99, np.uint8))
    sizes, load = [], ImageFile.ImageFile.load

    def watch(image):
        sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watch)
    read_image(path, 64)
    assert sizes[0] == (75, 64)


@pytest.fixture
def mixed(tmp_path):
    """120 files, each as bright as its position; those at 5, 50 and 119 are bad."""
    files = []
    for k in range(120):
        path = tmp_path / f"{k}.png"
        save(path, np.full((4, 4), k, np.uint8))
        if k in (5, 50, 119):
            path.write_text("<html>")
        files.append(path)
    return files


def test_bad_files_are_listed_and_have_no_row(mixed):
    found = read_images(mixed, size=4)
    good = [k for k in range(120) if k not in (5, 50, 119)]
    assert found.kept.tolist() == good
    assert (found.images.shape, found.images.dtype) == ((117, 4, 4, 1), np.uint8)
    assert found.images[:, 0, 0, 0].tolist() == good
    assert found.images.min(axis=(1, 2, 3)).tolist() == good
    assert found.bad["position"].tolist() == [5, 50, 119]
    assert found.bad["file"].tolist() == [str(mixed[k]) for k in (5, 50, 119)]
    assert found.bad["reason"].str.startswith("is not an image").all()


def test_where_all_is_well_the_list_of_bad_files_is_empty(mixed):
    first = read_images(mixed[:5], size=4).bad
    assert first.columns.tolist() == ["position", "file", "reason"]
    first.loc[0] = [1, "a", "b"]
    again = read_images(mixed[:5], size=4).bad
    assert len(again) == 0
    assert again.dtypes.equals(read_images(mixed, size=4).bad.dtypes)


def test_strict_refuses_the_first_bad_file_and_decodes_no_further(mixed, monkeypatch):
    asked = []

    def watch(path, size):
        asked.append(path)
        return read_image(path, size)

    monkeypatch.setattr(decode, "read_image", watch)
    with pytest.raises(BadImageError, match=r"5\.png is not an image"):
        read_images(mixed[:10] + mixed * 100, size=4, strict=True)
    assert len(asked) < 1000


def test_files_that_are_all_bad_are_refused(mixed):
    with pytest.raises(
        DataError, match=r"none of 2 files .*; the first: .*119\.png is not an image"
    ):
        read_images([mixed[119], mixed[50]], size=4)


def test_no_files_are_refused():
    with pytest.raises(DataError, match="none of 0 files"):
        read_images([], size=4)


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_below_one_pixel_is_refused(mixed, size):
    with pytest.raises(DataError, match=f"at least 1 pixel; got {size}"):
        read_images(mixed, size=size)
    with pytest.raises(DataError, match=f"at least 1 pixel; got {size}"):
        read_image(mixed[0], size)


def test_images_are_decoded_into_an_array_that_is_given(mixed):
    out = np.full((130, 4, 4, 1), 255, np.uint8)
    found = read_images(iter(mixed), size=4, out=out)
    assert np.shares_memory(found.images, out)
    assert len(found.images) == 117
    assert np.array_equal(found.images, read_images(mixed, size=4).images)
    assert (out[117:] == 255).all()


@pytest.mark.parametrize(
    "out",
    [np.zeros((119, 4, 4, 1), np.uint8), np.zeros((120, 4, 4), np.uint8), np.zeros((120, 4, 4, 1))],
    ids=["short", "no channel", "float"],
)
def test_an_array_that_does_not_fit_is_refused(mixed, out):
    with pytest.raises(DataError, match=r"out must be uint8 of shape \(120, 4, 4, 1\)"):
        read_images(mixed, size=4, out=out)


def test_progress_is_told_of_every_file(mixed):
    steps = []
    read_images(mixed, size=4, progress=steps.append)
    assert sum(steps) == 120
    assert len(steps) > 10


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
    assert max(ahead) <= decode.AHEAD * decode._cores() + 1


def test_ctrl_c_ends_decoding_at_once(mixed, monkeypatch):
    decoded, interrupted = [], threading.Event()

    def watch(path, size):
        decoded.append(path)
        if len(decoded) > 1:
            interrupted.wait(10)
        return GREY[:size, :size]

    def interrupt(_):
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
