"""SCAFFOLD against its paper's equations, and what stays at home."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.common.serde import context_from_proto, context_to_proto
from toys import START, run

from fedtutor import federation
from fedtutor.compiled_training import Trainer
from fedtutor.course.bowls import BOWLS, Bowl, fedavg_limit, lowest, scaffold_round, walk
from fedtutor.errors import DataError, FederationError
from fedtutor.federation.records import to_record, to_weights
from fedtutor.model import create_model, predict
from fedtutor.settings import TrainingSettings
from fedtutor.topics.algorithms import (
    CorrectedTrainer,
    LocalSteps,
    Scaffold,
    batchnorm_places,
    batchnorm_trainer_of,
    corrected_trainer_of,
    create_batchnorm_model,
    keep_at_home,
    local_training,
    make_app,
    scaffold,
)

SGD = TrainingSettings("sgd", 0.05, 8)
SHAPE = (12, 12, 1)
PLACE = (-1.4, -1.2)


def fedavg_round(weights, own, common, gradient, num_steps, learning_rate):
    """SCAFFOLD's round without a correction, as notebook 12 has it."""
    return scaffold_round(weights, 0 * own, 0 * own, gradient, num_steps, learning_rate)[0], own


def all_of(count):
    return {"fraction_evaluate": 0.0, "min_train_nodes": count, "min_available_nodes": count}


def remembering(local, kept):
    """A local training that keeps each hospital's context where a test can look."""

    def looked_at(weights, correction, config, context):
        kept[context.node_config["partition-id"]] = context
        return local(weights, correction, config, context)

    return looked_at


# The quadratic where the answer is known


def bowl_training(bowls, *, steps, rate):
    """Make the bowls hospitals of a Flower app, each with one example; for ``make_app``."""

    def local(weights, correction, config, context):
        bowl = bowls[int(context.node_config["partition-id"])]
        towards = np.zeros_like(weights[0]) if correction is None else correction[0]
        start = weights[0].astype(np.float64)
        end, _ = scaffold_round(start, 0 * start, towards, bowl.gradient, steps, rate)
        return LocalSteps([end.astype(np.float32)], steps * rate, 1, float(bowl.loss(end)))

    return local


def walk_in_flower(bowls, *, corrected, steps, rate, rounds, start):
    """Walk with the package's app and strategy on the grid: float32 (rounds + 1, d)."""
    seen = []
    scaffolding = Scaffold(fraction_evaluate=0.0, min_available_nodes=len(bowls))
    server_app = federation.make_server_app(
        [np.asarray(start, np.float32)],
        scaffolding if corrected else federation.make_strategy("fedavg", len(bowls)),
        num_rounds=rounds,
        config=ConfigRecord({}),
        on_round=lambda server_round, weights, grid: seen.append(weights[0]),
    )
    local = bowl_training(bowls, steps=steps, rate=rate)
    client_app = make_app(local, mods=[scaffold] if corrected else [])
    names = [f"Hospital {k + 1}" for k in range(len(bowls))]
    federation.run_in_process(server_app, client_app, names)
    return np.array(seen)


@pytest.mark.parametrize(("steps", "rate"), [(2, 0.5), (10, 0.2), (20, 0.1)])
def test_fedavg_rests_at_the_wrong_place_and_scaffold_at_the_lowest(steps, rate):
    how = {"steps": steps, "rate": rate, "rounds": 60, "start": PLACE}
    fedavg = walk_in_flower(BOWLS, corrected=False, **how)[-1]
    corrected = walk_in_flower(BOWLS, corrected=True, **how)[-1]
    np.testing.assert_allclose(fedavg, fedavg_limit(BOWLS, steps, rate), atol=1e-5)
    np.testing.assert_allclose(corrected, lowest(BOWLS), atol=1e-5)
    assert np.linalg.norm(fedavg - lowest(BOWLS)) > 0.05


def test_with_one_step_a_round_there_is_no_drift():
    how = {"steps": 1, "rate": 0.5, "rounds": 80, "start": PLACE}
    for hospital_round in (fedavg_round, scaffold_round):
        end = walk(BOWLS, hospital_round, **how).models[-1]
        np.testing.assert_allclose(end, lowest(BOWLS), atol=1e-5)
    np.testing.assert_allclose(fedavg_limit(BOWLS, 1, 0.5), lowest(BOWLS), atol=1e-12)


def test_the_lowest_point_is_the_lowest():
    others = lowest(BOWLS) + np.random.default_rng(0).normal(size=(50, 2))
    losses = [sum(bowl.loss(point) for bowl in BOWLS) for point in [lowest(BOWLS), *others]]
    assert np.argmin(losses) == 0


@pytest.mark.parametrize("corrected", [False, True])
def test_the_walk_on_paper_is_the_walk_in_flower(corrected):
    how = {"steps": 7, "rate": 0.3, "rounds": 12, "start": PLACE}
    on_paper = walk(BOWLS, scaffold_round if corrected else fedavg_round, **how).models
    np.testing.assert_allclose(
        on_paper, walk_in_flower(BOWLS, corrected=corrected, **how), atol=1e-6
    )


LINES = (Bowl(np.array([1.0]), np.array([[2.0]])), Bowl(np.array([-3.0]), np.array([[1.0]])))


def test_two_rounds_of_two_steps_by_hand():
    """Losses (w - 1)^2 and (w + 3)^2 / 2, step 0.1, from 0: every number worked out on paper."""
    kept, strategy = {}, Scaffold(**all_of(2))
    app = make_app(remembering(bowl_training(LINES, steps=2, rate=0.1), kept), mods=[scaffold])
    seen = run(app, strategy, [np.zeros(1, np.float32)], hospitals=2, rounds=1)
    # First hospital: gradients -2 and -1.6, so y = 0.36; second: 3 and 2.7, so y = -0.57.
    assert seen[1][0] == pytest.approx(-0.105, abs=1e-6)
    own = [to_weights(kept[k].state["control"])[0] for k in (0, 1)]
    assert own[0] == pytest.approx(-1.8, abs=1e-6)  # the mean of -2 and -1.6
    assert own[1] == pytest.approx(2.85, abs=1e-6)
    assert strategy.control[0] == pytest.approx(0.525, abs=1e-6)

    seen = run(app, Scaffold(**all_of(2)), [np.zeros(1, np.float32)], hospitals=2, rounds=2)
    # Corrections 0.525 + 1.8 and 0.525 - 2.85. First: g = -2.21, y = -0.1165, g = -2.233,
    # y = -0.1257. Second: g = 2.895, y = -0.162, g = 2.838, y = -0.2133.
    assert seen[2][0] == pytest.approx((-0.1257 - 0.2133) / 2, abs=1e-5)


def noisy(counts):
    """Hospitals that step in a direction of their own, of unequal size and number of steps."""

    def local(weights, correction, config, context):
        k = context.node_config["partition-id"]
        rng = np.random.default_rng([k, int(config["server-round"])])
        steps = 1 + k
        moved = [array.copy() for array in weights]
        for _ in range(steps):
            for array, shift in zip(moved, correction or [0] * len(moved), strict=True):
                array -= 0.1 * (rng.normal(size=array.shape).astype(np.float32) + shift)
        return LocalSteps(moved, 0.1 * steps, counts[k], 0.0)

    return local


def mean_control(kept, counts):
    total = sum(counts[k] for k in kept)
    own = {k: to_weights(context.state["control"]) for k, context in kept.items()}
    return [sum(counts[k] * own[k][place] for k in kept) / total for place in range(len(own[0]))]


@pytest.mark.parametrize("asleep_in_round", [None, 2])
def test_the_server_s_control_variate_is_the_weighted_mean_of_the_hospitals(asleep_in_round):
    """Who does not reply keeps its control variate on both sides."""
    counts, kept, strategy = (5, 1, 30), {}, Scaffold(**all_of(3))

    def sometimes_away(weights, correction, config, context):
        if config["server-round"] == asleep_in_round and context.node_config["partition-id"] == 2:
            raise OSError("asleep")
        return noisy(counts)(weights, correction, config, context)

    app = make_app(remembering(sometimes_away, kept), mods=[scaffold])
    run(app, strategy, START, hospitals=3, rounds=4)
    for ours, mean in zip(strategy.control, mean_control(kept, counts), strict=True):
        np.testing.assert_allclose(ours, mean, atol=1e-5)
        assert np.abs(mean).max() > 0.01


# SCAFFOLD and the CNN


def images_of(hospitals):
    return lambda context: hospitals[context.node_config["partition-id"]]


@pytest.fixture
def hospitals(make_images):
    return [make_images(20 + 9 * k, size=12, seed=k) for k in range(3)]


@pytest.mark.slow
def test_the_first_round_is_fedavg_and_the_second_is_not(hospitals):
    start = create_model(SHAPE, 3, seed=4).get_weights()
    config = federation.train_config(SGD, num_rounds=2, seed=7, local_epochs=2)
    local = local_training(images_of(hospitals), corrected_trainer_of)
    fedavg, plain, ours = (
        run(app, strategy, start, hospitals=3, rounds=2, config=config)
        for app, strategy in (
            (
                federation.make_client_app(images_of(hospitals)),
                federation.make_strategy("fedavg", 3),
            ),
            (make_app(local), federation.make_strategy("fedavg", 3)),
            (make_app(local, mods=[scaffold]), Scaffold(**all_of(3))),
        )
    )
    for a, b, c in zip(fedavg[2], plain[2], ours[2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)  # without correction it is the course's app
        assert np.abs(a - c).max() > 1e-5
    for a, c in zip(fedavg[1], ours[1], strict=True):
        np.testing.assert_allclose(a, c, atol=1e-6)


def test_the_correction_is_added_to_every_gradient(make_images):
    data, start = make_images(8, size=12), create_model(SHAPE, 3, seed=4).get_weights()
    trainer = CorrectedTrainer(create_model(SHAPE, 3), SGD)
    plain, _ = trainer.train(start, data)
    correction = [np.random.default_rng(0).normal(size=a.shape).astype(np.float32) for a in start]
    trainer.correct(correction)
    corrected, _ = trainer.train(start, data)
    for a, b, d in zip(plain, corrected, correction, strict=True):
        np.testing.assert_allclose(b, a - 0.05 * d, atol=1e-6)
    trainer.correct(None)
    again, _ = trainer.train(start, data)
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_control_variate_is_the_mean_gradient_of_the_way(hospitals):
    """Two steps of one batch each; the gradients are those of plain training from both places."""
    images = hospitals[0].take(np.arange(8))
    start = create_model(SHAPE, 3, seed=4).get_weights()
    config = federation.train_config(SGD, num_rounds=1, seed=7, local_epochs=2)
    kept = {}
    local = remembering(local_training(lambda context: images, corrected_trainer_of), kept)
    run(make_app(local, mods=[scaffold]), Scaffold(**all_of(1)), start, hospitals=1, rounds=1,
        config=config)  # fmt: skip
    trainer = Trainer(create_model(SHAPE, 3), SGD)
    first, _ = trainer.train(start, images, seed=1)
    second, _ = trainer.train(first, images, seed=1)
    for x, y, z, c in zip(start, first, second, to_weights(kept[0].state["control"]), strict=True):
        mean_gradient = ((x - y) / 0.05 + (y - z) / 0.05) / 2
        np.testing.assert_allclose(c, mean_gradient, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (TrainingSettings("adam", 0.01), "plain sgd; the config says adam"),
        (TrainingSettings("sgd", 0.01, proximal_mu=0.1), "proximal-mu 0.1"),
    ],
)
def test_scaffold_refuses_what_its_equations_do_not_cover(hospitals, settings, word):
    app = make_app(local_training(images_of(hospitals), corrected_trainer_of), mods=[scaffold])
    config = federation.train_config(settings, num_rounds=1)
    start = create_model(SHAPE, 3).get_weights()
    with pytest.raises(FederationError, match=word):
        run(app, Scaffold(**all_of(3)), start, hospitals=3, rounds=1, config=config)


def test_a_trainer_that_cannot_correct_says_so(hospitals):
    local = local_training(images_of(hospitals), lambda i, s: Trainer(create_model(SHAPE, 3), s))
    config = federation.train_config(SGD, num_rounds=1)
    start = create_model(SHAPE, 3).get_weights()
    with pytest.raises(FederationError, match="corrected_trainer_of"):
        run(make_app(local, mods=[scaffold]), Scaffold(**all_of(3)), start, hospitals=3, rounds=1,
            config=config)  # fmt: skip
    with pytest.raises(DataError, match="without batch norm"):
        CorrectedTrainer(create_batchnorm_model(SHAPE, 3), SGD)


# What stays at home


def test_what_is_kept_at_home_never_travels_and_goes_on_from_where_it_was():
    start = [np.zeros(3, np.float32), np.zeros(2, np.float32)]
    inputs = {0: [], 1: []}

    def local(weights, correction, config, context):
        k = context.node_config["partition-id"]
        inputs[k].append([array.copy() for array in weights])
        return LocalSteps([array + 1 + k for array in weights], 1.0, 1, 0.0)

    judged = {}

    def judge(weights, context):
        judged[context.node_config["partition-id"]] = weights
        return {"num-examples": 1}

    app = make_app(local, judge=judge, mods=[keep_at_home([1])])
    strategy = federation.make_strategy("fedavg", 2, fraction_evaluate=1.0, min_evaluate_nodes=2)
    seen = run(app, strategy, start, hospitals=2, rounds=3)
    np.testing.assert_array_equal(seen[-1][0], [4.5, 4.5, 4.5])
    np.testing.assert_array_equal(seen[-1][1], [0, 0])
    for k in (0, 1):
        at_home = [weights[1][0] for weights in inputs[k]]
        assert at_home == [0, 1 + k, 2 * (1 + k)]
        np.testing.assert_array_equal(judged[k][0], [4.5, 4.5, 4.5])
        np.testing.assert_array_equal(judged[k][1], [3 * (1 + k)] * 2)


def test_the_state_of_both_survives_the_wire():
    """Deployed hospitals get their context back as bytes, not as the arrays they put in."""
    state = RecordDict({"control": to_record(START), "home": to_record(START[:1])})
    context = Context(1, 2, {"partition-id": 0}, state, {})
    again = context_from_proto(context_to_proto(context))
    assert isinstance(again.state["control"], ArrayRecord)
    for array, same in zip(START, to_weights(again.state["control"]), strict=True):
        np.testing.assert_array_equal(array, same)


def test_the_batchnorm_model_is_the_course_s_with_two_more_layers():
    plain, model = create_model(SHAPE, 3, seed=5), create_batchnorm_model(SHAPE, 3, seed=5)
    places = batchnorm_places(model)
    names = {kind: [model.weights[k].name for k in found] for kind, found in places.items()}
    assert names == {
        "affine": ["gamma", "beta"] * 2,
        "statistics": ["moving_mean", "moving_variance"] * 2,
    }
    rest = set(range(len(model.weights))) - {*places["affine"], *places["statistics"]}
    for k, array in zip(sorted(rest), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(model.get_weights()[k], array)
    images = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
    # Fresh statistics are 0 and 1, so that the two agree but for batch norm's epsilon of 1e-3.
    np.testing.assert_allclose(predict(model, images), predict(plain, images), atol=5e-3)
    assert batchnorm_places(plain) == {"affine": [], "statistics": []}


@pytest.mark.slow
def test_training_moves_the_statistics_and_the_average_takes_them_along(hospitals):
    local = local_training(images_of(hospitals), batchnorm_trainer_of)
    start = create_batchnorm_model(SHAPE, 3).get_weights()
    places = batchnorm_places(create_batchnorm_model(SHAPE, 3))
    config = federation.train_config(SGD, num_rounds=2)
    average_all, none = (
        run(make_app(local, mods=mods), federation.make_strategy("fedavg", 3), start,
            hospitals=3, rounds=2, config=config)
        for mods in ([], [keep_at_home([*places["affine"], *places["statistics"]])])
    )  # fmt: skip
    for k in range(len(start)):
        at_home = k in {*places["affine"], *places["statistics"]}
        assert np.array_equal(none[2][k], start[k]) == at_home
        assert not np.array_equal(average_all[2][k], start[k])
