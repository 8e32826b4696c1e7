"""What notebook 07 checks and shows: heat maps from gradients, and the deletion test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape
from fedtutor.figures.picture import Picture, show
from fedtutor.gradcam import mass_in_lesion
from fedtutor.images import MedicalImages


def smooth(heat: np.ndarray) -> np.ndarray:
    """Return a map (h, w), its pixels averaged over 5 x 5 for the eye, scaled to a maximum of 1."""
    padded = np.pad(heat.astype(float), 2)
    evened = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).mean(axis=(2, 3))
    return evened / max(evened.max(), 1e-12)


def lay_over(
    axes: Axes, image: np.ndarray, heat: np.ndarray, mask: np.ndarray | None, raw: bool = False
) -> AxesImage:
    """Draw a heat map over its image, the true lesion outlined; smoothed unless ``raw``."""
    show(axes, image)
    shown = heat if raw else smooth(heat)
    style: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": 1}
    way = "nearest" if raw else "bicubic"
    drawn = axes.imshow(shown, alpha=0.75 * np.sqrt(shown), interpolation=way, **style)
    if mask is not None and mask.any():
        axes.contour(mask, levels=[0.5], colors="cyan", linewidths=1.2)
    return drawn


def heat_maps(
    data: MedicalImages, maps: Mapping[str, np.ndarray], *, asked: int | np.ndarray
) -> Picture:
    """Draw the images in a row above a row for each of ``maps``, float (n, h, w), and a colour bar.

    ``asked`` is the class that the maps are about, or one for each image.
    """
    classes, names = np.broadcast_to(asked, len(data)), ["image", *maps]
    figure = Figure(figsize=(2.15 * len(data) + 2.2, 2.15 * len(names)))
    grid = figure.subplots(len(names), len(data), squeeze=False)
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    for k, (one, image) in enumerate(zip(classes, np.asarray(data.images), strict=True)):
        mask = None if data.masks is None else data.masks[k]
        show(grid[0, k], image, data.strata_names[one])
        for axes, heat in zip(grid[1:, k], maps.values(), strict=True):
            drawn = lay_over(axes, image, heat[k], mask)
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.text(-0.06, 0.5, name, transform=axes.transAxes, ha="right", va="center")
    bar: dict[str, Any] = {"shrink": 0.6, "fraction": 0.05, "pad": 0.02}
    figure.colorbar(drawn, ax=grid.ravel().tolist(), label="heat (1: hottest point)", **bar)
    alt = f"Heat maps by {' and '.join(maps)} over {len(data)} images, the true lesion outlined."
    if data.masks is not None:
        masks = np.asarray(data.masks)
        shares = [f"{name} {mass_in_lesion(heat, masks):.1f}" for name, heat in maps.items()]
        alt += f" Mean share of the heat inside the lesions: {', '.join(shares)}."
    return Picture(figure, alt, 0.1)


# Two positions, two channels. The first channel speaks for the class on the left and against it
# on the right, the second one for it everywhere; every wrong way gives another map.
MAPS = np.array([[[1.0, 2.0], [3.0, 1.0]]])
GRADIENTS = np.array([[[2.0, 0.5], [-2.0, 0.5]]])


def hirescam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return what speaks for the class at each position, not scaled."""
    return np.maximum((maps * gradients).sum(axis=-1), 0)


@exercise(
    """07.1, HiResCAM from maps and gradients
    More: np.maximum((maps * gradients).sum(axis=-1), 0)""",
    reference=hirescam,
)
def hirescam_by_hand(heat_map: Answer) -> None:
    right = hirescam(MAPS, GRADIENTS)
    hint = "add up over the channels only, and leave height and width as they are."
    got = of_shape(heat_map(MAPS.copy(), GRADIENTS.copy()), right.shape, hint)
    each = MAPS * GRADIENTS
    if np.allclose(got, hirescam(MAPS, GRADIENTS.mean(axis=(0, 1)))):
        raise Wrong("""That is Grad-CAM: each channel has one weight for the whole image.
            Hint: leave out the mean over the positions.""")
    if np.allclose(got, each.sum(axis=-1)):
        raise Wrong("""There are negative numbers in your map: what speaks against the class.
            Hint: only what speaks for the class is shown.""")
    if np.allclose(got, np.maximum(each, 0).sum(axis=-1)):
        raise Wrong("""You cut off the negative numbers before the channels are added up.
            Hint: a channel that speaks against the class may outweigh one that speaks for it.""")
    if np.allclose(got, np.maximum(GRADIENTS.sum(axis=-1), 0)):
        raise Wrong("""Your map knows the gradients and not what the convolution saw.
            Hint: a channel counts where it is active; both arrays are needed.""")
    scaled = right / right.max()  # as the package does it
    if not np.allclose(got, right) and not np.allclose(got, scaled):
        raise Wrong(f"""Here the map should be {right.tolist()}; yours is {got.round(3).tolist()}.
            Hint: multiply, add up the channels, cut off what is below 0; in this order.""")


def delete_hottest(image: np.ndarray, heat: np.ndarray, share: float, fill: float) -> np.ndarray:
    """Return a copy of an image (h, w, 1) with the share of hottest pixels painted over."""
    hottest = np.argsort(-heat, axis=None, kind="stable")[: round(share * heat.size)]
    painted_over = image.copy()
    painted_over.reshape(-1)[hottest] = fill
    return painted_over


@exercise(
    """07.2, the deletion test
    More: hottest = np.argsort(-heat, axis=None, kind="stable")[: round(share * heat.size)]; then
    copy = image.copy() and copy.reshape(-1)[hottest] = fill""",
    reference=delete_hottest,
)
def deletion(delete: Answer) -> None:
    image = np.arange(100, 120, dtype=np.uint8).reshape(4, 5, 1)
    heat = np.zeros((4, 5))
    heat[1, 2], heat[3, 4], heat[0, 1], heat[2, 0] = 1.0, 0.9, 0.8, 0.1
    before = image.copy()
    got = np.asarray(delete(image, heat, 0.15, 7))
    if not np.array_equal(image, before):
        raise Wrong("""You have painted on the image itself, which the next map needs clean.
            Hint: image.copy()""")
    if got.shape != image.shape:
        raise Wrong(f"""An image of shape {image.shape} is asked for; yours has {got.shape}.
            Hint: copy.reshape(-1) counts the pixels row by row, and copy keeps its shape.""")
    changed = (got != image)[..., 0]
    if changed.sum() == 20 - 3 and not changed[heat > 0.5].any():
        raise Wrong("""You keep the hottest pixels and paint over all the others.
            Hint: that is the insertion test; here the hottest go.""")
    if changed.any() and heat[changed].max() == 0:
        raise Wrong("""You paint over the coldest pixels.
            Hint: np.argsort sorts from small to large; sort -heat.""")
    if changed.sum() != 3:
        raise Wrong(f"""15 % of 20 pixels are 3; you change {changed.sum()}.
            Hint: round(share * heat.size)""")
    if not changed[heat > 0.5].all():
        raise Wrong("""The number is right, and the pixels are not the hottest.
            Hint: np.argsort(-heat, axis=None) counts row by row, as copy.reshape(-1) does.""")
    if not np.array_equal(got[changed], np.full((3, 1), 7)):
        raise Wrong("""The right pixels are painted, but not with the grey level `fill`.
            Hint: copy.reshape(-1)[hottest] = fill""")
    if not np.array_equal(delete(image, heat, 0.3, 7), delete_hottest(image, heat, 0.3, 7)):
        raise Wrong("""Of pixels that are equally hot, others are painted than those asked for.
            Hint: np.argsort(-heat, axis=None, kind="stable") keeps the order of reading.""")
