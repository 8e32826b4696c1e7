"""What notebook 07 checks and shows: heat maps from gradients, the pointing game, the suspect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedtutor import figures
from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, one_number
from fedtutor.datasets.phantoms import Shortcut, chest_phantoms
from fedtutor.figures.picture import row_of_images
from fedtutor.gradcam import mass_in_lesion
from fedtutor.images import MedicalImages

CASE_HOSPITAL, CASE_CLASS = 3, 1
"""Where the marker of exercise 07.3 gives a class away; not for the learner's eyes."""


def heat_maps(
    data: MedicalImages, maps: dict[str, np.ndarray], *, asked: int | np.ndarray | None = None
) -> figures.Picture:
    """Draw all of ``data`` in a row under its maps, and tell the share of heat in the lesions."""
    classes = None if asked is None else np.broadcast_to(asked, len(data))
    picture = figures.heat_maps(data, np.arange(len(data)), maps, classes=classes)
    alt = picture.alt
    if data.masks is not None:
        masks = np.asarray(data.masks)
        shares = [f"{name} {mass_in_lesion(heat, masks):.1f}" for name, heat in maps.items()]
        alt += f" Mean share of the heat inside the lesions: {', '.join(shares)}."
    return replace(picture, alt=alt, step=0.1)


def side_by_side(
    image: np.ndarray, mask: np.ndarray, heat: np.ndarray, alt: str
) -> figures.Picture:
    """Draw one image, plain and under a heat map, the true lesion outlined in both.

    ``image`` uint8 (h, w), ``mask`` bool (h, w), ``heat`` float (h, w) in 0..1.
    """
    titles = ["image", "what speaks for the class"]
    picture = row_of_images([image, image], titles, alt, limits=(0, 255), step=0.1, width=3.2)
    pair = picture.figure.axes
    pair[1].imshow(heat, cmap="inferno", alpha=0.8 * heat, vmin=0, vmax=1)
    if mask.any():
        for axes in pair:
            axes.contour(mask, levels=[0.5], colors="cyan", linewidths=1)
    return picture


def the_case(size: int) -> tuple[dict[str, MedicalImages], dict[str, MedicalImages]]:
    """Draw exercise 07.3: images to train on and images to explain, of each of five hospitals."""
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


def hirescam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Return what speaks for the class at each position, not scaled."""
    return np.maximum((maps * gradients).sum(axis=-1), 0)


@exercise("""07.1, HiResCAM from maps and gradients
    More: np.maximum((maps * gradients).sum(axis=-1), 0)""")
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


def _game() -> tuple[np.ndarray, np.ndarray]:
    """Return four maps of 3 x 4 and their lesions: two hits, a miss, a map without any heat."""
    maps, masks = np.zeros((4, 3, 4)), np.zeros((4, 3, 4), bool)
    maps[0, 1, 2], maps[0, 0] = 1.0, 0.4  # hit, though most of the heat lies outside
    masks[0, 1, 2] = True
    maps[1, 2, 3] = 0.2  # hit, faint
    masks[1, 2, 2:] = True
    maps[2, 0, 1], maps[2, 1] = 1.0, 0.9  # miss, though most of the heat lies inside
    masks[2, 1] = True
    masks[3, 0, 0] = True  # no heat at all: its argmax is the first pixel, in the lesion
    return maps, masks


@exercise("""07.2, the pointing game
    More: for heat, mask in zip(maps, masks): mask.flat[heat.argmax()] and heat.max() > 0""")
def pointing(play: Answer) -> None:
    maps, masks = _game()
    got = one_number(play(maps.copy(), masks.copy()), "what is the share of hits?")
    if np.isclose(got, 2):
        raise Wrong("""That is the number of hits, not their share.
            Hint: two of four is 0.5.""")
    if np.isclose(got, 0.75):
        raise Wrong("""A map that is 0 everywhere counts as a hit in yours.
            Hint: argmax of an empty map is the first pixel, and here the lesion lies there.""")
    if np.isclose(got, mass_in_lesion(maps, masks)):
        raise Wrong("""That is the share of the heat in the lesion, which is another score.
            Hint: here only the single hottest point of each map counts.""")
    if np.isclose(got, masks.mean()):
        raise Wrong("""That is what a random point scores: the lesions' share of the image.
            Hint: the maps have not been used.""")
    if not np.isclose(got, 0.5):
        raise Wrong(f"""Two of these four maps are hottest in the lesion: 0.5, not {got:.3g}.
            Hint: go through the maps one by one: where is each map's own hottest point?""")


def _suspects(upper_right: bool) -> dict[str, np.ndarray]:
    """Return maps of three hospitals, (images, 20, 20): only one has its heat in a corner."""
    rng = np.random.default_rng(0)
    honest = 0.02 * rng.random((6, 20, 20))
    honest[:, 8:14, 5:15] = 1.0
    loud = 5 * np.concatenate([honest, honest])  # more heat and more images, in no corner
    loud[:, :3, :3] = loud[:, :3, -3:] = 0.5
    marked = 0.001 * rng.random((6, 20, 20))
    marked[:, 1:3, slice(17, 19) if upper_right else slice(1, 3)] = 0.5
    return {"Honest": honest, "Loud": loud, "Marked": marked}


@exercise("""07.3, the hospital with the shortcut
    More: in_corners(maps) counts both corners as a share; max(shares, key=shares.get)""")
def suspect(find: Answer) -> None:
    got = [find(_suspects(upper_right)) for upper_right in (True, False)]
    if got == ["Loud", "Marked"]:
        raise Wrong("""You look into the upper left corner only; this marker is on the right.
            Hint: some hospitals put their marker left, others right.""")
    if "Loud" in got:
        raise Wrong("""You suspect a hospital with more heat and images, but not in a corner.
            Hint: a sum grows with the number of images; a share does not.""")
    if "Honest" in got:
        raise Wrong("""You suspect a hospital whose heat lies in the middle of the image.
            Hint: a marker sits in an upper corner: small row numbers.""")
    if got != ["Marked", "Marked"]:
        raise Wrong(f"""The name of a hospital is asked for, a key of maps_of; yours is {got[0]!r}.
            Hint: which name has the largest share?""")
