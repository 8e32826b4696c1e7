"""Where a model looks: heat maps of some test images, and their scores where lesions are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fedtutor import gradcam
from fedtutor.datasets.warned import warn_if_few
from fedtutor.images import MedicalImages

if TYPE_CHECKING:
    import keras

NUM_SHOWN = 6


@dataclass(frozen=True)
class Explained:
    """A few test images with their heat maps, and the class each map asks for; in one order.

    Attributes
    ----------
    indices : int (n,), of the images in the test set.
    classes : int (n,), the class, or the finding, that each map asks for.
    grad_cam, hirescam : float (n, height, width) in 0..1, see :func:`fedtutor.gradcam.grad_cam`.
    """

    indices: np.ndarray
    classes: np.ndarray
    grad_cam: np.ndarray
    hirescam: np.ndarray


def explain(
    model: keras.Model, test: MedicalImages, probabilities: np.ndarray
) -> tuple[dict, Explained]:
    """Draw Grad-CAM and HiResCAM of disease that was found; score them where lesions are known.

    Multi-label: of images with findings, asking for the one of them that the model finds
    likeliest. It need not be above 0.5, which a rare finding seldom is.

    Returns
    -------
    The scores, as ``summary.json`` has them, and up to :data:`NUM_SHOWN` images to show.
    """
    if test.multi_label:
        classes = np.where(test.labels, probabilities, -1).argmax(axis=1)
        worth_a_map = test.labels.any(axis=1)
    else:
        classes = test.labels
        worth_a_map = probabilities.argmax(axis=1) == test.labels
    candidates = np.flatnonzero(worth_a_map)
    lesions = test.has_lesion()
    scored, others = candidates[lesions[candidates]], candidates[~lesions[candidates]]
    chosen = np.concatenate([scored, others[: max(0, NUM_SHOWN - len(scored))]])
    maps = {
        method: gradcam.grad_cam(model, test.images[chosen], classes[chosen], method=method)
        for method in gradcam.METHODS
    }
    scores: dict = {"lesions_known": bool(lesions.any()), "num_images": len(scored)}
    if test.masks is not None and len(scored):
        masks = test.masks[scored]
        for method, suffix in (("grad_cam", ""), ("hirescam", "_hirescam")):
            heat = maps[method][: len(scored)]
            scores[f"pointing_game{suffix}"] = gradcam.pointing_game(heat, masks)
            scores[f"mass_in_lesion{suffix}"] = gradcam.mass_in_lesion(heat, masks)
        scores["pointing_game_random"] = gradcam.pointing_game_random(masks)
        warn_if_few("The heat maps' scores come from few images", {"with a lesion": len(scored)})
    shown = spread(test.take(chosen), classes[chosen], NUM_SHOWN)
    return scores, Explained(
        chosen[shown], classes[chosen][shown], maps["grad_cam"][shown], maps["hirescam"][shown]
    )


def spread(data: MedicalImages, classes: np.ndarray, count: int) -> np.ndarray:
    """Return up to ``count`` positions: the classes in turn, each from many hospitals."""
    table = pd.DataFrame({"label": classes, "hospital": data.table.get("hospital", "")})
    table["turn"] = table.groupby(["label", "hospital"]).cumcount()
    table = table.sort_values(["turn", "hospital"], kind="stable")
    table["rank"] = table.groupby("label").cumcount()
    return table.sort_values(["rank", "label"], kind="stable").index.to_numpy()[:count]
