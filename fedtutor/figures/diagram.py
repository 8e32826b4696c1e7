"""One federated round as a diagram: what travels, and what stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from fedtutor.figures.picture import BLUE, GREY, ORANGE, Picture
from fedtutor.support.language import say

STEPS = (
    "the server sends the global model w to every hospital",
    "each hospital trains it on its own images",
    "each hospital sends its model back, and how many images it has",
    "the server averages the models, weighted by these numbers",
)
"""What the numbers 1 to 4 in the diagram stand for."""


def federated_round(
    hospitals: Sequence[str] = (),
    *,
    down: str = "w",
    up: Sequence[str] | None = None,
    step: int | None = None,
) -> Picture:
    """Draw the server above, the hospitals below, and between them all that crosses the wall.

    Parameters
    ----------
    hospitals : two to five names; by default Hospital 1, 2 and 3.
    down : what the server sends to each.
    up : what each hospital sends back; by default its model wₖ and how many images it has, nₖ.
    step : 1 to 4 shows one of :data:`STEPS` alone, the others faint; by default all.
    """
    hospitals = hospitals or [say("Hospital {k}", k=k) for k in (1, 2, 3)]
    figure = Figure(figsize=(9, 3.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 9)
    axes.set_ylim(0, 3.9)
    axes.set_axis_off()
    lit = [1.0 if step in (None, k) else 0.15 for k in (1, 2, 3, 4)]
    _box(axes, (0.1, 3.1, 8.8, 0.7), BLUE)
    axes.text(0.4, 3.45, say("Server"), va="center", weight="bold")
    axes.text(4.5, 3.45, say("new w = Σ nₖ wₖ / Σ nₖ"), ha="center", va="center", alpha=lit[3])
    _number(axes, 2.9, 3.45, 4, lit[3])
    width = 9 / len(hospitals)
    up = up or [f"w{sign}, n{sign}" for sign in "₁₂₃₄₅"[: len(hospitals)]]
    for k, (name, sent) in enumerate(zip(hospitals, up, strict=True)):
        _hospital(axes, (k + 0.5) * width, name, sent, down, lit)
    axes.axhline(1.9, color=GREY, linestyle="--", linewidth=1)
    note = say("Dashed: the walls of the hospitals. No image crosses them.")
    axes.text(4.5, 0.1, note, ha="center", va="center", fontsize=9, color="#555555")
    shown = STEPS if step is None else STEPS[step - 1 : step]
    first = 1 if step is None else step
    said = "; ".join(f"({k}) {say(words)}" for k, words in enumerate(shown, first))
    alt = say(
        "A federated round with {n} hospitals: {steps}. Each hospital's images stay behind its "
        "wall.",
        n=len(hospitals),
        steps=said,
    )
    return Picture(figure, alt)


def _hospital(axes: Axes, x: float, name: str, sent: str, down: str, lit: Sequence[float]) -> None:
    """Draw one hospital, its images, and its two arrows to and from the server."""
    _box(axes, (x - 0.8, 0.3, 1.6, 1.35), ORANGE)
    axes.text(x, 1.47, name, ha="center", va="center", weight="bold", fontsize=9)
    for k in range(3):
        corner = (x - 0.62 + 0.07 * k, 0.68 + 0.07 * k)
        axes.add_patch(Rectangle(corner, 0.4, 0.4, facecolor="#333333", edgecolor="white"))
    axes.text(x - 0.35, 0.48, say("images stay"), ha="center", va="center", fontsize=8)
    axes.text(x + 0.4, 0.98, say("train"), ha="center", va="center", fontsize=9, alpha=lit[1])
    _number(axes, x + 0.4, 0.65, 2, lit[1])
    for side, y, length, words, number in ((-1, 3.05, -1.35, down, 1), (1, 1.7, 1.35, sent, 3)):
        arrow = {"arrowstyle": "-|>", "color": "black", "alpha": lit[number - 1]}
        foot = (x + 0.14 * side, y)
        axes.annotate("", xy=(foot[0], y + length), xytext=foot, arrowprops=arrow)
        beside: dict[str, Any] = {
            "ha": "left" if side > 0 else "right",
            "va": "center",
            "alpha": lit[number - 1],
        }
        axes.text(x + 0.23 * side, 2.28, words, **beside)
        _number(axes, x + 0.32 * side, 2.68, number, lit[number - 1])


def _box(axes: Axes, place: tuple[float, float, float, float], colour: str) -> None:
    x, y, width, height = place
    style = "round,pad=0,rounding_size=0.12"
    faint: dict[str, Any] = {"facecolor": colour + "22", "edgecolor": colour, "linewidth": 1.5}
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, **faint))


def _number(axes: Axes, x: float, y: float, number: int, alpha: float) -> None:
    circle = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": BLUE}
    style: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "fontsize": 8,
        "color": BLUE,
        "weight": "bold",
    }
    axes.text(x, y, str(number), bbox=circle | {"alpha": alpha}, alpha=alpha, **style)
