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


def _dot(found, wanted):
    return sum(tf().reduce_sum(f * w) for f, w in zip(found, wanted, strict=True))


def _variation(images):
    pixels = images.shape[1] * images.shape[2]
    return 0.01 * tf().reduce_mean(tf().image.total_variation(images)) / pixels


def _cosine(found, wanted):
    lengths = tf().sqrt(_dot(found, found) * _dot(wanted, wanted))
    return _dot(found, wanted) / lengths


def tf():
    import tensorflow

    return tensorflow


@wrong("08.2")
def without_lengths(found, wanted, images):
    return 1 - _dot(found, wanted) + _variation(images)


@wrong("08.2")
def a_cosine_an_array(found, wanted, images):
    each = [_cosine([f], [w]) for f, w in zip(found, wanted, strict=True)]
    return 1 - sum(each) / len(each) + _variation(images)


@wrong("08.2")
def variation_of_the_whole_picture(found, wanted, images):
    return 1 - _cosine(found, wanted) + 0.01 * tf().reduce_mean(tf().image.total_variation(images))


@wrong("08.2")
def by_numpy(found, wanted, images):
    a, b = (np.concatenate([np.ravel(g) for g in gradient]) for gradient in (found, wanted))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return 1 - cosine + float(_variation(images))


@wrong("08.2")
def one_for_each_image(found, wanted, images):
    return 1 - _cosine(found, wanted) + 0.01 * tf().image.total_variation(images) / 30


def _logs(scores, shadow_scores, inside, axis=None):
    logs = []
    for chosen in (inside, ~inside):
        known = np.where(chosen, shadow_scores, np.nan)
        mean = np.nanmean(known, axis=0)
        spread = np.sqrt(np.nanmean((known - mean) ** 2, axis=axis))
        logs.append(-0.5 * ((scores - mean) / spread) ** 2 - np.log(spread))
    return logs


@wrong("08.3")
def others_minus_members(scores, shadow_scores, inside):
    members, others = _logs(scores, shadow_scores, inside)
    return others - members


@wrong("08.3")
def no_logarithm(scores, shadow_scores, inside):
    members, others = _logs(scores, shadow_scores, inside)
    return np.exp(members - others)


@wrong("08.3")
def a_spread_an_image(scores, shadow_scores, inside):
    members, others = _logs(scores, shadow_scores, inside, axis=0)
    return members - others


@wrong("08.3")
def no_height(scores, shadow_scores, inside):
    found = []
    for chosen in (inside, ~inside):
        known = np.where(chosen, shadow_scores, np.nan)
        mean = np.nanmean(known, axis=0)
        spread = np.sqrt(np.nanmean((known - mean) ** 2))
        found.append(-0.5 * ((scores - mean) / spread) ** 2)
    return found[0] - found[1]


@wrong("08.3")
def over_the_images(scores, shadow_scores, inside):
    return np.where(inside, shadow_scores, 0).mean(axis=1)
