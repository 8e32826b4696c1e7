"""What notebook 08 checks, and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape
from fedtutor.figures.charts import lines
from fedtutor.figures.picture import Picture, row_of_images, show
from fedtutor.topics.privacy.membership import found_at
from fedtutor.topics.privacy.reconstruction import ssim


def side_by_side(originals: np.ndarray, guesses: Mapping[str, np.ndarray]) -> Picture:
    """Draw a row of originals over one row of guesses for each name, with the SSIM of each guess.

    ``originals`` is float (n, h, w, 1) in 0..1, and so is each of ``guesses``, in that order.
    """
    count, rows = len(originals), 1 + len(guesses)
    figure = Figure(figsize=(1.5 * count + 1.6, 1.9 * rows))
    grid = figure.subplots(rows, count, squeeze=False)
    said = []
    for row, (name, images) in zip(grid, {"original": originals, **guesses}.items(), strict=True):
        scores = [f"{score:.2f}" for score in ssim(originals, images)]
        for axes, image, score in zip(row, images, scores, strict=True):
            show(axes, image, f"SSIM {score}" if name in guesses else "", limits=(0, 1))
        row[0].text(-0.1, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
        said.append(f"{name}: SSIM {', '.join(scores)}")
    figure.subplots_adjust(wspace=0.05, hspace=0.2)
    alt = f"{count} originals, and below them what was reconstructed; {'; '.join(said[1:])}."
    return Picture(figure, alt, 0.1)


def in_a_row(shown: Mapping[str, tuple[np.ndarray, float]]) -> Picture:
    """Draw pictures, float (h, w, 1) in 0..1, by name and each with its SSIM or NaN, in one row."""
    titles = [
        name if math.isnan(score) else f"{name}\nSSIM {score:.2f}"
        for name, (_, score) in shown.items()
    ]
    alt = f"Pictures in a row: {', '.join(titles)}.".replace("\n", " ")
    return row_of_images([picture for picture, _ in shown.values()], titles, alt, step=0.1)


def curves_of_attacks(attacks: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Picture:
    """Draw ROC curves on logarithmic axes, where the few sure accusations are seen.

    ``attacks`` is from a name to (scores of members, scores of others).
    """
    rates = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    found = {name: [found_at(rate, *scores) for rate in rates] for name, scores in attacks.items()}
    picture = lines(
        {name: (rates, shares) for name, shares in {"guessing": rates, **found}.items()},
        x="outsiders wrongly accused (share)",
        y="members found (share)",
        step=0.1,
    )
    (axes,) = picture.figure.axes
    axes.loglog()
    axes.set_ylim(0.005, 1.2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0.01, 0.1, 1], ["1 %", "10 %", "100 %"])
        axis.set_minor_locator(NullLocator())
    said = [
        f"{name} finds {at[0]:.2f} at 0.01 and {at[3]:.2f} at 0.10" for name, at in found.items()
    ]
    alt = f"Members found against outsiders accused, on logarithmic axes: {'; '.join(said)}."
    return replace(picture, alt=alt)


def _outer(seed: int, dead: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a dense layer's gradient of one image: (image, kernel gradient, bias gradient)."""
    rng = np.random.default_rng(seed)
    image, errors = rng.normal(size=30), rng.normal(size=9)
    errors[list(dead)] = 0
    return image, np.outer(image, errors), errors


@exercise("""08.1, an image from a gradient
    More: kernel[:, j] / bias[j] with j = the unit of the largest abs(bias).""")
def from_gradient(reconstruct: Answer) -> None:
    def tried(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            got = reconstruct(kernel.copy(), bias.copy())
        hint = "one unit of the layer is enough for the image: choose a column."
        return of_shape(got, kernel[:, 0].shape, hint)

    image, kernel, bias = _outer(0, dead=[0, 4])
    got = tried(kernel, bias)
    if not np.isfinite(got).all():
        raise Wrong("""There is NaN or infinity in your image.
            Hint: some units were not active: both of their gradients are 0.""")
    if np.allclose(got * image, 1, atol=1e-6):
        raise Wrong("""That is one over the image.
            Hint: which is divided by which?""")
    parallel = np.allclose(np.outer(got, image), np.outer(image, got))
    if parallel and not np.allclose(got, image):
        raise Wrong("""That is the image up to a factor.
            Hint: the column is the image times the unit's error. Where do you find that error?""")
    if not parallel:
        raise Wrong("""That is not the image.
            Hint: kernel[i, j] is pixel i times the error of unit j, which bias[j] is.""")
    image, kernel, bias = _outer(1, dead=[1, 2])
    if not np.allclose(tried(kernel, bias), image):
        raise Wrong("""It works for one gradient and fails for another.
            Hint: which units are dead changes with the image.""")
    if not np.allclose(tried(np.outer(image, -np.abs(bias)), -np.abs(bias)), image):
        raise Wrong("""It fails where no unit has a positive error.
            Hint: without its sign, which error is the largest?""")
