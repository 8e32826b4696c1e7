"""Decoded images on disk: used while nothing has changed, whole or not there, never in the way."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from filelock import FileLock
from PIL import Image

from fedtutor.datasets import cache, decode, disk
from fedtutor.datasets.cache import cached_images
from fedtutor.datasets.decode import read_images
from fedtutor.errors import DataError

COUNT = 40
BAD = (5, 39)
GOOD = [k for k in range(COUNT) if k not in BAD]


def draw(path, value):
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path, compress_level=0)


@pytest.fixture
def folder(tmp_path):
    """Where caches go; the images are beside it."""
    return tmp_path / "caches"


@pytest.fixture
def files(tmp_path):
    """40 files, each as bright as its position; those at 5 and 39 are bad."""
    paths = [tmp_path / "images" / "ab"[k % 2] / f"{k}.png" for k in range(COUNT)]
    for k, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, k)
        if k in BAD:
            path.write_text("<html>", encoding="utf-8")
    return paths


@pytest.fixture
def decodings(monkeypatch):
    """The files that were decoded, as they are decoded."""
    paths = []

    def watch(path, size, **options):
        paths.append(path)
        return read_image(path, size, **options)

    read_image = decode.read_image
    monkeypatch.setattr(decode, "read_image", watch)
    return paths


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def assert_right(found, files, good=GOOD):
    """Each image is as bright as its file's name says."""
    assert found.kept.tolist() == good
    assert found.images.shape[0] == len(good)
    values = [int(files[k].stem) for k in good]
    assert found.images.min(axis=(1, 2, 3)).tolist() == values
    assert found.images.max(axis=(1, 2, 3)).tolist() == values


def test_images_are_decoded_once_and_then_mapped(files, folder, decodings):
    first = cached_images(files, size=8, folder=folder)
    assert len(decodings) == COUNT
    again = cached_images(files, size=8, folder=folder)
    assert len(decodings) == COUNT
    expected = read_images(files, size=8)
    for found in (first, again):
        assert_right(found, files)
        assert isinstance(found.images, np.memmap)
        assert (found.images.shape, found.images.dtype) == ((38, 8, 8, 1), np.uint8)
        assert not found.images.flags.writeable
        assert np.array_equal(found.images, expected.images)
        assert found.kept.dtype == expected.kept.dtype
        assert found.bad == expected.bad


def test_nothing_to_decode_is_refused_and_leaves_nothing(files, folder):
    with pytest.raises(DataError, match="none of 2 files") as refusal:
        cached_images([files[k] for k in BAD], size=8, folder=folder)
    assert entries(folder) == []
    # A notebook keeps the last error, and with it all that its functions held.
    assert refusal.tb is not None
    FileLock(folder / "lock").acquire(timeout=0).lock.release()


def test_another_size_has_a_cache_of_its_own(files, folder, decodings):
    for size in (8, 4, 8, 4):
        assert cached_images(files, size=size, folder=folder).images.shape == (38, size, size, 1)
    assert len(decodings) == 2 * COUNT
    assert len(entries(folder)) == 2


def same_length_and_new_time(files):
    stat = os.stat(files[3])
    os.utime(files[3], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def same_time_and_new_length(files):
    stat = os.stat(files[3])
    files[3].write_bytes(files[3].read_bytes() + b"more")
    os.utime(files[3], ns=(stat.st_atime_ns, stat.st_mtime_ns))


def mended(files):
    draw(files[5], 5)


def gone(files):
    files[3].unlink()


@pytest.mark.parametrize(
    "change", [same_length_and_new_time, same_time_and_new_length, mended, gone]
)
def test_a_changed_file_makes_a_new_cache(files, folder, decodings, change):
    cached_images(files, size=4, folder=folder)
    change(files)
    found = cached_images(files, size=4, folder=folder)
    expected = read_images(files, size=4)
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.kept, expected.kept)
    assert len(entries(folder)) == 2


def test_new_code_makes_a_new_cache(files, folder, decodings, monkeypatch):
    cached_images(files, size=4, folder=folder)
    monkeypatch.setattr(decode, "version", lambda: "another")
    assert_right(cached_images(files, size=4, folder=folder), files)
    assert len(decodings) == 2 * COUNT


@pytest.mark.parametrize("part", [slice(0, 20), slice(None, None, -1), slice(1, None, 2)])
def test_another_list_of_files_is_not_mistaken_for_this_one(files, folder, part):
    cached_images(files, size=4, folder=folder)
    chosen = files[part]
    good = [k for k, path in enumerate(chosen) if int(path.stem) not in BAD]
    assert_right(cached_images(chosen, size=4, folder=folder), chosen, good)
    assert_right(cached_images(files, size=4, folder=folder), files)


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path, folder):
    paths = [tmp_path / name / "1.png" for name in "ab"]
    for k, path in enumerate(paths):
        path.parent.mkdir()
        draw(path, 50 * k)
        os.utime(path, ns=(0, 0))
    assert len({path.stat().st_size for path in paths}) == 1
    for order in (paths, paths[::-1]):
        found = cached_images(order, size=4, folder=folder).images
        assert np.array_equal(found, read_images(order, size=4).images)


def test_a_data_set_that_is_moved_with_its_cache_keeps_it(files, tmp_path, decodings):
    root = tmp_path / "images"
    cached_images(files, size=4, folder=root / "cache")
    moved = root.rename(tmp_path / "elsewhere")
    files = [moved / path.relative_to(root) for path in files]
    found = cached_images(files, size=4, folder=moved / "cache")
    assert len(decodings) == COUNT
    assert_right(found, files)
    assert list(found.bad) == list(BAD)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (cache.PIXELS, b""),
        (cache.PIXELS, b"\0" * (38 * 16 - 1)),
        (cache.PIXELS, None),
        (cache.FACTS, b'[{"5": "'),
        (cache.FACTS, b"\0" * 60),
        (cache.FACTS, b"[{}, 0]"),
        (cache.FACTS, b"[[], 0]"),
        (cache.FACTS, b"[1, 2]"),
        (cache.FACTS, b"3"),
        (cache.FACTS, b'[{"x": "no image"}, 0]'),
        (cache.FACTS, None),
    ],
)
def test_a_damaged_cache_is_found_out_and_replaced(files, folder, decodings, name, content):
    cached_images(files, size=4, folder=folder)
    (entry,) = entries(folder)
    (folder / entry / name).unlink()
    if content is not None:
        (folder / entry / name).write_bytes(content)
    assert_right(cached_images(files, size=4, folder=folder), files)
    assert entries(folder) == [entry]
    cached_images(files, size=4, folder=folder)
    assert len(decodings) == 2 * COUNT


@pytest.mark.parametrize("place", [0, 38 * 16 - 1])
def test_a_pixel_that_was_changed_is_noticed(files, folder, place):
    cached_images(files, size=4, folder=folder)
    (entry,) = entries(folder)
    pixels = folder / entry / cache.PIXELS
    content, before = bytearray(pixels.read_bytes()), pixels.stat()
    content[place] ^= 1
    pixels.write_bytes(content)
    os.utime(pixels, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_right(cached_images(files, size=4, folder=folder), files)
    assert entries(folder) == [entry]


BUILD = """
import signal, sys
from contextlib import nullcontext
from pathlib import Path
from fedtutor.datasets import cache

signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may run with it ignored
folder, *files = sys.argv[1:]
decoded = 0

def progress(done, total):
    global decoded
    decoded = done
    if done == 20:
        print("half", flush=True)
        sys.stdin.readline()

try:
    cache.reporting = lambda *_, **__: nullcontext(progress)
    found = cache.cached_images([Path(file) for file in files], size=8, folder=Path(folder))
    print(decoded, len(found.images), int(found.images.sum()))
except KeyboardInterrupt:
    print("interrupted")
"""


def start_build(files, folder):
    """A process that builds the cache and, half-way, waits for a line to go on."""
    command = [sys.executable, "-c", BUILD, folder, *files]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([str(word) for word in command], text=True, **pipes)
    deadline = threading.Timer(600, process.kill)
    deadline.daemon = True
    deadline.start()
    return process


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_build_that_is_stopped_leaves_no_cache_and_does_not_hinder_the_next(files, folder, how):
    with start_build(files, folder) as process:
        assert process.stdout.readline() == "half\n"
        (unfinished,) = entries(folder)
        assert unfinished.startswith(".unfinished-")
        process.send_signal(getattr(signal, how))
        said, _ = process.communicate(timeout=600)
    assert said == ("" if how == "SIGKILL" else "interrupted\n")
    assert entries(folder) == ([unfinished] if how == "SIGKILL" else [])
    assert_right(cached_images(files, size=8, folder=folder), files)
    (entry,) = entries(folder)
    assert entry.startswith("cache-")


@pytest.mark.slow
@pytest.mark.process
def test_of_several_processes_one_decodes_and_the_others_wait(files, folder):
    with start_build(files, folder) as first:
        assert first.stdout.readline() == "half\n"
        with start_build(files, folder) as second:
            assert "another process is decoding images" in second.stderr.readline()
            said = [process.communicate("\n", timeout=600) for process in (first, second)]
    expected = read_images(files, size=8).images
    summary = f"{len(expected)} {int(expected.sum())}\n"
    assert said == [(f"{COUNT} {summary}", ""), (f"0 {summary}", "")]
    assert len(entries(folder)) == 1


def test_caches_do_not_pile_up_and_the_last_used_stay(files, folder, decodings):
    folder.mkdir()
    (folder / "notes.txt").touch()
    lists = [files[k : k + 3] for k in range(10, 10 + cache.KEEP)]
    seen = {"notes.txt"}
    for k, some in enumerate(lists):
        cached_images(some, size=4, folder=folder)
        (entry,) = set(entries(folder)) - seen
        seen.add(entry)
        os.utime(folder / entry, (1000 + k, 1000 + k))
    cached_images(lists[0], size=4, folder=folder)  # the oldest is now the last used
    cached_images(files, size=4, folder=folder)
    assert len(entries(folder)) == cache.KEEP + 1
    assert "notes.txt" in entries(folder)
    del decodings[:]
    for some in (lists[0], *lists[2:]):
        cached_images(some, size=4, folder=folder)
    assert decodings == []
    cached_images(lists[1], size=4, folder=folder)
    assert len(decodings) == 3


def test_what_the_disk_refuses_to_give_leaves_no_cache(files, folder, monkeypatch, caplog):
    def refuse(path, *mode):
        if path == files[3]:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open(path, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "open", refuse, raising=False)
        with pytest.raises(DataError, match=r"3\.png cannot be read: Permission denied"):
            cached_images(files, size=4, folder=folder)
    assert (entries(folder), caplog.records) == ([], [])
    assert_right(cached_images(files, size=4, folder=folder), files)


def assert_decoded_into_memory(files, folder, caplog, words):
    found = cached_images(files, size=8, folder=folder)
    assert_right(found, files)
    assert not isinstance(found.images, np.memmap)
    assert not found.images.flags.writeable
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "\n" not in record.getMessage()
    assert "they are decoded into memory this time" in record.getMessage()
    assert words in record.getMessage()


def test_a_folder_that_cannot_be_made_costs_a_warning(files, folder, caplog):
    folder.touch()
    assert_decoded_into_memory(files, folder, caplog, str(folder))


@pytest.mark.parametrize(
    "step", ["tempfile.TemporaryDirectory", "filelock.FileLock.acquire", "os.fsync"]
)
def test_a_disk_that_refuses_to_be_written_costs_a_warning(
    files, folder, caplog, monkeypatch, step
):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(step, refuse)
    assert_decoded_into_memory(files, folder, caplog, "(No space left on device)")
    assert entries(folder) == []


def test_a_cache_on_a_read_only_disk_is_used(files, folder, decodings, monkeypatch, caplog):
    cached_images(files, size=4, folder=folder)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    for step in ("os.mkdir", "os.utime", "os.rename", "filelock.FileLock.acquire"):
        monkeypatch.setattr(step, refuse)
    found = cached_images(files, size=4, folder=folder)
    assert isinstance(found.images, np.memmap)
    assert len(decodings) == COUNT
    assert caplog.records == []


def test_want_of_disk_space_is_found_before_decoding(files, folder, caplog, monkeypatch, decodings):
    free = disk.RESERVE + COUNT * 64
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert isinstance(cached_images(files, size=8, folder=folder).images, np.memmap)
    shutil.rmtree(folder)
    del decodings[:]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free - 1))
    assert_decoded_into_memory(files, folder, caplog, "MB are needed")
    assert len(decodings) == COUNT
    assert entries(folder) == []


def test_images_that_fit_neither_on_the_disk_nor_into_memory_are_refused(
    files, folder, monkeypatch, decodings
):
    folder.touch()
    little = psutil.virtual_memory()._replace(available=COUNT * 64)
    monkeypatch.setattr("psutil.virtual_memory", lambda: little)
    with pytest.raises(DataError, match=r"40 images of 8x8 pixels cannot be kept in .* memory"):
        cached_images(files, size=8, folder=folder)
    assert decodings == []


def test_progress_is_told_of_every_file_that_is_decoded(files, folder, capfd, watch_progress):
    cached_images(files[:3], size=4, folder=folder)  # without a terminal there is no bar
    told = []
    watch_progress(cache, lambda *step: told.append(step))
    for _ in range(2):
        cached_images(files, size=4, folder=folder)
    assert told == [(k, COUNT) for k in range(1, COUNT + 1)]
    assert capfd.readouterr() == ("", "")


PEAK = """
import re, sys
from pathlib import Path
from fedtutor.datasets.cache import cached_images

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

file, folder = map(Path, sys.argv[1:])
cached_images([file] * 70, size=512, folder=folder)
before = peak()
found = cached_images([file] * 500, size=512, folder=folder)
cached_images([file] * 500, size=512, folder=folder)
print(peak() - before, found.images.nbytes)
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cache_larger_than_memory_can_be_built_and_loaded(files, folder):
    command = [sys.executable, "-c", PEAK, files[1], folder]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown, size = map(int, said.split())
    assert size == 500 * 512 * 512
    assert grown < size / 4
