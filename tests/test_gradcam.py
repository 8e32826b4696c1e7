from __future__ import annotations

import threading

import numpy as np
import pytest

from fedtutor import gradcam
from fedtutor.compiled_training import Trainer
from fedtutor.cores import WORKERS
from fedtutor.errors import DataError
from fedtutor.model import create_model, load_keras, standardise
from fedtutor.settings import TrainingSettings


@pytest.fixture(scope="module")
def trained(request):
    """A small CNN that has learnt in which half of the image a bright square lies."""
    import pandas as pd

    from fedtutor.images import MedicalImages

    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (240, 24, 24, 1), dtype=np.uint8)
    labels = rng.integers(0, 2, 240)
    masks = np.zeros((240, 24, 24), bool)
    for mask, label in zip(masks, labels, strict=True):
        row, column = rng.integers(2, 16), rng.integers(1, 5) + 13 * label
        mask[row : row + 6, column : column + 6] = True
    images[..., 0][masks] = 230
    data = MedicalImages(
        images, labels, ("left", "right"), pd.DataFrame(index=range(240)), "squares", masks=masks
    )
    trainer = Trainer(create_model((24, 24, 1), 2), TrainingSettings(batch_size=16))
    trainer.start(create_model((24, 24, 1), 2).get_weights())
    trainer.more(data, epochs=6)
    return trainer.model, data


def reference(model, image, label, method):
    """Both formulas for one image, gradients by finite differences of the head."""
    tf = pytest.importorskip("tensorflow")
    x = tf.constant(standardise(image[None]))
    for layer in model.layers[:3]:
        x = layer(x)
    maps = x.numpy()

    def score(a):
        for layer in model.layers[3:-1]:
            a = layer(a)
        return (a @ model.layers[-1].kernel + model.layers[-1].bias)[0, label]

    a = tf.Variable(maps)
    with tf.GradientTape() as tape:
        y = score(a)
    gradient = tape.gradient(y, a).numpy()
    if method == "grad_cam":
        gradient = gradient.mean(axis=(1, 2), keepdims=True)
    heat = np.maximum((gradient * maps).sum(-1), 0)[..., None]
    heat = np.pad(tf.image.resize(heat, (18, 18)).numpy()[0, ..., 0], 3)  # 9 cells, 2 pixels each
    return heat / heat.max() if heat.max() > 0 else heat


@pytest.mark.parametrize("method", gradcam.METHODS)
def test_the_maps_are_those_of_the_papers(trained, method):
    model, data = trained
    maps = gradcam.grad_cam(model, data.images[:5], data.labels[:5], method=method, batch_size=2)
    for k in range(5):
        expected = reference(model, data.images[k], data.labels[k], method)
        # The model is trained; on other numbers of cores it ends in other digits, and some maps
        # hang on which of two nearly equal cells a pooling takes.
        np.testing.assert_allclose(maps[k], expected, atol=2e-3)


def test_hirescam_finds_the_square_and_random_weights_do_not(trained):
    model, data = trained
    found = gradcam.grad_cam(model, data.images, data.labels, method="hirescam")
    assert gradcam.pointing_game(found, data.masks) > 0.6
    random = create_model((24, 24, 1), 2, seed=9)
    lost = gradcam.grad_cam(random, data.images, data.labels, method="hirescam")
    similarity = np.corrcoef(found.ravel(), lost.ravel())[0, 1]
    assert similarity < 0.7
    assert gradcam.mass_in_lesion(lost, data.masks) < gradcam.mass_in_lesion(found, data.masks)


def test_a_saturated_softmax_does_not_blank_the_map(trained):
    model, data = trained
    sure = load_keras().models.clone_model(model)
    weights = model.get_weights()
    weights[-2], weights[-1] = weights[-2] * 1000, weights[-1] * 1000
    sure.set_weights(weights)
    assert np.asarray(sure(standardise(data.images[:1]))).max() == 1.0
    before = gradcam.grad_cam(model, data.images[:1], method="hirescam")
    after = gradcam.grad_cam(sure, data.images[:1], method="hirescam")
    assert after.max() == pytest.approx(1)
    np.testing.assert_allclose(before, after, atol=1e-3)


def test_a_functional_model_gives_the_same_maps(trained):
    model, data = trained
    keras = load_keras()
    inputs = keras.Input((24, 24, 1))
    outputs = inputs
    for layer in model.layers:
        outputs = type(layer).from_config(layer.get_config())(outputs)
    functional = keras.Model(inputs, outputs)
    functional.set_weights(model.get_weights())
    np.testing.assert_allclose(
        gradcam.grad_cam(functional, data.images[:3], 1),
        gradcam.grad_cam(model, data.images[:3], 1),
        atol=1e-5,
    )


def test_the_map_lies_over_what_it_explains():
    model = create_model((29, 29, 1), 2)
    weights = [np.zeros_like(w) for w in model.get_weights()]
    weights[0][1, 1] = weights[2][1, 1] = 1  # every filter passes its middle pixel on
    weights[4][:] = weights[6][:, 1] = 1
    model.set_weights(weights)
    images = np.zeros((3, 29, 29, 1), np.uint8)
    spots = [(6, 8), (14, 14), (22, 17)]
    for image, (row, column) in zip(images, spots, strict=True):
        image[row : row + 2, column : column + 2] = 255
    for found, (row, column) in zip(gradcam.grad_cam(model, images, 1), spots, strict=True):
        peak = np.unravel_index(found.argmax(), found.shape)
        assert abs(peak[0] - row - 0.5) <= 1.5
        assert abs(peak[1] - column - 0.5) <= 1.5


def looking_straight(chain, side=33):
    """A model whose windows pass on the pixel in their middle, and whose score is the sum."""
    keras = load_keras()
    steps = [keras.Input((side, side, 1)), *chain, keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*steps, keras.layers.Dense(2, "softmax")])
    for kernel, bias in zip(model.weights[::2], model.weights[1::2], strict=True):
        taps = np.zeros(kernel.shape)
        middle = tuple(sides // 2 for sides in kernel.shape[:-2]) or np.s_[:]
        taps[middle] = 1
        kernel.assign(taps)
        bias.assign(np.zeros(bias.shape))
    model.weights[-2].assign([[0.0, 1.0]])
    return model


@pytest.mark.parametrize(
    "windows",
    [
        [{"dilation_rate": 3}],
        [{"dilation_rate": 3, "padding": "same"}, {"dilation_rate": 4}],
        [{"strides": 2}, {"dilation_rate": 2}],
        [{}, 2, {"dilation_rate": 2}],
        [{"kernel_size": 1, "strides": 4}],
        [{"kernel_size": 1, "strides": 2}, {"dilation_rate": 2}],
    ],
    ids=str,
)
def test_the_map_lies_where_dilated_and_strided_windows_look(windows):
    layers = load_keras().layers
    model = looking_straight(
        [
            layers.MaxPooling2D(window)
            if isinstance(window, int)
            else layers.Conv2D(1, **({"kernel_size": 3} | window))
            for window in windows
        ]
    )
    stride = model.layers[0].strides[0] * (2 if 2 in windows else 1)
    image = np.zeros((1, 33, 33, 1), np.uint8)
    image[0, 11:14, 15:18] = 255  # seen alike from both sides with every stride
    heat = gradcam.grad_cam(model, image, 1)[0]
    assert heat.shape == (33, 33)
    where = np.indices(heat.shape).reshape(2, -1) @ heat.ravel() / heat.sum()
    np.testing.assert_allclose(where, [12, 16], atol=max(0.1, (stride - 1) / 2 + 0.1))


def test_a_nested_model_is_explained_when_its_name_is_given_and_asked_for_when_not():
    keras = load_keras()
    inputs = keras.Input((16, 16, 1))
    inner = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="deep")(inputs), name="base")
    ends = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, "softmax")]
    chain = keras.Sequential([keras.Input((16, 16, 1)), inner, *ends])
    inputs = keras.Input((16, 16, 1))
    own = keras.layers.Conv2D(1, 1, name="own")(inputs)
    functional = keras.Model(inputs, ends[1](ends[0](inner(own))))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), dtype=np.uint8)
    for model in (chain, functional):
        with pytest.raises(DataError, match=r"inside 'base', .* by layer=; there are: .*base\."):
            gradcam.grad_cam(model, images, 0)
        with pytest.raises(DataError, match=r"no layer 'deep' .* there are: .*base"):
            gradcam.grad_cam(model, images, 0, layer="deep")
    flat = keras.Sequential([keras.Input((16, 16, 1)), *inner.layers[1:], *ends])
    np.testing.assert_allclose(
        gradcam.grad_cam(chain, images, 0, layer="base", enlarge=False),
        gradcam.grad_cam(flat, images, 0, enlarge=False),
        atol=1e-6,
    )
    assert gradcam.grad_cam(functional, images, 0, layer="base").max() == 1


def test_a_model_read_from_a_file_gives_the_same_maps(trained, tmp_path):
    model, data = trained
    model.save(tmp_path / "model.keras")
    loaded = load_keras().models.load_model(tmp_path / "model.keras")
    for method in gradcam.METHODS:
        np.testing.assert_allclose(
            gradcam.grad_cam(loaded, data.images[:3], 1, method=method),
            gradcam.grad_cam(model, data.images[:3], 1, method=method),
            atol=1e-5,
        )


def test_branches_are_explained_too():
    keras = load_keras()
    inputs = keras.Input((16, 16, 1))
    a = keras.layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    b = keras.layers.Conv2D(4, 3, padding="same", name="b")(a)
    outputs = keras.layers.Dense(3, "softmax")(
        keras.layers.GlobalAveragePooling2D()(keras.layers.add([a, b]))
    )
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), dtype=np.uint8)
    assert gradcam.grad_cam(model, images, 0, layer="a").shape == (2, 16, 16)


def test_the_default_class_is_the_likeliest(trained):
    model, data = trained
    likeliest = np.asarray(model(standardise(data.images[:4]))).argmax(axis=1)
    np.testing.assert_array_equal(
        gradcam.grad_cam(model, data.images[:4]),
        gradcam.grad_cam(model, data.images[:4], likeliest),
    )


def test_new_weights_give_new_maps_without_a_new_model(trained):
    model, data = trained
    weights = model.get_weights()
    before = gradcam.grad_cam(model, data.images[:1])
    model.set_weights(create_model((24, 24, 1), 2, seed=3).get_weights())
    changed = gradcam.grad_cam(model, data.images[:1])
    model.set_weights(weights)
    assert not np.allclose(before, changed, atol=1e-3)
    np.testing.assert_array_equal(before, gradcam.grad_cam(model, data.images[:1]))


def test_the_pointing_game_counts_peaks_in_the_lesion():
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, 1, 1] = maps[1, 3, 3] = 1  # the third map says nothing
    masks = np.zeros((3, 4, 4), bool)
    masks[:, :2, :2] = True
    assert gradcam.pointing_game(maps, masks) == pytest.approx(1 / 3)
    assert gradcam.pointing_game_random(masks) == pytest.approx(0.25)
    assert gradcam.mass_in_lesion(maps, masks) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"method": "guess"}, "grad_cam, hirescam"),
        ({"layer": "nowhere"}, "conv2d"),
        ({"classes": 2}, r"0\.\.1"),
    ],
)
def test_what_cannot_be_explained_is_refused(trained, arguments, word):
    model, data = trained
    with pytest.raises(DataError, match=word):
        gradcam.grad_cam(model, data.images[:1], **arguments)


def test_each_thread_explains_with_a_function_of_its_own(monkeypatch):
    """As two threads in one function can end TensorFlow 2.21 with a segmentation fault."""
    monkeypatch.setenv(WORKERS, "2")
    compiled, threads, meeting = gradcam.compiled, [], threading.Barrier(2, timeout=600)

    def compiled_here(*args):
        graph, own = compiled(*args), threading.get_ident()
        threads.append(own)

        def checked(*arrays):
            meeting.wait()
            assert threading.get_ident() == own
            return graph(*arrays)

        return checked

    monkeypatch.setattr(gradcam, "compiled", compiled_here)
    images = np.random.default_rng(0).integers(0, 255, (6, 24, 24, 1), np.uint8)
    assert gradcam.grad_cam(create_model((24, 24, 1), 2), images).shape == (6, 24, 24)
    assert len(set(threads)) == len(threads) == 2
