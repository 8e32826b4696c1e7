"""Images in colour, through each part from the file to the federation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_fit import fit_keras
from PIL import Image

from fedtutor import federation
from fedtutor.compiled_training import Trainer
from fedtutor.datasets import load
from fedtutor.datasets.cache import cached_images
from fedtutor.datasets.decode import read_image, read_images
from fedtutor.datasets.duplicates import find_duplicates
from fedtutor.errors import DataError
from fedtutor.gradcam import grad_cam
from fedtutor.images import MedicalImages
from fedtutor.model import create_model, predict, standardise
from fedtutor.settings import TrainingSettings
from fedtutor.training import epoch_order, fit_step_by_step

RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255


def colour_images(n, size=16, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    return MedicalImages(
        images,
        np.arange(n) % classes,
        tuple("abc"[:classes]),
        pd.DataFrame(index=range(n)),
        "colours",
    )


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


# Files ----------------------------------------------------------------------------------------


def test_a_file_keeps_its_colours_where_they_are_asked_for_and_is_grey_elsewhere(tmp_path):
    pixels = np.array([[RED, GREEN], [BLUE, (10, 20, 30)]], np.uint8)
    path = save(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(path, 2, colour=True), pixels)
    # The luminance of ITU-R BT.601: 0.299 red, 0.587 green, 0.114 blue.
    assert read_image(path, 2).tolist() == [[76, 150], [29, 18]]


def test_grey_and_opaque_files_of_a_set_in_colour_have_three_channels_too(tmp_path):
    grey = np.arange(4, dtype=np.uint8).reshape(2, 2) * 60
    files = [
        save(tmp_path / "8.png", grey),
        save(tmp_path / "16.png", grey.astype(np.uint16) * 257),
        save(tmp_path / "rgba.png", np.dstack([grey, grey, grey, np.zeros_like(grey)])),
    ]
    for file in files:
        assert np.array_equal(read_image(file, 2, colour=True), np.dstack([grey] * 3))


def test_shrinking_averages_each_colour_by_itself(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2, :2], pixels[2:, 2:, 2] = (200, 100, 40), 80
    small = read_image(save(tmp_path / "a.png", pixels), 2, colour=True)
    assert small.tolist() == [[[200, 100, 40], [0, 0, 0]], [[0, 0, 0], [0, 0, 80]]]


def test_colour_and_grey_of_the_same_files_are_cached_apart(tmp_path):
    rng = np.random.default_rng(0)
    files = [
        save(tmp_path / f"{k}.png", rng.integers(0, 256, (8, 8, 3), np.uint8)) for k in range(5)
    ]
    folder = tmp_path / ".decoded"
    for colour in (True, False, True):
        cached = cached_images(files, size=8, folder=folder, colour=colour)
        assert cached.images.shape == (5, 8, 8, 3 if colour else 1)
        assert np.array_equal(cached.images, read_images(files, size=8, colour=colour).images)
    assert len(list(folder.glob("cache-*"))) == 2


def test_a_folder_is_grey_unless_colour_is_asked_for(tmp_path):
    for name, colour in (("ill", RED), ("well", BLUE)):
        for k in range(2):
            save(tmp_path / name / f"{k}.png", np.tile(colour, (12, 12, 1)))
    assert load(tmp_path, size=12).image_shape == (12, 12, 1)
    data = load(tmp_path, size=12, colour=True)
    assert data.image_shape == (12, 12, 3)
    means = data.images.mean(axis=(0, 1, 2)).tolist()
    assert means == [127.5, 0, 127.5]


def test_twins_in_colour_are_found_and_the_same_grey_in_other_colours_is_not_exact():
    coarse = np.random.default_rng(3).integers(0, 256, (6, 9, 9, 3), np.uint8)
    images = np.stack([np.asarray(Image.fromarray(c).resize((64, 64))) for c in coarse])
    swapped = images[:1, ..., ::-1]
    pairs = find_duplicates(np.concatenate([images, images[2:3], swapped]))
    found = {(row["first"], row["second"]): row["exact"] for _, row in pairs.iterrows()}
    assert found[2, 6]
    assert not found.get((0, 7), False)
    assert set(found) <= {(2, 6), (0, 7)}


# Model and training ---------------------------------------------------------------------------


def test_standardising_takes_brightness_out_and_leaves_the_colours_their_differences():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[...] = (90, 60, 30)
    # Mean 60 and deviation sqrt((30^2 + 0 + 30^2) / 3) = 24.49 over all pixels and colours.
    expected = np.array([30, 0, -30]) / np.sqrt(600)
    np.testing.assert_allclose(standardise(images)[0, 1, 1], expected, rtol=1e-6)


@given(brighter=st.integers(0, 40), channel=st.integers(0, 2))
def test_more_light_changes_nothing_and_a_tint_does(brighter, channel):
    images = np.random.default_rng(1).integers(50, 200, (2, 12, 12, 3), np.uint8)
    lit, tinted = images + np.uint8(brighter), images.copy()
    tinted[..., channel] += np.uint8(brighter)
    np.testing.assert_allclose(standardise(lit), standardise(images), atol=1e-4)
    assert np.allclose(standardise(tinted), standardise(images), atol=1e-2) == (not brighter)


def test_a_model_for_colour_has_three_kernels_where_one_for_grey_has_one():
    colour, grey = (create_model((12, 12, channels), 2) for channels in (3, 1))
    assert colour.count_params() - grey.count_params() == 2 * 3 * 3 * 32
    assert predict(colour, colour_images(3, 12).images).shape == (3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_a_round_in_colour_is_that_of_keras(optimizer):
    settings = TrainingSettings(optimizer, 0.01, 4)
    data, models = colour_images(13), [create_model((16, 16, 3), 2, seed=1) for _ in range(3)]
    order = epoch_order(13, 2, seed=5)
    initial = models[0].get_weights()
    losses = [fit_keras(models[0], data, order, settings)]
    losses.append(fit_step_by_step(models[1], data, order, settings))
    trained, loss = Trainer(models[2], settings).train(initial, data, epochs=2, seed=5)
    np.testing.assert_allclose([losses[1], loss], losses[0], rtol=1e-4)
    for ours, by_hand, keras in zip(
        trained, models[1].get_weights(), models[0].get_weights(), strict=True
    ):
        np.testing.assert_allclose(by_hand, keras, atol=2e-5)
        np.testing.assert_allclose(ours, keras, atol=2e-5)


@pytest.mark.slow
def test_a_model_learns_what_only_the_colour_tells_and_looks_where_it_is():
    """A red or a blue square of the same luminance on noise: grey images could not be told."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(60, 100, (240, 24, 24, 1), np.uint8), 3, axis=3)
    labels, masks = rng.integers(0, 2, 240), np.zeros((240, 24, 24), bool)
    for mask in masks:
        row, column = rng.integers(2, 16, 2)
        mask[row : row + 6, column : column + 6] = True
    for image, mask, label in zip(images, masks, labels, strict=True):
        image[mask] = ((140, 40, 40), (40, 50, 255))[label]
    table = pd.DataFrame(index=range(240))
    data = MedicalImages(images, labels, ("red", "blue"), table, "squares", masks=masks)
    trainer = Trainer(create_model((24, 24, 3), 2), TrainingSettings(batch_size=16))
    trainer.more(data, epochs=5)
    assert (trainer.predict(images).argmax(axis=1) == labels).mean() > 0.95
    maps = grad_cam(trainer.model, images[:60], labels[:60], method="hirescam")
    assert maps.shape == (60, 24, 24)
    assert (maps * masks[:60]).sum() > 0.3 * maps.sum()  # a square is 0.06 of an image


# The federation -------------------------------------------------------------------------------


@pytest.mark.slow
def test_grey_and_colour_in_one_federation_are_refused_by_name(make_images):
    grey, colour = make_images(8, classes=2), colour_images(8)
    grids = []
    server = federation.make_server_app(
        create_model((16, 16, 1), 2).get_weights(),
        federation.make_strategy("fedavg", 2),
        num_rounds=1,
        config=federation.train_config(TrainingSettings("sgd"), num_rounds=1),
        on_round=lambda r, weights, grid: grids.append(grid),
    )
    client = federation.make_client_app(lambda c: (grey, colour)[c.node_config["partition-id"]])
    federation.run_in_process(server, client, ["Grey", "Colour"])
    (out,) = grids[-1].left_out
    assert out.hospital == "Colour"
    assert "this model is not for images of 16x16x3; agree on size and colour" in out.reason


@pytest.mark.parametrize("channels", [2, 4])
def test_two_or_four_channels_are_refused_with_what_is_allowed(make_images, channels):
    images = np.zeros((4, 16, 16, channels), np.uint8)
    with pytest.raises(DataError, match=rf"1\), grey, or .*3\), colour; got .*16, {channels}\)"):
        replace(make_images(4), images=images)
