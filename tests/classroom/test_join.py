"""A laptop's own rules, without a host; the whole is in test_class."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from fedtutor.classroom import join, versions
from fedtutor.classroom.code import new_code, show
from fedtutor.classroom.join import Laptop, say_message
from fedtutor.deployment.hospital_file import write_hospital_file
from fedtutor.errors import DataError, FederationError


@pytest.fixture
def laptop(tmp_path):
    made = Laptop("127.0.0.1", show(new_code()), folder=tmp_path / "laptop")
    yield made
    made._lock.release()


def told(**other):
    facts = versions() | {"time": time.time(), "dataset": "chest-phantoms", "classes": ["a", "b"]}
    return facts | other


def test_a_host_like_this_laptop_is_fine(laptop):
    laptop._check(told())


@pytest.mark.parametrize("name", ["fedtutor", "flwr"])
def test_another_version_is_named_with_the_command_that_helps(laptop, name):
    with pytest.raises(FederationError, match=rf"{name} 9\.9.*pip install {name}==9\.9"):
        laptop._check(told(**{name: "9.9"}))


@pytest.mark.parametrize(("minutes", "word"), [(10, "late"), (-10, "early")])
def test_a_wrong_clock_is_named(laptop, minutes, word):
    with pytest.raises(FederationError, match=f"clock is 10 minutes {word}; set it"):
        laptop._check(told(time=time.time() + 60 * minutes))


def test_a_data_set_that_is_not_here_is_named_with_the_command_that_fetches_it(
    laptop, monkeypatch, tmp_path
):
    monkeypatch.setenv("FEDTUTOR_DATA", str(tmp_path))
    with pytest.raises(FederationError, match=r"uses pneumoniamnist, which is not here: .*fetch"):
        laptop._check(told(dataset="pneumoniamnist"))
    with pytest.raises(FederationError, match="bring images of your own"):
        laptop._check(told(dataset="/teacher/xrays"))


def test_own_images_are_counted_and_must_have_the_class_s_classes(laptop, make_images, tmp_path):
    images = make_images(12, size=16)
    write_hospital_file(images, tmp_path / "own.npz")
    laptop._images = tmp_path / "own.npz"
    counts = laptop._count_images(list(images.class_names))
    assert counts == np.bincount(images.labels, minlength=len(images.class_names)).tolist()
    laptop._check(told(dataset="/teacher/xrays"))
    with pytest.raises(DataError, match="the names and their order must be the same"):
        laptop._count_images(["x", "y", "z"])


def test_a_second_laptop_of_one_machine_takes_the_next_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(join.platformdirs, "user_state_path", lambda *a, **k: tmp_path)
    first, second = (Laptop("127.0.0.1", new_code()) for _ in range(2))
    assert [one.folder.name for one in (first, second)] == ["127.0.0.1-8765-1", "127.0.0.1-8765-2"]
    with pytest.raises(FederationError, match=r"runs in .* already; choose another --folder"):
        Laptop("127.0.0.1", new_code(), folder=first.folder)
    for one in (first, second):
        one._lock.release()


def test_a_message_is_told_in_bytes_images_and_loss():
    metrics = {"num-examples": 40, "loss": 0.5}
    said = say_message({"round": 2, "received": 1.5e6, "sent": 1.25e6, "metrics": metrics})
    assert said == (
        "round 2: received 1.50 MB of weights; trained on 40 images, loss 0.500; sent 1.25 MB back."
        " No image has left."
    )
    assert say_message({"round": None, "received": 10, "sent": 10, "metrics": {}}) == ""


def test_news_are_told_once(laptop):
    node, resident = ["SuperNode ID: 1"], ["nothing\n"]
    laptop._programs = {
        "SuperNode": SimpleNamespace(said=lambda: node[0]),
        "resident of SuperNode": SimpleNamespace(said=lambda: "".join(resident)),
    }
    assert list(laptop.news()) == ["connected to 127.0.0.1:8765"]
    resident.append('{"round": 1, "received": 0, "sent": 0, "metrics": {}}\n{"round": 2')
    assert len(list(laptop.news())) == 1
    assert list(laptop.news()) == []
    laptop._programs.clear()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("x Failed to activate SuperNode y", "for up to a minute|up to a minute; trying again"),
        ("Exit Code: 1\nNo way\n out.\nFor more information", r"has ended \(No way out\.\)"),
        ("", "it says nothing of it"),
    ],
)
def test_why_a_supernode_ended_is_told(laptop, said, words):
    import re

    assert re.search(words, laptop._why_ended(said))


@pytest.mark.parametrize(("said", "killed"), [(join.REFUSED, []), (join.LET_IN, ["it"])])
def test_the_resident_stays_while_the_host_takes_nobody(laptop, monkeypatch, said, killed):
    ended = []
    process = SimpleNamespace(kill=lambda: ended.append("it"))
    laptop._programs = {
        "SuperNode": SimpleNamespace(said=lambda: said),
        "resident of SuperNode": SimpleNamespace(process=process, reap=lambda: None),
    }
    for name in ("_enrol", "_start_node"):
        monkeypatch.setattr(laptop, name, lambda: None)
    laptop._start_again()
    assert ended == killed
    laptop._programs.clear()


def test_a_laptop_that_was_made_in_one_thread_is_left_in_another(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        laptop = pool.submit(Laptop, "127.0.0.1", new_code(), folder=tmp_path).result()
    laptop._lock.release()
    Laptop("127.0.0.1", new_code(), folder=tmp_path)._lock.release()


def test_nothing_is_started_again_once_the_laptop_has_left(laptop, monkeypatch):
    started = []
    monkeypatch.setattr(laptop, "_look_after", lambda: started.append(1))
    laptop._turn.acquire()
    watching = threading.Thread(target=laptop.watch)
    watching.start()
    time.sleep(0.7)  # it waits for its turn by now
    laptop._left.set()
    laptop._turn.release()
    watching.join(60)
    assert started == []
