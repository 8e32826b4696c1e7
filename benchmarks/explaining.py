"""Grad-CAM, beside tf-keras-vis."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Row, print_rows, seconds, side_by_side
from benchmarks.work import hospital_images
from fedtutor.gradcam import grad_cam
from fedtutor.model import create_model, standardise

SIZE = 128


def explaining_rows() -> list[Row]:
    import keras
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    model = create_model((SIZE, SIZE, 1), 3)
    functional = keras.Model(model.inputs, model.outputs)  # it cannot take a Sequential model
    theirs = Gradcam(functional, model_modifier=ReplaceToLinear(), clone=True)
    rows = []
    for batch, target in ((1, 3), (16, 4), (64, 8)):
        images = hospital_images(1, batch, SIZE).images
        classes = np.arange(batch, dtype=np.int32) % 3
        floats = standardise(images)
        score = CategoricalScore(classes.tolist())

        def explain(images=images, classes=classes, enlarge=True):
            return grad_cam(model, images, classes, enlarge=enlarge)

        def explain_theirs(floats=floats, score=score, **options):
            return np.asarray(theirs(score, floats, **options))

        ours = explain(enlarge=False)
        other = explain_theirs(expand_cam=False, normalize_cam=False)
        difference = np.abs(ours - other / other.max(axis=(1, 2), keepdims=True)).max()
        assert difference < 1e-4, f"the maps differ by {difference:.1e}"
        rows.append(
            side_by_side(
                f"Grad-CAM at 128², batch {batch}",
                explain,
                explain_theirs,
                work="heat maps over the image, one class an image; equal to 1e-4 before they are "
                "enlarged",
                beside="tf-keras-vis Gradcam",
                target=f"≥ {target}",
                repeat=9,
                quick=5,
                scale=1e3 / batch,
                unit="ms an image",
            )
        )
    forward = tf.function(lambda pixels: model(pixels, training=False))
    pixels = tf.constant(floats)
    forward(pixels)
    alone = 1e3 / batch * min(seconds(lambda: forward(pixels).numpy()) for _ in range(7))
    rows[-1].note = (
        f"the forward pass alone, which any method needs, takes {alone:.2f} ms an image here, so "
        f"that {rows[-1].theirs / alone:.1f} times is the most that could be reached"
    )
    return rows


if __name__ == "__main__":
    print_rows(explaining_rows())
