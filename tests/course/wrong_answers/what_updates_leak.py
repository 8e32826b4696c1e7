"""Wrong answers to the exercises of what_updates_leak; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong


@wrong("08.1")
def the_first_unit(kernel, bias):
    return kernel[:, 0] / bias[0]


@wrong("08.1")
def always_unit_one(kernel, bias):
    return kernel[:, 1] / bias[1]


@wrong("08.1")
def all_units(kernel, bias):
    return kernel / bias


@wrong("08.1")
def the_column_alone(kernel, bias):
    return kernel[:, np.argmax(np.abs(bias))]


@wrong("08.1")
def upside_down(kernel, bias):
    j = np.argmax(np.abs(bias))
    return bias[j] / kernel[:, j]


@wrong("08.1")
def largest_without_abs(kernel, bias):
    j = np.argmax(bias)
    return kernel[:, j] / bias[j]


@wrong("08.1")
def wrong_axis(kernel, bias):
    return kernel[0]
