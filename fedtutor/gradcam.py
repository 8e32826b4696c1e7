"""Grad-CAM and HiResCAM: which pixels a class score hangs on.

For feature maps A (height, width, channels) of a convolution and the score y of a class, both
add up the channels, weighted by the gradient of the score:

    Grad-CAM   (Selvaraju et al. 2017, eq. 1-2)   relu(sum_c mean_ij(dy/dA_c) A_c)
    HiResCAM   (Draelos & Carin 2020, eq. 4)      relu(sum_c dy/dA_c A_c)

The mean over positions is right for a network that ends in global average pooling. In this course's
CNN the same channel can speak for a class in one corner and against it in another. HiResCAM keeps
the place; that it is exact is proved for one dense layer after the convolutions, not for more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fedtutor.compiled_training import compiled
from fedtutor.cores import one_a_thread, side_by_side
from fedtutor.errors import DataError
from fedtutor.model import load_keras, standardise

if TYPE_CHECKING:
    import keras

METHODS = ("grad_cam", "hirescam")


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    classes: np.ndarray | int | None = None,
    *,
    layer: str | None = None,
    method: str = "grad_cam",
    batch_size: int = 32,
    enlarge: bool = True,
) -> np.ndarray:
    """Heat maps of what speaks for a class.

    Parameters
    ----------
    model : a Sequential or Functional Keras model. If it ends in a softmax or sigmoid ``Dense``
        the score is the logit before it, as a saturated softmax has no gradient.
    images : uint8 (n, height, width, channels).
    classes : the class asked about, for each image or for all; by default the likeliest.
    layer : name of a layer with feature maps, also of a model inside this one; by default the
        last convolution.
    method : "grad_cam" or "hirescam".
    batch_size : how many images at a time, at most; blocks of them share the cores.
    enlarge : lay the map over the image; otherwise it has the layer's own height and width.

    Returns
    -------
    float32 (n, height, width), each map scaled to a maximum of 1, or all 0 where nothing speaks
    for the class.

    Raises
    ------
    DataError
        For an unknown method or layer, a class out of range, or no layer named where the last
        convolution is inside a nested model; lists what is allowed.
    """
    if method not in METHODS:
        raise DataError(f"unknown method {method!r}; known: {', '.join(METHODS)}.")
    convolution = _find_layer(model, layer)
    num_classes = model.output_shape[-1]
    chosen = np.full(len(images), -1) if classes is None else np.broadcast_to(classes, len(images))
    if len(chosen) and not -1 <= chosen.min() <= chosen.max() < num_classes:
        raise DataError(f"classes must lie in 0..{num_classes - 1}; got {classes}.")
    size = max(1, min(batch_size, -(-len(images) // 2)))  # the same on any number of cores

    def block(start: int) -> np.ndarray:
        part, explain = slice(start, start + size), _compile(model, convolution, method, enlarge)
        return np.asarray(explain(standardise(images[part]), chosen[part].astype("int32")))

    maps = list(side_by_side(block, range(0, len(images), size)))
    if not maps:
        sides = images.shape[1:3] if enlarge else convolution.output.shape[1:3]
        return np.empty((0, *sides), np.float32)
    return np.concatenate(maps)


def pointing_game(maps: np.ndarray, masks: np.ndarray) -> float:
    """Fraction of maps whose highest point lies in the lesion (Zhang et al. 2018, no tolerance).

    ``maps`` is float (n, h, w), ``masks`` bool (n, h, w). A map that is 0 everywhere misses.
    """
    if not len(maps):
        return float("nan")
    flat = maps.reshape(len(maps), -1)
    peaks = flat.argmax(axis=1)
    hits = masks.reshape(len(masks), -1)[np.arange(len(flat)), peaks] & (flat.max(axis=1) > 0)
    return float(hits.mean())


def pointing_game_random(masks: np.ndarray) -> float:
    """Return what a random point scores in :func:`pointing_game`: the lesions' mean share."""
    return float(masks.mean()) if len(masks) else float("nan")


def mass_in_lesion(maps: np.ndarray, masks: np.ndarray) -> float:
    """Mean share of a map's heat that lies in the lesion, 0..1; an empty map counts 0."""
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = (maps * masks).sum(axis=(1, 2), dtype=np.float64)
    shares = np.divide(inside, total, out=np.zeros_like(total), where=total > 0)
    return float(shares.mean()) if len(shares) else float("nan")


def _find_layer(model: keras.Model, name: str | None) -> keras.layers.Layer:
    keras = load_keras()
    layers = [step for step in model.layers if not isinstance(step, keras.layers.InputLayer)]
    with_maps = {layer.name: layer for layer in layers if len(layer.output.shape) == 4}
    there_are = f"there are: {', '.join(with_maps) or 'none'}"
    if name is not None and name not in with_maps:
        raise DataError(f"no layer {name!r} with feature maps; {there_are}.")
    if name is not None:
        return with_maps[name]
    last = next(filter(_holds_convolution, reversed(layers)), None)
    if not isinstance(last, keras.layers.Conv2D):
        where = f"inside {last.name!r}, a model of its own" if last else "nowhere in the model"
        raise DataError(f"the last Conv2D is {where}; choose feature maps by layer=; {there_are}.")
    return last


def _holds_convolution(layer: keras.layers.Layer) -> bool:
    inner = getattr(layer, "layers", ())  # of a nested model
    return isinstance(layer, load_keras().layers.Conv2D) or any(map(_holds_convolution, inner))


@one_a_thread
def _compile(model: keras.Model, layer: keras.layers.Layer, method: str, enlarge: bool) -> Callable:
    import tensorflow as tf

    keras = load_keras()
    last = model.layers[-1]
    before_activation = isinstance(last, keras.layers.Dense)
    joint = _maps_and_features(model, layer, before_activation)
    kernel, bias = (last.kernel, last.bias) if before_activation else (None, None)
    place_over_image = _placer(model, layer) if enlarge else lambda heat: heat

    def explain(images, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            maps, features = joint(images, training=False)
            scores = features
            if before_activation:
                scores = tf.matmul(features, kernel)
                scores = scores if bias is None else scores + bias
            classes = tf.where(
                classes < 0, tf.argmax(scores, axis=1, output_type=tf.int32), classes
            )
            score = tf.gather(scores, classes, batch_dims=1)
        gradients = tape.gradient(score, maps)
        if method == "grad_cam":
            gradients = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(gradients * maps, axis=-1, keepdims=True))
        heat = place_over_image(heat)[..., 0]
        return tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=(1, 2), keepdims=True))

    pixels = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph = compiled(explain, pixels, tf.TensorSpec((None,), tf.int32))
    return lambda *arrays: graph(*map(tf.convert_to_tensor, arrays))


def _maps_and_features(
    model: keras.Model, layer: keras.layers.Layer, before_last: bool
) -> keras.Model:
    """Build the same network with two outputs: the layer's maps, and what ends it."""
    keras = load_keras()
    went_in, came_out = {}, {}

    def call(step, tensor, *args, **kwargs):
        went_in[step.name], came_out[step.name] = tensor, step(tensor, *args, **kwargs)
        return came_out[step.name]

    # The layers are called anew: the ``output`` of one that has been called elsewhere before, as
    # in a model read from a file, and that of a nested model belong to another graph.
    functional = keras.Model(model.inputs, model.outputs)
    inputs = keras.models.clone_model(functional, None, lambda step: step, call).inputs
    last = (went_in if before_last else came_out)[model.layers[-1].name]
    return keras.Model(inputs, [came_out[layer.name], last])


def _placer(model: keras.Model, layer: keras.layers.Layer) -> Callable:
    """Return a function that lays the layer's heat (n, h, w, 1) over its image.

    Convolutions without padding lose a margin. Stretched over the whole image the map would be
    off by up to that margin, so it is stretched over what its cells really look at, and the
    margin, of which it knows nothing, is 0. Where the way to the layer is not a plain chain of
    convolutions and poolings, the map is stretched over the whole image, as is usual.
    """
    import tensorflow as tf

    size = model.input_shape[1:3]
    geometry = _cell_geometry(model, layer)
    if geometry is None:
        return lambda heat: tf.image.resize(heat, size)
    stride, centre = geometry
    inner = [stride * cells for cells in layer.output.shape[1:3]]
    before = max(0, round(centre - (stride - 1) / 2))
    margins = [
        [before, max(0, full - before - part)] for full, part in zip(size, inner, strict=True)
    ]

    def place(heat):
        heat = tf.pad(tf.image.resize(heat, inner), [[0, 0], *margins, [0, 0]])
        return heat[:, : size[0], : size[1]]

    return place


def _cell_geometry(model: keras.Model, layer: keras.layers.Layer) -> tuple[int, float] | None:
    """Pixels from one cell of the layer to the next, and the pixel at the centre of the first."""
    keras = load_keras()
    windows = (keras.layers.Conv2D, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
    stride, centre = 1, 0.0
    a_chain = isinstance(model, keras.Sequential)
    tensor = model.inputs[0]
    for step in model.layers:
        if isinstance(step, keras.layers.InputLayer):
            continue
        if not isinstance(step, windows) or not (a_chain or step.input is tensor):
            return None
        window = getattr(step, "kernel_size", None) or step.pool_size
        dilation = getattr(step, "dilation_rate", (1, 1))
        if any(len(set(sides)) > 1 for sides in (window, step.strides, dilation)):
            return None
        reach = dilation[0] * (window[0] - 1)  # from the first pixel of the window to the last
        if step.padding == "valid":
            centre += stride * reach / 2
        elif step.strides[0] != 1 or reach % 2:
            return None
        stride *= step.strides[0]
        if step is layer:
            return stride, centre
        tensor = step.output
    return None
