from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import psutil
import pytest
from PIL import Image

from fedtutor.datasets import cache, decode
from fedtutor.datasets.cache import cached_images
from fedtutor.datasets.decode import BadImageError, read_images
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
            path.write_text("<html>")
    return paths


@pytest.fixture
def decodings(monkeypatch):
    """The files that were decoded, as they are decoded."""
    paths = []

    def watch(path, size):
        paths.append(path)
        return read_image(path, size)

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
    again = cached_images(iter(files), size=8, folder=folder)
    assert len(decodings) == COUNT
    expected = read_images(files, size=8)
    for found in (first, again):
        assert_right(found, files)
        assert isinstance(found.images, np.memmap)
        assert (found.images.shape, found.images.dtype) == ((38, 8, 8, 1), np.uint8)
        assert not found.images.flags.writeable
        assert np.array_equal(found.images, expected.images)
        assert found.kept.dtype == expected.kept.dtype
        assert found.bad.equals(expected.bad)
        assert found.bad.dtypes.equals(expected.bad.dtypes)


def test_the_file_on_the_disk_has_no_row_for_a_bad_image(files, folder):
    cached_images(files, size=8, folder=folder)
    (entry,) = entries(folder)
    assert sorted(path.name for path in (folder / entry).iterdir()) == [
        "bad_files.json",
        "images.npy",
    ]
    assert np.load(folder / entry / "images.npy").shape == (38, 8, 8, 1)


def test_strict_refuses_the_first_bad_file_whether_cached_or_not(files, folder):
    for _ in range(2):
        with pytest.raises(BadImageError, match=r"5\.png is not an image, whatever its name says"):
            cached_images(files, size=8, folder=folder, strict=True)
        if folder.is_dir() and entries(folder):
            break
        cached_images(files, size=8, folder=folder)
    good = [files[k] for k in GOOD]
    assert len(cached_images(good, size=8, folder=folder, strict=True).images) == 38


def test_a_strict_build_that_was_refused_leaves_nothing(files, folder):
    with pytest.raises(BadImageError) as refusal:
        cached_images(files, size=8, folder=folder, strict=True)
    assert entries(folder) == []
    # A notebook keeps the last error, and with it all that its functions held.
    assert refusal.tb is not None
    filelock.FileLock(folder / "lock").acquire(timeout=0).lock.release()


def test_files_that_are_all_bad_are_refused_and_leave_nothing(files, folder):
    with pytest.raises(DataError, match="none of 2 files"):
        cached_images([files[5], files[39]], size=8, folder=folder)
    assert entries(folder) == []


@pytest.mark.parametrize("call", [lambda f, d: ([], 8, d), lambda f, d: (f, 0, d)])
def test_nothing_to_decode_is_refused(files, folder, call):
    paths, size, where = call(files, folder)
    with pytest.raises(DataError, match="none of 0 files|at least 1 pixel"):
        cached_images(paths, size=size, folder=where)


def test_another_size_has_a_cache_of_its_own(files, folder, decodings):
    for size in (8, 4, 8, 4):
        assert cached_images(files, size=size, folder=folder).images.shape == (38, size, size, 1)
    assert len(decodings) == 2 * COUNT
    assert len(entries(folder)) == 2


def new_pixels(files):
    draw(files[3], 200)


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
    "change", [new_pixels, same_length_and_new_time, same_time_and_new_length, mended, gone]
)
def test_a_changed_file_makes_a_new_cache_in_place_of_the_old(files, folder, decodings, change):
    cached_images(files, size=4, folder=folder)
    before = entries(folder)
    change(files)
    found = cached_images(files, size=4, folder=folder)
    expected = read_images(files, size=4)
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.kept, expected.kept)
    assert len(entries(folder)) == 1
    assert entries(folder) != before


def test_a_file_that_comes_back_is_read(files, folder):
    away = files[3].rename(files[3].with_suffix(".away"))
    found = cached_images(files, size=4, folder=folder)
    assert found.bad["reason"].tolist()[0] == "cannot be read (No such file or directory)"
    assert_right(found, files, [k for k in GOOD if k != 3])
    away.rename(files[3])
    assert_right(cached_images(files, size=4, folder=folder), files)


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
    assert found.bad["file"].tolist() == [str(files[k]) for k in BAD]


def test_new_code_makes_a_new_cache_in_place_of_the_old(files, folder, decodings, monkeypatch):
    cached_images(files, size=4, folder=folder)
    before = entries(folder)
    monkeypatch.setattr(decode, "version", lambda: "another")
    assert_right(cached_images(files, size=4, folder=folder), files)
    assert len(decodings) == 2 * COUNT
    assert len(entries(folder)) == 1
    assert entries(folder) != before


def cut(images):
    os.truncate(images, 500)


def cut_by_a_byte(images):
    os.truncate(images, images.stat().st_size - 1)


def grow(images):
    with open(images, "ab") as stream:
        stream.write(b"\0" * 16)


def empty(images):
    os.truncate(images, 0)


def remove(images):
    images.unlink()


def break_header(images):
    content = bytearray(images.read_bytes())
    content[10:40] = b"?" * 30
    images.write_bytes(content)


def swap(images):
    np.save(images, np.zeros((3, 4, 4, 1), np.uint8))


def break_table(images):
    (images.parent / "bad_files.json").write_text("[[5, ")


def zero_table(images):
    (images.parent / "bad_files.json").write_bytes(b"\0" * 60)


def forget_table(images):
    (images.parent / "bad_files.json").unlink()


def other_table(images):
    (images.parent / "bad_files.json").write_text("[]")


def odd_table(images):
    (images.parent / "bad_files.json").write_text("[1, 2]")


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        cut_by_a_byte,
        grow,
        empty,
        remove,
        break_header,
        swap,
        break_table,
        zero_table,
        forget_table,
        other_table,
        odd_table,
    ],
)
def test_a_damaged_cache_is_found_out_and_replaced(files, folder, decodings, damage):
    cached_images(files, size=4, folder=folder)
    (entry,) = entries(folder)
    damage(folder / entry / "images.npy")
    assert_right(cached_images(files, size=4, folder=folder), files)
    assert entries(folder) == [entry]
    cached_images(files, size=4, folder=folder)
    assert len(decodings) == 2 * COUNT


BUILD = """
import sys
from pathlib import Path
from fedtutor.datasets.cache import cached_images

folder, *files = sys.argv[1:]
done = 0

def progress(step):
    global done
    done += step
    if done == 20:
        print("half", flush=True)
        sys.stdin.readline()

try:
    found = cached_images([Path(file) for file in files], size=8, folder=folder, progress=progress)
    print(done, len(found.images), int(found.images.sum()))
except KeyboardInterrupt:
    print("interrupted")
"""


def start_build(files, folder):
    """A process that builds the cache and, half-way, waits for a line to go on."""
    command = [sys.executable, "-c", BUILD, folder, *files]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([str(word) for word in command], text=True, **pipes)
    deadline = threading.Timer(30, process.kill)
    deadline.daemon = True
    deadline.start()
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_build_that_is_stopped_leaves_no_cache_and_does_not_hinder_the_next(files, folder, how):
    with start_build(files, folder) as process:
        assert process.stdout.readline() == "half\n"
        (unfinished,) = entries(folder)
        assert unfinished.startswith(".unfinished-")
        process.send_signal(getattr(signal, how))
        said, _ = process.communicate(timeout=10)
    assert said == ("" if how == "SIGKILL" else "interrupted\n")
    assert entries(folder) == ([unfinished] if how == "SIGKILL" else [])
    assert_right(cached_images(files, size=8, folder=folder), files)
    (entry,) = entries(folder)
    assert entry.startswith("8px-")


def test_of_several_processes_one_decodes_and_the_others_wait(files, folder):
    with start_build(files, folder) as first:
        assert first.stdout.readline() == "half\n"
        with start_build(files, folder) as second, start_build(files, folder) as third:
            for process in (second, third):
                assert "another process is decoding images" in process.stderr.readline()
            said = [process.communicate("\n", timeout=30) for process in (first, second, third)]
    expected = read_images(files, size=8).images
    summary = f"{len(expected)} {int(expected.sum())}\n"
    assert said == [(f"{COUNT} {summary}", ""), (f"0 {summary}", ""), (f"0 {summary}", "")]
    (entry,) = entries(folder)
    assert entry.startswith("8px-")


def test_what_is_not_ours_in_the_folder_is_left_alone(files, folder):
    (folder / "128px-mine").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / ".unfinished-dead").mkdir()
    for size in range(2, 2 + 2 * cache.KEEP):
        cached_images(files, size=size, folder=folder)
    assert {"128px-mine", "notes.txt"} < set(entries(folder))
    assert ".unfinished-dead" not in entries(folder)


def test_caches_of_other_lists_do_not_pile_up_and_the_last_used_stay(files, folder, decodings):
    lists = [files[k : k + 3] for k in range(10, 11 + cache.KEEP)]
    seen = set()
    for k, some in enumerate(lists):
        cached_images(some, size=4, folder=folder)
        (entry,) = set(entries(folder)) - seen
        seen.add(entry)
        os.utime(folder / entry, (1000 + k, 1000 + k))
    cached_images(lists[0], size=4, folder=folder)  # the oldest is now the last used
    cached_images(files, size=4, folder=folder)
    assert len(entries(folder)) == cache.KEEP + 1
    del decodings[:]
    for some in (lists[0], *lists[2:]):
        cached_images(some, size=4, folder=folder)
    assert decodings == []
    cached_images(lists[1], size=4, folder=folder)
    assert len(decodings) == 3


def test_what_the_disk_would_not_give_is_tried_again(files, folder, decodings, monkeypatch, caplog):
    def refuse(path, *mode):
        if Path(path) == files[3]:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open(path, *mode)

    monkeypatch.setattr(decode, "open", refuse, raising=False)
    monkeypatch.setattr(cache, "_can_be_read", lambda _: False)
    for _ in range(2):
        found = cached_images(files, size=4, folder=folder)
        assert_right(found, files, [k for k in GOOD if k != 3])
        assert found.bad["reason"].tolist()[0] == "cannot be read (Permission denied)"
    assert len(decodings) == COUNT
    monkeypatch.setattr(cache, "_can_be_read", lambda _: True)
    assert_right(cached_images(files, size=4, folder=folder), files, [k for k in GOOD if k != 3])
    assert (len(decodings), caplog.records) == (2 * COUNT, [])
    monkeypatch.undo()
    assert_right(cached_images(files, size=4, folder=folder), files)


def the_one_warning(caplog):
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "\n" not in record.getMessage()
    return record.getMessage()


def assert_decoded_into_memory(files, folder, caplog, words):
    found = cached_images(files, size=8, folder=folder)
    assert_right(found, files)
    assert not isinstance(found.images, np.memmap)
    assert not found.images.flags.writeable
    assert "they are decoded into memory this time" in the_one_warning(caplog)
    assert words in the_one_warning(caplog)


def test_a_folder_that_cannot_be_made_costs_a_warning(files, folder, caplog):
    folder.write_text("a file is in the way")
    assert_decoded_into_memory(files, folder, caplog, str(folder))
    assert folder.read_text() == "a file is in the way"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_read_only_folder_costs_a_warning(files, folder, caplog):
    folder.mkdir(mode=0o500)
    assert_decoded_into_memory(files, folder, caplog, "Permission denied")


@pytest.mark.parametrize("step", ["tempfile.TemporaryDirectory", "filelock.FileLock.acquire"])
def test_a_disk_that_refuses_to_be_written_costs_a_warning(
    files, folder, caplog, monkeypatch, step
):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(step, refuse)
    assert_decoded_into_memory(files, folder, caplog, "(Read-only file system)")


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
    free = shutil._ntuple_diskusage(10**9, 10**9, 2**20 + COUNT * 64)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    assert isinstance(cached_images(files, size=8, folder=folder).images, np.memmap)
    shutil.rmtree(folder)
    del decodings[:]
    monkeypatch.setattr("shutil.disk_usage", lambda _: free._replace(free=free.free - 1))
    assert_decoded_into_memory(files, folder, caplog, "MB of free disk space are needed")
    assert len(decodings) == COUNT
    assert entries(folder) == []


def test_a_disk_that_fills_up_meanwhile_costs_a_warning(files, folder, caplog, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    assert_decoded_into_memory(files, folder, caplog, "(No space left on device)")
    assert entries(folder) == []


def test_images_that_fit_neither_on_the_disk_nor_into_memory_are_refused(
    files, folder, monkeypatch, decodings
):
    folder.write_text("a file is in the way")
    little = psutil.virtual_memory()._replace(available=COUNT * 64)
    monkeypatch.setattr("psutil.virtual_memory", lambda: little)
    with pytest.raises(DataError, match="40 images of 8x8 pixels cannot be kept in .* free memory"):
        cached_images(files, size=8, folder=folder)
    assert decodings == []


def test_a_warning_is_one_line_in_a_notebook_and_no_error(files, folder):
    folder.write_text("a file is in the way")
    command = [sys.executable, "-W", "error::UserWarning", "-c", BUILD, folder, *files]
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert done.stderr.startswith(f"decoded images cannot be kept in {folder}")
    assert done.stderr.count("\n") == 1


def test_progress_is_told_of_every_file_that_is_decoded(files, folder, capsys):
    steps = []
    cached_images(files, size=4, folder=folder, progress=steps.append)
    assert sum(steps) == COUNT
    cached_images(files, size=4, folder=folder, progress=steps.append)
    assert sum(steps) == COUNT
    assert capsys.readouterr() == ("", "")


def test_nothing_is_said_without_a_terminal(files, folder, capfd):
    cached_images(files, size=4, folder=folder)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_how_far_the_decoding_is(files, folder, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    cached_images(files, size=4, folder=folder)
    said = capsys.readouterr()
    assert "decoding images" in said.err
    assert f"/{COUNT}" in said.err
    assert said.out == ""
    cached_images(files, size=4, folder=folder)
    assert capsys.readouterr().err == ""


PEAK = """
import re, sys
from pathlib import Path
from fedtutor.datasets.cache import cached_images

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

file, folder = map(Path, sys.argv[1:])
cached_images([file] * 20, size=512, folder=folder)
before = peak()
found = cached_images([file] * 500, size=512, folder=folder)
cached_images([file] * 500, size=512, folder=folder)
print(peak() - before, found.images.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cache_larger_than_memory_can_be_built_and_loaded(files, folder):
    command = [sys.executable, "-c", PEAK, files[1], folder]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown, size = map(int, said.split())
    assert size == 500 * 512 * 512
    assert grown < size / 4


def test_loading_is_far_faster_than_decoding(real_data, folder):
    files = sorted((real_data / "nih_chestxray14" / "images_256").glob("*.png"))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        found = cached_images(files, size=128, folder=folder)
        seconds.append(time.perf_counter() - start)
    assert len(found.images) == len(files) == 489
    assert seconds[0] > 60 * min(seconds[1:])  # 300 on a quiet machine
