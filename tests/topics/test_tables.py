"""Hospitals with a table: the rows, the network by hand beside Keras's, and the whole app."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedtutor import federation
from fedtutor.aggregation import weighted_average
from fedtutor.errors import DataError
from fedtutor.evaluation import auc
from fedtutor.federation.records import to_weights
from fedtutor.settings import TrainingSettings
from fedtutor.topics.tables import (
    PatientTable,
    TableTrainer,
    create_table_model,
    gradients,
    heart_disease,
    table_trainer_for,
)
from fedtutor.training import create_optimizer, epoch_order


def patients(n=30, features=3, seed=0, hospital="a"):
    """Patients of whom those with a high first number are mostly ill."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, features)).astype(np.float32)
    ill = (rows[:, 0] + rng.normal(scale=0.5, size=n) > 0).astype(np.int64)
    table = pd.DataFrame({"hospital": [hospital] * n})
    return PatientTable(rows, ill, tuple("xyz"[:features]), table)


def loss_of(weights, data):
    return gradients(weights, data.rows, data.labels)[1] / len(data)


@pytest.mark.parametrize("hidden", [0, 4])
def test_the_gradient_is_that_of_small_differences(hidden):
    data = patients()
    data = replace(data, rows=data.rows.astype(np.float64))
    weights = [w.astype(np.float64) for w in create_table_model(3, hidden=hidden, seed=1)]
    found, _ = gradients(weights, data.rows, data.labels)
    for array, gradient in zip(weights, found, strict=True):
        assert gradient.shape == array.shape
        for place in np.ndindex(array.shape):
            before, ends = array[place], []
            for shift in (1e-5, -1e-5):
                array[place] = before + shift
                ends.append(loss_of(weights, data))
            array[place] = before
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("hidden", [0, 4])
def test_the_steps_are_those_of_keras(optimizer, hidden):
    import keras

    data, settings = patients(), TrainingSettings(optimizer, 0.05, 8)
    weights = create_table_model(3, hidden=hidden, seed=2)
    layers = [keras.layers.Dense(hidden, activation="relu")] if hidden else []
    head = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input((3,)), *layers, head])
    model.set_weights(weights)
    model.compile(create_optimizer(settings), "binary_crossentropy")
    for order in epoch_order(len(data), 3, seed=5):
        for start in range(0, len(data), 8):
            batch = order[start : start + 8]
            model.train_on_batch(data.rows[batch], data.labels[batch][:, None])
    trainer = TableTrainer(settings=settings, **data.form)
    ours, _ = trainer.train(weights, data, epochs=3, seed=5)
    for one, other in zip(ours, model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    theirs = model.predict(data.rows, verbose=0)[:, 0]
    np.testing.assert_allclose(trainer.predict(data.rows)[:, 1], theirs, atol=1e-5)


def test_it_ends_where_scikit_learn_ends():
    from sklearn.linear_model import LogisticRegression

    data = patients(200)
    trainer = TableTrainer(settings=TrainingSettings("sgd", 0.5, 200), **data.form)
    (kernel, bias), _ = trainer.train(create_table_model(3), data, epochs=800)
    right = LogisticRegression(C=np.inf, tol=1e-8).fit(data.rows, data.labels)
    np.testing.assert_allclose(kernel[:, 0], right.coef_[0], atol=2e-3)
    np.testing.assert_allclose(bias, right.intercept_, atol=2e-3)


def test_the_loss_is_the_mean_over_the_last_pass():
    data = patients(10)
    trainer = TableTrainer(settings=TrainingSettings("sgd", 1e-9, 4), **data.form)
    weights = create_table_model(3, seed=3)
    _, loss = trainer.train(weights, data, epochs=2)
    assert loss == pytest.approx(loss_of(weights, data), rel=1e-5)


def test_fedprox_pulls_back_to_where_it_began():
    data, weights = patients(), create_table_model(3)
    ways = []
    for mu in (0.0, 5.0):
        settings = TrainingSettings("sgd", 0.1, 8, proximal_mu=mu)
        moved, _ = TableTrainer(settings=settings, **data.form).train(weights, data, epochs=5)
        ways.append(np.linalg.norm(moved[0] - weights[0]))
    assert ways[1] < 0.5 * ways[0]


def test_so_many_updates_are_made_whatever_the_number_of_patients():
    for n in (3, 10, 50):
        data = patients(n)
        trainer = TableTrainer(settings=TrainingSettings("sgd", 0.1, 4), updates=7, **data.form)
        trainer.train(create_table_model(3), data)
        assert trainer._steps == 7


def test_training_leaves_the_weights_it_began_from_alone():
    data, weights = patients(), create_table_model(3)
    before = [array.copy() for array in weights]
    trainer = TableTrainer(settings=TrainingSettings(), **data.form)
    moved, _ = trainer.train(weights, data)
    kept = [array.copy() for array in moved]
    trainer.more(data)
    assert all(map(np.array_equal, weights, before)) and all(map(np.array_equal, moved, kept))


def test_more_than_two_classes_or_images_are_refused():
    settings = TrainingSettings()
    with pytest.raises(DataError, match="got 3 classes of inputs"):
        TableTrainer((5,), 3, settings)
    with pytest.raises(DataError, match=r"inputs of shape \(28, 28, 1\)"):
        TableTrainer((28, 28, 1), 2, settings)


def test_normalised_by_the_training_patients_a_constant_feature_says_nothing():
    train, test = patients(20), patients(5, seed=1)
    train.rows[:, 2], test.rows[:, 2] = 7, 9
    own, other = train.normalised(train), test.normalised(train)
    np.testing.assert_allclose(own.rows[:, :2].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(own.rows[:, :2].std(axis=0, ddof=1), 1, atol=1e-5)
    assert (own.rows[:, 2] == 0).all() and (other.rows[:, 2] == 0).all()
    spread = train.rows[:, 0].std(ddof=1)
    np.testing.assert_allclose(
        other.rows[:, 0], (test.rows[:, 0] - train.rows[:, 0].mean()) / spread, rtol=1e-5
    )


def federate(hospitals, start, *, rounds, settings):
    names = [f"h{k}" for k in range(len(hospitals))]
    app = federation.make_client_app(
        lambda context: hospitals[int(context.node_config["partition-id"])],
        trainer_for=table_trainer_for,
    )
    server = federation.make_server_app(
        start,
        federation.make_strategy("fedavg", len(hospitals)),
        num_rounds=rounds,
        config=federation.train_config(settings, num_rounds=rounds, seed=4),
    )
    state = federation.run_in_process(server, app, names).state
    return to_weights(state.array_records["arrays"])


def test_the_courses_app_trains_hospitals_with_tables_as_by_hand():
    hospitals = [patients(n, seed=n) for n in (12, 30)]
    settings, start = TrainingSettings("sgd", 0.1, 4), create_table_model(3)
    found = federate(hospitals, start, rounds=2, settings=settings)
    expected = start
    for r in (1, 2):
        trainer = TableTrainer(settings=settings, **hospitals[0].form)
        updates = [
            trainer.train(expected, data, seed=(4, r, k))[0] for k, data in enumerate(hospitals)
        ]
        expected = weighted_average(updates, [12, 30])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_app_for_tables_can_train_side_by_side():
    app = federation.make_client_app(lambda context: None, trainer_for=table_trainer_for)
    assert app.side_by_side


@pytest.fixture(scope="module")
def heart(real_data):
    return heart_disease(real_data / "heart_disease")


def test_of_the_real_hospitals_flambys_patients_are_kept_and_split_as_flamby_splits(heart):
    assert len(heart) == 740 and heart.rows.shape == (740, 13)
    counts = heart.table.groupby(["hospital", "split"], sort=False).size()
    both = [(counts[name, "train"], counts[name, "test"]) for name in counts.index.levels[0]]
    assert sorted(both) == [(30, 16), (85, 45), (172, 89), (199, 104)]  # FLamby's README
    ill = pd.Series(heart.labels).groupby(heart.column("hospital"), sort=False).mean()
    assert ill["Zürich and Basel"] > 0.97 and ill["Budapest"] < 0.38
    assert (heart.column("sex") == "M").sum() == 566


def test_a_federation_of_the_real_hospitals_ranks_their_patients_well(heart):
    train = heart.column("split") == "train"
    hospitals, tests = [], []
    for name in pd.unique(heart.column("hospital")):
        own = heart.column("hospital") == name
        hospitals.append(heart.take(own & train).normalised(heart.take(own & train)))
        tests.append(heart.take(own & ~train).normalised(heart.take(own & train)))
    settings = TrainingSettings("sgd", 0.01, 4)
    weights = federate(hospitals, create_table_model(13), rounds=10, settings=settings)
    trainer = TableTrainer(settings=settings, **heart.form)
    trainer.start(weights)
    for data in tests[:2]:  # Cleveland and Budapest; the others have too few who are well
        assert auc(trainer.predict(data.rows), data.labels) > 0.8


def test_where_the_files_are_not_it_is_said_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match="fedtutor fetch fed-heart-disease"):
        heart_disease(tmp_path)
