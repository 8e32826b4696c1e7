"""An external validation as a page of its own, and the pictures that a run's report shows, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedtutor import figures
from fedtutor.external.validation import Validation
from fedtutor.figures.page import fill


def pictures_of(
    home: Mapping[str, Any] | None, found: Sequence[Validation]
) -> list[dict[str, str]]:
    """Return as HTML the pictures of each set abroad: "auc", "reliability" and "maps"."""
    return [
        {
            name: figures.to_html(draw)
            for name, draw in (
                ("auc", lambda one=one: figures.home_and_abroad(home, [one.numbers])),
                ("reliability", lambda one=one: figures.reliability(_curves(home, one))),
                ("maps", lambda one=one: _maps(one)),
            )
        }
        for one in found
    ]


def _curves(home: Mapping[str, Any] | None, one: Validation) -> dict[str, Mapping[str, Any]]:
    here = {} if home is None else {"at home": home["calibration"]}
    return here | {"abroad": one.numbers["calibration"]}


def _maps(one: Validation) -> figures.Picture:
    return figures.heat_maps(one.data, one.looks.indices, {"HiResCAM": one.looks.maps})


def render(evaluation: Mapping[str, Any], found: Sequence[Validation]) -> str:
    """Return the page of ``fedtutor evaluate``; ``evaluation`` is as evaluation.json has it."""
    return fill(
        "external/page.html.jinja",
        s=evaluation,
        title=", ".join(one["dataset"] for one in evaluation["external"]),
        external_pictures=pictures_of(evaluation["home"], found),
    )


def conclusion(one: Mapping[str, Any]) -> str:
    """Say in a sentence what the model is worth there."""
    auc, (low, high) = one["auc"], one["auc_interval"]
    there = f"{one['dataset']}: AUC {auc:.3f}"
    there += " (too few patients for an interval)" if low is None else f" ({low:.3f} to {high:.3f})"
    difference, low, high = one["from_home"]
    if difference is None or low is None:
        return f"{there}; whether that is less than at home cannot be said."
    word = "higher than" if low > 0 else "lower than" if high < 0 else "not clearly different from"
    return f"{there}, {word} at home ({difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})."
