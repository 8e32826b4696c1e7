"""Archives as they should be, as they break, and as an attacker would write them."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import warnings
import zipfile
from collections import namedtuple

import pytest
from rich.progress import Progress

from fedtutor.datasets.fetch import unpack as unpack_module
from fedtutor.datasets.fetch.unpack import UnpackLimits, is_unpacked, unpack
from fedtutor.errors import DataError

FILES = {"images/a.png": b"a" * 1000, "images/deep/b.png": b"", "labels.csv": b"x,y\n" * 40_000}
SMALL = UnpackLimits(max_files=50, max_bytes=2**21, max_ratio=20, ratio_from=2**18)


def member(name, content=b"", type=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = type, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(path, *members, mode="w:gz", format=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, *members, compression=zipfile.ZIP_DEFLATED):
    """A zip of pairs of a name, or a ZipInfo, and a content."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for info, content in members:
            archive.writestr(info, content)
    return path


def make(kind, path, files):
    """The same files as each kind of archive."""
    if kind == "zip":
        return zipped(path, *files.items())
    mode = {"tar": "w", "tar.gz": "w:gz"}[kind]
    return tar(path, *(member(name, content) for name, content in files.items()), mode=mode)


@pytest.fixture(params=["zip", "tar", "tar.gz"])
def kind(request):
    return request.param


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "images_001.tar.gz"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def contents(folder):
    """All files that a user would see."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes()
        for name, path in paths.items()
        if path.is_file() and not name.startswith(".images_001.tar.gz")
    }


def refused(archive, folder, limits=SMALL):
    """The message for an archive that must be refused, leaving all as it was."""
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_bytes(b"before")
    around = set(folder.parent.rglob("*")) | {folder / f".{archive.name}.lock"}
    with pytest.raises(DataError) as error:
        unpack(archive, folder, limits=limits)
    assert set(folder.parent.rglob("*")) <= around
    assert (folder / "labels.csv").read_bytes() == b"before"
    assert not is_unpacked(archive.name, folder)
    assert str(archive) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


# Archives as they should be


def test_all_files_are_unpacked_whatever_the_name_says(kind, archive, folder):
    assert unpack(make(kind, archive, FILES), folder) == 3
    assert contents(folder) == FILES
    assert is_unpacked(archive, folder)


def test_a_second_time_replaces_the_first(kind, archive, folder):
    unpack(make(kind, archive, FILES), folder)
    (folder / "labels.csv").write_bytes(b"changed")
    (folder / "mine.txt").write_bytes(b"of the user")
    unpack(archive, folder)
    assert contents(folder) == FILES | {"mine.txt": b"of the user"}
    assert not list(folder.glob(".*.unpacking"))


@pytest.mark.parametrize(
    "format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=str
)
def test_every_kind_of_tar_is_read(archive, folder, format):
    name = f"./{'long-' * 18}/{'é' * 20}.png"
    tar(
        archive,
        member("./", type=tarfile.DIRTYPE),
        member("./empty/", type=tarfile.DIRTYPE),
        member(name, b"png"),
        format=format,
    )
    assert unpack(archive, folder) == 1
    assert contents(folder) == {name[2:]: b"png"}


def test_an_archive_of_the_system_tar_is_read(archive, folder, tmp_path):
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    subprocess.run(["tar", "czf", archive, "-C", tmp_path / "in", "."], check=True)
    assert unpack(archive, folder) == 3
    assert contents(folder) == FILES


def test_what_macos_adds_is_left_out(kind, archive, folder):
    junk = {"__MACOSX/a.png": b"", "images/.DS_Store": b"", "images/._a.png": b""}
    assert unpack(make(kind, archive, FILES | junk), folder) == 3
    assert contents(folder) == FILES


def test_the_archive_does_not_choose_permissions(archive, folder):
    tar(archive, member("program", b"#!/bin/sh", mode=0o6777, uid=1, gid=1))
    unpack(archive, folder)
    (tmp := folder / "plain").write_bytes(b"")
    status, plain = (folder / "program").stat(), tmp.stat()
    assert (status.st_mode, status.st_uid) == (plain.st_mode, plain.st_uid)
    assert not status.st_mode & 0o7111


def test_progress_is_told_in_packed_bytes(kind, archive, folder):
    make(kind, archive, {f"{k}.bin": random.Random(k).randbytes(50_000) for k in range(9)})
    told, size = [], archive.stat().st_size
    unpack(archive, folder, progress=lambda *numbers: told.append(numbers))
    assert told == sorted(told)
    assert told[-1][0] > 0.9 * size
    assert {total for _, total in told} == {size}
    with Progress(disable=True) as bar:
        unpack(archive, folder, progress=bar)
    assert bar.tasks[0].description == archive.name


def test_a_large_tar_needs_little_memory(archive, folder):
    files = {f"images/{k:08d}_000.png": b"x" * 2000 for k in range(2000)}
    make("tar.gz", archive, files | {"large.bin": bytes(20_000_000)})
    tracemalloc.start()
    try:
        assert unpack(archive, folder) == 2001
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# What is known afterwards


def test_nothing_is_unpacked_before_it_is(archive, folder):
    assert not is_unpacked(archive.name, folder)
    make("tar.gz", folder.parent / archive.name, FILES)
    assert not is_unpacked(archive, folder)


def test_the_archive_may_be_deleted_afterwards(kind, folder):
    folder.mkdir()
    archive = make(kind, folder / "set.zip", FILES)
    unpack(archive, folder)
    assert is_unpacked("set.zip", folder)
    archive.unlink()
    assert is_unpacked("set.zip", folder)
    assert is_unpacked(archive, folder)
    assert not is_unpacked("other.zip", folder)


def test_another_archive_of_the_same_name_is_not_unpacked(kind, archive, folder):
    unpack(make(kind, archive, FILES), folder)
    make(kind, archive, FILES | {"more": b""})
    assert not is_unpacked(archive, folder)


def test_a_scrambled_mark_is_none(archive, folder):
    unpack(make("zip", archive, FILES), folder)
    (marker,) = folder.glob(".*.unpacked")
    assert json.loads(marker.read_text())["files"] == 3
    marker.write_text('{"archive')
    assert not is_unpacked(archive, folder)


def test_ctrl_c_leaves_nothing(kind, archive, folder):
    def interrupt(done, total):
        raise KeyboardInterrupt

    make(kind, archive, FILES)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, folder, progress=interrupt)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert not is_unpacked(archive, folder)


def test_an_interrupted_move_is_not_taken_for_whole(archive, folder, monkeypatch):
    unpack(make("tar", archive, FILES), folder)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unpack_module.os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, folder)
    assert not is_unpacked(archive, folder)
    assert unpack(archive, folder) == 3
    assert is_unpacked(archive, folder)


def test_after_a_kill_the_next_call_starts_anew(archive, folder):
    make("tar.gz", archive, FILES)
    code = (
        "import sys, time; from fedtutor.datasets.fetch.unpack import unpack\n"
        "unpack(*sys.argv[1:], progress=lambda *numbers: time.sleep(60))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(archive), str(folder)])
    staging, give_up = folder / f".{archive.name}.unpacking", time.monotonic() + 20
    while not list(staging.rglob("a.png")) and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert contents(folder) == {}
    assert not is_unpacked(archive, folder)
    (staging / "stray").write_bytes(b"of the killed one")
    unpack(archive, folder)
    assert contents(folder) == FILES
    assert not staging.exists()


# Paths out of the folder


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "images/../../evil",
        "/tmp/evil",
        "//evil",
        "images\\..\\..\\evil",
        "C:/evil",
        "c:evil",
        "\\\\server\\evil",
        "d/" * 65 + "evil",
    ],
)
@pytest.mark.parametrize("end", ["", "/"], ids=["file", "folder"])
def test_a_path_out_of_the_folder_is_refused(kind, archive, folder, name, end):
    if kind == "zip":
        zipped(archive, *FILES.items(), (name + end, b""))
    else:
        type = tarfile.DIRTYPE if end else tarfile.REGTYPE
        tar(archive, *(member(*file) for file in FILES.items()), member(name + end, b"", type))
    assert "is no plain path below the folder" in refused(archive, folder)


def test_a_zero_in_a_name_is_refused(archive, folder):
    tar(archive, member("plain", pax_headers={"path": "a\0b"}))
    assert "is no plain path" in refused(archive, folder)


@pytest.mark.parametrize(
    "twice", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a", "a/b/c"), ("a/b", "a")]
)
def test_two_members_cannot_have_one_place(kind, archive, folder, twice):
    if kind == "zip":
        zipped(archive, *((name, b"x") for name in twice))
    else:
        tar(archive, *(member(name, b"x") for name in twice))
    assert "two of its members want the place" in refused(archive, folder)


# Links and devices


@pytest.mark.parametrize(
    ("type", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"V", "a special file"),
    ],
)
@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "labels.csv"])
def test_what_is_no_file_in_a_tar_is_refused(archive, folder, type, what, target):
    link = member("images/evil", type=type, linkname=target)
    tar(archive, *(member(*file) for file in FILES.items()), link)
    assert f"'images/evil' is {what}" in refused(archive, folder)


@pytest.mark.parametrize("type", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_and_then_a_file_through_it_is_refused(archive, folder, tmp_path, type):
    (tmp_path / "outside").mkdir()
    link = member("images", type=type, linkname="../outside")
    tar(archive, link, member("images/evil", b"x"))
    assert "link" in refused(archive, folder)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_sparse_file_is_refused(archive, folder):
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "huge"}
    content = b"1\n0\n0\n".ljust(512, b"\0")
    headers = sparse | {"GNU.sparse.realsize": str(2**40)}
    tar(archive, member("huge", content, pax_headers=headers))
    assert "'huge' is a special file" in refused(archive, folder)


def unix(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        (stat.S_IFLNK | 0o777, "a symbolic link"),
        (stat.S_IFIFO | 0o644, "a special file"),
        (stat.S_IFCHR | 0o644, "a special file"),
    ],
)
def test_what_is_no_file_in_a_zip_is_refused(archive, folder, mode, what):
    zipped(archive, (unix("images/evil", mode), b"../../outside"), ("images/evil/x", b"x"))
    assert f"'images/evil' is {what}" in refused(archive, folder)


def test_a_plain_mode_in_a_zip_is_no_matter(archive, folder):
    zipped(archive, (unix("program", stat.S_IFREG | 0o6777), b""), (unix("d/", 0o40755), b""))
    assert unpack(archive, folder) == 1
    assert not (folder / "program").stat().st_mode & 0o7111


def test_a_link_that_is_in_the_folder_is_not_followed(kind, archive, folder, tmp_path):
    (tmp_path / "outside").mkdir()
    folder.mkdir()
    (folder / "images").symlink_to(tmp_path / "outside")
    make(kind, archive, FILES)
    assert f"{folder / 'images'} is in the way" in refused(archive, folder)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced(kind, archive, folder, tmp_path):
    (tmp_path / "outside").write_bytes(b"keep")
    folder.mkdir()
    (folder / "labels.csv").symlink_to(tmp_path / "outside")
    unpack(make(kind, archive, FILES), folder)
    assert (tmp_path / "outside").read_bytes() == b"keep"
    assert contents(folder) == FILES


def test_the_folder_itself_may_be_a_link(kind, archive, folder, tmp_path):
    (tmp_path / "large disk").mkdir()
    folder.symlink_to(tmp_path / "large disk")
    unpack(make(kind, archive, FILES), folder)
    assert contents(tmp_path / "large disk") == FILES


@pytest.mark.parametrize("place", ["images", "images/a.png"])
def test_what_is_in_the_way_is_named(kind, archive, folder, place):
    (folder / "images").mkdir(parents=True)
    if place == "images":
        (folder / "images").rmdir()
        (folder / "images").write_bytes(b"a file")
    else:
        (folder / "images" / "a.png").mkdir()
    assert f"{folder / place} is in the way" in refused(make(kind, archive, FILES), folder)


# Bombs


@pytest.mark.parametrize("size", [2**21 - 2**16, 2**21 + 1])
def test_size_has_a_limit(kind, archive, folder, size):
    make(kind, archive, {"half": random.Random(0).randbytes(size // 2), "rest": bytes(size // 2)})
    if size < SMALL.max_bytes:
        assert unpack(archive, folder, limits=SMALL) == 2
    else:
        make(kind, archive, {"random": random.Random(0).randbytes(size)})
        assert "more than 2097152 bytes" in refused(archive, folder)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_the_ratio_has_a_limit(kind, archive, folder):
    make(kind, archive, {"zeros": bytes(2**18 - 2**14)})
    assert unpack(archive, folder, limits=SMALL) == 1
    make(kind, archive, {"zeros": bytes(2**18 + 1)})
    other = folder.parent / "other"
    assert "over 20 times its size" in refused(archive, other)


def test_the_count_has_a_limit(kind, archive, folder):
    make(kind, archive, {f"{k}": b"x" for k in range(50)})
    assert unpack(archive, folder, limits=SMALL) == 50
    make(kind, archive, {f"{k}/": b"" for k in range(51)})
    other = folder.parent / "other"
    assert "more than 50 members" in refused(archive, other)


def test_a_zip_that_claims_too_much_is_refused_before_it_is_unpacked(archive, folder, monkeypatch):
    zipped(archive, ("a", random.Random(0).randbytes(2**21)), ("b", b"x"))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda self, info: pytest.fail("was unpacked"))
    assert "more than 2097152 bytes" in refused(archive, folder)


@pytest.mark.parametrize("claim", [10, 0])
def test_a_zip_that_claims_less_than_it_holds_is_refused(archive, folder, claim):
    zipped(archive, ("a", bytes(100_000)))
    data = archive.read_bytes()
    size, lie = struct.pack("<I", 100_000), struct.pack("<I", claim)
    assert data.count(size) == 2  # beside the file, and in the index
    archive.write_bytes(data.replace(size, lie))
    assert "damaged" in refused(archive, folder)


def test_real_bytes_are_counted_and_not_those_of_a_header(archive, folder, monkeypatch):
    """As for a zipfile that would give more than the index claims."""
    zipped(archive, ("a", b"0123456789"))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda self, info: io.BytesIO(bytes(10**6)))
    assert "more than its headers tell" in refused(archive, folder)


def test_a_tar_that_goes_on_after_its_files_is_counted(archive, folder):
    tar(archive, member("a", b"x"), mode="w")
    archive.write_bytes(gzip.compress(archive.read_bytes() + bytes(2**22)))
    assert "times its size" in refused(archive, folder)


@pytest.mark.parametrize("files", [[], [member("a", bytes(512))]], ids=["first", "second"])
@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_refused(archive, folder, type, files):
    before = b"".join(info.tobuf() + content for info, content in files)
    info, _ = member("header", type=type)
    info.size = 2**33 - 1
    archive.write_bytes(gzip.compress(before + info.tobuf(tarfile.USTAR_FORMAT) + bytes(2**22)))
    tracemalloc.start()
    try:
        message = refused(archive, folder, UnpackLimits())
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert "more than its headers tell" in message


def test_headers_inside_headers_are_refused(archive, folder):
    info, content = member("@LongLink", b"name\0", type=tarfile.GNUTYPE_LONGNAME)
    header = info.tobuf(tarfile.GNU_FORMAT) + content.ljust(512, b"\0")
    archive.write_bytes(gzip.compress(header * 5000))
    refused(archive, folder, UnpackLimits())


def test_a_file_that_claims_the_world_ends_with_the_archive(archive, folder):
    info, _ = member("._junk")
    info.size = 2**60
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    began = time.monotonic()
    assert "damaged" in refused(archive, folder)
    assert time.monotonic() - began < 2


# Damage


def test_an_archive_that_is_cut_off_is_refused_wherever(kind, archive, folder):
    whole = make(kind, archive, FILES).read_bytes()
    # After the first zeros of a plain tar's end there is nothing left to lose.
    end = len(whole) if kind != "tar" else len(whole.rstrip(b"\0"))
    places = {0, 1, 10, end - 1, *range(0, end, max(end // 40, 1)), *range(0, end, 512)[:40]}
    for place in sorted(places):
        archive.write_bytes(whole[:place])
        assert "damaged, or no zip or tar" in refused(archive, folder)


def test_a_flipped_byte_is_found_or_does_not_matter(kind, archive, folder):
    whole, choose = make(kind, archive, FILES).read_bytes(), random.Random(0)
    found = 0
    for k in range(150):
        place = choose.randrange(min(len(whole), 4000)) if k % 2 else choose.randrange(len(whole))
        scrambled = bytearray(whole)
        scrambled[place] ^= choose.randrange(1, 256)
        archive.write_bytes(scrambled)
        try:
            unpack(archive, folder / str(k))
        except DataError:
            found += 1
            assert contents(folder / str(k)) == {}
    assert found > 10


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4", b"<html>log in</html>"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_is_no_archive_is_refused(archive, folder, content, pack):
    archive.write_bytes(pack(content))
    assert "damaged, or no zip or tar" in refused(archive, folder)


def test_an_archive_without_a_file_is_refused(kind, archive, folder):
    make(kind, archive, {"images/._a.png": b"x"})
    assert "it holds no file" in refused(archive, folder)


def test_an_encrypted_member_is_named(archive, folder):
    zipped(archive, ("a.png", b"x"), compression=zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    assert "'a.png' is encrypted" in refused(archive, folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_cannot_be_capped_is_named(archive, folder, method):
    zipped(archive, ("a.png", b"x" * 100), compression=method)
    assert f"'a.png' is packed by method {method}" in refused(archive, folder)


def test_an_archive_that_is_not_there_is_named(archive, folder):
    assert "No such file" in refused(archive, folder)


# The disk


def test_a_disk_without_room_is_known_before(kind, archive, folder, monkeypatch):
    make(kind, archive, FILES)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(unpack_module.shutil, "disk_usage", lambda path: usage(0, 0, 2**27))
    message = refused(archive, folder)
    assert f"{folder} has 134 MB free" in message


def test_a_disk_that_fills_up_is_named(kind, archive, folder, monkeypatch):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a disk, and not in every container")
    monkeypatch.setattr(unpack_module, "_check_space", lambda *arguments: None)
    try:
        message = refused(make(kind, archive, FILES), folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert f"{folder}: No space left on device" in message


def test_a_folder_that_cannot_be_made_is_named(kind, archive, tmp_path):
    make(kind, archive, FILES)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="file.*: (Not a directory|File exists)"):
        unpack(archive, tmp_path / "file" / "data")
