"""The resident answers as the app itself would, and only whoever has its key."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedtutor.deployment.private import open_private
from fedtutor.deployment.resident import (
    HERE,
    RESIDENT,
    _answer,
    answer_next,
    ask_first,
    ask_resident,
)
from fedtutor.federation.records import to_record

KEY = b"k" * 32


@pytest.fixture
def asked(monkeypatch):
    """A message and its context, as a process that Flower starts has them."""
    for name, value in {"task_id": 1, "run_id": 7, "node_id": 3}.items():
        monkeypatch.setattr(TaskIdentity, f"_{name}", value)
    message = Message(RecordDict({"metrics": MetricRecord({"x": 2.0})}), 3, "train")
    message.metadata.__dict__["_message_id"] = "asked"
    return message, Context(7, 3, {"partition-id": 0}, RecordDict(), {"rounds": 1})


@contextmanager
def resident(app, file):
    """A resident that answers once, in a thread of this process."""
    with Listener((HERE, 0), authkey=KEY) as listener:
        with open_private(file) as out:
            out.write(json.dumps({"port": listener.address[1], "key": KEY.hex()}).encode())
        thread = threading.Thread(target=answer_next, args=(listener, app))
        thread.start()
        yield listener.address
        thread.join()


def double(message, context):
    value = message.content["metrics"]["x"] * 2 + context.node_id
    return Message(RecordDict({"metrics": MetricRecord({"x": value})}), reply_to=message)


def by_itself(message, context):
    return "by itself"


def test_without_a_resident_the_app_works_in_its_own_process(asked, monkeypatch):
    monkeypatch.delenv(RESIDENT, raising=False)
    assert ask_resident(*asked, by_itself) == "by itself"


def test_the_resident_replies_to_the_message_that_came(asked, monkeypatch, tmp_path):
    monkeypatch.setenv(RESIDENT, str(tmp_path / "resident.json"))
    with resident(double, tmp_path / "resident.json"):
        reply = ask_resident(*asked, by_itself)
    assert reply.content["metrics"]["x"] == 7.0
    assert reply.metadata.reply_to_message_id == "asked"


def test_what_the_app_raises_there_is_raised_here(asked, monkeypatch, tmp_path):
    monkeypatch.setenv(RESIDENT, str(tmp_path / "resident.json"))
    with (
        resident(lambda message, context: 1 / 0, tmp_path / "resident.json"),
        pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"),
    ):
        ask_resident(*asked, by_itself)


def test_if_the_resident_is_gone_the_app_works_without_it(asked, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv(RESIDENT, str(tmp_path / "resident.json"))
    assert ask_resident(*asked, by_itself) == "by itself"  # no file yet
    with Listener((HERE, 0)) as listener:
        port = listener.address[1]
    (tmp_path / "resident.json").write_text(json.dumps({"port": port, "key": "00"}), "utf-8")
    assert ask_resident(*asked, by_itself) == "by itself"  # nobody listens
    assert "training without it" in caplog.text


LIGHT = """
import pickle, sys
from fedtutor.classroom import app as classroom
from fedtutor.deployment import app
for content in pickle.loads(bytes.fromhex(sys.argv[1])):
    assert content["arrays"]["0"].numpy().sum() == 6
print(*{"pandas", "PIL", "tensorflow", "fedtutor.federation"} & set(sys.modules))
"""


def test_for_a_message_flower_s_process_loads_nothing_heavy(asked):
    """Neither for the apps nor for the resident's reply."""

    def app(message, context):
        arrays = to_record([np.arange(4.0)])
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    content, _ = _answer(app, *asked)
    command = [sys.executable, "-c", LIGHT, pickle.dumps([content]).hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_without_a_resident_the_app_is_loaded_and_works(asked, monkeypatch):
    monkeypatch.delenv(RESIDENT, raising=False)
    monkeypatch.setattr("fedtutor.deployment.halves.client_app", double)
    app = ask_first("fedtutor.deployment.halves:client_app")
    assert app(*asked).content["metrics"]["x"] == 7.0


def test_who_lacks_the_key_is_told_nothing(tmp_path, caplog):
    called = []
    with (
        resident(lambda *asked: called.append(asked), tmp_path / "resident.json") as address,
        pytest.raises(AuthenticationError),
    ):
        Client(address, authkey=b"guessed")
    assert not called
    assert "somebody came and got no answer" in caplog.text
