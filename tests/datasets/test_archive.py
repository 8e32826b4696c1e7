"""Archives as they should be, as they break, and as an attacker would write them."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from types import SimpleNamespace

import pytest

from fedtutor.datasets import disk
from fedtutor.datasets.download import archive as archive_module
from fedtutor.datasets.download.archive import unpack
from fedtutor.errors import DataError

FILES = {"images/a.png": b"a" * 1000, "images/deep/b.png": b"", "c.JPEG": b"x,y\n" * 40_000}


def member(name, content=b"", type=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = type, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(path, *members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w:gz", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def make(path, *files):
    """An archive of pairs of a name and a content."""
    kinds = {True: tarfile.DIRTYPE, False: tarfile.REGTYPE}
    return tar(path, *(member(name, data, kinds[name.endswith("/")]) for name, data in files))


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "images_001.tar.gz"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def small(monkeypatch):
    """Limits that a test can reach."""
    limits = {"MAX_MEMBERS": 50, "MAX_BYTES": 2**21, "MAX_RATIO": 20, "RATIO_FROM": 2**18}
    for name, limit in limits.items():
        monkeypatch.setattr(archive_module, name, limit)


def contents(folder):
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


def refused(archive, folder):
    """The message for an archive that must be refused, leaving all as it was."""
    folder.mkdir(exist_ok=True)
    (folder / "c.JPEG").write_bytes(b"before")
    around = set(folder.parent.rglob("*"))
    with pytest.raises(DataError) as error:
        unpack(archive, folder)
    assert set(folder.parent.rglob("*")) == around
    assert (folder / "c.JPEG").read_bytes() == b"before"
    assert str(archive) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


# Archives as they should be


def test_all_files_are_unpacked_whatever_the_name_says(archive, folder):
    make(archive, *FILES.items(), ("empty/", b""))
    for _ in range(2):
        folder.mkdir(exist_ok=True)
        (folder / "c.JPEG").write_bytes(b"of another version")
        (folder / "mine.txt").write_bytes(b"of the user")
        assert unpack(archive, folder) == sorted(FILES)
        assert contents(folder) == FILES | {"mine.txt": b"of the user"}
    assert not list(folder.glob(".*"))
    assert not (folder / "empty").exists()


@pytest.mark.parametrize(
    "format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=str
)
def test_every_kind_of_tar_is_read(archive, folder, format):
    name = f"./{'long-' * 18}/{'é' * 20}.png"
    tar(archive, member("./", type=tarfile.DIRTYPE), member(name, b"png"), format=format)
    assert len(unpack(archive, folder)) == 1
    assert contents(folder) == {name[2:]: b"png"}


def test_the_archive_does_not_choose_permissions(archive, folder):
    tar(archive, member("program.png", b"#!/bin/sh", mode=0o6777, uid=1, gid=1))
    assert len(unpack(archive, folder)) == 1
    (folder / "plain.png").touch()
    status, plain = (folder / "program.png").stat(), (folder / "plain.png").stat()
    assert (status.st_mode, status.st_uid) == (plain.st_mode, plain.st_uid)
    assert not status.st_mode & 0o7111


def test_progress_is_told_in_packed_bytes(archive, folder, watch_progress):
    make(archive, *((f"{k}.png", random.Random(k).randbytes(50_000)) for k in range(9)))
    told, size = [], archive.stat().st_size
    watch_progress(archive_module, lambda *numbers: told.append(numbers))
    unpack(archive, folder)
    assert told == sorted(told)
    assert told[-1][0] > 0.9 * size
    assert {total for _, total in told} == {size}


UNPACK = "from fedtutor.datasets.download.archive import unpack; unpack(first, second)"


@pytest.mark.slow
@pytest.mark.process
def test_a_large_tar_needs_little_memory(archive, folder, peak_memory):
    files = [(f"images/{k:08d}_000.png", b"x" * 200) for k in range(1000)]
    make(archive, *files, ("large.png", bytes(10_000_000)))
    assert peak_memory(UNPACK, archive, folder) < 800_000
    assert len(list(folder.rglob("*.*"))) == 1001


# Ends that nobody planned


def test_ctrl_c_leaves_nothing(archive, folder, watch_progress):
    def interrupt(done, total):
        raise KeyboardInterrupt

    make(archive, *FILES.items())
    watch_progress(archive_module, interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, folder)
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_is_tidied_away(archive, folder):
    staging = folder / f".{archive.name}.unpacking"
    staging.mkdir(parents=True)
    (staging / "stray").write_bytes(b"of the killed one")
    unpack(make(archive, *FILES.items()), folder)
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
        "a.png:stream",
        "images/NUL.png",
        "aux/1.png",
        "com1",
        "\\\\server\\evil",
        "d/" * 65 + "evil",
    ],
)
@pytest.mark.parametrize("end", ["", "/"], ids=["file", "folder"])
def test_a_path_out_of_the_folder_is_refused(archive, folder, name, end):
    make(archive, *FILES.items(), (name + end, b""))
    message = refused(archive, folder)
    assert "is no plain path below the folder" in message or "folders deep" in message


def test_a_zero_in_a_name_is_refused(archive, folder):
    tar(archive, member("plain.png", pax_headers={"path": "a\0b"}))
    assert "is no plain path" in refused(archive, folder)


@pytest.mark.parametrize("twice", [("a", "a"), ("a", "./a"), ("a", "a.png/b/c"), ("a.png/b", "a")])
def test_two_members_cannot_have_one_place(archive, folder, twice):
    make(archive, *((f"{name}.png", b"x") for name in twice))
    assert "could not be unpacked" in refused(archive, folder)


# What a set does not have


@pytest.mark.parametrize(
    "name", [".git/config", ".git/x.png", "images/.git/x.png", ".x.png", "images/.git/config",
             "README.md", "readme.md", ".gitattributes", "labels.csv", "__MACOSX/a.png",
             ".images_001.tar.gz.unpacked", "images/a.png.py", "png"],
)  # fmt: skip
def test_an_archive_brings_images_and_nothing_else(archive, folder, name):
    """A mirror that planted .git/config had git run its command."""
    folder.mkdir()
    (folder / "README.md").write_bytes(b"ours")
    assert unpack(make(archive, *FILES.items(), (name, b"x")), folder) == sorted(FILES)
    assert contents(folder) == FILES | {"README.md": b"ours"}
    assert {path.name for path in folder.rglob("*") if path.is_dir()} == {"images", "deep"}


# Links and devices


@pytest.mark.parametrize(
    "type",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V"],
)
@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "c.JPEG"])
def test_what_is_no_file_in_a_tar_is_refused(archive, folder, tmp_path, type, target):
    (tmp_path / "outside").mkdir()
    link = member("images", type=type, linkname=target)
    tar(archive, link, member("images/evil", b"x"))
    assert "'images' is a link or a device" in refused(archive, folder)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_sparse_file_is_refused(archive, folder):
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "huge"}
    content = b"1\n0\n0\n".ljust(512, b"\0")
    headers = sparse | {"GNU.sparse.realsize": str(2**40)}
    tar(archive, member("huge", content, pax_headers=headers))
    assert "'huge' is a link or a device" in refused(archive, folder)


@pytest.mark.parametrize("what", ["a link", "a file", "a folder"])
def test_what_is_in_the_way_is_named_and_not_followed(archive, folder, tmp_path, what, link):
    (tmp_path / "outside").mkdir()
    folder.mkdir()
    place = folder / "images"
    if what == "a link":
        link(place, tmp_path / "outside")
    elif what == "a file":
        place.write_bytes(b"")
    else:
        place = place / "a.png"
        place.mkdir(parents=True)
    assert f"{place} is in the way" in refused(make(archive, *FILES.items()), folder)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced(archive, folder, tmp_path, link):
    (tmp_path / "outside").write_bytes(b"keep")
    (tmp_path / "large disk").mkdir()
    link(folder, tmp_path / "large disk")  # the folder itself may be a link
    link(folder / "c.JPEG", tmp_path / "outside")
    unpack(make(archive, *FILES.items()), folder)
    assert (tmp_path / "outside").read_bytes() == b"keep"
    assert contents(tmp_path / "large disk") == FILES


# Bombs


@pytest.mark.parametrize(
    ("content", "limit"),
    [(random.Random(0).randbytes(2**21 + 1), 2**21), (bytes(2**18 + 1), 2**18)],
)
def test_size_and_ratio_have_a_limit(archive, folder, small, content, limit):
    make(archive, ("half.png", content[: limit // 2]), ("rest.png", content[: limit // 2 - 2**14]))
    assert len(unpack(archive, folder / "good")) == 2
    make(archive, ("all.png", content))
    assert f"unpacks to more than {limit:,} bytes" in refused(archive, folder)


def test_the_count_has_a_limit(archive, folder, small):
    make(archive, *((f"{k}.png", b"x") for k in range(50)))
    assert len(unpack(archive, folder / "good")) == 50
    make(archive, *((f"{k}/", b"") for k in range(51)))
    assert "more than 50 members" in refused(archive, folder)


def test_a_tar_that_goes_on_after_its_files_is_counted(archive, folder, small):
    tar(archive, member("a", b"x"))
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(2**22)))
    assert "unpacks to more than 262,144 bytes" in refused(archive, folder)


@pytest.mark.process
@pytest.mark.parametrize("files", [[], [member("a", bytes(512))]], ids=["first", "second"])
@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_refused(archive, folder, type, files, peak_memory):
    before = b"".join(info.tobuf() + content for info, content in files)
    info, _ = member("header", type=type)
    info.size = 2**33 - 1
    archive.write_bytes(gzip.compress(before + info.tobuf(tarfile.USTAR_FORMAT) + bytes(2**22)))
    assert "more than its headers tell" in refused(archive, folder)
    suppressed = f"import contextlib\n    with contextlib.suppress(ValueError): {UNPACK}"
    assert peak_memory(suppressed, archive, folder) < 5_000_000


def test_headers_inside_headers_are_refused(archive, folder):
    info, content = member("@LongLink", b"name\0", type=tarfile.GNUTYPE_LONGNAME)
    header = info.tobuf(tarfile.GNU_FORMAT) + content.ljust(512, b"\0")
    archive.write_bytes(gzip.compress(header * 5000))
    refused(archive, folder)


# Damage


def test_an_archive_that_is_cut_off_is_refused_wherever(archive, folder):
    whole = make(archive, *FILES.items()).read_bytes()
    for place in sorted({0, 1, 10, len(whole) - 1, *range(0, len(whole), len(whole) // 20)}):
        archive.write_bytes(whole[:place])
        assert "damaged, or no .tar.gz" in refused(archive, folder)


def test_a_flipped_byte_is_found_or_does_not_matter(archive, folder):
    whole, choose = make(archive, *FILES.items()).read_bytes(), random.Random(0)
    found = 0
    for k in range(40):
        scrambled = bytearray(whole)
        scrambled[choose.randrange(len(whole))] ^= choose.randrange(1, 256)
        archive.write_bytes(scrambled)
        try:
            unpack(archive, folder / str(k))
        except DataError:
            found += 1
            assert contents(folder / str(k)) == {}
    assert found > 8


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4", b"<html>log in</html>"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain.png", "gzip"])
def test_what_is_no_archive_is_refused(archive, folder, content, pack):
    archive.write_bytes(pack(content))
    assert "damaged, or no .tar.gz" in refused(archive, folder)


def test_an_archive_without_an_image_is_refused(archive, folder):
    make(archive, ("images/", b""), ("README.md", b"theirs"))
    assert "it holds no image" in refused(archive, folder)


def test_an_archive_that_is_not_there_is_named(archive, folder):
    assert "No such file" in refused(archive, folder)


# The disk


def test_a_disk_without_room_is_known_before(archive, folder, monkeypatch):
    make(archive, *FILES.items())
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**27))
    assert f"{folder}" in (message := refused(archive, folder))
    assert "134 MB are free and 134 MB are needed" in message


def test_unpacking_leaves_the_reserve_free(archive, folder, monkeypatch):
    """An image of nothing but zeros is small as long as it is packed."""
    make(archive, ("a.png", bytes(2**24)))
    free = iter(range(disk.RESERVE + 2**20, 0, -archive_module.CHUNK))
    usage = lambda path: SimpleNamespace(free=next(free))  # noqa: E731
    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    assert "MB are free and 134 MB are needed" in refused(archive, folder)
    assert disk.RESERVE - 2**20 < next(free) < disk.RESERVE


def test_a_folder_that_cannot_be_made_is_named(archive, tmp_path):
    make(archive, *FILES.items())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"file.*: (Not a directory|File exists)"):
        unpack(archive, tmp_path / "file" / "data")
