"""The dashboard of notebook 05: a federation to watch, to stop, and to look at again."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import ipywidgets
from IPython import get_ipython
from matplotlib.figure import Figure

from fedtutor.course.panels import Panel
from fedtutor.figures.charts import draw_lines
from fedtutor.figures.picture import BLUE, GREY, Picture, tidy
from fedtutor.model import Weights

if TYPE_CHECKING:
    from fedtutor.federation import GuardedGrid, LeftOut


class Stopped(Exception):
    """Somebody has pressed Stop."""


class Dashboard(Panel):
    """A federation to watch while it trains: start, stop, curves, and a slider through the rounds.

    Parameters
    ----------
    train : runs the federation; called as ``train(rounds, on_reply, on_round)``, where the last
        two are for :func:`fedtutor.federation.make_server_app`.
    names : of the hospitals.
    score : from the global weights to an AUC.
    rounds : how many to train.
    """

    def __init__(
        self,
        train: Callable[..., object],
        names: Sequence[str],
        score: Callable[[Weights], float],
        *,
        rounds: int = 4,
    ) -> None:
        slider = ipywidgets.IntSlider(
            value=0, min=0, max=0, description="Round shown", style={"description_width": "8em"}
        )
        super().__init__(lambda round: (self._picture(round), self._sentence(round)), round=slider)
        self._train, self._names, self._score, self._rounds = train, list(names), score, rounds
        self._thread = threading.Thread()
        self._stop = threading.Event()
        self._bar = ipywidgets.IntProgress(max=rounds * len(names), layout={"width": "16em"})
        self._status = ipywidgets.HTML()
        self._forget()
        self.weights: Weights | None = None
        if (shell := get_ipython()) is not None:  # a cell run meanwhile waits for the training
            shell.events.register("pre_run_cell", self._wait)

    def run(self) -> None:
        """Train, and show every reply and every round as it comes; returns at the end or at Stop.

        The global model of the last whole round is in ``weights`` then.
        """
        self._wait()
        self._run()

    @property
    def picture(self) -> Picture:
        """What is seen now."""
        return self.show(**self.values)[0]

    @cached_property
    def widget(self) -> ipywidgets.VBox:
        """Buttons and progress above the panel's own slider, sentence and picture."""
        start = ipywidgets.Button(description="Start", icon="play", tooltip="Train from the start")
        stop = ipywidgets.Button(description="Stop", icon="stop", tooltip="Keep the last round")
        start.on_click(lambda _button: self._run_in_background())
        stop.on_click(lambda _button: self._stop.set())
        head = ipywidgets.HBox([start, stop, self._bar, self._status])
        return ipywidgets.VBox([head, *super().widget.children])

    def _run(self) -> None:
        self._forget()
        self._stop.clear()
        self._controls["round"].value = self._controls["round"].max = 0
        self._redraw()
        self._say("starting")
        try:
            self._train(self._rounds, self._on_reply, self._on_round)
            self._say("done")
        except (Stopped, KeyboardInterrupt):
            self._say(f"stopped; the model is that of round {max(self._auc)}")

    def _run_in_background(self) -> None:
        """Train in a thread, for the button, as the kernel must be free to hear of Stop."""
        if not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run_and_tell, daemon=True)
            self._thread.start()

    def _run_and_tell(self) -> None:
        try:
            self._run()
        except Exception as error:  # there is no cell that could show it
            self._say(f"{type(error).__name__}: {error}")

    def _wait(self, *_ignored: object) -> None:
        """Wait for the background: two trainings at once would spoil each other's model."""
        if self._thread.is_alive():
            self._thread.join()

    def _forget(self) -> None:
        self._auc: dict[int, float] = {}
        self._loss: dict[tuple[int, str], float] = {}
        self._left_out: list[LeftOut] = []
        self._seen.clear()

    def _on_reply(self, server_round: int, hospital: str, metrics: dict) -> None:
        self._loss[server_round, hospital] = float(metrics.get("loss", "nan"))
        replied = sum(r == server_round for r, _ in self._loss)
        self._say(
            f"round {server_round} of {self._rounds}: {replied} of {len(self._names)} hospitals "
            f"have replied, the last was {hospital}"
        )
        if self._stop.is_set():
            raise Stopped

    def _on_round(self, server_round: int, weights: Weights, grid: GuardedGrid) -> None:
        self._auc[server_round] = self._score(weights)
        self._left_out = list(grid.left_out)
        self.weights = weights
        self._seen.clear()
        control = self._controls["round"]
        control.max = control.value = server_round
        self._redraw()

    def _say(self, text: str) -> None:
        self._bar.value = len(self._loss)
        self._status.value = f'<span role="status">{html.escape(text)}</span>'

    def _sentence(self, round: int) -> str:
        if not self._auc:
            return "No round has been trained yet. Press Start."
        auc = self._auc[round]
        if round == 0:
            return f"Round 0 of {self._rounds}: the untrained model has an AUC of ≈{auc:.2f}."
        losses = [self._loss[key] for key in self._loss if key[0] == round]
        absent = [out.hospital for out in self._left_out if out.round == round]
        return (
            f"Round {round} of {self._rounds}: {len(losses)} hospitals trained, with losses from "
            f"≈{min(losses):.1f} to ≈{max(losses):.1f}; the AUC of the global model is "
            f"≈{auc:.2f}, and was ≈{self._auc[round - 1]:.2f} in the round before."
            + "".join(f" {name} was left out." for name in absent)
        )

    def _picture(self, round: int) -> Picture:
        figure = Figure(figsize=(10.5, 3.2))
        left, right = figure.subplots(1, 2)
        if self._auc:
            left.plot(list(self._auc), list(self._auc.values()), "o-", color=BLUE)
            left.plot([round], [self._auc[round]], "o", color=BLUE, markersize=13, fillstyle="none")
        if max(self._auc, default=0) > 0:
            draw_lines(right, {name: self._losses(name) for name in self._names})
            right.axvline(round, color=GREY, linewidth=1, linestyle=":")
            right.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        left.set_ylabel("AUC of the global model")
        right.set_ylabel("training loss in each hospital")
        # The untrained model would flatten the rest.
        trained = [auc for r, auc in self._auc.items() if r or not round]
        left.set_ylim(min(trained, default=0.4) - 0.03, 1.0)
        right.set_ylim(0, 1.05 * max([1.2, *self._loss.values()]))
        for axes in (left, right):
            axes.set_xlabel("round")
            axes.set_xlim(-0.3, self._rounds + 0.3)
            axes.locator_params(axis="x", integer=True)
            tidy(axes, "both")
        figure.tight_layout()
        curve = ", ".join(f"{r}: {auc:.2f}" for r, auc in self._auc.items()) or "none yet"
        return Picture(
            figure,
            f"Left, AUC of the global model by round: {curve}; round {round} is marked. Right, the "
            "training loss of each hospital by round.",
            0.1,
        )

    def _losses(self, name: str) -> tuple[list[int], list[float]]:
        """Return the whole rounds in which a hospital replied, and its loss in each."""
        own = {r: loss for (r, n), loss in self._loss.items() if n == name and r in self._auc}
        return list(own), list(own.values())
