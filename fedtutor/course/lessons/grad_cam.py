"""What notebook 07 checks and shows: heat maps from gradients, the pointing game, the suspect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from fedtutor.course import figures
from fedtutor.course.exercises import Wrong, exercise
from fedtutor.datasets.phantoms import Shortcut, chest_phantoms
from fedtutor.gradcam import mass_in_lesion
from fedtutor.images import MedicalImages

CASE_HOSPITAL, CASE_CLASS = 3, 1
"""Where the marker of exercise 07.3 gives a class away; not for the learner's eyes."""


def heat_maps(
    data: MedicalImages, maps: dict[str, np.ndarray], *, asked: int | np.ndarray | None = None
) -> figures.Picture:
    """All of ``data`` in a row under its maps, the share of heat in the lesions told in words."""
    classes = None if asked is None else np.broadcast_to(asked, len(data))
    picture = figures.heat_maps(data, np.arange(len(data)), maps, classes=classes)
    alt = picture.alt
    if data.masks is not None:
        shares = [f"{name} {mass_in_lesion(heat, data.masks):.1f}" for name, heat in maps.items()]
        alt += f" Mean share of the heat inside the lesions: {', '.join(shares)}."
    return replace(picture, alt=alt, step=0.1)


def side_by_side(
    image: np.ndarray, mask: np.ndarray, heat: np.ndarray, alt: str
) -> figures.Picture:
    """One image, plain and under a heat map, the true lesion outlined in both.

    ``image`` uint8 (h, w), ``mask`` bool (h, w), ``heat`` float (h, w) in 0..1.
    """
    figure = Figure(figsize=(6.4, 3.3))
    left, right = figure.subplots(1, 2)
    for axes, title in ((left, "image"), (right, "what speaks for the class")):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    right.imshow(heat, cmap="inferno", alpha=0.8 * heat, vmin=0, vmax=1)
    if mask.any():
        for axes in (left, right):
            axes.contour(mask, levels=[0.5], colors="cyan", linewidths=1)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, wspace=0.03)
    return figures.Picture(figure, alt, step=0.1)


def the_case(size: int) -> tuple[dict[str, MedicalImages], dict[str, MedicalImages]]:
    """Exercise 07.3: images to train on and images to explain, of each of five hospitals."""
    alike = np.tile([0.4, 0.3, 0.3], (5, 1))
    shortcut = Shortcut(CASE_HOSPITAL, CASE_CLASS)
    train, test = (
        chest_phantoms(600, size=size, seed=seed, prevalence=alike, shortcut=shortcut)
        for seed in (7, 8)
    )
    ill = test.take(np.flatnonzero(test.has_lesion()))
    return _by_hospital(train), _by_hospital(ill)


def _by_hospital(data: MedicalImages) -> dict[str, MedicalImages]:
    hospitals = data.column("hospital")
    return {
        str(name): data.take(np.flatnonzero(hospitals == name)) for name in dict.fromkeys(hospitals)
    }


def reveal(suspect: object) -> None:
    """Say whether it is the hospital of :func:`the_case`."""
    names = list(_by_hospital(chest_phantoms(5, size=16)))
    if suspect is None or suspect is ...:
        print("You suspect nobody yet.")
    elif suspect not in names:
        print(f"{suspect!r} is none of the hospitals: {', '.join(names)}.")
    elif suspect == names[CASE_HOSPITAL]:
        print(f"{suspect}: yes. Its marker hangs on one class only.")
    else:
        print(f"{suspect}: no, its marker hangs on all of its images, or on none.")


# Two positions, two channels. The first channel speaks for the class on the left and against it
# on the right, the second one for it everywhere; every wrong way gives another map.
MAPS = np.array([[[1.0, 2.0], [3.0, 1.0]]])
GRADIENTS = np.array([[[2.0, 0.5], [-2.0, 0.5]]])


def _map(maps, gradients):
    return np.maximum((maps * gradients).sum(axis=-1), 0)


@exercise("07.1", "HiResCAM from maps and gradients")
def hirescam(heat_map):
    got = np.asarray(heat_map(MAPS.copy(), GRADIENTS.copy()), float)
    right = _map(MAPS, GRADIENTS)
    if got.shape == MAPS.shape:
        raise Wrong(
            "Your map still has all the channels.",
            hint="one number a position is asked for; what happens to the channels?",
            more="add up the last axis: .sum(axis=-1).",
        )
    if got.shape != right.shape:
        raise Wrong(
            f"Maps of shape {MAPS.shape} give a heat map of shape {right.shape}; yours has "
            f"{got.shape}.",
            hint="add up over the channels only, and leave height and width as they are.",
            more="the channels are the last axis: .sum(axis=-1).",
        )
    means = GRADIENTS.mean(axis=(0, 1))
    if np.allclose(got, _map(MAPS, means)):
        raise Wrong(
            "That is Grad-CAM: each channel has one weight for the whole image.",
            hint="leave out the mean over the positions.",
            more="multiply maps * gradients, position by position, before you add up the channels.",
        )
    if np.allclose(got, (MAPS * GRADIENTS).sum(axis=-1)):
        raise Wrong(
            "There are negative numbers in your map: what speaks against the class.",
            hint="only what speaks for the class is shown.",
            more="np.maximum(..., 0) at the end.",
        )
    if np.allclose(got, np.maximum(MAPS * GRADIENTS, 0).sum(axis=-1)):
        raise Wrong(
            "You cut off the negative numbers before the channels are added up.",
            hint="a channel that speaks against the class may outweigh one that speaks for it.",
            more="first .sum(axis=-1), then np.maximum(..., 0).",
        )
    if np.allclose(got, np.maximum(GRADIENTS.sum(axis=-1), 0)):
        raise Wrong(
            "Your map knows the gradients and not what the convolution saw.",
            hint="a channel counts where it is active; both arrays are needed.",
            more="np.maximum((maps * gradients).sum(axis=-1), 0)",
        )
    if right.max() and np.allclose(got, right / right.max()):
        return  # scaled to 1, as the package does it
    if not np.allclose(got, right):
        raise Wrong(
            f"Here the map should be {right.tolist()}; yours is {got.round(3).tolist()}.",
            hint="multiply, add up the channels, cut off what is below 0; in this order.",
            more="np.maximum((maps * gradients).sum(axis=-1), 0)",
        )
    rng = np.random.default_rng(0)
    maps, gradients = rng.random((4, 5, 3)), rng.normal(size=(4, 5, 3))
    got = np.asarray(heat_map(maps, gradients), float)
    expected = _map(maps, gradients)
    if got.shape != expected.shape or not (
        np.allclose(got, expected) or np.allclose(got, expected / expected.max())
    ):
        raise Wrong(
            "It is right for maps of 1 x 2 positions and 2 channels, and not for others.",
            hint="is a shape written out in your code?",
            more="np.maximum((maps * gradients).sum(axis=-1), 0) needs no shape.",
        )


@hirescam.typical
def grad_cam(maps, gradients):
    return _map(maps, gradients.mean(axis=(0, 1)))


@hirescam.typical
def keeps_the_channels(maps, gradients):
    return np.maximum(maps * gradients, 0)


@hirescam.typical
def sums_everything(maps, gradients):
    return (maps * gradients).sum()


@hirescam.typical
def keeps_the_negative(maps, gradients):
    return (maps * gradients).sum(axis=-1)


@hirescam.typical
def cuts_too_early(maps, gradients):
    return np.maximum(maps * gradients, 0).sum(axis=-1)


@hirescam.typical
def gradients_only(maps, gradients):
    return np.maximum(gradients.sum(axis=-1), 0)


@hirescam.typical
def mean_of_channels(maps, gradients):
    return np.maximum((maps * gradients).mean(axis=-1), 0)


def _game():
    """Four maps of 3 x 4 and their lesions: two hits, a miss, and a map without any heat."""
    maps, masks = np.zeros((4, 3, 4)), np.zeros((4, 3, 4), bool)
    maps[0, 1, 2], maps[0, 0] = 1.0, 0.4  # hit, though most of the heat lies outside
    masks[0, 1, 2] = True
    maps[1, 2, 3] = 0.2  # hit, faint
    masks[1, 2, 2:] = True
    maps[2, 0, 1], maps[2, 1] = 1.0, 0.9  # miss, though most of the heat lies inside
    masks[2, 1] = True
    masks[3, 0, 0] = True  # no heat at all: its argmax is the first pixel, in the lesion
    return maps, masks


@exercise("07.2", "the pointing game")
def pointing(play):
    maps, masks = _game()
    got = play(maps.copy(), masks.copy())
    if np.ndim(got) != 0:
        raise Wrong(
            f"One number for all maps is asked for; yours has shape {np.shape(got)}.",
            hint="a hit counts 1, a miss 0; what is the share of hits?",
            more="collect the hits in a list and take np.mean of it.",
        )
    got = float(got)
    if got == 2:
        raise Wrong(
            "That is the number of hits, not their share.",
            hint="two of four is 0.5.",
            more="divide by len(maps).",
        )
    if np.isclose(got, 0.75):
        raise Wrong(
            "A map that is 0 everywhere counts as a hit in yours.",
            hint="argmax of an empty map is the first pixel, and here the lesion lies there.",
            more="count a hit only if heat.max() > 0 as well.",
        )
    if np.isclose(got, mass_in_lesion(maps, masks)):
        raise Wrong(
            "That is the share of the heat in the lesion, which is another score.",
            hint="here only the single hottest point of each map counts.",
            more="heat.argmax() finds the hottest point; is mask.flat there True?",
        )
    if np.isclose(got, masks.mean()):
        raise Wrong(
            "That is what a random point scores: the lesions' share of the image.",
            hint="the maps have not been used.",
            more="mask.flat[heat.argmax()]",
        )
    if not np.isclose(got, 0.5):
        raise Wrong(
            f"Here two of four maps are hottest in the lesion, so the answer is 0.5; yours is "
            f"{got:.3g}.",
            hint="go through the maps one by one: where is each map's own hottest point?",
            more="for heat, mask in zip(maps, masks): mask.flat[heat.argmax()] and heat.max() > 0",
        )
    if not np.isclose(float(play(maps[:2], masks[:2])), 1.0):
        raise Wrong(
            "Two hits of two are 1.0, and yours says something else.",
            hint="is the number of maps written out in your code?",
            more="divide by len(maps), or take np.mean.",
        )


@pointing.typical
def number_of_hits(maps, masks):
    return sum(
        int(mask.flat[heat.argmax()] and heat.max() > 0)
        for heat, mask in zip(maps, masks, strict=True)
    )


@pointing.typical
def empty_map_hits(maps, masks):
    return np.mean([mask.flat[heat.argmax()] for heat, mask in zip(maps, masks, strict=True)])


@pointing.typical
def heat_inside(maps, masks):
    return mass_in_lesion(maps, masks)


@pointing.typical
def random_point(maps, masks):
    return masks.mean()


@pointing.typical
def one_peak_for_all(maps, masks):
    return float(masks.flat[maps.argmax()])


@pointing.typical
def a_list_of_hits(maps, masks):
    return [mask.flat[heat.argmax()] for heat, mask in zip(maps, masks, strict=True)]


def _suspects(upper_right: bool) -> dict[str, np.ndarray]:
    """Maps of three hospitals, (images, 20, 20): only one has its heat in a corner."""
    rng = np.random.default_rng(0)
    honest = 0.02 * rng.random((6, 20, 20))
    honest[:, 8:14, 5:15] = 1.0
    loud = 5 * np.concatenate([honest, honest])  # more heat and more images, in no corner
    loud[:, :3, :3] = loud[:, :3, -3:] = 0.5
    marked = 0.001 * rng.random((6, 20, 20))
    marked[:, 1:3, slice(17, 19) if upper_right else slice(1, 3)] = 0.5
    return {"Honest": honest, "Loud": loud, "Marked": marked}


@exercise("07.3", "the hospital with the shortcut")
def suspect(find):
    for upper_right in (True, False):
        maps_of = _suspects(upper_right)
        got = find({name: maps.copy() for name, maps in maps_of.items()})
        if isinstance(got, (int, float, np.number)):
            raise Wrong(
                "The name of a hospital is asked for; yours is a number.",
                hint="maps_of is a dictionary; its keys are the names.",
                more="max(shares, key=shares.get) gives the name with the largest share.",
            )
        if got not in maps_of:
            raise Wrong(
                f"There is no hospital of the name {got!r} in what you were given.",
                hint="give back one of the keys of maps_of.",
                more="max(shares, key=shares.get)",
            )
        if got == "Loud" and upper_right and find(_suspects(False)) == "Marked":
            raise Wrong(
                "You look into the upper left corner only; here the marker is in the upper right.",
                hint="some hospitals put their marker left, others right.",
                more="in_corners(maps) of the notebook counts both corners.",
            )
        if got == "Loud":
            raise Wrong(
                "You suspect a hospital that has more heat and more images, but not in a corner.",
                hint="a sum grows with the number of images; a share does not.",
                more="divide the heat in the corners by all the heat of that hospital.",
            )
        if got == "Honest":
            raise Wrong(
                "You suspect a hospital whose heat lies in the middle of the image.",
                hint="a marker sits in an upper corner: small row numbers.",
                more="compare in_corners(maps) of the hospitals, and take the largest.",
            )
        # Any other wrong name has been caught above, so this corner is right; try the other.


@suspect.typical
def most_heat_in_corners(maps_of):
    sums = {n: m[:, :4, :4].sum() + m[:, :4, -4:].sum() for n, m in maps_of.items()}
    return max(sums, key=sums.get)


@suspect.typical
def lower_corners(maps_of):
    shares = {n: m[:, -4:, :].sum() / m.sum() for n, m in maps_of.items()}
    return "Honest" if max(shares.values()) < 0.5 else max(shares, key=shares.get)


@suspect.typical
def left_corner_only(maps_of):
    shares = {n: m[:, :4, :4].sum() / m.sum() for n, m in maps_of.items()}
    return max(shares, key=shares.get)


@suspect.typical
def largest_share_itself(maps_of):
    return max((m[:, :4, :4].sum() + m[:, :4, -4:].sum()) / m.sum() for m in maps_of.values())


@suspect.typical
def a_name_of_its_own(maps_of):
    return "Northmoor"
