"""PyTorch and Keras: the same CNN, the same steps, one federation.

What needs PyTorch is skipped without it; ``make torch`` has it.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from keras_fit import fit_keras

from fedtutor import federation
from fedtutor.compiled_training import Trainer
from fedtutor.errors import FedtutorError, UpdateError
from fedtutor.federation.records import to_record, to_weights
from fedtutor.model import create_model, is_multi_label, standardise
from fedtutor.settings import TrainingSettings
from fedtutor.topics import torch_client
from fedtutor.topics.torch_client import (
    TorchTrainer,
    create_torch_model,
    feature_shape,
    fit_torch,
    get_weights,
    set_weights,
    to_keras_layout,
    to_tensor,
    to_torch_layout,
    torch_trainer_for,
)
from fedtutor.training import epoch_order

SHAPE = (16, 14, 1)  # not square, so that height and width cannot be confused
INSTALLED = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not INSTALLED, reason="no PyTorch here; make torch has it")


def random_weights(shape=SHAPE, classes=3):
    rng = np.random.default_rng(3)
    features = int(np.prod(feature_shape(shape)))
    shapes = [(3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,)]
    shapes += [(features, 128), (128,), (128, classes), (classes,)]
    return [rng.normal(size=s).astype(np.float32) / 8 for s in shapes]


def close(ours, theirs, tolerance):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def test_there_and_back_the_layout_is_the_same():
    weights = random_weights()
    there = to_torch_layout(weights, feature_shape(SHAPE))
    assert [array.shape for array in there] == [
        *[(32, 1, 3, 3), (32,), (64, 32, 3, 3), (64,)],
        *[(128, 64 * 2 * 2), (128,), (3, 128), (3,)],
    ]
    back = to_keras_layout(there, feature_shape(SHAPE))
    assert all(array.flags.c_contiguous for array in back)
    close(back, weights, 0)


def test_the_first_dense_kernel_meets_the_channels_first():
    features = (2, 3, 64)
    weights = [np.zeros((3, 3, 1, 64)), np.zeros(64), np.arange(2 * 3 * 64.0)[:, None], np.zeros(1)]
    image = np.random.default_rng(0).normal(size=features)
    dense = to_torch_layout(weights, features)[2]
    expected = image.reshape(1, -1) @ weights[2]
    np.testing.assert_allclose(dense @ image.transpose(2, 0, 1).ravel(), expected[0])


@pytest.mark.parametrize("size", [10, 16, 28, 33])
def test_the_feature_shape_is_that_of_keras(size):
    model = create_model((size, size, 1))
    assert model.layers[-3].input.shape[1:] == feature_shape((size, size, 1))


@pytest.mark.skipif(INSTALLED, reason="PyTorch is installed")
def test_without_pytorch_it_is_said_how_to_get_it():
    with pytest.raises(FedtutorError, match="fedtutor\\[torch\\]"):
        create_torch_model(SHAPE)


def keras_logits(model, images):
    head = model.layers[-1]
    hidden = images
    for layer in model.layers[:-1]:
        hidden = layer(hidden)
    return np.asarray(hidden) @ np.asarray(head.kernel) + np.asarray(head.bias)


@needs_torch
@pytest.mark.parametrize("size", [(16, 14, 1), (28, 28, 1), (128, 128, 1)])
def test_the_same_weights_give_the_same_logits(size):
    keras_model = create_model(size, seed=5)
    torch_model = create_torch_model(size)
    set_weights(torch_model, keras_model.get_weights(), feature_shape(size))
    images = np.random.default_rng(1).integers(0, 256, (4, *size), np.uint8)
    logits = torch_model(to_tensor(images)).detach().numpy()
    np.testing.assert_allclose(logits, keras_logits(keras_model, standardise(images)), atol=1e-5)
    close(get_weights(torch_model, feature_shape(size)), keras_model.get_weights(), 0)


@needs_torch
def test_other_weights_than_the_models_are_refused():
    model = create_torch_model(SHAPE)
    with pytest.raises(UpdateError, match="the server sent an array 6"):
        set_weights(model, random_weights(classes=4), feature_shape(SHAPE))


@needs_torch
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_missions_loop_ends_where_keras_ends(make_images, optimizer, multi_label):
    labels = np.random.default_rng(2).integers(0, 2, (27, 3)) if multi_label else None
    images = make_images(27, size=16, labels=labels)
    settings = TrainingSettings(optimizer, 0.02, 8)  # 27 images: the last batch is smaller
    order = epoch_order(len(images), 2, seed=1)
    keras_model = create_model((16, 16, 1), 3, multi_label=multi_label)
    assert is_multi_label(keras_model) == multi_label
    torch_model = create_torch_model((16, 16, 1), 3)
    set_weights(torch_model, keras_model.get_weights(), feature_shape((16, 16, 1)))
    theirs = fit_keras(keras_model, images, order, settings)
    ours = fit_torch(torch_model, images, order, settings)
    assert ours == pytest.approx(theirs, abs=1e-5)
    weights = get_weights(torch_model, feature_shape((16, 16, 1)))
    close(weights, keras_model.get_weights(), 1e-5)


@needs_torch
@pytest.mark.parametrize(
    "settings",
    [
        TrainingSettings("sgd", 0.02, 8),
        TrainingSettings("sgd", 0.02, 8, proximal_mu=0.5),
        TrainingSettings("adam", 1e-3, 8),
    ],
    ids=lambda settings: f"{settings.optimizer} mu {settings.proximal_mu}",
)
def test_the_two_trainers_agree(make_images, settings):
    images = make_images(20, size=16)
    model = create_model((16, 16, 1), seed=2)
    start = model.get_weights()
    torch_trainer = TorchTrainer((16, 16, 1), 3, settings)
    kwargs = {"epochs": 2, "seed": (0, 1), "learning_rate": settings.learning_rate / 2}
    theirs, their_loss = Trainer(model, settings).train(start, images, **kwargs)
    ours, our_loss = torch_trainer.train(start, images, **kwargs)
    assert our_loss == pytest.approx(their_loss, abs=1e-4)
    close(ours, theirs, 1e-5)
    assert max(np.abs(a - b).max() for a, b in zip(ours, start, strict=True)) > 1e-3


@needs_torch
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_two_trainers_predict_alike(make_images, multi_label):
    model = create_model((16, 16, 1), multi_label=multi_label, seed=2)
    settings = TrainingSettings()
    torch_trainer = TorchTrainer((16, 16, 1), 3, settings, multi_label=multi_label)
    torch_trainer.start(model.get_weights())
    images = make_images(9, size=16).images
    expected = Trainer(model, settings).predict(images)
    np.testing.assert_allclose(torch_trainer.predict(images, batch_size=4), expected, atol=1e-6)


def mixed_app(hospitals, in_torch):
    def images_of(context):
        return hospitals[context.node_config["partition-id"]]

    keras_app = federation.make_client_app(images_of)
    torch_app = federation.make_client_app(images_of, trainer_for=torch_trainer_for)
    app = ClientApp()

    def answer(message, context):
        k = context.node_config["partition-id"]
        return (torch_app if k in in_torch else keras_app)(message, context)

    app.train()(answer)
    app.evaluate()(answer)
    app.query()(answer)
    return app


def federate(hospitals, in_torch, *, rounds=2):
    settings = TrainingSettings("sgd", 0.05, 8)
    server_app = federation.make_server_app(
        create_model((16, 16, 1), 3, seed=4).get_weights(),
        federation.make_strategy("fedavg", len(hospitals)),
        num_rounds=rounds,
        config=federation.train_config(settings, num_rounds=rounds, seed=7),
        min_hospitals=len(hospitals),
    )
    names = [f"h{k}" for k in range(len(hospitals))]
    context = federation.run_in_process(server_app, mixed_app(hospitals, in_torch), names)
    return to_weights(context.state["arrays"])


@needs_torch
def test_who_trains_in_what_does_not_change_the_global_model(make_images):
    hospitals = [make_images(16 + 7 * k, size=16, seed=k) for k in range(3)]
    all_keras = federate(hospitals, in_torch=())
    for in_torch in [(1,), (0, 1, 2)]:
        close(federate(hospitals, in_torch), all_keras, 1e-4)


@needs_torch
def test_a_pytorch_hospital_judges_the_global_model_as_keras_does(make_images):
    grid = federation.InProcessGrid(mixed_app([make_images(30, size=16)] * 2, (1,)), ["a", "b"])
    weights = create_model((16, 16, 1), 3, seed=4).get_weights()
    config = federation.train_config(TrainingSettings(), num_rounds=1)
    content = RecordDict({"arrays": to_record(weights), "config": config})
    messages = [Message(content, node, "evaluate") for node in grid.get_node_ids()]
    in_keras, in_torch = (reply.content["metrics"] for reply in grid.send_and_receive(messages))
    assert dict(in_torch) == dict(in_keras)


@needs_torch
def test_a_trainer_is_made_once():
    settings = TrainingSettings()
    assert torch_trainer_for(SHAPE, 3, settings) is torch_trainer_for(SHAPE, 3, settings)


def test_importing_the_module_asks_for_no_pytorch():
    assert "torch" not in vars(torch_client)
