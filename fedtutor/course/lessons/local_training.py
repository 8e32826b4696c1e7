"""What notebook 02 checks: one training step, a confusion matrix, and an AUC that travels."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise, of_shape, one_number, same_arrays
from fedtutor.evaluation import confusion
from fedtutor.model import Weights, load_keras

RATE = 0.5


def one_step(model: Any, optimizer: Any, criterion: Any, images: Any, labels: Any) -> Any:
    """Go one step down the mean loss of a batch; return that loss, from before the step."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(criterion(labels, model(images, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def pairwise_auc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over all pairs of classes of the AUC between the two (Hand & Till 2001)."""
    found = []
    for one, other in permutations(np.unique(labels), 2):
        of_one, of_other = labels == one, labels == other
        found.append(_in_order(probabilities[of_one, one], probabilities[of_other, one]))
    return float(np.mean(found)) if found else float("nan")


def _in_order(these: np.ndarray, others: np.ndarray) -> float:
    ahead = these[:, None] - others
    return float(np.mean(ahead > 0) + np.mean(ahead == 0) / 2)


@exercise(
    """02.1, one training step
    More: tf.reduce_mean(criterion(labels, outputs))""",
    reference=one_step,
)
def training_step(step: Answer) -> None:
    model, optimizer, criterion = _tiny()
    rng = np.random.default_rng(5)
    images, labels = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 3, 6)
    before = _weights(model)
    loss_before, gradients = _by_hand(before, images, labels)
    try:
        got = step(model, optimizer, criterion, images, labels)
    except ValueError as error:
        if "No gradients provided" not in str(error):
            raise
        raise Wrong("""The tape has recorded nothing, so that there are no gradients.
            Hint: a tape records what is computed inside its `with` block.
            More: outputs and loss inside the block, the gradients after it.""") from error
    moved = [new - old for new, old in zip(_weights(model), before, strict=True)]
    _check_move(moved, [-RATE * g for g in gradients], len(images))
    got = np.asarray(got, dtype=np.float64)
    if got.shape != ():
        raise Wrong(f"""The step is right, but a loss is one number; yours has shape {got.shape}.
            Hint: the criterion gives one loss an image.""")
    if not np.isclose(got, loss_before, atol=1e-4):
        raise Wrong("""The weights move as they should, but you do not give back this step's loss.
            Hint: give back the loss that the tape has recorded, the one before the step.
            More: return loss""")
    _check_compiled(step, images, labels)


def _check_compiled(step: Answer, images: np.ndarray, labels: np.ndarray) -> None:
    import tensorflow as tf

    model, optimizer, criterion = _tiny()
    optimizer.build(model.trainable_variables)
    try:
        tf.function(step)(model, optimizer, criterion, tf.constant(images), tf.constant(labels))
    except Exception as error:  # TensorFlow has many kinds for it
        raise Wrong("""Your step is right, but TensorFlow cannot compile it into a graph.
            Hint: in a graph no tensor has a value yet; leave out .numpy() and NumPy.
            More: return the loss as it is, a tensor.""") from error


def _check_move(moved: Weights, expected: Weights, num_images: int) -> None:
    if all(not np.any(m) for m in moved):
        raise Wrong("""The weights are where they were before the step.
            Hint: the gradients alone change nothing; the optimiser must be told of them.
            More: optimizer.apply_gradients(zip(gradients, model.trainable_variables))""")
    if same_arrays(moved, [-e for e in expected], 1e-4):
        raise Wrong("""Your step goes up the hill: the loss gets larger.
            Hint: the optimiser subtracts by itself.
            More: hand it the gradients as they are, without a minus sign.""")
    if same_arrays(moved, [num_images * e for e in expected], 1e-4):
        raise Wrong(f"""Your step goes the right way, but {num_images} times too far.
            Hint: is the loss of a batch the sum over its images, or the mean?""")
    if not same_arrays(moved, expected, 1e-4):
        raise Wrong("""The weights move, but not by one step along the gradients of the mean loss.
            Hint: one forward pass, one loss, one backward pass, one step; each of them once.
            More: follow the cells above line by line, with the names of your function.""")


def _tiny() -> tuple[Any, Any, Any]:
    keras = load_keras()
    layer = keras.layers.Dense(
        3, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(seed=3)
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    criterion = keras.losses.sparse_categorical_crossentropy
    return model, keras.optimizers.SGD(RATE), criterion


def _weights(model: Any) -> Weights:
    return [np.array(array, dtype=np.float64) for array in model.get_weights()]


def _by_hand(
    weights: Weights, images: np.ndarray, labels: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """Return the mean cross-entropy of a softmax layer, and its gradients, as on paper."""
    scores = images @ weights[0] + weights[1]
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    truth = np.eye(3)[labels]
    error = (p - truth) / len(images)
    loss = -np.log((p * truth).sum(axis=1)).mean()
    return float(loss), [images.T @ error, error.sum(axis=0)]


@exercise(
    """02.2, the confusion matrix
    More: matrix = np.zeros((k, k), int); for each image matrix[its class, its likeliest] += 1""",
    reference=confusion,
)
def confusion_matrix(count: Answer) -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    said = np.array([0, 0, 1, 0, 0, 1, 1, 0, 1])  # the last class is never the likeliest
    probabilities = 0.25 + 0.25 * np.eye(3)[said]
    expected = confusion(probabilities, labels)
    got = of_shape(
        count(probabilities.copy(), labels.copy()),
        (3, 3),
        "a row and a column for each class, also where no image is called so.",
    )
    if np.array_equal(got, expected.T):
        raise Wrong("""You have rows and columns the other way round.
            Hint: a row is what is true, a column what the model says.""")
    if np.allclose(got, expected / expected.sum(axis=1, keepdims=True)):
        raise Wrong("""Those are shares of each row; asked for is how many images.
            Hint: leave the division to whoever draws it.""")
    if not np.array_equal(got, got.round()):
        raise Wrong("""You add up probabilities; a model that must decide says one class.
            Hint: probabilities.argmax(axis=1) is the likeliest class of each image.""")
    if np.array_equal(got, np.diag(np.diag(expected))):
        raise Wrong("""You count the right answers only; the mistakes are missing.
            Hint: each image counts in one cell, whether it is called right or not.""")
    if not np.array_equal(got, expected):
        raise Wrong(f"""Of {len(labels)} images {got.trace():g} are on your diagonal; it should be
            {expected.trace()}, or another cell is wrong.
            Hint: for each image add 1 in the row of its label and the column of its likeliest
            class.""")


@exercise(
    """02.3, the AUC of pairs of classes
    More: for a, b in permutations(range(k), 2): in_order(p[labels == a, a], p[labels == b, a])""",
    reference=pairwise_auc,
)
def auc_of_pairs(auc: Answer) -> None:
    labels = np.repeat([0, 1, 2], [30, 8, 4])
    p = np.random.default_rng(2).dirichlet([1, 1, 1], len(labels)) + 0.4 * np.eye(3)[labels]
    p = (p + [0.3, 0, 0] * (labels == 2)[:, None]) / p.sum(axis=1, keepdims=True)
    got, right = float(one_number(auc(p.copy(), labels.copy()))), pairwise_auc(p, labels)
    rest = [_in_order(p[labels == k, k], p[labels != k, k]) for k in range(3)]
    once = [_in_order(p[labels == a, a], p[labels == b, a]) for a, b in ((0, 1), (0, 2), (1, 2))]
    if np.isclose(got, np.mean(rest)):
        raise Wrong("""That is each class against all the rest.
            Hint: compare one class with one other at a time.
            More: in_order(p[labels == a, a], p[labels == b, a]) for each a and each other b""")
    if np.isclose(got, np.mean(once)):
        raise Wrong("""You take each pair once, by the probability of one of its two classes.
            Hint: both ask: a against b by the probability of a, b against a by that of b.
            More: itertools.permutations(range(k), 2)""")
    if np.isclose(got, 6 * right):
        raise Wrong("""That is the sum over the pairs; asked for is their mean.
            Hint: an AUC lies between 0 and 1.""")
    if not np.isclose(got, right, atol=1e-6):
        raise Wrong(f"""For these {len(labels)} images it is {right:.3f}; yours is {got:.3f}.
            Hint: for each two classes a and b: the images of a, the images of b, and for both the
            probability of a.""")
