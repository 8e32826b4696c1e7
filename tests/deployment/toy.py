"""A little app whose hospitals train in NumPy, in a few lines; nearly all time is Flower's own."""

from __future__ import annotations

import json
import os

import numpy as np
import psutil

from fedtutor.deployment.appfolder import write_app
from fedtutor.deployment.federation import EXIT, LET_IN, Site
from fedtutor.deployment.superlink import START_SECONDS

PATTERN = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)

APP = """
import json, time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client_app = ClientApp()
server_app = ServerApp()
START = [np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)]
LIES = {}


@client_app.query()
def who(message, context):
    name = context.node_config["name"]
    said = {"name": name} if f"{name} 0" not in json.loads(context.run_config["plan"]) else {}
    return Message(RecordDict({"hospital": ConfigRecord(said)}), reply_to=message)


@client_app.train()
def train(message, context):
    name, server_round = context.node_config["name"], message.content["config"]["server-round"]
    what = json.loads(context.run_config["plan"]).get(f"{name} {server_round}")
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    weights = weights + np.float32(1)
    while what == "hangs" and not (Path(context.run_config["out"]) / "go on").exists():
        time.sleep(0.1)
    if what == "raises":
        raise MemoryError("the scanner caught fire")
    if what == "NaN":
        weights = weights * np.float32("nan")
    if what == "shape":
        weights = weights.T.copy()
    if what == "huge":
        weights = weights + np.float32(99)
    metrics = MetricRecord({"num-examples": 10})
    content = RecordDict({"arrays": ArrayRecord([weights]), "metrics": metrics})
    reply = Message(content, reply_to=message)
    return LIES[what](reply, message) if what in LIES else reply


@server_app.main()
def main(grid, context):
    from functools import partial  # here, so that no hospital waits for it

    from fedtutor import federation
    from fedtutor.deployment.network_guard import NetworkGuard, OneByOne
    from fedtutor.deployment.roll import Roll

    config = context.run_config
    journal = Path(config["out"]) / "progress.jsonl"

    def note(event, **values):
        with journal.open("a") as file:
            file.write(json.dumps({"event": event, **values}) + "\\n")

    def on_round(server_round, weights, guarded):
        np.save(journal.with_name("model.npy"), weights[0])
        left_out = [vars(out) for out in guarded.left_out if out.round == server_round]
        trained = guarded.traffic[server_round].hospitals if server_round else []
        note("round", round=server_round, names=sorted(trained), left_out=left_out)

    roll = Roll(
        config["expected"],
        minimum=config["minimum"],
        patience=config["patience"],
        tell=lambda line: note("waiting", text=line),
    )
    app = federation.make_server_app(
        START,
        federation.make_strategy("fedavg", 3, min_train_nodes=1, min_available_nodes=1),
        num_rounds=config["rounds"],
        config=ConfigRecord({"seed": 0}),
        timeout=config["timeout"],
        on_round=on_round,
        guard=partial(NetworkGuard, max_ratio=10.0, roll=roll),
    )
    try:
        app(OneByOne(grid), context)
    except Exception as error:
        note("stopped", reason=str(error))
        raise
    note("end")
"""
HOUR = 3600.0


def start(
    federation, plan=None, *, rounds=1, timeout=HOUR, expected=3, minimum=1, patience=HOUR, lies=""
):
    """Run the little app; ``plan`` says who does what in which round.

    Who "hangs" goes on when there is a file "go on" in the folder ``out``; who does anything in
    round 0 does not say its name. ``lies`` is code that adds to ``LIES``.
    """
    out = federation.folder / "out"
    out.mkdir(exist_ok=True)
    (out / "progress.jsonl").unlink(missing_ok=True)
    config = {
        "out": str(out),
        "plan": json.dumps(plan or {}),
        "rounds": rounds,
        "timeout": timeout,
        "expected": expected,
        "minimum": minimum,
        "patience": patience,
    }
    app = write_app(federation.folder / "app", config, APP + lies)
    return federation.run(app, out / "progress.jsonl")


def kill_server(federation):
    """Cut the server's power, and with it the gate's; the hospitals stay as they are."""
    for name in federation._programs.keys() & {"SuperLink", "gate"}:
        federation._programs.pop(name).kill()


def try_to_join(federation, home, *, tls=True):
    """What a SuperNode that nobody has invited is told: the reason, or "let in".

    It has a key of its own or, without ``tls``, neither key nor TLS.
    """
    site = Site(home.name, len(federation.sites), home)
    federation._prepare(site, None)
    trust = ["--insecure"]
    if tls:
        authority = f"--root-certificates={federation.tls_files.authority}"
        trust = [authority, f"--auth-supernode-private-key={site.key}"]
    address = f"localhost:{federation.wire.port}"
    program = federation._start_supernode(site.name, home, address, [*trust, "--max-retries=1"])
    try:
        program.wait_until(
            lambda: not program.running or LET_IN in program.said(), START_SECONDS, "an answer"
        )
        if LET_IN in program.said():
            return "let in"
        reason = EXIT.search(program.said())
        return reason[1].strip() if reason else program.tail()
    finally:
        federation._programs.pop(site.name).kill()


def ours(folder):
    """The running processes that have anything to do with a federation's folder."""
    found = []
    for process in psutil.process_iter(["pid", "status", "environ", "cmdline"]):
        words = " ".join(
            [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        )
        if str(folder) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]


SECRETS = {"images.npz", "test.npz", "state.db"}


def secrets_in(folder):
    """The files below a folder that hold a private key, images, or the SuperLink's state."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and (path.name in SECRETS or b"PRIVATE KEY" in path.read_bytes())
    ]
