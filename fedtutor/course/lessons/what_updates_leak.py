"""What notebook 08 checks."""

from __future__ import annotations

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, other_case
from fedtutor.topics.privacy.membership import lira
from fedtutor.topics.privacy.reconstruction import inputs_of_units, matching_loss


def _outer(seed: int, dead: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a dense layer's gradient of one image: (image, kernel gradient, bias gradient)."""
    rng = np.random.default_rng(seed)
    image, errors = rng.normal(size=30), rng.normal(size=9)
    errors[list(dead)] = 0
    return image, np.outer(image, errors), errors


@exercise(
    """08.1, an image from a gradient
    More: kernel[:, j] / bias[j] with j = the unit of the largest abs(bias).""",
    reference=lambda kernel, bias: inputs_of_units(kernel, bias)[0],
)
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
            Hint: kernel[i, j] is pixel i times bias[j], which is the error of unit j.""")
    image, kernel, bias = _outer(1, dead=[1, 2])
    other_case(np.allclose(tried(kernel, bias), image))
    if not np.allclose(tried(np.outer(image, -np.abs(bias)), -np.abs(bias)), image):
        raise Wrong("""It fails where no unit has a positive error.
            Hint: without its sign, which error is the largest?""")


@exercise(
    """08.2, the loss of gradient matching
    More: 1 - dot / (length * length) + 0.01 * tf.reduce_mean(tf.image.total_variation(images)) /
    (height * width), where dot is the sum of tf.reduce_sum(f * w) over all pairs of arrays.""",
    reference=matching_loss,
)
def of_matching(loss: Answer) -> None:
    import tensorflow as tf

    rng = np.random.default_rng(0)
    wanted = [tf.constant(rng.normal(size=shape), tf.float32) for shape in ((5, 4), (4,))]
    flat, noisy = tf.zeros((2, 6, 5, 1)), tf.constant(rng.normal(size=(2, 6, 5, 1)), tf.float32)

    def tried(found: list[tf.Tensor]) -> float:
        hint = "tf.reduce_sum and tf.reduce_mean make one number of many."
        return float(of_shape(loss(found, list(wanted), flat), (), hint))

    longer, turned = (tried([factor * w for w in wanted]) for factor in (3, -1))
    if abs(longer) > 1e-4 or abs(turned - 2) > 1e-4:
        raise Wrong("""Of flat images your loss should be 0 for a gradient three times as long as
            the one wanted, and 2 for one that points the other way.
            Hint: 1 minus the cosine, which is the dot product over both Euclidean lengths.""")
    other = [tf.constant(rng.normal(size=w.shape), tf.float32) for w in wanted]
    if abs(tried(other) - float(matching_loss(other, wanted, flat))) > 1e-4:
        raise Wrong("""Each array has a cosine of its own in your loss.
            Hint: all arrays together are one long vector: first add up, then divide.""")
    with tf.GradientTape() as tape:
        tape.watch(other)
        value = loss(other, list(wanted), noisy)
    if not tf.is_tensor(value) or any(g is None for g in tape.gradient(value, other)):
        raise Wrong("""TensorFlow cannot go back through your loss to the gradients.
            Hint: stay with its own functions: tf.reduce_sum, tf.sqrt; no NumPy, no float().""")
    if abs(float(value) - float(matching_loss(other, wanted, noisy))) > 1e-4:
        raise Wrong("""The cosine is right; what you add for the images is not.
            Hint: 0.01 times the mean of tf.image.total_variation(images), over the pixels.""")


@exercise(
    """08.3, LiRA's ratio
    More: with mean (images,) and spread (one number) of either kind, the log-density is
    -0.5 * ((scores - mean) / spread) ** 2 - np.log(spread); take members' minus the others'.""",
    reference=lira,
)
def ratio_of_lira(ratio: Answer) -> None:
    rng = np.random.default_rng(0)
    for images, models, seed in ((40, 12, 0), (7, 9, 1)):
        inside = (np.arange(models)[:, None] + rng.permutation(images)) % 3 > seed
        shadows = rng.normal(size=images) * 3 + 1.5 * inside + rng.normal(size=inside.shape)
        shadows[inside] *= 0.7  # members are less spread
        scores = shadows.mean(axis=0) + rng.normal(size=images)
        got = ratio(scores.copy(), shadows.copy(), inside.copy())
        hint = "means are taken over the models that had the image (or had not): axis 0."
        got, right = of_shape(got, scores.shape, hint), lira(scores, shadows, inside)
        if np.allclose(got, right, atol=1e-6):
            continue
        if np.allclose(got, -right):
            raise Wrong("""Your members have the low values.
                Hint: which density is subtracted from which?""")
        if (got > 0).all() and np.allclose(np.log(got), right):
            raise Wrong("""That is the ratio; its logarithm is asked for.
                Hint: of a normal density the logarithm is simpler than the density.""")
        if np.ptp(got - right) < 1e-6:
            raise Wrong("""All of your values are off by one and the same number.
                Hint: the height of a normal density falls as 1 / spread.""")
        raise Wrong("""That is not the logarithm of the ratio.
            Hint: two normal densities at `scores`: a mean for each image and one spread for all,
            from the models that had the image, and from those that had not.""")
