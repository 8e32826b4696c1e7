"""Wrong answers to the exercises of grad_cam; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong, wrong_value

from fedtutor.course.lessons.grad_cam import hirescam


@wrong("07.1")
def grad_cam(maps, gradients):
    return hirescam(maps, gradients.mean(axis=(0, 1)))


@wrong("07.1")
def keeps_the_channels(maps, gradients):
    return np.maximum(maps * gradients, 0)


@wrong("07.1")
def sums_everything(maps, gradients):
    return (maps * gradients).sum()


@wrong("07.1")
def keeps_the_negative(maps, gradients):
    return (maps * gradients).sum(axis=-1)


@wrong("07.1")
def cuts_too_early(maps, gradients):
    return np.maximum(maps * gradients, 0).sum(axis=-1)


@wrong("07.1")
def gradients_only(maps, gradients):
    return np.maximum(gradients.sum(axis=-1), 0)


@wrong("07.1")
def mean_of_channels(maps, gradients):
    return np.maximum((maps * gradients).mean(axis=-1), 0)


def _deleting(choose, copy=np.copy, fill=None):
    """A right deletion but for one of its parts; ``choose`` is from heat and number to pixels."""

    def answer(image, heat, share, grey):
        out = copy(image)
        out.reshape(-1)[choose(heat, round(share * heat.size))] = grey if fill is None else fill
        return out

    return answer


def _first(heat, number):
    return np.argsort(-heat, axis=None, kind="stable")[:number]


wrong_value("07.2", "on_the_image_itself", _deleting(_first, copy=lambda image: image))
wrong_value("07.2", "flat", lambda *given: _deleting(_first)(*given).ravel())
wrong_value("07.2", "insertion", _deleting(lambda heat, n: np.argsort(-heat, axis=None)[n:]))
wrong_value("07.2", "coldest", _deleting(lambda heat, n: np.argsort(heat, axis=None)[:n]))
wrong_value("07.2", "all_that_is_warm", _deleting(lambda heat, n: np.flatnonzero(heat > 0)))
wrong_value("07.2", "first_pixels", _deleting(lambda heat, n: np.arange(1, n + 1)))
wrong_value("07.2", "black", _deleting(_first, fill=0))
wrong_value("07.2", "last_among_equals", _deleting(lambda h, n: np.argsort(h, axis=None)[::-1][:n]))
