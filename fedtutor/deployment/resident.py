"""A hospital's trainer that stays, so that TensorFlow is not loaded for every message.

Flower starts a process for each message to a SuperNode and ends it with the reply; the course's app
would load TensorFlow and compile its training in each. So a resident waits beside the SuperNode,
with both done once, and the short-lived process hands it the message and sends back its reply:

    python -m fedtutor.deployment.resident FILE fedtutor.deployment.halves:client_app
    FEDTUTOR_RESIDENT=FILE flower-supernode ...

It writes where it listens, and its key, into FILE. All of this is one hospital's, on one machine.
It listens on 127.0.0.1 and answers whoever has the key; FILE is for its owner alone. Without the
variable, or when the resident is gone, the app trains in Flower's process as any other does.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from flwr.app import Array, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.supercore.task_identity import TaskIdentity

from fedtutor.deployment.private import open_private
from fedtutor.support.keras_import import load_keras

RESIDENT = "FEDTUTOR_RESIDENT"
HERE = "127.0.0.1"
_log = logging.getLogger(__name__)


def ask_resident(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Have the resident reply if the environment names one: a Flower mod."""
    if not (file := os.environ.get(RESIDENT)):
        return call_next(message, context)
    try:
        place = json.loads(Path(file).read_text(encoding="utf-8"))
        key = bytes.fromhex(place["key"])
        with Client((HERE, place["port"]), authkey=key) as resident:
            resident.send((message, context))
            content, error = resident.recv()
    except (OSError, EOFError, AuthenticationError) as problem:
        _log.warning("no resident answers (%r); training without it.", problem)
        return call_next(message, context)
    if error is not None:
        raise error
    return Message(content, reply_to=message)


def ask_first(app: str) -> ClientApp:
    """Return a ClientApp that has the resident reply, and loads ``app`` only if there is none."""
    client_app = ClientApp(mods=[ask_resident])

    def by_itself(message: Message, context: Context) -> Message:
        loaded: ClientApp = resolve_name(app)
        return loaded(message, context)

    for register in (client_app.query, client_app.train, client_app.evaluate):
        register()(by_itself)
    return client_app


def serve(file: Path, app: str) -> None:
    """Answer messages one by one until this process is ended; write into ``file`` where.

    ``app`` names the ClientApp, such as "fedtutor.deployment.halves:client_app".
    """
    key = secrets.token_bytes(32)
    with Listener((HERE, 0), authkey=key) as listener:
        port = listener.address[1]
        with open_private(file) as out:
            out.write(json.dumps({"port": port, "key": key.hex()}).encode())
        client_app = resolve_name(app)
        load_keras()  # while the SuperNode enrols
        while True:
            answer_next(listener, client_app)


def answer_next(listener: Listener, client_app: ClientAppCallable) -> None:
    """Wait for the next who comes; if it has the key, answer its message."""
    try:
        with listener.accept() as asked:
            asked.send(_answer(client_app, *asked.recv()))
    except (OSError, EOFError, AuthenticationError) as problem:
        _log.warning("somebody came and got no answer: %r", problem)


def _answer(client_app: ClientAppCallable, message: Message, context: Context) -> tuple[Any, Any]:
    """Return (content of the reply, None), or (None, error); say what came and what goes."""
    # What Flower tells the process that it starts, and what Message(...) asks for.
    TaskIdentity.task_id, TaskIdentity.run_id = 0, context.run_id
    TaskIdentity.node_id = context.node_id
    try:
        content = _as_on_a_wire(client_app(message, context).content)
        print(json.dumps(told_of(message.content, content)), flush=True)
        return content, None
    except Exception as error:  # becomes an error of the process that asked
        _log.exception("the app has failed")
        return None, RuntimeError(f"{type(error).__name__}: {error}")


def _as_on_a_wire(content: RecordDict) -> RecordDict:
    """Make its arrays Flower's own, which the process that asked reads without this package."""
    for record in content.array_records.values():
        for name, array in record.items():
            record[name] = Array(array.dtype, array.shape, array.stype, array.data)
    return content


def told_of(came: RecordDict, goes: RecordDict) -> dict[str, Any]:
    """Return bytes received and sent, and of a training the round and its metrics."""
    config, metrics = came.config_records, goes.metric_records
    return {
        "received": sum(record.count_bytes() for record in came.values()),
        "sent": sum(record.count_bytes() for record in goes.values()),
        "round": config["config"].get("server-round") if "config" in config else None,
        "metrics": dict(metrics["metrics"]) if "metrics" in metrics else {},
    }


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
