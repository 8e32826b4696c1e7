"""Grad-CAM, beside tf-keras-vis in a process of its own with TensorFlow's own threads."""

from __future__ import annotations

import sys
import tempfile

import numpy as np

from benchmarks.harness import (
    ITS_OWN_THREADS,
    Child,
    Row,
    answer,
    from_pairs,
    print_rows,
    runs,
    seconds,
)
from benchmarks.work import hospital_images
from fedtutor.cores import side_by_side
from fedtutor.gradcam import grad_cam
from fedtutor.model import create_model, load_keras, standardise

SIZE = 128
TARGETS = {1: 3, 16: 4, 64: 6.5}
"""How many times faster, by number of images."""
TIMES = {1: 16, 16: 4, 64: 1}
"""How often they are explained in one measurement."""


def explaining_rows() -> list[Row]:
    model = create_model((SIZE, SIZE, 1), 3)
    with (
        tempfile.TemporaryDirectory() as folder,
        Child(__spec__.name, folder, env=ITS_OWN_THREADS) as theirs,
    ):
        theirs.answer()
        rows = []
        for count, target in TARGETS.items():
            images, classes = questions(count)
            others = np.load(f"{folder}/{count}.npy")
            others /= others.max(axis=(1, 2), keepdims=True)
            difference = np.abs(grad_cam(model, images, classes, enlarge=False) - others).max()
            assert difference < 1e-4, f"the maps differ by {difference:.1e}"
            grad_cam(model, images, classes)

            def explain(images=images, classes=classes):
                return grad_cam(model, images, classes)

            ms = 1e3 / count
            pairs = [
                (ms * often(explain, TIMES[count]), ms * theirs(count)) for _ in range(runs(9, 5))
            ]
            rows.append(
                from_pairs(
                    f"Grad-CAM at 128², batch {count}",
                    pairs,
                    work=f"heat maps over {count} image{'s' * (count > 1)}, one class an image; in "
                    "blocks on all cores; equal to 1e-4 before they are enlarged",
                    beside="tf-keras-vis Gradcam, all at once, with TensorFlow's own threads",
                    target=f"≥ {target}",
                    unit="ms an image",
                )
            )
    alone = ms * forward_alone(model, images)
    rows[-1].note = (
        f"the forward pass alone, which any method needs, takes {alone:.2f} ms an image here, so "
        f"that {rows[-1].theirs / alone:.1f} times is the most that could be reached"
    )
    return rows


def questions(count: int) -> tuple[np.ndarray, np.ndarray]:
    """So many images, and the class that each is asked about."""
    return hospital_images(1, count, SIZE).images, np.arange(count, dtype=np.int32) % 3


def often(work, times: int) -> float:
    """Seconds of one of so many."""
    return seconds(lambda: [work() for _ in range(times)]) / times


def forward_alone(model, images: np.ndarray) -> float:
    """Seconds of the forward pass in the same blocks on the same cores."""
    import tensorflow as tf

    forward = tf.function(lambda pixels: model(pixels, training=False))
    size = max(1, min(32, len(images) // 2))
    starts = range(0, len(images), size)

    def work() -> None:
        list(side_by_side(lambda k: forward(standardise(images[k : k + size])), starts))

    work()
    return min(seconds(work) for _ in range(7))


def be_theirs(folder: str) -> None:
    """Be a child that explains so many images with tf-keras-vis; leave its raw maps in files."""
    keras, model = load_keras(), create_model((SIZE, SIZE, 1), 3)
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    functional = keras.Model(model.inputs, model.outputs)  # it cannot take a Sequential model
    theirs = Gradcam(functional, model_modifier=ReplaceToLinear(), clone=True)
    asked = {}
    for count in TARGETS:
        images, classes = questions(count)
        asked[count] = CategoricalScore(classes.tolist()), standardise(images)
        raw = theirs(*asked[count], expand_cam=False, normalize_cam=False)
        np.save(f"{folder}/{count}.npy", np.asarray(raw))
        theirs(*asked[count])

    def explain(line: str) -> float:
        count = int(line)
        return often(lambda: np.asarray(theirs(*asked[count])), TIMES[count])

    answer(explain)


if __name__ == "__main__":
    if sys.argv[1:]:
        be_theirs(sys.argv[1])
    else:
        print_rows(explaining_rows())
