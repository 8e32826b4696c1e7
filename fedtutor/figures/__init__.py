"""Figures: pictures that say in words what they show, in one style, for reports and lessons."""

from fedtutor.figures.charts import lines, looks, roc_and_images, rows, train_and_test, who_comes
from fedtutor.figures.picture import Picture, to_html
from fedtutor.figures.results import (
    examples,
    findings,
    headline,
    heat_maps,
    mistakes,
    rounds,
    who_has_what,
)

__all__ = [
    "Picture",
    "examples",
    "findings",
    "headline",
    "heat_maps",
    "lines",
    "looks",
    "mistakes",
    "roc_and_images",
    "rounds",
    "rows",
    "to_html",
    "train_and_test",
    "who_comes",
    "who_has_what",
]
