"""What notebook 10 checks, its picture of who talks to whom, and the older way as programs."""

from __future__ import annotations

from fedtutor import federation  # first, as it tells Flower to be quiet

# isort: split
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fedtutor.course.exercises import Wrong, exercise
from fedtutor.course.lessons.flower_simulation import attendance
from fedtutor.deployment import LocalFederation, LocalSimulation, Running, write_app
from fedtutor.deployment.processes import free_port
from fedtutor.federation.in_process import FIRST_NODE_ID, InProcessGrid
from fedtutor.federation.records import to_record, to_weights
from fedtutor.figures.picture import BLUE, GREEN, GREY, ORANGE, Picture


def who_talks(hospitals: Sequence[str]) -> Picture:
    """The programs of a deployment, on which machine each runs, and who calls whom.

    Parameters
    ----------
    hospitals : three names at most, or they would not fit.
    """
    figure = Figure(figsize=(9, 4.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 18)
    axes.set_ylim(0, 9.2)
    axes.axis("off")
    _machine(axes, (0.3, 3.2, 3.6, 2.6), "the desk", ["flwr run\n(sends the app)"], GREY)
    _machine(
        axes,
        (6.0, 2.4, 4.2, 4.2),
        "the server",
        ["SuperLink\n(stays on)", "ServerApp\n(one run)"],
        BLUE,
    )
    _arrow(axes, (3.9, 4.5), (6.0, 4.5))
    axes.text(4.95, 4.7, "TLS", ha="center", va="bottom", fontsize=9)
    tops = np.linspace(8.9, 3.1, len(hospitals)) if len(hospitals) > 1 else [6.0]
    for name, top in zip(hospitals, tops, strict=True):
        parts = ["SuperNode\n(stays on)", "ClientApp\n(one message)", "images, key"]
        _machine(axes, (12.1, top - 2.6, 5.6, 2.5), name, parts, ORANGE, side_by_side=True)
        _arrow(axes, (12.1, top - 1.4), (10.2, 4.5 + 0.25 * (top - 6.0)))
    axes.text(10.9, 8.2, "TLS,\nand a key", ha="center", fontsize=9)
    return Picture(
        figure,
        "Boxes are machines, arrows say who calls whom. The desk calls the server with flwr run. "
        f"The hospitals ({', '.join(hospitals)}) call the server, each with a key of its own; the "
        "server calls nobody. On the server: the SuperLink, which stays on, and a ServerApp for "
        "each run. In each hospital: the SuperNode, which stays on, a ClientApp for each message, "
        "and the images and the key, which never leave it.",
    )


def _machine(
    axes: Axes,
    place: tuple[float, float, float, float],
    title: str,
    parts: Sequence[str],
    colour: str,
    *,
    side_by_side: bool = False,
) -> None:
    x, y, width, height = place
    axes.add_patch(_box(x, y, width, height, colour, 0.12))
    axes.text(x + width / 2, y + height - 0.15, title, ha="center", va="top", weight="bold")
    room_x, room_y = width - 0.3, height - 0.85
    count = len(parts)
    for k, text in enumerate(parts):
        if side_by_side:
            w, h = room_x / count - 0.1, room_y - 0.1
            left, low = x + 0.2 + k * (w + 0.1), y + 0.2
        else:
            w, h = room_x, room_y / count - 0.1
            left, low = x + 0.15, y + 0.15 + (count - 1 - k) * (h + 0.1)
        axes.add_patch(_box(left, low, w, h, GREEN if "images" in text else colour, 0.25))
        axes.text(left + w / 2, low + h / 2, text, ha="center", va="center", fontsize=8)


def _box(x: float, y: float, width: float, height: float, colour: str, alpha: float):
    style = "round,pad=0,rounding_size=0.15"
    return FancyBboxPatch(
        (x, y), width, height, boxstyle=style, facecolor=(colour, alpha), edgecolor=colour
    )


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, begin, arrowprops={"arrowstyle": "-|>", "lw": 1.8, "color": "#333333"})


def what_is_where(consortium: LocalFederation) -> pd.DataFrame:
    """One row a hospital: whether its SuperNode runs, and the files that only it has."""
    rows = {
        name: {
            "SuperNode": "connected" if consortium.is_running(name) else "off",
            "keeps to itself": ", ".join(
                sorted(path.name for path in (site.data, site.key) if path.exists())
            ),
            "gave to the server": site.key.with_suffix(".pub").name,
        }
        for name, site in consortium.sites.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def say(event: dict) -> str:
    """A round in a line that is the same on every machine."""
    text = f"round {event['round']}: {event['hospitals']} hospitals trained"
    if event["left_out"]:
        text += f", left out: {', '.join(out['hospital'] for out in event['left_out'])}"
    return f"{text}; AUC ≈{event['auc']:.2f}"


def who_trained(names: Sequence[str], running: Running) -> Picture:
    """The figure of notebook 05, from what the server has noted of a run."""
    grid = federation.GuardedGrid(InProcessGrid(ClientApp(), names), [])
    rounds = [event for event in running.events() if event["event"] == "round"]
    for event in rounds:
        grid.traffic[event["round"]] = federation.Traffic(
            hospitals=sorted(event["names"], key=names.index)
        )
        grid.left_out += [federation.LeftOut(**out) for out in event["left_out"]]
    return attendance(names, grid, [event["auc"] for event in rounds])


def power_cut(name: str, server_round: int) -> Callable:
    """A Flower mod by which one hospital gives no answer in one round."""

    def cut(message: Message, context: Context, call_next: Callable) -> Message:
        config = message.content.config_records.get("config", {})
        if context.node_config["name"] == name and config.get("server-round") == server_round:
            raise ConnectionError("no power")
        return call_next(message, context)

    return cut


def run_scripts(server: str, client: str, clients: int, seconds: float = 300.0) -> str:
    """Run a server and its clients as programs of their own; what the server printed.

    ``ADDRESS`` in the two texts becomes a free port of this machine, and ``NUMBER`` in the
    client's the number of the client.
    """
    address = f"127.0.0.1:{free_port()}"
    texts = [server, *(client.replace("NUMBER", str(k)) for k in range(clients))]
    names = ["the server", *(f"client {k}" for k in range(clients))]
    with tempfile.TemporaryDirectory(prefix="fedtutor-") as folder, ExitStack() as stack:
        paths = [Path(folder) / f"program_{k}.py" for k in range(len(texts))]
        programs = []
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text.replace("ADDRESS", address), encoding="utf-8")
            out = stack.enter_context(path.with_suffix(".out").open("w"))
            log = stack.enter_context(path.with_suffix(".log").open("w"))
            programs.append(subprocess.Popen([sys.executable, path], stdout=out, stderr=log))
            stack.callback(programs[-1].wait)
            stack.callback(programs[-1].kill)
        deadline = time.monotonic() + seconds
        while any(program.poll() is None for program in programs):
            for name, path, program in zip(names, paths, programs, strict=True):
                if program.poll():
                    log = path.with_suffix(".log").read_text()[-2000:]
                    raise RuntimeError(f"{name} failed:\n{log}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the programs have not ended after {seconds:g} s.")
            time.sleep(0.1)
        return paths[0].with_suffix(".out").read_text()


ENGINES_APP = '''"""A small app, and a mod that was written in a notebook."""

import base64
import pickle

from fedtutor.course.small_federation import make_client_app, server_app

__all__ = ["client_app", "server_app"]

client_app = make_client_app([pickle.loads(base64.b64decode("{mod}"))])
'''


def in_engine(engine: str, mod: Callable, metric: str) -> pd.Series:
    """One round in an engine; a metric of each hospital.

    Parameters
    ----------
    engine : "one process", "Ray" (Flower's simulation) or "TLS" (a process for each hospital).
    mod : a Flower mod; the function itself goes into the app that is sent.
    metric : its name in the reply's metrics.
    """
    from ray import cloudpickle  # pickle itself knows functions by their names only

    from fedtutor.course import small_federation as small

    names, _ = small.hospitals()
    with tempfile.TemporaryDirectory(prefix="fedtutor-") as folder:
        journal = Path(folder) / small.PROGRESS
        code = ENGINES_APP.format(mod=base64.b64encode(cloudpickle.dumps(mod)).decode())
        app = write_app(Path(folder) / "app", {"out": folder}, code)
        if engine == "one process":
            client_app = small.make_client_app([mod])
            run_config = {"out": folder}
            federation.run_in_process(small.server_app, client_app, names, run_config=run_config)
        elif engine == "Ray":
            with LocalSimulation(len(names)) as simulation:
                simulation.run(app, journal).wait()
        else:
            with LocalFederation(dict.fromkeys(names)) as consortium:
                consortium.run(app, journal).wait()
        events = [json.loads(line) for line in journal.read_text().splitlines()]
    found = {e["hospital"]: e["metrics"].get(metric) for e in events if e["event"] == "reply"}
    return pd.Series(found, index=list(names), name=engine)


SENT = [np.zeros((2, 2), np.float32), np.ones(3, np.float32)]
STEPS = {"far": (3.0, 0.0), "near": (0.0, 0.5)}


def _answer(mod, step: tuple[float, float] | None) -> Message:
    """What a hospital with this mod replies to a train message, or to a query (``step`` None)."""
    InProcessGrid(ClientApp(), ["a hospital"])  # tells Flower who is speaking
    content, kind = RecordDict(), "query"
    if step is not None:
        config = ConfigRecord({"server-round": 1})
        content, kind = RecordDict({"arrays": to_record(SENT), "config": config}), "train"
    message = Message(content, dst_node_id=FIRST_NODE_ID, message_type=kind)
    message.metadata.__dict__["_message_id"] = "1"

    def hospital(message: Message, context: Context) -> Message:
        if step is None:
            name = ConfigRecord({"name": "a hospital"})
            return Message(RecordDict({"hospital": name}), reply_to=message)
        weights = to_weights(message.content["arrays"])
        arrays = [array + np.float32(s) for array, s in zip(weights, step, strict=True)]
        metrics = MetricRecord({"num-examples": 10, "loss": 0.5})
        return Message(
            RecordDict({"arrays": to_record(arrays), "metrics": metrics}), reply_to=message
        )

    context = Context(
        run_id=1, node_id=FIRST_NODE_ID, node_config={}, state=RecordDict(), run_config={}
    )
    return mod(message, context, hospital)


@exercise("10.1", "a metric of your own, in every engine")
def moved(mod):
    try:
        reply = _answer(mod, STEPS["far"])
    except TypeError as error:
        raise Wrong(
            f"Flower does not take this metric: {error}",
            hint="a metric is one plain number, for all arrays together.",
            more="reply.content['metrics']['moved'] = float(...)",
        ) from error
    if not isinstance(reply, Message):
        raise Wrong(
            f"A mod passes the reply on; yours gives back a {type(reply).__name__}.",
            hint="the number goes into the reply's metrics, and the reply to the server.",
            more="reply.content['metrics']['moved'] = ..., and then: return reply",
        )
    _check_records(reply)
    _check_length(reply.content["metrics"]["moved"])
    near = _answer(mod, STEPS["near"]).content["metrics"]["moved"]
    if not np.isclose(near, 0.5 * np.sqrt(3)):
        raise Wrong(
            f"For another hospital, that moved by {0.5 * np.sqrt(3):.2f}, yours says {near:.2f}.",
            hint="all arrays count, not only the first.",
            more="sum over zip(new, sent), then the square root of it all.",
        )
    try:
        _answer(mod, None)
    except Exception as error:  # whatever a learner's code raises is answered kindly
        raise Wrong(
            "Training goes well, but asked for its name the hospital stops with "
            f"{type(error).__name__}: {error}",
            hint="a mod sees every message, also those without weights.",
            more="if message.metadata.message_type == 'train': ...",
        ) from error


def _check_records(reply: Message) -> None:
    if set(reply.content) != {"arrays", "metrics"}:
        raise Wrong(
            f"The reply now holds {', '.join(sorted(reply.content))}, and the server's guard "
            "leaves such a hospital out.",
            hint="no new record: one more number in the one that is there.",
            more="reply.content['metrics']['moved'] = ...",
        )
    if "num-examples" not in reply.content["metrics"]:
        raise Wrong(
            "The number of examples is gone, and FedAvg needs it.",
            hint="add to the metrics, do not replace them.",
            more="reply.content['metrics']['moved'] = ...",
        )
    if "moved" not in reply.content["metrics"]:
        raise Wrong(
            'There is no metric of the name "moved".',
            hint=f"the metrics have: {', '.join(reply.content['metrics'])}.",
            more="reply.content['metrics']['moved'] = ...",
        )


def _check_length(got: float) -> None:
    arrays = [array + s for array, s in zip(SENT, STEPS["far"], strict=True)]
    wrong = {
        np.sqrt(sum((a**2).sum() for a in arrays)): (
            "That is how long the new weights are, not how far they have moved.",
            "the weights that were sent are in the message.",
        ),
        sum(((a - s) ** 2).sum() for a, s in zip(arrays, SENT, strict=True)): (
            "That is the square of the distance.",
            "Pythagoras ends with a square root.",
        ),
        0.0: (
            "Your hospital has not moved at all.",
            "the new weights are in the reply, those that were sent in the message.",
        ),
    }
    for value, (sentence, hint) in wrong.items():
        if np.isclose(got, value):
            raise Wrong(sentence, hint=hint, more="np.sqrt of the sum of (new - sent) ** 2")
    if not np.isclose(got, 6.0):
        raise Wrong(
            f"This hospital moved by 6, and yours says {got:.3g}.",
            hint="the square root of the sum of all squared differences.",
            more="np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(new, sent)))",
        )


STATEMENTS = {
    "A": (
        True,
        "the ServerApp must add the updates up, so that it has each of them in the clear. TLS "
        "ends at the server's door.",
    ),
    "B": (
        False,
        "a hospital pulls its own messages only; what it sees of the others is the average.",
    ),
    "C": (False, "metrics travel in the same encrypted stream as the weights."),
    "D": (
        True,
        "the app is code, and SuperNodes run what the SuperLink sends them, unless they were "
        "started with --trusted-entities.",
    ),
    "E": (False, "follow the arrows of the picture: who calls whom?"),
    "F": (
        False,
        "the key is how the SuperLink knows a hospital; TLS only hides what is said to it.",
    ),
}


@exercise("10.2", "who can do what")
def who_can(answers):
    if not isinstance(answers, dict) or set(answers) != set(STATEMENTS):
        raise Wrong(
            "The answer is a dict with the six letters as its keys.",
            hint='{"A": True, "B": False, ...}',
            more=f"the keys are {', '.join(STATEMENTS)}.",
        )
    if not_said := [letter for letter, said in answers.items() if not isinstance(said, bool)]:
        raise Wrong(
            f"{', '.join(not_said)}: say True or False.",
            hint="without quotation marks, and with a capital letter.",
            more='{"A": True, "B": False, ...}',
        )
    wrong = [letter for letter, (true, _) in STATEMENTS.items() if answers[letter] != true]
    if wrong:
        raise Wrong(
            f"{6 - len(wrong)} of 6 are right.",
            hint=f"look at {wrong[0]} again: {STATEMENTS[wrong[0]][1]}",
            more=f"wrong so far: {', '.join(wrong)}.",
        )
