"""What notebook 13 checks, its picture of who talks to whom, and what a stranger sends."""

from __future__ import annotations

import base64
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle  # pickle itself knows functions by their names only
import numpy as np
import pandas as pd
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedtutor import federation
from fedtutor.classroom.host import Classroom
from fedtutor.classroom.join import Laptop
from fedtutor.course import small_federation
from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape
from fedtutor.course.lessons.flower_simulation import ask, attendance
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.deployment.appfolder import to_toml, write_app
from fedtutor.deployment.federation import LocalFederation
from fedtutor.deployment.gate import HOSPITALS_ONLY
from fedtutor.deployment.private import make_private_folder
from fedtutor.deployment.running import Running
from fedtutor.deployment.superlink import LocalSimulation, SuperLink
from fedtutor.federation.in_process import InProcessGrid
from fedtutor.federation.records import arrays_in, to_record, to_weights
from fedtutor.figures.picture import BLUE, GREEN, GREY, ORANGE, Picture, row_of_images
from fedtutor.model import Weights
from fedtutor.settings import Config
from fedtutor.topics.algorithms import LocalSteps, make_app


def who_talks(hospitals: Sequence[str]) -> Picture:
    """Draw the programs of a deployment, on which machine each runs, and who calls whom.

    More than three hospitals would not fit.
    """
    figure = Figure(figsize=(9.6, 4.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 19.2)
    axes.set_ylim(0, 9.2)
    axes.axis("off")
    parts = ["flwr run\n(sends the app)", "ServerApp\n(one run)", "SuperLink\n(stays on)"]
    _machine(axes, (0.3, 3.3), "the server", [*parts, "gate"], BLUE)
    _arrow(axes, (7.6, 4.2), (6.5, 4.2))
    _arrow(axes, (4.3, 4.2), (5.1, 4.2))
    _arrow(axes, (1.4, 3.8), (5.6, 3.8), 0.22)
    axes.text(4.7, 2.8, "from inside only", ha="center", fontsize=9, color=GREY)
    parts = ["SuperNode\n(stays on)", "ClientApp\n(one message)", "images, key"]
    for k, name in enumerate(hospitals):
        bottom = 3.3 + 2.9 * ((len(hospitals) - 1) / 2 - k)
        _machine(axes, (12.4, bottom), name, parts, ORANGE)
        _arrow(axes, (12.4, bottom + 1.25), (9.1, 4.55 + 0.25 * (bottom - 3.3)))
    axes.text(10.6, 7.2, "TLS,\nand a key", ha="center", fontsize=9)
    return Picture(
        figure,
        "Boxes are machines, arrows say who calls whom. The hospitals "
        f"({', '.join(hospitals)}) call the server's gate over TLS, each with a key of its own; "
        "the server calls nobody. Behind the gate, reached from inside only: the SuperLink, which "
        "stays on, a ServerApp for each run, and flwr run, which sends the app. In each hospital: "
        "the SuperNode, which stays on, a ClientApp for each message, and the images and the key, "
        "which never leave it.",
    )


def _machine(
    axes: Axes, corner: tuple[float, float], title: str, parts: Sequence[str], colour: str
) -> None:
    """Draw a machine from its lower left corner, and the programs on it side by side."""
    (x, y), width, height = corner, 2.2 * len(parts), 2.5
    axes.add_patch(Rectangle(corner, width, height, facecolor=(colour, 0.12), edgecolor=colour))
    axes.text(x + width / 2, y + height - 0.15, title, ha="center", va="top", weight="bold")
    for k, text in enumerate(parts):
        paint = GREEN if "images" in text else colour
        box = {"boxstyle": "round", "facecolor": (paint, 0.25), "edgecolor": paint}
        place = (x + 2.2 * k + 1.1, y + 0.9)
        axes.text(*place, text, ha="center", va="center", fontsize=8, bbox=box)


def _arrow(
    axes: Axes, begin: tuple[float, float], end: tuple[float, float], bend: float = 0.0
) -> None:
    look = {"arrowstyle": "-|>", "lw": 1.8, "color": "#333333"}
    axes.annotate("", end, begin, arrowprops=look | {"connectionstyle": f"arc3,rad={bend}"})


def what_is_where(room: Classroom, laptops: Sequence[Laptop]) -> pd.DataFrame:
    """Tell, one row a hospital, whether it is connected, and the files that only it has."""
    rows = {
        laptop.name: {
            "SuperNode": "connected" if room.is_here(laptop.number) else "off",
            "images": sum(room.images_of(laptop.number)),
            "keeps to itself": "its images, key",
            "gave to the server": "key.pub",
        }
        for laptop in laptops
        if (laptop.folder / "key").exists() and (laptop.folder / "key.pub").exists()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def wait_until_here(room: Classroom, laptops: Sequence[Laptop]) -> None:
    """Wait until all are connected."""
    while not all(room.is_here(laptop.number) for laptop in laptops):
        time.sleep(0.2)


def say(event: dict) -> str:
    """Tell a round in a line that is the same on every machine."""
    text = f"round {event['round']}: {event['hospitals']} hospitals trained"
    if event["left_out"]:
        text += f", left out: {', '.join(out['hospital'] for out in event['left_out'])}"
    return f"{text}; AUC ≈{event['auc']:.2f}"


def who_trained(names: Sequence[str], running: Running) -> Picture:
    """Draw the figure of notebook 05, from what the server has noted of a run."""
    grid = federation.GuardedGrid(InProcessGrid(ClientApp(), names), [])
    rounds = [event for event in running.events() if event["event"] == "round"]
    for event in rounds:
        grid.traffic[event["round"]] = federation.Traffic(
            hospitals=sorted(event["names"], key=names.index)
        )
        grid.left_out += [federation.LeftOut(**out) for out in event["left_out"]]
    return attendance(names, grid, [event["auc"] for event in rounds])


def power_cut(name: str, server_round: int) -> Callable:
    """Return a Flower mod by which one hospital gives no answer in one round."""

    def cut(message: Message, context: Context, call_next: Callable) -> Message:
        config = message.content.config_records.get("config", ConfigRecord())
        if context.node_config["name"] == name and config.get("server-round") == server_round:
            raise ConnectionError("no power")
        return call_next(message, context)

    return cut


STRANGERS_APP = """
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client_app = ClientApp()
server_app = ServerApp()

@client_app.query()
def look_around(message, context):
    return Message(RecordDict({"seen": ConfigRecord(dict(context.node_config))}), reply_to=message)

@server_app.main()
def main(grid, context):
    nodes = grid.get_node_ids()
    asked = [Message(RecordDict(), dst_node_id=k, message_type="query") for k in nodes]
    for reply in grid.send_and_receive(asked):
        print("the stranger reads:", reply.content["seen"]["name"])
"""


def stranger_runs(link: SuperLink, port: int) -> list[str]:
    """Start a stranger's app at a port of the server; return what he learns, or is told.

    He has the address and the certificate, which every hospital has, and no key.
    """
    assert link.tls_files is not None
    home = make_private_folder(link.folder / "stranger")
    make_private_folder(home / "tmp")
    known = {"address": f"localhost:{port}", "root-certificates": str(link.tls_files.authority)}
    config = to_toml({"superlink": {"default": "there", "there": known}})
    (make_private_folder(home / "flwr") / "config.toml").write_text(config, encoding="utf-8")
    app = write_app(home / "app", {}, STRANGERS_APP)
    command = ("run", str(app), "there", "--stream")
    program = link._start("stranger", "flwr", *command, folder=home, log="stranger.log")
    program.process.wait()
    said = " ".join(program.said().replace("│", " ").split())
    learnt = sorted(re.findall(r"the stranger reads: .*", program.said()))
    told = HOSPITALS_ONLY.partition(":")[0]
    return learnt or [told] * (told in said)


ENGINES_APP = '''"""A small app, and a mod that was written in a notebook."""

import base64
import pickle

from fedtutor.course.small_federation import make_client_app, server_app

__all__ = ["client_app", "server_app"]

client_app = make_client_app([pickle.loads(base64.b64decode("{mod}"))])
'''


def in_engine(engine: str, mod: Callable, metric: str) -> pd.Series:
    """Run one round in an engine, and return a metric of each hospital.

    Parameters
    ----------
    engine : "one process", "TLS" (a process for each hospital) or "Ray" (Flower's simulation).
    mod : a Flower mod; the function itself goes into the app that is sent.
    metric : its name in the reply's metrics.
    """
    names, _ = small_federation.hospitals()
    with tempfile.TemporaryDirectory(prefix="fedtutor-") as folder:
        journal = Path(folder) / small_federation.PROGRESS
        code = ENGINES_APP.format(mod=base64.b64encode(cloudpickle.dumps(mod)).decode())
        config: Config = {"out": folder, "hospitals": len(names), "size": small_federation.SIZE}
        app = write_app(Path(folder) / "app", config, code)
        if engine == "one process":
            client_app = small_federation.make_client_app([mod])
            server_app = small_federation.server_app
            federation.run_in_process(server_app, client_app, names, run_config=config)
        else:
            ray, images = engine == "Ray", dict.fromkeys(names)
            with LocalSimulation(len(names)) if ray else LocalFederation(images) as link:
                link.run(app, journal).wait()
        events = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    found = {e["hospital"]: e["metrics"].get(metric) for e in events if e["event"] == "reply"}
    return pd.Series(found, index=list(names), name=engine)


def caught_on_the_cable(xray: np.ndarray) -> Picture:
    """Draw the clinic's patient beside what the listener has rebuilt, both float (64, 64)."""
    patient = chest_phantoms(3, size=64, hospitals=1, seed=1).images[0, ..., 0] / 255
    off = f"at most {255 * np.abs(patient - xray).max():.1f} of 255 grey levels off"
    titles = ("the patient, in the clinic", f"from the bytes,\n{off}")
    alt = f"The synthetic X-ray in the clinic, and the one from the bytes: {off}."
    return row_of_images([patient, xray], titles, alt, step=0.1, width=2.6)


def divide_differences(
    kernel_sent: np.ndarray, bias_sent: np.ndarray, kernel_back: np.ndarray, bias_back: np.ndarray
) -> np.ndarray:
    """Return the one image that a linear model was trained on, from its weights before and after.

    Kernels are (pixels, classes), biases (classes,).
    """
    moved = bias_back - bias_sent
    j = np.abs(moved).argmax()
    return (kernel_back - kernel_sent)[:, j] / moved[j]


def _before_and_after(seed: int, rate: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return (image, [kernel and bias before, kernel and bias after]) of one gradient step."""
    rng = np.random.default_rng(seed)
    image, errors = rng.random(12), np.array([0.0, -0.7, 0.7] if seed else [0.2, 0.3, -0.5])
    kernel, bias = rng.normal(size=(12, 3)), rng.normal(size=3)
    step = rate * np.outer(image, errors)
    return image, [kernel, bias, kernel - step, bias - rate * errors]


@exercise(
    """13.1, an X-ray from the cable
    More: moved = bias_back - bias_sent; j = np.abs(moved).argmax(); return (kernel_back -
    kernel_sent)[:, j] / moved[j]""",
    reference=divide_differences,
)
def xray_from_weights(my_xray: Answer) -> None:
    for seed, rate in ((0, 0.5), (1, 0.01)):
        image, weights = _before_and_after(seed, rate)
        with np.errstate(all="ignore"):
            got = of_shape(my_xray(*map(np.copy, weights)), image.shape, "a number a pixel.")
        if not np.isfinite(got).all():
            raise Wrong("""There is NaN or infinity in your image.
                Hint: a class without an error moves neither its kernel nor its bias.""")
        if np.allclose(got, weights[2][:, 0] / weights[3][0]) and not np.allclose(got, image):
            raise Wrong("""You divide the weights themselves.
                Hint: what the image has done is the difference of after and before.""")
        if np.allclose(got, -image):
            raise Wrong("""That is the image with its sign turned round.
                Hint: take both differences in the same direction.""")
        if np.allclose(got * image, 1):
            raise Wrong("""That is one over the image.
                Hint: which is divided by which?""")
        if not np.allclose(got, image):
            raise Wrong("""That is not the image.
                Hint: the kernel's difference of one class, divided by the bias's of the same.""")


def tell_how_far(message: Message, context: Context, call_next: Callable) -> Message:
    """Add to a training's metrics how far the weights have moved: a Flower mod."""
    reply = call_next(message, context)
    if message.metadata.message_type == "train":
        sent, new = (to_weights(arrays_in(m)) for m in (message, reply))
        squares = sum(((a - b) ** 2).sum() for a, b in zip(new, sent, strict=True))
        reply.content["metrics"]["moved"] = float(np.sqrt(squares))
    return reply


SENT = [np.zeros((2, 2), np.float32), np.ones(3, np.float32)]
FAR, NEAR = (3.0, 0.0), (0.0, 0.5)
"""What a hospital's training adds to the two arrays: they move by 6, and by 0.87."""


def _answer(mod: Answer, kind: str, step: tuple[float, float] = FAR) -> Message:
    """Return what a hospital with this mod replies to a message of that kind."""
    content = RecordDict()
    if kind == "train":
        config = ConfigRecord({"server-round": 1})
        content = RecordDict({"arrays": to_record(SENT), "config": config})

    def local(weights: Weights, *others: Any) -> LocalSteps:
        trained = [array + np.float32(s) for array, s in zip(weights, step, strict=True)]
        return LocalSteps(trained, 1.0, num_examples=10, loss=0.5)

    return ask(lambda *asked: mod(*asked, make_app(local)), kind, content)[1]


@exercise(
    """13.2, a metric of your own, in every engine
    More: reply.content['metrics']['moved'] = float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in
    zip(new, sent)))), and then: return reply""",
    reference=tell_how_far,
)
def moved(mod: Answer) -> None:
    try:
        reply = _answer(mod, "train")
    except TypeError as error:
        raise Wrong(f"""Flower does not take this metric: {error}
            Hint: a metric is one plain number, for all arrays together.""") from error
    if not isinstance(reply, Message):
        raise Wrong(f"""A mod passes the reply on; yours gives back a {type(reply).__name__}.
            Hint: the number goes into the reply's metrics, and the reply to the server.""")
    far = _metric_of(reply)
    if np.isclose(far, np.sqrt(4 * 3**2 + 3)):
        raise Wrong("""That is how long the new weights are, not how far they have moved.
            Hint: the weights that were sent are in the message.""")
    if not np.isclose(far, 6.0):
        raise Wrong(f"""This hospital moved by 6, and yours says {far:.3g}.
            Hint: the root of the sum of (new - sent) ** 2: the reply's weights, the message's.""")
    near = _metric_of(_answer(mod, "train", NEAR))
    if not np.isclose(near, 0.5 * np.sqrt(3)):
        raise Wrong(f"""For another hospital, that moved by 0.87, yours says {near:.2f}.
            Hint: all arrays count, not only the first.""")
    try:
        _answer(mod, "query")
    except Exception as error:  # whatever a learner's code raises is answered kindly
        raise Wrong(f"""Asked for its name, it stops with {type(error).__name__}: {error}
            Hint: a mod sees every message, also those without weights.
            More: if message.metadata.message_type == 'train': ...""") from error


def _metric_of(reply: Message) -> float:
    """Return the new metric of a reply that is otherwise as it was."""
    if set(reply.content) != {"arrays", "metrics"}:
        raise Wrong(f"""The server leaves out a reply of {", ".join(sorted(reply.content))}.
            Hint: no new record: one more number in the one that is there.""")
    metrics = dict(reply.content.metric_records["metrics"])
    if "num-examples" not in metrics:
        raise Wrong("""The number of examples is gone, and FedAvg needs it.
            Hint: add to the metrics, do not replace them.""")
    moved = metrics.get("moved")
    if not isinstance(moved, int | float):
        raise Wrong(f"""There is no metric of the name "moved".
            Hint: the metrics have: {", ".join(metrics)}.""")
    return float(moved)


STATEMENTS = {
    "A": (True, "the ServerApp must add the updates up, so that it has each of them in the clear. "
          "TLS ends at the server's door."),
    "B": (False, "a hospital pulls its own messages only; of the others it sees the average."),
    "C": (False, "metrics travel in the same encrypted stream as the weights."),
    "D": (True, "the app is code, and SuperNodes run what the SuperLink sends them."),
    "E": (False, "follow the arrows of the picture: who calls whom?"),
    "F": (False, "the key is how the SuperLink knows a hospital; TLS hides what is said to it."),
}  # fmt: skip
"""Whether each is true, and what to look at if somebody thinks otherwise."""


@exercise("""13.3, who can do what
    More: {"A": True, "B": False, ...}""")
def who_can(answers: object) -> None:
    if not isinstance(answers, dict) or set(answers) != set(STATEMENTS):
        raise Wrong("""The answer is a dict with the six letters as its keys.
            Hint: {"A": True, "B": False, ...}""")
    if not_said := [letter for letter, said in answers.items() if not isinstance(said, bool)]:
        raise Wrong(f"""{", ".join(not_said)}: say True or False.
            Hint: without quotation marks, and with a capital letter.""")
    wrong = [letter for letter, (true, _) in STATEMENTS.items() if answers[letter] != true]
    if wrong:
        raise Wrong(f"""{6 - len(wrong)} of 6 are right.
            Hint: look at {wrong[0]} again: {STATEMENTS[wrong[0]][1]}
            More: wrong so far: {", ".join(wrong)}.""")
