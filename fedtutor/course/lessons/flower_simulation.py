"""What notebook 05 checks, its figure of who was there, and its hospitals that are late."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedtutor import federation
from fedtutor.course.exercises import Answer, Wrong, exercise, other_case, same_arrays
from fedtutor.federation.client import hospital_name
from fedtutor.federation.in_process import FIRST_NODE_ID, WrappedGrid
from fedtutor.federation.records import to_record
from fedtutor.figures.charts import legend_above, name_rows
from fedtutor.figures.picture import BLUE, GREY, RED, Picture, tidy
from fedtutor.model import Weights
from fedtutor.topics.algorithms import LocalSteps, make_app


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


class ClockedGrid(WrappedGrid):
    """A grid on a clock of its own: hospital k replies after ``seconds[k]``, if that is in time.

    In one process nobody would want to wait for a slow one; here all work at the same time, as
    real ones do, and no real second passes. The late one is not
    trained at all, as its model would be thrown away.
    """

    def __init__(self, grid: Grid, seconds: Sequence[float]) -> None:
        super().__init__(grid)
        self._seconds = seconds

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send what is answered in time; a time-out counts for training only."""

        def in_time(message: Message) -> bool:
            seconds = self._seconds[message.metadata.dst_node_id - FIRST_NODE_ID]
            training = message.metadata.message_type == "train"
            return not training or timeout is None or seconds <= timeout

        return self._grid.send_and_receive(filter(in_time, messages), timeout=None)


def on_a_clock(server_app: ServerApp, seconds: Sequence[float]) -> ServerApp:
    """Put a ServerApp into a world where hospital k needs ``seconds[k]`` for a round."""
    clocked = ServerApp()

    @clocked.main()
    def main(grid: Grid, context: Context) -> None:
        server_app(ClockedGrid(grid, seconds), context)

    return clocked


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


@exercise("""05.1, a hospital's reply
    More: arrays = ArrayRecord(train(weights, images)), where the weights are
    message.content['arrays'].to_numpy_ndarrays(); metrics = MetricRecord({"num-examples":
    len(images)}); return Message(RecordDict({"arrays": arrays, "metrics": metrics}),
    reply_to=message)""")
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


class _CallingGrid(federation.InProcessGrid):
    """Notes how often it is asked who is there; somebody who waits for more asks for ever."""

    asked = 0

    def get_node_ids(self) -> list[int]:
        self.asked += 1
        if self.asked > 3:
            raise Wrong("""Your strategy would wait for ever for more hospitals than there are.
                Hint: a fraction lies in 0..1, and a minimum is at most the number of hospitals.""")
        return super().get_node_ids()


def _drawn(strategy: Strategy, num_hospitals: int, rounds: int) -> list[frozenset[int]]:
    """Which nodes the strategy would have trained in each round."""
    grid = _CallingGrid(ClientApp(), [f"Hospital {k + 1}" for k in range(num_hospitals)])
    drawn = []
    for server_round in range(1, rounds + 1):
        grid.asked = 0
        messages = strategy.configure_train(server_round, to_record(START), ConfigRecord(), grid)
        drawn.append(frozenset(message.metadata.dst_node_id for message in messages))
    return drawn


@exercise("""05.2, half of the hospitals in a round
    More: return FedAvg(fraction_train=0.5), with the other numbers left as they are.""")
def half_of_the_hospitals(my_strategy: Answer) -> None:
    before = random.getstate()
    try:
        _check_half(my_strategy)
    finally:
        random.setstate(before)  # Flower has drawn from it, and the notebook's runs do as well


def _check_half(my_strategy: Answer) -> None:
    strategy = my_strategy(8)
    if not isinstance(strategy, Strategy):
        raise Wrong(f"""A Flower strategy is asked for; yours is a {type(strategy).__name__}.
            Hint: return FedAvg(...), with some number changed.""")
    rounds = _drawn(strategy, 8, rounds=10)
    sizes = sorted({len(nodes) for nodes in rounds})
    if sizes == [8]:
        raise Wrong(f"""All 8 hospitals train in every round.
            Hint: {_why_all(strategy)}""")
    if sizes != [4]:
        raise Wrong(f"""Of 8 hospitals 4 should train, not {" or ".join(map(str, sizes))}.
            Hint: a fraction of 1.0 means all, and 0 turns training off.""")
    if len(set(rounds)) == 1:
        raise Wrong("""It is always the same half; the other hospitals' patients never count.
            Hint: Flower's own strategies draw anew in each round: let them.""")
    sizes = sorted({len(nodes) for nodes in _drawn(my_strategy(12), 12, rounds=3)})
    if sizes != [6]:
        raise Wrong(f"""With 8 hospitals it is half; of 12 {" or ".join(map(str, sizes))} train.
            Hint: use a fraction, or the argument num_hospitals, and no fixed number.""")


def _why_all(strategy: Strategy) -> str:
    """Say which of a strategy's numbers is to blame where everybody trains."""
    if getattr(strategy, "fraction_train", 1) < 1:
        return "the fraction is right, but a minimum overrules it; leave min_train_nodes out."
    if getattr(strategy, "fraction_evaluate", 1) < 1:
        return "your fraction counts for the evaluation; training has one of its own."
    return "which of FedAvg's arguments says how many of them train?"


TIMEOUT = 60.0
STORY = {
    # name: (seconds, what training adds to the weights, examples that it claims, loss)
    "Alder": (12, 1, 100, 0.5),
    "Birch": (75, 1, 100, 0.5),
    "Cedar": (20, 1, 100, 9.7),
    "Dogwood": (15, np.nan, 100, 0.5),
    "Elm": (59, 1, 1, 0.5),
    "Fir": (30, 1, 0, 0.5),
    "Ginkgo": (25, 1, 1_000_000, 0.5),
}


def play() -> list[federation.LeftOut]:
    """Run the story of exercise 05.3 on the guarded grid: who is left out, and why."""
    names: list[str] = list(STORY)

    def local(weights: Weights, *others: Any) -> LocalSteps:
        _, change, num_examples, loss = STORY[hospital_name(others[-1])]
        return LocalSteps([a + np.float32(change) for a in weights], 1.0, num_examples, loss)

    grids = []
    server_app = federation.make_server_app(
        START,
        federation.make_strategy("fedavg", len(names)),
        num_rounds=1,
        config=ConfigRecord({"seed": 0}),
        timeout=TIMEOUT,
        on_round=lambda server_round, weights, grid: grids.append(grid),
    )
    clocked = on_a_clock(server_app, [seconds for seconds, *_ in STORY.values()])
    federation.run_in_process(clocked, make_app(local), names)
    return grids[-1].left_out


@exercise("""05.3, who is left out?
    More: three are: one is late, one sends what is no number, one has trained on nothing.""")
def prediction_of_who_is_left_out(prediction: Any) -> None:
    is_list = isinstance(prediction, (set, frozenset, list, tuple))
    said = {str(name).strip().capitalize() for name in prediction} if is_list else {"?"}
    if not said <= set(STORY):
        raise Wrong(f"""A set of names is asked for, out of: {", ".join(STORY)}.
            Hint: such as {{"Alder", "Birch"}}.
            More: quotation marks around each name, commas between them, braces around all.""")
    truth = {out.hospital for out in play()}
    if said == set(STORY) - truth:
        raise Wrong("""Those are the hospitals that stay in.
            Hint: the others, please.""")
    for name, text in MISJUDGED.items():
        if name in said ^ truth:
            raise Wrong(text)


MISJUDGED = {
    "Alder": """Alder has done nothing wrong.
        Hint: in time, finite weights, a count above zero: that is all the guard asks for.""",
    "Cedar": """Cedar learns badly, but its reply is sound, and the guard does not judge a loss.
        Hint: a high loss may simply mean difficult patients.""",
    "Elm": """Elm is slow and small, but it is in time, and one image is more than none.
        Hint: compare 59 with the time-out; FedAvg gives one image the weight of one image.""",
    "Ginkgo": """Ginkgo lies, and yet it stays: nobody but Ginkgo can count its images.
        Hint: the guard finds what is broken, not what is untrue.
        More: Ginkgo stays, and with a million examples its model is nearly the whole average;
        notebook 09 is about such neighbours.""",
    "Birch": """Somebody comes too late.
        Hint: compare the seconds with the time-out.""",
    "Dogwood": """One of those you keep would turn the global model into NaN.
        Hint: what is any number plus NaN?""",
    "Fir": """One of those you keep claims to have trained on nothing.
        Hint: what weight would it have?""",
}
"""What to say about each hospital that is wrongly left out, or wrongly kept."""
