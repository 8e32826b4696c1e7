"""Figures: pictures that say in words what they show, in one style, for reports and lessons."""

# ruff: noqa: F401  this is what reports and notebooks take from here
from fedtutor.figures.abroad import away, home_and_abroad, reliability
from fedtutor.figures.charts import lines, looks, roc_and_images, rows, train_and_test, who_comes
from fedtutor.figures.diagram import federated_round
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
