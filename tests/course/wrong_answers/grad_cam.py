"""Wrong answers to the exercises of grad_cam; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from wrong import wrong

from fedtutor.course.lessons.grad_cam import hirescam
from fedtutor.gradcam import mass_in_lesion


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


@wrong("07.2")
def number_of_hits(maps, masks):
    return sum(
        int(mask.flat[heat.argmax()] and heat.max() > 0)
        for heat, mask in zip(maps, masks, strict=True)
    )


@wrong("07.2")
def empty_map_hits(maps, masks):
    return np.mean([mask.flat[heat.argmax()] for heat, mask in zip(maps, masks, strict=True)])


@wrong("07.2")
def heat_inside(maps, masks):
    return mass_in_lesion(maps, masks)


@wrong("07.2")
def random_point(maps, masks):
    return masks.mean()


@wrong("07.2")
def one_peak_for_all(maps, masks):
    return float(masks.flat[maps.argmax()])


@wrong("07.2")
def a_list_of_hits(maps, masks):
    return [mask.flat[heat.argmax()] for heat, mask in zip(maps, masks, strict=True)]


@wrong("07.3")
def most_heat_in_corners(maps_of):
    sums = {n: m[:, :4, :4].sum() + m[:, :4, -4:].sum() for n, m in maps_of.items()}
    return max(sums, key=sums.get)


@wrong("07.3")
def lower_corners(maps_of):
    shares = {n: m[:, -4:, :].sum() / m.sum() for n, m in maps_of.items()}
    return "Honest" if max(shares.values()) < 0.5 else max(shares, key=shares.get)


@wrong("07.3")
def left_corner_only(maps_of):
    shares = {n: m[:, :4, :4].sum() / m.sum() for n, m in maps_of.items()}
    return max(shares, key=shares.get)


@wrong("07.3")
def largest_share_itself(maps_of):
    return max((m[:, :4, :4].sum() + m[:, :4, -4:].sum()) / m.sum() for m in maps_of.values())


@wrong("07.3")
def a_name_of_its_own(maps_of):
    return "Northmoor"
