"""The server's half of the Flower app: rounds of a strategy, and what is noted of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from fedtutor.errors import FederationError
from fedtutor.evaluation import Evaluation
from fedtutor.federation.guard import GuardedGrid, Traffic, like_model
from fedtutor.federation.records import to_record, to_weights
from fedtutor.model import Weights
from fedtutor.settings import RunSettings, TrainingSettings, to_config

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

    The final weights are left in ``context.state["arrays"]``.
    """
    if num_rounds < 1:
        raise FederationError(f"rounds must be at least 1; got {num_rounds}.")
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        guarded = guard(grid, initial_weights, min_hospitals=min_hospitals, on_reply=on_reply)
        guarded.needs = getattr(strategy, "needs", ())

        def see_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            weights = like_model(to_weights(arrays), initial_weights)
            metrics = on_round(server_round, weights, guarded) if on_round else None
            return MetricRecord(dict(metrics)) if metrics else None

        result = strategy.start(
            grid=guarded,
            initial_arrays=to_record(initial_weights),
            num_rounds=num_rounds,
            timeout=timeout,
            train_config=ConfigRecord(dict(config)),
            evaluate_config=ConfigRecord(dict(config)),
            evaluate_fn=see_round,
        )
        final = like_model(to_weights(result.arrays), initial_weights)
        context.state["arrays"] = to_record(final)

    return app


def train_config(
    settings: TrainingSettings,
    *,
    num_rounds: int,
    local_epochs: int = 1,
    seed: int = 0,
    class_names: Sequence[str] = (),
) -> ConfigRecord:
    """Return what the server tells the hospitals about training, as a Flower record.

    With ``class_names`` a hospital refuses to train if its own labels mean something else.
    """
    config: dict[str, Any] = {
        **to_config(settings),
        "num-rounds": num_rounds,
        "local-epochs": local_epochs,
        "seed": seed,
    }
    if class_names:
        config["class-names"] = list(class_names)
    return ConfigRecord(config)


def run_train_config(settings: RunSettings, class_names: Sequence[str] = ()) -> ConfigRecord:
    """Return :func:`train_config` for a run of the main job."""
    return train_config(
        settings.training,
        num_rounds=settings.rounds,
        local_epochs=settings.local_epochs,
        seed=settings.seed,
        class_names=class_names,
    )


@dataclass
class RoundLog:
    """What is noted of each round: the global model, its scores, its traffic, who was left out.

    Attributes
    ----------
    score : from the global weights to their scores on the central test set.
    weights : of the global model after the last whole round; None before round 0.
    rounds : one row a round, round 0 first, as ``summary.json`` has them.
    left_out : who was left out of which round, and why.
    """

    score: Callable[[Weights], Evaluation]
    weights: Weights | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)

    def on_round(self, server_round: int, weights: Weights, grid: GuardedGrid) -> dict[str, float]:
        """Score the new global model and note the round; it is an ``on_round``."""
        scores, traffic = self.score(weights), grid.traffic.get(server_round, Traffic())
        self.weights = weights
        self.left_out = [vars(out) for out in grid.left_out]
        self.rounds.append(
            {
                "round": server_round,
                "auc": scores.auc,
                "accuracy": scores.accuracy,
                "loss": scores.loss,
                "bytes_down": traffic.bytes_down,
                "bytes_up": traffic.bytes_up,
                "hospitals": len(traffic.hospitals),
            }
        )
        return {"auc": scores.auc, "loss": scores.loss}
