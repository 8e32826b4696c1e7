"""Whole runs and rounds, beside Flower's simulation on Ray."""

from __future__ import annotations

import statistics

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.harness import Row, from_pairs, print_rows, runs, seconds
from benchmarks.quickstart import no_op_client, quickstart_client
from benchmarks.work import Run, initial_weights, largest_difference, our_client
from fedtutor.federation.records import to_record, to_weights

HOSPITALS = 10
IMAGES = 64
NO_OP_NOTE = (
    "nothing is copied or serialised; what is left is memory traffic and arithmetic: every update "
    "is read once to look for NaN and once to be added up in float64; the sums, twice a model in "
    "size, are read and written once for five updates"
)
RAY = "Flower's run_simulation on Ray, num_cpus=1"


def whole_run() -> Row:
    """From call to result, at 128 pixels."""
    rounds = runs(3, 1)
    initial = initial_weights(128)
    check_agreement(128, reuse_model=False)

    def run(engine: str, app: ClientApp) -> Run:
        return Run(engine, app, initial, hospitals=HOSPITALS, rounds=rounds, evaluate=True)

    pairs = []
    for _ in range(runs(5, 1)):
        ours = run("ours", our_client(128, IMAGES))
        theirs = run("ray", quickstart_client(128, IMAGES, reuse_model=False))
        pairs.append((ours.seconds, theirs.seconds))
    return from_pairs(
        f"whole run at 128², {rounds} round{'s' * (rounds > 1)}",
        pairs,
        work=f"{HOSPITALS} hospitals × {IMAGES} images, {rounds} rounds of one epoch, every "
        "hospital evaluates; from call to result, TensorFlow imported in the caller before",
        beside=f"{RAY}, the client of Flower's TensorFlow quickstart",
        target="≥ 7",
        unit="s",
    )


def warm_round() -> Row:
    """Rounds after the first, at 28 pixels."""
    rounds = runs(6, 4)
    initial = initial_weights(28)
    check_agreement(28, reuse_model=True)
    pairs = []
    for _ in range(runs(5, 1)):
        ours, theirs = (
            Run(engine, app, initial, hospitals=HOSPITALS, rounds=rounds, evaluate=True)
            for engine, app in (
                ("ours", our_client(28, IMAGES)),
                ("ray", quickstart_client(28, IMAGES, reuse_model=True)),
            )
        )
        pairs.append((1e3 * np.median(ours.rounds), 1e3 * np.median(theirs.rounds)))
    return from_pairs(
        "warm round at 28²",
        pairs,
        work=f"{HOSPITALS} hospitals × {IMAGES} images, one epoch, every hospital evaluates; "
        f"median of rounds 2 to {rounds}",
        beside=f"{RAY}, the quickstart's client with one model an actor",
        target="≥ 10",
        unit="ms",
        note="every hospital evaluates, too, which is 50 of the round's 170 ms: without it a round "
        "takes 117 ms (three runs of 7 rounds each), of which some 30 are Python's part of the ten "
        "messages, one thread's at a time",
    )


def our_no_op_client() -> ClientApp:
    """Sends back what it was sent."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context) -> Message:
        weights = to_weights(message.content["arrays"])
        metrics = MetricRecord({"num-examples": 10, "loss": 0.0})
        content = RecordDict({"arrays": to_record(weights), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


def no_op_rounds() -> list[Row]:
    """What a round costs beside training: 10 updates of 28.2 MB, checked and averaged."""
    initial = initial_weights(128)
    rounds = runs(7, 4)
    updates = [[array.copy() for array in initial] for _ in range(HOSPITALS)]
    copies = [[np.empty_like(array) for array in initial] for _ in range(HOSPITALS)]

    def memcpy() -> None:
        for update, copy in zip(updates, copies, strict=True):
            for source, target in zip(update, copy, strict=True):
                np.copyto(target, source)

    memcpy()
    beside_ray, beside_memcpy = [], []
    for _ in range(runs(5, 1)):
        ours = Run("ours", our_no_op_client(), initial, hospitals=HOSPITALS, rounds=rounds)
        copying = statistics.median(seconds(memcpy) for _ in range(5))
        theirs = Run("ray", no_op_client(), initial, hospitals=HOSPITALS, rounds=rounds)
        assert largest_difference(ours.weights, theirs.weights) < 1e-7
        round_ms = 1e3 * float(np.median(ours.rounds))
        beside_ray.append((round_ms, 1e3 * float(np.median(theirs.rounds))))
        beside_memcpy.append((round_ms, 1e3 * copying))
    work = f"{HOSPITALS} hospitals that send back the 28.2 MB they got; averaged"
    return [
        from_pairs(
            "no-op round, beside Ray",
            beside_ray,
            work=work,
            beside=f"{RAY}, Flower's own FedAvg, which does not look for NaN",
            target="≥ 12",
            unit="ms",
            note=NO_OP_NOTE,
        ),
        from_pairs(
            "no-op round, beside memcpy",
            beside_memcpy,
            work=work,
            beside="copying 10 × 28.2 MB once",
            target="≤ 6",
            unit="ms",
        ),
    ]


def check_agreement(size: int, *, reuse_model: bool) -> None:
    """One round with either client gives the same model.

    Over more rounds rounding alone drives them apart: Adam's step is nearly the sign of a
    gradient, and where that is next to nothing, the last bit decides it.
    """
    initial = initial_weights(size)
    ours, theirs = (
        Run("ours", app, initial, hospitals=2, rounds=1).weights
        for app in (
            our_client(size, IMAGES),
            quickstart_client(size, IMAGES, reuse_model=reuse_model),
        )
    )
    for a, b, start in zip(ours, theirs, initial, strict=True):
        apart, moved = np.abs(a - b).mean(), np.abs(a - start).mean()
        assert apart < 1e-3 * moved, f"{apart:.1e} apart after moving by {moved:.1e}"


if __name__ == "__main__":
    print_rows([whole_run(), warm_round(), *no_op_rounds()])
