from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fedtutor import create_model
from fedtutor.datasets.phantoms import chest_phantoms
from fedtutor.errors import DataError
from fedtutor.model import standardise
from fedtutor.topics.privacy import differential as d
from fedtutor.topics.privacy import reconstruction as r
from fedtutor.topics.privacy.models import dense_model

pytestmark = pytest.mark.slow

SIZE = 64


@pytest.fixture(scope="module")
def phantoms():
    data = chest_phantoms(64, size=SIZE)
    return data.take(np.random.default_rng(0).permutation(len(data)))


@pytest.fixture(scope="module")
def real(real_data):
    paths = sorted((real_data / "kermany_cxr" / "images_256").rglob("*.*"))[:4]
    if not paths:
        pytest.skip("no chest X-rays there")
    pictures = [Image.open(path).convert("L").resize((SIZE, SIZE)) for path in paths]
    return np.stack([np.asarray(picture) for picture in pictures])[..., None]


@pytest.fixture(scope="module")
def model():
    return dense_model((SIZE, SIZE, 1), 3)


def one_step(model, images, labels, learning_rate=0.01):
    """The update that one SGD step makes, as weights before and after."""
    before = model.get_weights()
    gradient = r.gradient(model, images, labels)
    return before, [
        w - np.float32(learning_rate) * g for w, g in zip(before, gradient, strict=True)
    ]


def guess(model, images, labels):
    before, after = one_step(model, images, labels)
    kernel, bias, *_ = r.gradient_from_update(before, after, 0.01)
    return r.as_picture(r.inputs_of_units(kernel, bias)).reshape(-1, SIZE, SIZE, 1)


@pytest.mark.parametrize("kind", ["phantoms", "real"])
def test_one_image_comes_back_from_one_update_of_a_dense_layer(kind, model, request):
    images = request.getfixturevalue(kind)
    images = standardise(images.images[:8] if kind == "phantoms" else images)
    for k, image in enumerate(images):
        first = guess(model, image[None], np.array([k % 3]))[:1]
        original = r.as_picture(image)[None]
        assert r.ssim(original, first)[0] > 0.9


def test_the_label_comes_with_it(model, phantoms):
    images = standardise(phantoms.images)
    for k in range(12):
        gradient = r.gradient(model, images[k : k + 1], phantoms.labels[k : k + 1])
        assert gradient[-1].argmin() == phantoms.labels[k]


def test_all_units_together_give_the_same_image_as_one(model, phantoms):
    images = standardise(phantoms.images[:1])
    kernel, bias, *_ = r.gradient(model, images, phantoms.labels[:1])
    assert np.allclose(r.rank_one_input(kernel, bias), images.ravel(), atol=1e-3)


def test_the_courses_cnn_gives_away_the_features_before_its_dense_layer(phantoms):
    import keras

    model = create_model(phantoms.image_shape, 3)
    images = standardise(phantoms.images[:1])
    kernel, bias = r.gradient(model, images, phantoms.labels[:1])[4:6]
    features = keras.Sequential(model.layers[:5])(images).numpy().ravel()
    assert np.allclose(r.inputs_of_units(kernel, bias)[0], features, atol=1e-3)


def test_a_small_batch_gives_every_image_away_and_a_batch_of_32_some(model, phantoms):
    """A unit that was active for one image of the batch has that image's gradient alone."""
    images, pictures = standardise(phantoms.images), r.as_picture(standardise(phantoms.images))
    shares = []
    for size in (4, 32):
        found = guess(model, images[:size], phantoms.labels[:size])
        shares.append((r.best_guesses(pictures[:size], found)[1] > 0.9).mean())
    assert shares[0] == 1
    assert 0.05 < shares[1] < 0.6


def test_dividing_blindly_gives_a_mixture(model, phantoms):
    images = standardise(phantoms.images)
    first = guess(model, images[:32], phantoms.labels[:32])[:1]
    scores = r.ssim(r.as_picture(images[:32]), np.repeat(first, 32, axis=0))
    assert scores.mean() < 0.7


def test_clipping_alone_hides_nothing_and_noise_of_epsilon_8_hides_it(model, phantoms):
    images = standardise(phantoms.images[:1])
    original = r.as_picture(images)
    clipped = d.clip(r.gradient(model, images, phantoms.labels[:1]), 0.1)
    noisy = d.add_noise(clipped, 0.1 * d.noise_for(8, 1, delta=1e-5), np.random.default_rng(0))
    scores = []
    for kernel, bias, *_ in (clipped, noisy):
        units = r.as_picture(r.inputs_of_units(kernel, bias)).reshape(-1, SIZE, SIZE, 1)
        together = r.as_picture(r.rank_one_input(kernel, bias)).reshape(1, SIZE, SIZE, 1)
        scores.append(r.best_guesses(original, np.concatenate([units, together]))[1][0])
    assert scores[0] > 0.9
    assert scores[1] < 0.3


def test_an_update_without_a_gradient_is_refused():
    with pytest.raises(DataError, match="nothing to divide by"):
        r.inputs_of_units(np.zeros((5, 3)), np.zeros(3))


@pytest.fixture(scope="module")
def small():
    data = chest_phantoms(64, size=28)
    one = data.take(np.random.default_rng(0).permutation(len(data))[:1])
    return standardise(one.images), one.labels, create_model(data.image_shape, 3)


def matched(small, change=lambda gradient: gradient, **settings):
    images, labels, model = small
    target = change(r.gradient(model, images, labels))
    found, losses = r.match_gradients(model, [target], [labels], keep=(0, 200), **settings)
    scores = r.ssim(np.repeat(r.as_picture(images), 2, axis=0), r.as_picture(found[0, :, 0]))
    assert losses.shape == (1, 2)
    return scores


def test_gradient_matching_goes_from_noise_to_the_image_through_relu_and_pooling(small):
    before, after = matched(small)
    assert before < 0.3
    assert after > 0.6


def test_gradient_matching_fails_under_noise_of_epsilon_8(small):
    rng, noise = np.random.default_rng(0), d.noise_for(8, 1, delta=1e-5)
    assert matched(small, lambda g: d.add_noise(d.clip(g, 1.0), noise, rng))[1] < 0.3


def test_searches_in_one_call_are_those_of_two_and_the_loss_is_the_callers(small):
    images, labels, model = small
    target, used = r.gradient(model, images, labels), []

    def loss(found, wanted, guess):
        used.append(len(wanted) - len(found))
        return r.matching_loss(found, wanted[: len(found)], guess)

    both, losses = r.match_gradients(model, [target, target], [labels] * 2, keep=(20,))
    alone, _ = r.match_gradients(model, [[*target, labels]], [labels], keep=(20,), loss=loss)
    assert np.allclose(both[0], alone[0], atol=1e-4)
    assert not np.allclose(both[0], both[1], atol=0.1)
    assert used[0] == 1
    assert losses.shape == (2, 1)


def test_pictures_are_mapped_by_a_rule_that_does_not_look_at_them():
    assert r.as_picture(np.array([-9.0, -3, 0, 3, 9])) == pytest.approx([0, 0, 0.5, 1, 1])
