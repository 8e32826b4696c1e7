from __future__ import annotations

import numpy as np
import pytest
from keras_fit import fit_keras
from sklearn.metrics import log_loss

from fedtutor import compiled_training
from fedtutor.compiled_training import FusedOptimizer, Trainer, trainer_for
from fedtutor.errors import DataError
from fedtutor.model import create_model, is_multi_label, predict
from fedtutor.settings import OPTIMIZERS, TrainingSettings
from fedtutor.training import create_optimizer, epoch_order, fit_step_by_step, learning_rate_at

SHAPE = (12, 12, 1)


def new_model(*, multi_label=False):
    return create_model(SHAPE, 3, multi_label=multi_label, seed=1)


@pytest.fixture(scope="module")
def trainer():
    """One that is started anew by test after test, as by hospital after hospital."""
    return Trainer(new_model(), TrainingSettings())


def some_findings(n):
    return np.random.default_rng(9).integers(0, 2, (n, 3))


@pytest.mark.slow
@pytest.mark.parametrize(  # the optimiser knows nothing of the head
    ("optimizer", "multi_label"), [("sgd", False), ("momentum", True), ("adam", False)]
)
def test_three_ways_to_write_the_loop_give_the_same_weights(make_images, optimizer, multi_label):
    labels = some_findings(22) if multi_label else None
    data = make_images(22, size=12, labels=labels)  # not a multiple of the batch
    settings = TrainingSettings(optimizer=optimizer, learning_rate=1e-3, batch_size=8)
    order = epoch_order(len(data), 2, seed=5)
    by_keras, by_hand, start = (new_model(multi_label=multi_label) for _ in range(3))
    keras_loss = fit_keras(by_keras, data, order, settings)
    hand_loss = fit_step_by_step(by_hand, data, order, settings)
    trainer = Trainer(new_model(multi_label=multi_label), settings)
    weights, loss = trainer.train(start.get_weights(), data, epochs=2, seed=5)
    for ours, keras, hand in zip(
        weights, by_keras.get_weights(), by_hand.get_weights(), strict=True
    ):
        # A hundredth of a step: where a gradient is next to nothing, Adam divides noise by noise.
        np.testing.assert_allclose(ours, hand, atol=1e-5)
        np.testing.assert_allclose(ours, keras, atol=1e-5)
    assert loss == pytest.approx(hand_loss, rel=1e-4)
    assert loss == pytest.approx(keras_loss, rel=1e-4)


def test_the_loss_of_findings_is_the_mean_binary_cross_entropy(make_images):
    """One batch of all images, so that the loss is that of the weights before the step."""
    data, model = make_images(10, size=12, labels=some_findings(10)), new_model(multi_label=True)
    p = predict(model, data.images).astype(np.float64)
    expected = log_loss(data.labels.ravel(), p.ravel())
    loss = Trainer(model, TrainingSettings(batch_size=10)).more(data)
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_head_that_does_not_fit_the_labels_is_refused_with_the_one_that_does(
    make_images, multi_label
):
    data = make_images(10, size=12, labels=None if multi_label else some_findings(10))
    model, settings, order = new_model(multi_label=multi_label), TrainingSettings(), [[0, 1]]
    for train in (
        lambda: fit_step_by_step(model, data, order, settings),
        lambda: Trainer(model, settings).more(data),
    ):
        with pytest.raises(DataError, match=f"toy .* multi_label={not multi_label}"):
            train()


def test_there_is_one_trainer_for_each_kind_of_head():
    settings = TrainingSettings()
    plain, several = (trainer_for(SHAPE, 3, settings, multi_label=m) for m in (False, True))
    assert trainer_for(SHAPE, 3, settings, multi_label=True) is several
    assert is_multi_label(several.model)
    assert not is_multi_label(plain.model)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_optimiser_does_what_keras_does(name):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in ((40, 3), (3,))]
    ours, theirs = ([tf.Variable(value) for value in start] for _ in range(2))
    fused = FusedOptimizer(name, ours, tf.Variable(0.01))
    keras = create_optimizer(TrainingSettings(name, 0.01))
    for _ in range(6):
        gradients = [tf.constant(rng.normal(size=v.shape).astype(np.float32)) for v in start]
        fused.apply(gradients)
        keras.apply_gradients(zip(gradients, theirs, strict=True))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-7)
    assert not np.allclose(ours[0], start[0], atol=0.01)


def test_nobody_else_s_weights_are_touched(trainer, make_images):
    """TensorFlow shares memory with NumPy where it can; training must never write into it."""
    start, data = new_model().get_weights(), make_images(20, size=12)
    before = [array.copy() for array in start]
    trained, _ = trainer.train(start, data)
    kept = [array.copy() for array in trained]
    trainer.more(data)
    trainer.train(start, data, seed=3)
    for unchanged, array in zip(before + kept, start + trained, strict=True):
        np.testing.assert_array_equal(array, unchanged)


def test_a_trainer_forgets_the_hospital_before(trainer, make_images):
    one, two = make_images(20, size=12, seed=1), make_images(33, size=12, seed=2)
    start = new_model().get_weights()
    first, _ = trainer.train(start, one)
    trainer.train(start, two)
    again, _ = trainer.train(start, one)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trainer_takes_an_average_in_float64(trainer):
    """As ``np.average`` gives it, which is a right answer to exercise 04.1."""
    start = new_model().get_weights()
    trainer.start([array.astype(np.float64) for array in start])
    for one, other in zip(trainer.weights(), start, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_a_trainer_predicts_with_its_present_weights(make_images):
    data = make_images(12, size=14)
    trainer = Trainer(create_model((14, 14, 1), 3), TrainingSettings(batch_size=4))
    before = trainer.predict(data.images)
    np.testing.assert_allclose(before, predict(trainer.model, data.images), atol=1e-6)
    trainer.more(data)
    after = trainer.predict(data.images)
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_allclose(after, predict(trainer.model, data.images), atol=1e-6)


def test_training_in_pieces_keeps_the_optimiser_going(trainer, make_images):
    data = make_images(20, size=12)
    start = new_model().get_weights()
    trainer.start(start)
    trainer.more(data, seed=1)
    trainer.more(data, seed=2)
    in_pieces = trainer.weights()
    once, _ = trainer.train(start, data, seed=1)
    restarted, _ = trainer.train(once, data, seed=2)
    assert not np.allclose(in_pieces[0], restarted[0], atol=1e-6)


@pytest.mark.slow
def test_the_proximal_term_holds_the_weights_back(make_images):
    data = make_images(64, size=12)
    start = new_model().get_weights()

    def distance(mu):
        settings = TrainingSettings("sgd", 0.05, 8, proximal_mu=mu)
        weights, _ = Trainer(new_model(), settings).train(start, data, epochs=5)
        return sum(float(((a - b) ** 2).sum()) for a, b in zip(weights, start, strict=True))

    assert distance(1.0) < 0.8 * distance(0.0)


@pytest.mark.slow
def test_one_proximal_step_is_the_paper_s(make_images):
    data = make_images(8, size=12)
    start = new_model().get_weights()
    plain = Trainer(new_model(), TrainingSettings("sgd", 0.1, 8))
    pulled = Trainer(new_model(), TrainingSettings("sgd", 0.1, 8, proximal_mu=0.5))
    # w1 = w0 - lr g0; the second step adds mu (w1 - w0) to the gradient of FedProx alone.
    plain.start(start)
    plain.more(data, seed=0)
    first = plain.weights()
    plain.more(data, seed=1)
    second = plain.weights()
    pulled_weights, _ = pulled.train(start, data, epochs=1, seed=0)
    np.testing.assert_allclose(pulled_weights[0], first[0], atol=1e-7)
    pulled_weights, _ = pulled.train(start, data, epochs=2, seed=0)  # all images in one batch
    expected = second[0] - 0.1 * 0.5 * (first[0] - start[0])
    np.testing.assert_allclose(pulled_weights[0], expected, atol=1e-6)


def test_the_learning_rate_falls_by_half_a_cosine_or_not_at_all():
    settings = TrainingSettings(learning_rate=0.1, schedule="cosine")
    rates = [learning_rate_at(settings, r, 4) for r in (1, 2, 3, 4)]
    np.testing.assert_allclose(rates, [0.1, 0.085355, 0.05, 0.014645], atol=1e-6)
    constant = TrainingSettings(learning_rate=0.1)
    assert [learning_rate_at(constant, r, 4) for r in (1, 4)] == [0.1, 0.1]


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    order = epoch_order(50, 2, seed=(1, 2, 3))
    assert [sorted(row) for row in order.tolist()] == [list(range(50))] * 2
    assert order[0].tolist() != order[1].tolist()
    np.testing.assert_array_equal(order, epoch_order(50, 2, seed=(1, 2, 3)))


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"optimizer": "lion"}, "adam, sgd, momentum"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"learning_rate": float("nan")}, "above 0"),
        ({"batch_size": 0}, "at least 1"),
        ({"schedule": "sometimes"}, "constant, cosine"),
        ({"proximal_mu": -1.0}, "0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(bad, word):
    with pytest.raises(DataError, match=word):
        TrainingSettings(**bad)


@pytest.mark.slow
def test_training_in_pieces_is_training_at_once(trainer, make_images, monkeypatch):
    data, start = make_images(45, size=12), new_model().get_weights()
    found = []
    for pixels in (1, 12 * 12 * 20, 2**30):
        monkeypatch.setattr(compiled_training, "PIXELS_AT_A_TIME", pixels)
        found.append(trainer.train(start, data, epochs=2))
    for weights, loss in found[1:]:
        assert loss == pytest.approx(found[0][1])
        for one, other in zip(weights, found[0][0], strict=True):
            np.testing.assert_array_equal(one, other)
