"""The server's half of the Flower app: rounds of a strategy, and what is kept of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from fedtutor.errors import DataError, FederationError
from fedtutor.evaluation import Evaluation
from fedtutor.federation.guard import GuardedGrid, Traffic, like_model
from fedtutor.federation.records import to_record, to_weights
from fedtutor.model import Weights
from fedtutor.settings import Config, RunSettings, TrainingSettings, to_config
from fedtutor.support.output import CHECKPOINT, whole

OnRound = Callable[[int, Weights, GuardedGrid], dict[str, float] | None]
"""Called with (round, global weights, guarded grid); what it returns is noted by Flower."""


def make_server_app(
    initial_weights: Weights,
    strategy: Strategy,
    *,
    num_rounds: int,
    config: ConfigRecord,
    min_hospitals: int = 1,
    timeout: float = 3600.0,
    on_reply: Callable[[int, str, dict], None] | None = None,
    on_round: OnRound | None = None,
    guard: Callable[..., GuardedGrid] = GuardedGrid,
    log: RoundLog | None = None,
) -> ServerApp:
    """Return the ServerApp of the course: ``num_rounds`` rounds of a strategy on a guarded grid.

    Parameters
    ----------
    initial_weights : the global model of round 0.
    strategy : any Flower strategy.
    num_rounds : how many, >= 1.
    config : what the hospitals are told, see :func:`train_config`.
    min_hospitals : with fewer sound updates in a round the run stops with
        :class:`FederationError`; the last good model has then been seen by ``on_round``.
    timeout : seconds a round waits for the hospitals.
    on_reply : called after each sound update with (round, hospital, metrics).
    on_round : see :data:`OnRound`; called before the first round, as round 0, and after each.
    guard : what is put around the engine's grid, by default a
        :class:`~fedtutor.federation.GuardedGrid`; ``fedtutor.deployment`` has one for networks.
    log : is written after each round; the rounds that it has already are not run again.

    The final weights are left in ``context.state["arrays"]``.
    """
    if num_rounds < 1:
        raise FederationError(f"rounds must be at least 1; got {num_rounds}.")
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        guarded = guard(grid, initial_weights, min_hospitals=min_hospitals, on_reply=on_reply)
        guarded.needs = getattr(strategy, "needs", ())
        done = log.rounds[-1]["round"] if log and log.rounds else 0
        first = to_record(log.weights if log and log.weights else initial_weights)

        def see_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            if done and not server_round:  # seen before the interruption
                return None
            weights = like_model(to_weights(arrays), initial_weights)
            metrics = on_round(done + server_round, weights, guarded) if on_round else None
            if log:
                log.write(strategy, arrays)
            return MetricRecord(dict(metrics)) if metrics else None

        result = strategy.start(
            grid=guarded,
            initial_arrays=first,
            num_rounds=num_rounds - done,
            timeout=timeout,
            train_config=ConfigRecord(dict(config)),
            evaluate_config=ConfigRecord(dict(config)),
            evaluate_fn=see_round,
        )
        final = like_model(to_weights(result.arrays or first), initial_weights)
        context.state["arrays"] = to_record(final)

    return app


def train_config(
    settings: TrainingSettings, *, num_rounds: int, local_epochs: int = 1, seed: int = 0
) -> ConfigRecord:
    """Return what the server tells the hospitals about training, as a Flower record."""
    run = {"num-rounds": num_rounds, "local-epochs": local_epochs, "seed": seed}
    return ConfigRecord({**to_config(settings), **run})


MEMORY = ("m_t", "v_t", "momentum_vector")
"""What Flower's server optimisers remember: FedAdam, FedYogi, FedAdagrad dicts, FedAvgM a list."""


@dataclass
class RoundLog:
    """What is noted of each round: the global model, its scores, its traffic, who was left out.

    Attributes
    ----------
    score : from the global weights to their scores on the central test set.
    settings, folder : of the run; the state after each whole round is kept there, or nowhere.
    weights : of the global model after the last whole round; None before round 0.
    rounds : one row a round, round 0 first, as ``summary.json`` has them.
    left_out : who was left out of which round, and why.
    """

    score: Callable[[Weights], Evaluation]
    settings: RunSettings = field(default_factory=RunSettings)
    folder: Path | None = None
    weights: Weights | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def on_round(self, server_round: int, weights: Weights, grid: GuardedGrid) -> dict[str, float]:
        """Score the new global model and note the round; it is an ``on_round``."""
        scores, traffic = self.score(weights), grid.traffic.get(server_round, Traffic())
        row = {"auc": scores.auc, "accuracy": scores.accuracy, "loss": scores.loss}
        row |= {"bytes_down": traffic.bytes_down, "bytes_up": traffic.bytes_up}
        row = {"round": server_round, **row, "hospitals": len(traffic.hospitals)}
        self.left_out += [vars(out) for out in grid.left_out if out.round == server_round]
        self.weights, self.rounds = weights, [*self.rounds, row]  # at once, if Ctrl-C comes
        return {"auc": scores.auc, "loss": scores.loss}

    def write(self, strategy: Strategy, arrays: ArrayRecord) -> None:
        """Keep the state after a whole round in one file, if there is a folder for it."""
        if not self.folder or len(self.rounds) < 2:
            return
        apart: list[np.ndarray] = []

        def name(array: np.ndarray) -> dict[str, str]:  # which stands for it in the text
            apart.append(array)
            return {"array": f"arr_{len(apart) - 1}"}

        memory = {key: value for key, value in vars(strategy).items() if key in MEMORY}
        state = [self._asked(), self.rounds, self.left_out, to_weights(arrays), memory]
        text = np.array(json.dumps(state, default=name))
        with whole(self.folder / CHECKPOINT) as temporary:
            np.savez(temporary, *apart, text=text)

    def read(self, strategy: Strategy) -> None:
        """Go on from that state; :class:`DataError` if there is none, or of other settings."""
        path, now = (self.folder or Path()) / CHECKPOINT, self._asked()
        try:
            with np.load(path, allow_pickle=False) as file:
                asked, rounds, left_out, weights, memory = json.loads(
                    str(file["text"]), object_hook=lambda d: file[d["array"]] if "array" in d else d
                )
        except Exception as error:  # a file that is damaged can raise anything
            raise DataError(f"no run to resume: cannot read {path} ({error}).") from error
        done = rounds[-1]["round"]
        if now["schedule"] == "constant":  # else step sizes hang on the number of rounds
            asked["rounds"] = max(done, now["rounds"])
        if other := ", ".join(f"{k}={asked.get(k)!r}" for k in now if asked.get(k) != now[k]):
            raise DataError(f"{path} is of a run with {other}; resume it with the same.")
        self.rounds, self.left_out, self.weights = rounds, left_out, weights
        vars(strategy).update(memory)
        for step in ("configure_train", "aggregate_train"):  # Flower counts from 1 at every start
            later = partial(lambda go, r, *further: go(done + r, *further), getattr(strategy, step))
            setattr(strategy, step, later)

    def _asked(self) -> Config:
        return to_config(self.settings) | to_config(self.settings.training)
