from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pytest

from fedtutor.errors import DataError
from fedtutor.model import MIN_SIZE, create_model, is_multi_label, predict, standardise
from fedtutor.support import keras_import


def test_what_keras_does_without_is_kept_from_this_thread_alone_and_only_then(
    monkeypatch, tmp_path
):
    for name in ("early_module", "late_module"):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(keras_import, "NOT_OPENED", ("early_module", "late_module"))
    with ThreadPoolExecutor(1) as another, keras_import._unopened():
        with pytest.raises(ModuleNotFoundError, match="does without early_module"):
            import_module("early_module")
        another.submit(import_module, "early_module").result()
        import_module("early_module")
    import_module("late_module")


def test_the_garbage_collector_passes_over_what_is_loaded_but_not_what_was_garbage_before():
    class Circle:
        def __init__(self):
            self.itself = self

    garbage, made = weakref.ref(Circle()), []
    with pytest.raises(ImportError), keras_import._left_alone():
        frozen = gc.get_freeze_count()
        made += [[] for _ in range(1000)]
        assert not gc.isenabled()
        raise ImportError
    assert garbage() is None
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + 1000


def test_the_cnn_is_the_one_of_the_mission():
    model = create_model((128, 128, 1), 3)
    assert [type(layer).__name__ for layer in model.layers] == [
        "Conv2D",
        "MaxPooling2D",
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dense",
        "Dense",
    ]
    assert [layer.filters for layer in model.layers if hasattr(layer, "filters")] == [32, 64]
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [128, 3]
    assert model.count_params() == 7_392_131


@pytest.mark.parametrize("size", [MIN_SIZE, 28, 65])
def test_any_size_works(size):
    model = create_model((size, size, 1), 4)
    assert predict(model, np.zeros((2, size, size, 1), np.uint8)).shape == (2, 4)


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    def first_kernel(seed):
        return create_model((12, 12, 1), 2, seed=seed).get_weights()[0]

    np.testing.assert_array_equal(first_kernel(3), first_kernel(3))
    assert not np.array_equal(first_kernel(3), first_kernel(4))


def test_the_layers_do_not_share_a_seed():
    dense = [w for w in create_model((12, 12, 1), 128, seed=0).get_weights() if w.ndim == 2]
    assert dense[1].shape == (128, 128)
    assert not np.allclose(dense[0][:64, :64] / dense[0].std(), dense[1][:64, :64] / dense[1].std())


@pytest.mark.parametrize(
    ("shape", "classes", "word"), [((8, 8, 1), 3, "10x10"), ((28, 28, 1), 1, "at least 2")]
)
def test_what_cannot_be_built_is_refused(shape, classes, word):
    with pytest.raises(DataError, match=word):
        create_model(shape, classes)


def test_every_image_is_standardised_by_itself():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    images[1] = images[0] // 2 + 40  # another scanner's gain and offset
    images[2] = 7  # an empty image stays empty
    out = standardise(images)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=(1, 2, 3)), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(out[0], out[1], atol=0.02)


def test_predictions_do_not_depend_on_the_block_size():
    model = create_model((12, 12, 1), 3)
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 12, 1), dtype=np.uint8)
    np.testing.assert_allclose(
        predict(model, images, batch_size=2), predict(model, images), atol=1e-6
    )
    assert predict(model, images[:0]).shape == (0, 3)


def test_findings_have_a_sigmoid_each():
    model = create_model((12, 12, 1), 4, multi_label=True)
    assert is_multi_label(model)
    assert not is_multi_label(create_model((12, 12, 1), 4))
    rng = np.random.default_rng(0)
    sums = predict(model, rng.integers(0, 256, (9, 12, 12, 1), dtype=np.uint8)).sum(axis=1)
    assert np.abs(sums - 1).min() > 0.01


def test_one_finding_is_enough_and_none_is_too_few():
    assert create_model((12, 12, 1), 1, multi_label=True).output_shape == (None, 1)
    with pytest.raises(DataError, match="at least 1; got 0"):
        create_model((12, 12, 1), 0, multi_label=True)


def test_a_head_and_its_weights_are_drawn_alike_whatever_follows():
    plain, several = (create_model((12, 12, 1), 3, multi_label=m) for m in (False, True))
    for a, b in zip(plain.get_weights(), several.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
