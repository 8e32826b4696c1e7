"""What notebook 05 checks, and its figure of who was there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedtutor import federation
from fedtutor.course.exercises import Answer, NotDone, Wrong, exercise, other_case, same_arrays
from fedtutor.federation.in_process import FIRST_NODE_ID
from fedtutor.federation.records import to_record
from fedtutor.figures.charts import legend_above, name_rows
from fedtutor.figures.picture import BLUE, GREY, RED, Picture, tidy
from fedtutor.model import Weights
from fedtutor.support.keras_import import load_keras


def attendance(names: Sequence[str], grid: federation.GuardedGrid, auc: Sequence[float]) -> Picture:
    """Draw the AUC of the global model above who trained in each round and who was left out.

    Parameters
    ----------
    names : all hospitals, from top to bottom.
    grid : the guarded grid of a run; it remembers who replied.
    auc : of round 0, 1, ...
    """
    rounds = range(1, len(auc))
    trained = [(r, names.index(n)) for r in rounds for n in grid.traffic[r].hospitals]
    missing = [(out.round, names.index(out.hospital)) for out in grid.left_out]
    everybody = [(r, k) for r in rounds for k in range(len(names))]
    idle = [place for place in everybody if place not in trained and place not in missing]
    figure = Figure(figsize=(8, 2.6 + 0.3 * len(names)))
    heights = (1.6, 0.3 * len(names))
    gap = {"hspace": 1 / sum(heights)}  # half an inch, for the legend
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=heights, gridspec_kw=gap)
    above.plot(range(len(auc)), auc, "o-", color=BLUE)
    above.set_ylabel("AUC")
    if len(auc) > 2:  # round 0 would flatten all the others
        above.set_ylim(min(auc[1:]) - 0.02, max(auc) + 0.02)
    for places, label, marker, colour, size in (
        (trained, "trained", "o", BLUE, 90),
        (missing, "left out", "X", RED, 110),
        (idle, "not asked", ".", GREY, 40),
    ):
        if places:
            x, y = zip(*places, strict=True)
            below.scatter(x, y, s=size, marker=marker, color=colour, label=label)
    name_rows(below, names)
    below.set_xlabel("round")
    below.set_xlim(-0.3, len(auc) - 0.7)
    below.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    legend_above(below, 3)
    tidy(above, "both")
    tidy(below, "both")
    said = [
        f"round {r}: {len(grid.traffic[r].hospitals)} trained"
        + "".join(f", {out.hospital} left out" for out in grid.left_out if out.round == r)
        for r in rounds
    ]
    alt = f"AUC of the global model from {auc[0]:.2f} to {auc[-1]:.2f}; {'; '.join(said)}."
    return Picture(figure, alt, 0.01)


START = [np.zeros((2, 3), np.float32), np.ones(3, np.float32)]


def _train_a_little(weights: Weights, images: np.ndarray) -> Weights:
    if isinstance(weights, ArrayRecord):
        raise Wrong("""`train` was given an ArrayRecord; it works on a list of NumPy arrays.
            Hint: a record can turn itself into such a list.""")
    return [array + np.float32(images.mean()) for array in weights]


def ask(
    hospital: Callable[[Message, Context], Any], kind: str, content: RecordDict
) -> tuple[Message, Any]:
    """Return a message of a kind as Flower would deliver it, and what the hospital replies."""
    grid = federation.InProcessGrid(ClientApp(), ["a hospital"])
    message = grid.create_message(content, kind, FIRST_NODE_ID, group_id="1")
    grid.push_messages([message])  # as Flower answers only what was sent
    config: dict[str, bool | float | int | str] = {"partition-id": 0, "num-partitions": 1}
    config["name"] = "a hospital"
    return message, hospital(message, Context(1, FIRST_NODE_ID, config, RecordDict(), {}))


def _ask_to_train(answer: Answer, images: np.ndarray) -> tuple[Message, Any]:
    """Return a train message and what an answer to 05.1 replies for these images."""
    config = ConfigRecord({"server-round": 1, "batch-size": 8})
    content = RecordDict({"arrays": to_record(START), "config": config})
    return ask(lambda *asked: answer(*asked, images, _train_a_little), "train", content)


def trained_reply(message: Message, context: Context, images: Any, train: Callable) -> Message:
    """Answer a message of training: unpack, train, pack again."""
    weights = train(message.content.array_records["arrays"].to_numpy_ndarrays(), images)
    metrics = MetricRecord({"num-examples": len(images)})
    content = RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics})
    return Message(content, reply_to=message)


@exercise(
    """05.1, a hospital's reply
    More: arrays = ArrayRecord(train(weights, images)), where the weights are
    message.content['arrays'].to_numpy_ndarrays(); metrics = MetricRecord({"num-examples":
    len(images)}); return Message(RecordDict({"arrays": arrays, "metrics": metrics}),
    reply_to=message)""",
    reference=trained_reply,
)
def reply_of_a_hospital(my_train: Answer) -> None:
    images = np.full((30, 4, 4, 1), 2, np.uint8)
    message, got = _ask_to_train(my_train, images)
    if not isinstance(got, Message):
        raise Wrong(f"""A message is answered with a message; yours is a {type(got).__name__}.
            Hint: put the records into a RecordDict, and the RecordDict into a Message.""")
    if got.metadata.reply_to_message_id != message.metadata.message_id:
        raise Wrong("""That is a message, but no reply: what it answers could not be told.
            Hint: a Message can be told which other message it answers.""")
    arrays, metrics = got.content.array_records, got.content.metric_records
    if set(arrays) != {"arrays"} or set(metrics) != {"metrics"}:
        raise Wrong(f"""Flower's strategies look for two records, "arrays" and "metrics"; yours
            holds: {", ".join(sorted(got.content)) or "nothing"}.
            Hint: RecordDict({{"arrays": ..., "metrics": ...}})""")
    _check_weights(arrays["arrays"].to_numpy_ndarrays())
    _check_count(dict(metrics["metrics"]), images)
    _, second = _ask_to_train(my_train, images[:7])
    other_case(second.content["metrics"]["num-examples"] == 7)


def _check_weights(got: Weights) -> None:
    if same_arrays(got, START):
        raise Wrong("""The weights that come back are those that were sent.
            Hint: what does `train` give back?""")
    if not same_arrays(got, [array + 2 for array in START]):
        raise Wrong("""The weights that come back are not those that `train` gave.
            Hint: train once, and send all arrays, in their order.""")


def _check_count(metrics: dict[str, Any], images: np.ndarray) -> None:
    if "num-examples" not in metrics:
        raise Wrong(f"""FedAvg looks for "num-examples"; you have: {", ".join(metrics) or "none"}.
            Hint: with a hyphen, and spelled just so.""")
    count = metrics["num-examples"]
    if count != len(images):
        raise Wrong(f"""The hospital has {len(images)} images and claims {count:g} examples.
            Hint: the server weights by images: not by pixels or batches, and not all alike.""")


def find_foreign(content: RecordDict, weights: Weights) -> list[tuple[str, str]]:
    """List what a reply holds beside the model's arrays and plain numbers: (record, entry)."""
    shapes = {("arrays", str(k)): array.shape for k, array in enumerate(weights)}
    return [
        (name, entry)
        for name, record in content.items()
        for entry, value in record.items()
        if not (name == "metrics" and isinstance(value, (int, float)))
        and shapes.get((name, entry)) != tuple(getattr(value, "shape", ()))
    ]


PHOTO = np.arange(16, dtype=np.uint8).reshape(4, 4)
CARGO: dict[tuple[str, str], str] = {
    ("notes", "0"): """A whole record called "notes" goes through.
        Hint: a reply has two records, "arrays" and "metrics"; all others are foreign.""",
    ("arrays", "2"): """An array too many goes through: entry "2" beside the model's "0" and "1".
        Hint: which names do the arrays of a model with len(weights) arrays have?""",
    ("arrays", "1"): """An image of 4 x 4 goes through in the place of array "1", of 3 numbers.
        Hint: value.shape and weights[int(entry)].shape""",
    ("metrics", "pixels"): """A list of sixteen numbers goes through as a metric.
        Hint: a metric is one plain number: isinstance(value, (int, float)).""",
}
"""Where an image is hidden, one place at a time, and what to say to an audit that misses it."""


def _reply_with(place: tuple[str, str] | None) -> RecordDict:
    """Return an honest reply's content, with an image put in some place of it."""
    metrics = MetricRecord({"num-examples": 30, "loss": 0.5})
    content = RecordDict({"arrays": ArrayRecord(START), "metrics": metrics})
    if place == ("metrics", "pixels"):
        metrics["pixels"] = PHOTO.ravel().tolist()
    elif place and place[0] == "arrays":
        content.array_records["arrays"][place[1]] = Array(PHOTO)
    elif place:
        content["notes"] = ArrayRecord([PHOTO])
    return content


@exercise(
    """05.2, an audit of what leaves
    More: for name, record in content.items(): for entry, value in record.items(): and in it, three
    cases: an array of the model with its shape; a number in "metrics"; everything else.""",
    reference=find_foreign,
)
def audit(my_audit: Answer) -> None:
    for place, said in CARGO.items():
        got = my_audit(_reply_with(place), START)
        if not isinstance(got, (list, tuple, set)):
            raise Wrong(f"""A list is asked for; yours is a {type(got).__name__}.
                Hint: collect the pairs (record, entry), and give back an empty list for none.""")
        if not {tuple(pair) for pair in got}:
            raise Wrong(said)
        if {tuple(pair) for pair in got} != {place}:
            raise Wrong(f"""Only {place} is foreign there; your list: {list(got)}.
                Hint: a pair holds the name of the record and that of the entry in it.""")
    if my_audit(_reply_with(None), START):
        raise Wrong("""Your audit holds an honest reply back.
            Hint: "num-examples" may be an int and a loss a float; arrays are compared by shape.""")


def pull_back(gradients: Sequence, weights: Sequence, sent: Sequence, mu: float) -> list:
    """Add FedProx's pull to each gradient: g + μ (w - w_sent), Li et al. 2020, eq. 2."""
    return [g + mu * (w - s) for g, w, s in zip(gradients, weights, sent, strict=True)]


@exercise(
    """05.3, FedProx's pull
    More: [g + mu * (w - s) for g, w, s in zip(gradients, weights, sent)]""",
    reference=pull_back,
)
def pull(my_pull: Answer) -> None:
    load_keras()
    import tensorflow as tf

    @tf.function(autograph=False)  # where it will be used
    def pulled(*numbers: Any) -> Any:
        three = [[n, tf.stack([n, n])] for n in numbers[:3]]
        return my_pull(*three, numbers[3])

    got = pulled(*map(tf.constant, (10.0, 7.0, 4.0, 0.5)))
    if not isinstance(got, (list, tuple)) or len(got) != 2 or got[1].shape != (2,):
        raise Wrong("""A list of gradients is asked for, one for each array of the model.
            Hint: go through the three lists together, with zip.""")
    number = float(got[0])
    said = {
        10.0: "It is the gradient alone: nobody is pulled.\nHint: where does mu come in?",
        8.5: """The band pushes: it drives the hospital away from what it was sent.
            Hint: gradients are subtracted in a step; so the pull has the sign of w - sent.""",
        13.0: "The strength of the band counts for nothing.\nHint: multiply the pull by mu.",
        13.5: """You pull towards zero, which is called weight decay.
            Hint: what pulls is the distance from the weights that were sent.""",
        1.5: """That is the pull alone; the images no longer count.
            Hint: add it to the gradient.""",
    }
    if number in said:
        raise Wrong(said[number])
    if number != 11.5:
        raise Wrong(f"""g = 10, w = 7, sent = 4 and μ = 0.5 make 11.5; yours is {number:g}.
            Hint: g + mu * (w - sent), array by array.""")


class InTurn(FedAvg):
    """FedAvg that trains half of the hospitals in a round: those asked least often so far."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: Counter[int] = Counter()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """Choose the hospitals, and write a message to each."""
        nodes = sorted(grid.get_node_ids(), key=lambda node: (self.asked[node], node))
        chosen = nodes[: len(nodes) // 2]
        self.asked.update(chosen)
        config["server-round"] = server_round
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content, node, MessageType.TRAIN) for node in chosen]


def _asked(strategy: Strategy, num_hospitals: int, rounds: int) -> list[list[int]]:
    """Return which hospitals, counted from 0, a strategy asks in each round."""
    grid = federation.InProcessGrid(ClientApp(), list(map(str, range(num_hospitals))))
    asked = []
    for server_round in range(1, rounds + 1):
        sent = strategy.configure_train(server_round, to_record(START), ConfigRecord(), grid)
        if sent is None or sent is ...:
            raise NotDone
        messages: list[Any] = list(sent)
        if not all(isinstance(message, Message) for message in messages):
            raise Wrong(f"""Messages are asked for; yours holds a {type(messages[0]).__name__}.
                Hint: Message(content, node, MessageType.TRAIN), one for each chosen node.""")
        asked.append(sorted(message.metadata.dst_node_id - FIRST_NODE_ID for message in messages))
        for message in messages:
            config = dict(message.content.config_records.get("config", {}))
            if config.get("server-round") != server_round or "arrays" not in message.content:
                raise Wrong("""A hospital needs the weights and the round, and yours is not told.
                    Hint: a message's content is a RecordDict with "arrays" and "config".""")
    return asked


@exercise(
    """05.4, who is asked
    More: chosen = sorted(nodes, key=lambda node: (self.asked[node], node))[: len(nodes) // 2];
    self.asked.update(chosen); return [Message(content, node, MessageType.TRAIN) for node in
    chosen]""",
    reference=InTurn,
)
def who_is_asked(make: Answer) -> None:
    strategy = make(fraction_evaluate=0.0)
    if not isinstance(strategy, Strategy):
        raise Wrong(f"""A Flower strategy is asked for; yours is a {type(strategy).__name__}.
            Hint: a class that begins with class MyStrategy(FedAvg).""")
    asked = _asked(strategy, 8, rounds=4)
    first, second = [0, 1, 2, 3], [4, 5, 6, 7]
    if len(asked[0]) != 4:
        raise Wrong(f"""Of 8 hospitals 4 should train; you ask {len(asked[0])}.
            Hint: len(nodes) // 2""")
    if asked == [first] * 4:
        raise Wrong("""It is always the same half; the other hospitals' patients never count.
            Hint: count who has been asked: self.asked.update(chosen)""")
    if len({number for numbers in asked[:2] for number in numbers}) < 8:
        raise Wrong("""After two rounds somebody has not been asked yet, and others twice.
            Hint: sort by self.asked[node]: whoever has been asked least often comes first.""")
    if asked != [first, second] * 2:
        raise Wrong("""Everybody has a turn, but not in the order that was asked for.
            Hint: among those asked equally often the smallest node comes first.""")
    other_case(_asked(make(fraction_evaluate=0.0), 12, rounds=2)[1] == list(range(6, 12)))
