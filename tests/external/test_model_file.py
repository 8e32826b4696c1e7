"""model.keras: Keras alone opens it, it takes images as they are, and it says what it is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from fedtutor.errors import DataError
from fedtutor.external.card import FORMAT, make_card
from fedtutor.external.model_file import CARD, TRACES, load_model, save_model, with_preprocessing
from fedtutor.external.traces import Traces
from fedtutor.gradcam import grad_cam
from fedtutor.model import create_model, predict, standardise
from fedtutor.settings import RunSettings

ALONE = """
import sys
import keras
import numpy as np
images, model = np.load(sys.argv[2]), keras.models.load_model(sys.argv[1])
kinds = ("uint8", "float32", "float64")
said = {kind: model.predict(images.astype(kind), verbose=0) for kind in kinds}
assert not any(name.startswith("fedtutor") for name in sys.modules)
np.savez(sys.argv[3], **said)
"""


@pytest.fixture(scope="module")
def images(make_images):
    data = make_images(24, patients=np.arange(24) // 2)
    data.images[0] = 7  # nothing to see: its deviation is below the least
    return data


@pytest.fixture(scope="module")
def cnn(images):
    return create_model(seed=3, **images.form)


@pytest.fixture
def saved(images, cnn, tmp_path):
    path = tmp_path / "model.keras"
    save_model(cnn, path, make_card(RunSettings(), images), Traces.of(images))
    return path


@pytest.mark.process
@pytest.mark.slow
def test_keras_alone_says_of_raw_images_what_fedtutor_says(saved, images, cnn, tmp_path):
    np.save(tmp_path / "images.npy", images.images)
    files = [saved, tmp_path / "images.npy", tmp_path / "said.npz"]
    command = [sys.executable, "-c", ALONE, *map(str, files)]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    said, ours = np.load(tmp_path / "said.npz"), predict(cnn, images.images)
    assert said.files == ["uint8", "float32", "float64"]
    for kind in said.files:
        np.testing.assert_allclose(said[kind], ours, atol=1e-5, err_msg=kind)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_preprocessing_inside_is_standardise(channels):
    import keras

    look = keras.Sequential([keras.Input((12, 12, channels)), keras.layers.Flatten()])
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, channels), np.uint8)
    images[0] = 9
    inside = np.asarray(with_preprocessing(look)(images.astype(np.float32)))
    np.testing.assert_allclose(inside, standardise(images).reshape(5, -1), atol=1e-5)


def test_what_is_standardised_already_stays_as_it_is(saved, images, cnn):
    said = np.asarray(load_model(saved).model(standardise(images.images)))
    np.testing.assert_allclose(said, predict(cnn, images.images), atol=1e-5)


def test_a_file_gives_back_model_card_and_traces(saved, images, cnn):
    found = load_model(saved)
    np.testing.assert_array_equal(found.predict(images.images), predict(cnn, images.images))
    for ours, theirs in zip(found.model.get_weights(), cnn.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.card.classes == images.class_names
    assert found.card.image_shape == (16, 16, 1)
    assert not found.card.multi_label
    assert found.card.home is None
    assert found.traces.patients_in(images).all()
    maps = grad_cam(found.cnn, images.images[:3], 1, method="hirescam")
    np.testing.assert_allclose(
        maps, grad_cam(cnn, images.images[:3], 1, method="hirescam"), atol=1e-6
    )


def test_saving_leaves_the_model_that_is_trained_as_it_was(images, tmp_path):
    model = create_model(**images.form)
    nodes = len(model._inbound_nodes)
    for k in range(3):
        save_model(model, tmp_path / f"{k}.keras", make_card(RunSettings(), images))
    assert len(model._inbound_nodes) == nodes


def test_a_card_in_words_lies_in_the_file(saved):
    with zipfile.ZipFile(saved) as archive:
        words = archive.read("README.md").decode("utf-8")
    for part in ("must not be used to diagnose", "0..255", "a, b, c", "can be guessed"):
        assert part in words


def test_no_id_is_in_the_file_in_the_clear(make_images, cnn, tmp_path):
    data = make_images(6, patients=[f"Maria Muster {k}" for k in range(6)])
    save_model(cnn, tmp_path / "m.keras", make_card(RunSettings(), data), Traces.of(data))
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        for name in archive.namelist():
            assert b"Muster" not in archive.read(name)


def test_without_traces_the_file_has_none_and_says_so(images, cnn, tmp_path):
    save_model(cnn, tmp_path / "m.keras", make_card(RunSettings(), images))
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert TRACES not in archive.namelist()
        assert "nobody can see" in archive.read("README.md").decode("utf-8")
    assert load_model(tmp_path / "m.keras").traces is None


def test_scaled_pixels_and_other_shapes_are_refused(saved):
    found = load_model(saved)
    with pytest.raises(DataError, match=r"grey levels 0\.\.255"):
        found.predict(np.random.default_rng(0).random((2, 16, 16, 1)))
    with pytest.raises(DataError, match="takes images of"):
        found.predict(np.zeros((2, 16, 16, 3), np.uint8))


def rewritten(path, change):
    """The same file with its members changed: ``change`` is from {name: bytes} to such."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in change(members).items():
            archive.writestr(name, data)


def with_card(**values):
    def change(members):
        card = json.loads(members[CARD]) | values
        return members | {CARD: json.dumps(card).encode()}

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: {k: v for k, v in m.items() if k != CARD}, "has no card of fedtutor"),
        (lambda m: m | {CARD: b"not json"}, "its card cannot be read"),
        (lambda m: m | {CARD: b"[]"}, "its card cannot be read"),
        (lambda m: m | {TRACES: b'{"salt": ""}'}, "its card cannot be read"),
        (with_card(format=FORMAT + 1, written_by="fedtutor 9"), "fedtutor 9.*update fedtutor"),
        (with_card(classes=["a"]), "1 classes, but the model"),
        (lambda m: m | {"config.json": b"{}"}, "cannot be opened by Keras"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_named(saved, change, words):
    rewritten(saved, change)
    with pytest.raises(DataError, match=words) as caught:
        load_model(saved)
    assert str(saved) in str(caught.value)


def test_a_damaged_file_is_told_from_one_that_is_not_there(saved, tmp_path):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"is damaged, or no \.keras file"):
        load_model(saved)
    turned = bytearray(whole)
    turned[len(whole) // 3] ^= 255  # within the weights, which are the largest part
    saved.write_bytes(turned)
    with pytest.raises(DataError, match="is damaged"):
        load_model(saved)
    with pytest.raises(DataError, match="is not a file"):
        load_model(tmp_path / "elsewhere.keras")


def test_twins_and_ids_are_found_again_and_others_are_not(make_images):
    train = replace(make_images(12, size=32, patients=range(12)), name="own folder")
    traces = Traces.from_json(json.loads(json.dumps(Traces.of(train).to_json())))
    other = replace(make_images(12, size=32, patients=range(6, 18), seed=1), name="another")
    assert traces.patients_in(other).tolist() == [True] * 6 + [False] * 6
    assert not traces.images_in(other).any()
    brighter = np.clip(train.images[3].astype(int) * 1.05, 0, 255).astype(np.uint8)
    other.images[10] = brighter
    assert np.flatnonzero(traces.images_in(other)).tolist() == [10]


def test_ids_mean_nobody_between_known_sets_and_among_phantoms(make_images):
    train = replace(make_images(4, patients=range(4)), name="nih-chestxray14")
    same, other = replace(train), replace(train, name="covid-chestxray")
    assert Traces.of(train).patients_in(same).all()
    assert not Traces.of(train).patients_in(other).any()
    drawn = replace(train, synthetic=True)
    assert not Traces.of(drawn).patients_in(drawn).any()
    assert Traces.of(drawn).images_in(drawn).all()  # the very pixels are known


def test_two_files_of_one_training_cannot_be_laid_beside_each_other(images):
    assert not Traces.of(images).patients & Traces.of(images).patients
