"""Fetching whole data sets: from a mirror, from git, from Kaggle, and making a mirror."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sources
from sources import SOURCES, git, register

from fedtutor.cli import BAD_INPUT, INTERRUPTED, main
from fedtutor.cohort import build_cohort
from fedtutor.datasets import DATASETS, commands, load
from fedtutor.datasets.download import RemoteFile, transfer
from fedtutor.datasets.download.fetch_and_mirror import fetch
from fedtutor.errors import DataError
from fedtutor.settings import RunSettings


@pytest.fixture
def data_folder(tmp_path, monkeypatch):
    """An empty data folder, and no way to the internet but what a test opens."""
    folder = tmp_path / "data"
    monkeypatch.setenv("FEDTUTOR_DATA", str(folder))
    monkeypatch.setenv("FEDTUTOR_MIRROR", str(tmp_path / "mirror"))
    return folder


@pytest.fixture
def nih_mirror(tmp_path, monkeypatch):
    """Two archives of four images, and the tables."""
    return sources.nih(tmp_path, monkeypatch, count=4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.process] if info.git else [])
        for name, info in DATASETS.items()
    ],
)
def test_every_set_goes_from_fetch_to_hospitals_without_a_step_by_hand(
    tmp_path, data_folder, monkeypatch, name
):
    """Whoever adds a set adds its stand-in, too, or this fails."""
    SOURCES[name](tmp_path, monkeypatch)
    if not DATASETS[name].synthetic:
        with pytest.raises(DataError, match=f"{name} is not here; this fetches it: fedtutor fetch"):
            load(name)
        assert main(DATASETS[name].fetching.split()[1:]) == 0
    assert DATASETS[name].is_present()
    if not DATASETS[name].size:
        with pytest.raises(DataError, match=f"{name} is a table and has no images; notebook 14"):
            load(name)
        return
    cohort = build_cohort(RunSettings(dataset=name, size=32))
    assert len(cohort.names) > 1 and len(cohort.test)
    assert all(map(len, cohort.hospitals))
    assert cohort.train.class_names == DATASETS[name].classes


def test_any_part_of_nih_brings_the_tables(data_folder, nih_mirror, caplog):
    folder = fetch("nih-chestxray14", parts=["2"])
    data = load("nih-chestxray14", size=32)
    assert len(data) == 4 and data.masks is not None
    tables = [file.name for file in DATASETS["nih-chestxray14"].tables]
    assert tables == ["Data_Entry_2017_v2020.csv.gz", "BBox_List_2017.csv.gz"]
    assert all((folder / name).is_file() for name in tables)
    assert "train_val_list.txt and test_list.txt are not here" in caplog.text


def test_images_without_a_table_and_tables_without_an_image_name_one_command(
    data_folder, nih_mirror, capsys
):
    folder = fetch("nih-chestxray14")
    for table in folder.glob("*.csv.gz"):
        table.unlink()
    assert main(["run", "--dataset", "nih-chestxray14"]) == BAD_INPUT
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("fedtutor fetch nih-chestxray14 --part tables")
    (nih_mirror / "images_001.tar.gz").unlink()  # nothing but the tables is asked for
    assert main(said.rpartition(": fedtutor ")[2].split()) == 0
    assert len(load("nih-chestxray14", size=32)) == 4
    shutil.rmtree(folder / "images")
    with pytest.raises(DataError, match="this fetches it: fedtutor fetch nih-chestxray14"):
        load("nih-chestxray14")


@pytest.mark.parametrize("name", ["Data_Entry_2017_v2020.csv", "Data_Entry_2017_v2020.csv.gz"])
def test_a_table_that_was_put_here_by_hand_is_kept_and_used(data_folder, nih_mirror, name):
    folder = data_folder / "nih-chestxray14"
    folder.mkdir(parents=True)
    text = gzip.decompress((nih_mirror / "Data_Entry_2017_v2020.csv.gz").read_bytes())
    text = text.replace(b",50,", b",71,")
    content = gzip.compress(text) if name.endswith(".gz") else text
    (folder / name).write_bytes(content)
    assert main(["fetch", "nih-chestxray14", "--part", "1"]) == 0
    assert [path.name for path in folder.glob("Data*")] == [name]
    assert (folder / name).read_bytes() == content
    assert set(load("nih-chestxray14", size=32).column("age")) == {71}


def test_a_mirror_of_any_part_has_the_tables(tmp_path, nih_mirror, monkeypatch):
    with serve(nih_mirror) as url:
        info = DATASETS["nih-chestxray14"]
        at = {
            file: replace(file, url=f"{url}/{file.name}")
            for file in (*info.parts.values(), *info.tables)
        }
        parts = {part: at[file] for part, file in info.parts.items()}
        tables = tuple(at[file] for file in info.tables)
        register(monkeypatch, info.name, parts=parts, tables=tables)
        assert main(["mirror", str(tmp_path / "copy"), info.name, "--part", "2"]) == 0
    copied = sorted(path.name for path in (tmp_path / "copy").rglob("*.gz"))
    assert copied == ["BBox_List_2017.csv.gz", "Data_Entry_2017_v2020.csv.gz", "images_002.tar.gz"]


def test_the_real_tables_are_those_whose_hashes_are_pinned(real_data):
    for file in DATASETS["nih-chestxray14"].tables:
        content = (real_data / "nih_chestxray14" / file.name).read_bytes()
        assert (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}") == (
            file.num_bytes,
            file.hash,
        )


@pytest.mark.process
def test_without_git_a_repository_comes_as_githubs_archive(tmp_path, data_folder, monkeypatch):
    origin = sources.chestxray(tmp_path, monkeypatch)
    (tmp_path / "site" / "archive").mkdir(parents=True)
    to = tmp_path / "site" / "archive" / "HEAD.tar.gz"
    git(origin, "archive", "--prefix=covid-chestxray-dataset-4837/", f"--output={to}", "HEAD")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with serve(tmp_path / "site") as url:
        register(monkeypatch, "covid-chestxray", source=url)
        folder = fetch("covid-chestxray")
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "images",
        "metadata.csv",
    ]
    assert len(load("covid-chestxray", size=32)) == sources.COUNT
    assert fetch("covid-chestxray") == folder  # nothing is asked for again


def test_how_much_comes_is_said_before_and_how_to_go_on_after_ctrl_c(
    data_folder, nih_mirror, monkeypatch, capsys
):
    def interrupt(*_):
        assert re.search(r"images_001\.tar\.gz: \d+ kB\n", capsys.readouterr().err)
        raise KeyboardInterrupt

    fetch("nih-chestxray14", parts=["tables"])
    capsys.readouterr()
    monkeypatch.setattr("fedtutor.datasets.download.file.bring", interrupt)
    assert main(["fetch", "nih-chestxray14"]) == INTERRUPTED
    assert "What has come is kept; the same command goes on" in capsys.readouterr().err


def test_the_sizes_are_told_in_megabytes_and_those_of_tables_in_kilobytes():
    sizes = {name: [file.size for file in info.parts.values()] for name, info in DATASETS.items()}
    assert sizes["nih-chestxray14"][0] == "2,008 MB"
    assert (sizes["pneumoniamnist"][0], sizes["octmnist"][0]) == ("4 MB", "at most 100 MB")
    assert [file.size for file in DATASETS["nih-chestxray14"].tables] == ["978 kB", "22 kB"]


def test_any_part_of_nih_is_usable(data_folder, nih_mirror):
    folder = fetch("nih-chestxray14", parts=["2"])
    assert folder == data_folder / "nih-chestxray14"
    assert len(list(folder.rglob("*.png"))) == 4
    assert not (folder / "images_002.tar.gz").exists()
    data = load("nih-chestxray14", size=32)
    assert len(data) == 4
    assert sorted(data.table["patient"].astype(int)) == [20000, 20001, 20002, 20003]


def test_what_is_here_is_not_fetched_again(data_folder, nih_mirror):
    folder = fetch("nih-chestxray14")
    (nih_mirror / "images_001.tar.gz").unlink()
    assert fetch("nih-chestxray14") == folder
    (nih_mirror / "images_002.tar.gz").unlink()
    with pytest.raises(DataError, match=r"images_002\.tar\.gz"):
        fetch("nih-chestxray14", parts=["1", "2"])


@pytest.mark.parametrize("count", [1, 4])
def test_images_deleted_by_hand_are_fetched_again(data_folder, nih_mirror, caplog, count):
    folder = fetch("nih-chestxray14", parts=["1", "2"])
    for image in sorted(folder.rglob("*.png"))[:count]:
        image.unlink()
    assert len(list(fetch("nih-chestxray14", parts=["2"]).rglob("*.png"))) == 8 - count
    assert caplog.text == ""
    assert len(list(fetch("nih-chestxray14").rglob("*.png"))) == 8
    assert f"{count} of 4 files are gone, such as images/00010000_000.png" in caplog.text


def test_what_the_first_edition_unpacked_is_left_as_it_is(data_folder, nih_mirror):
    folder = fetch("nih-chestxray14")
    (folder / ".images_001.tar.gz.unpacked").write_bytes(b"")  # it wrote no list
    shutil.rmtree(nih_mirror)
    assert fetch("nih-chestxray14") == folder


@pytest.fixture
def oct_mirror(tmp_path, monkeypatch):
    """OCT2017's archive, of which no hash is published, and a mirror that has it."""
    folder = tmp_path / "mirror" / "retinal-oct"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "OCT2017.tar.gz", "w:gz") as archive:
        for name in ("OCT2017/train/CNV/CNV-1-1.jpeg", ".git/config"):
            member = tarfile.TarInfo(name)
            member.size = 5
            archive.addfile(member, io.BytesIO(b"bytes"))
    return folder


@pytest.mark.parametrize("command", [["fetch"], ["mirror", "x"]])
def test_a_file_without_a_published_hash_is_fetched_only_if_that_is_asked_for(
    tmp_path, data_folder, oct_mirror, capsys, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "retinal-oct"]) == BAD_INPUT
    text = capsys.readouterr().err
    for words in ("OCT2017.tar.gz was not fetched", "no hash of it is published",
                  "add --unverified", "compare the hash", "or save https://"):  # fmt: skip
        assert words in text
    assert os.listdir() == ["mirror"]


def test_what_came_unverified_is_told_by_its_hash(data_folder, oct_mirror, caplog):
    content = (oct_mirror / "OCT2017.tar.gz").read_bytes()
    assert main(["fetch", "retinal-oct", "--unverified"]) == 0
    digest = hashlib.sha256(content).hexdigest()
    assert f"OCT2017.tar.gz is unverified; its hash is sha256:{digest}" in caplog.text
    images = [path.name for path in (data_folder / "retinal-oct").rglob("*") if path.is_file()]
    assert sorted(images) == [
        ".OCT2017.tar.gz.lock", ".OCT2017.tar.gz.unpacked", ".OCT2017.tar.gz.unpacking.lock",
        "CNV-1-1.jpeg",
    ]  # fmt: skip
    assert main(["fetch", "retinal-oct"]) == 0  # it is here


def test_a_mirror_of_what_is_not_verified_says_its_hash(tmp_path, oct_mirror, caplog, monkeypatch):
    with serve(oct_mirror) as url:
        file = replace(DATASETS["retinal-oct"].parts["all"], url=f"{url}/OCT2017.tar.gz")
        register(monkeypatch, "retinal-oct", parts={"all": file})
        assert main(["mirror", str(tmp_path / "copy"), "retinal-oct", "--unverified"]) == 0
    assert (tmp_path / "copy" / "retinal-oct" / "OCT2017.tar.gz").is_file()
    assert "is unverified; its hash is sha256:" in caplog.text


def test_an_interrupted_move_is_not_taken_for_whole(data_folder, nih_mirror, monkeypatch):
    def interrupt(source, target):
        if "unpacking" in str(source):
            raise KeyboardInterrupt
        replace_file(source, target)

    replace_file = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch("nih-chestxray14")
    (nih_mirror / "images_001.tar.gz").unlink()  # the download itself was whole
    assert len(list(fetch("nih-chestxray14").rglob("*.png"))) == 4


def test_several_processes_may_fetch_the_same(data_folder, nih_mirror):
    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(fetch, ["nih-chestxray14"] * 4))
    assert len(list(folder.rglob("*.png"))) == 4
    assert not (folder / "images_001.tar.gz").exists()


def test_another_data_folder(tmp_path, data_folder, nih_mirror):
    folder = fetch("nih-chestxray14", folder=tmp_path / "elsewhere")
    assert folder == tmp_path / "elsewhere" / "nih-chestxray14"
    assert len(list(folder.rglob("*.png"))) == 4
    assert not data_folder.exists()


def test_what_comes_next_is_said_as_it_is_typed(
    tmp_path, data_folder, nih_mirror, monkeypatch, capsys
):
    place = tmp_path / "my data" / "nih-chestxray14"
    assert main(["fetch", "nih-chestxray14", "--to", str(tmp_path / "my data")]) == 0
    assert f'Next: fedtutor run --dataset "{place}"\n' in capsys.readouterr().out
    sources.heart(tmp_path, monkeypatch)
    assert main(["fetch", "fed-heart-disease"]) == 0
    assert "Next: fedtutor lab " in capsys.readouterr().out


@pytest.mark.parametrize("here", [True, False])
def test_what_a_set_is_read_with_is_named_before_it_is_missed(
    tmp_path, data_folder, here, monkeypatch, capsys
):
    sources.isic(tmp_path, monkeypatch)
    monkeypatch.setattr(commands, "find_spec", lambda name: here or None)
    assert main(["fetch", "fed-isic2019", "--unverified"]) == 0
    first = "" if here else 'pip install "fedtutor[parquet]", then: '
    assert f"Next: {first}fedtutor run --dataset fed-isic2019\n" in capsys.readouterr().out


def test_a_part_that_is_not_there_is_refused(data_folder, nih_mirror):
    with pytest.raises(DataError, match="no part 13; it has: 1, 2, tables"):
        fetch("nih-chestxray14", parts=["13"])
    assert not data_folder.exists()


def test_a_wrong_file_in_the_mirror_is_refused(data_folder, nih_mirror):
    archive = nih_mirror / "images_001.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"images_001\.tar\.gz"):
        fetch("nih-chestxray14")
    assert not list((data_folder / "nih-chestxray14").rglob("*.png"))


def test_a_mirror_over_http_serves_a_class(tmp_path, data_folder, real_data, monkeypatch, capsys):
    """The teacher makes a mirror and serves it; a learner fetches, and trains."""
    source = tmp_path / "source" / "pneumoniamnist"
    source.mkdir(parents=True)
    source.joinpath("pneumoniamnist.npz").symlink_to(real_data / "pneumoniamnist.npz")
    teacher = tmp_path / "teacher"
    # The mirror is made from the source; here a web server of ours stands in for it.
    with serve(tmp_path / "source") as url:
        file = DATASETS["pneumoniamnist"].parts["28"]
        moved = replace(file, url=f"{url}/pneumoniamnist/pneumoniamnist.npz")
        register(monkeypatch, "pneumoniamnist", parts={"28": moved})
        assert main(["mirror", str(teacher)]) == 0
    assert "FEDTUTOR_MIRROR" in capsys.readouterr().out
    with serve(teacher) as url:
        monkeypatch.setenv("FEDTUTOR_MIRROR", url)
        assert main(["fetch", "pneumoniamnist"]) == 0
    assert "fedtutor run --dataset pneumoniamnist" in capsys.readouterr().out
    assert len(load("pneumoniamnist")) == 5856


@contextmanager
def serve(folder):
    """A web server over a folder, for the time of a with block."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_without_mirror_and_network_it_says_what_to_do(data_folder, monkeypatch, capsys):
    monkeypatch.setenv("FEDTUTOR_MIRROR", "")
    monkeypatch.setattr(transfer, "WAIT", 0.01)
    file = RemoteFile("pneumoniamnist.npz", "https://127.0.0.1:9/x.npz", "md5:" + "0" * 32, 10)
    register(monkeypatch, "pneumoniamnist", parts={"28": file})
    assert main(["fetch", "pneumoniamnist"]) == BAD_INPUT
    text = " ".join(capsys.readouterr().err.split())
    for word in (file.url, file.name, file.hash.split(":")[1], str(data_folder)):
        assert word in text


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """The repository of covid-chestxray, with a table, two images, a card and hidden files."""
    origin = tmp_path / "origin"
    for name in ("metadata.csv", "images/1.png", "images/2.png", "README.md", ".github/x.yml"):
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        (origin / name).write_text("theirs", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        git(origin, *arguments)
    register(monkeypatch, "covid-chestxray", git=origin.as_uri())
    return origin


@pytest.mark.process
def test_a_repository_is_cloned_as_plain_files(data_folder, origin):
    folder = fetch("covid-chestxray")
    assert sorted(path.name for path in folder.iterdir()) == [".fetched", "images", "metadata.csv"]
    (folder / "images" / "1.png").unlink()
    (folder / "images" / "mine.png").touch()
    fetch("covid-chestxray")  # what was deleted comes again
    images = sorted(path.name for path in (folder / "images").iterdir())
    assert images == ["1.png", "2.png", "mine.png"]
    shutil.rmtree(origin)
    assert fetch("covid-chestxray") == folder  # nothing is cloned again


@pytest.mark.process
def test_a_clone_that_was_cut_short_is_not_taken_for_whole(data_folder, origin, monkeypatch):
    def interrupt(source, target):
        if target.name == "2.png":
            raise KeyboardInterrupt
        return replace_file(source, target)

    replace_file = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch("covid-chestxray")
    folder = fetch("covid-chestxray")
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["1.png", "2.png"]


def test_a_repository_that_cannot_be_reached_leaves_nothing(tmp_path, data_folder, monkeypatch):
    register(monkeypatch, "covid-chestxray", git=(tmp_path / "nothing").as_uri())
    with pytest.raises(DataError, match="By hand: git clone --depth 1"):
        fetch("covid-chestxray")
    assert not list((data_folder / "covid-chestxray").iterdir())


def test_kaggle_is_asked_by_its_own_package(tmp_path, data_folder, monkeypatch):
    downloaded = tmp_path / "kagglehub-cache"
    (downloaded / "COVID-19_Radiography_Dataset" / "Normal").mkdir(parents=True)
    (downloaded / "COVID-19_Radiography_Dataset" / "Normal" / "1.png").touch()
    (downloaded / "COVID-19_Radiography_Dataset" / ".git").mkdir()
    (downloaded / "COVID-19_Radiography_Dataset" / ".git" / "config").touch()
    asked = []
    package = types.SimpleNamespace(
        dataset_download=lambda name: asked.append(name) or str(downloaded)
    )
    monkeypatch.setitem(sys.modules, "kagglehub", package)
    folder = fetch("covid19-radiography")
    assert (folder / "COVID-19_Radiography_Dataset" / "Normal" / "1.png").is_file()
    assert not list(folder.rglob(".git"))
    fetch("covid19-radiography")
    assert asked == ["tawsifurrahman/covid19-radiography-database"]


def test_without_kagglehub_it_says_how_else(data_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match=r"needs one package more: pip install kagglehub\. By hand"):
        fetch("covid19-radiography")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch", "chest-phantoms"], "nothing to fetch"),
        (["fetch", "mnist"], "known: chest-phantoms"),
        (["fetch", "covid-chestxray", "--part", "1"], "no parts"),
        (["mirror", "x", "covid19-radiography"], "kaggle.com"),
        (["mirror", "x", "--part", "1"], "name exactly one"),
    ],
)
def test_what_cannot_be_fetched_is_refused(arguments, words, data_folder, capsys, monkeypatch):
    assert main(arguments) == BAD_INPUT
    assert words in capsys.readouterr().err


def test_every_file_has_a_plain_name_and_https_and_nearly_all_a_hash():
    files = [file for info in DATASETS.values() for file in (*info.parts.values(), *info.tables)]
    assert len(files) == 12 + 2 + 1 + 2 + 2 + 4 * 4 + 4
    assert all(
        re.fullmatch(r"[\w.-]+(\.npz|\.tar\.gz|\.csv(\.gz)?|\.parquet|\.data)", file.name)
        for file in files
    )
    assert all(file.url.startswith("https://") for file in files)
    known = r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}"
    unknown = [file.name for file in files if not re.fullmatch(known, str(file.hash))]
    parquet = [f"{side}-00000-of-00001.parquet" for side in ("train", "test")]
    assert unknown == ["OCT2017.tar.gz", *parquet]
    # Of the others without a known size it is known what their images take unpacked.
    loose = [file.name for file in files if not file.num_bytes and file.max_bytes >= 2**33]
    assert loose == ["OCT2017.tar.gz"]
    most = {file.name: file.num_bytes or file.max_bytes for file in files}
    assert most["octmnist.npz"] > 54_900_000 and most["chestmnist.npz"] > 82_800_000


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_drawn")
def test_one_part_of_nih_is_all_that_a_run_needs(tmp_path, data_folder, monkeypatch, capsys):
    sources.nih(tmp_path, monkeypatch, count=100)
    assert main(["fetch", "nih-chestxray14", "--part", "1"]) == 0
    assert "Next: fedtutor run --dataset nih-chestxray14" in capsys.readouterr().out
    size = ["--size", "32", "--rounds", "1", "--hospitals", "2", "--partition", "iid"]
    run = ["run", "--dataset", "nih-chestxray14", "--out", str(tmp_path / "out")]
    assert main([*run, *size]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
    out = capsys.readouterr().out
    assert "pooled (reference)" in out and "…" not in out
