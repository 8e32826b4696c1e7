"""What notebook 02 checks: parameters of a layer, one training step, and who travels worst."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise, one_number, other_case, same_arrays
from fedtutor.model import Weights, load_keras

NAMES = ("North", "South", "East", "West")
# Rows train, columns test. West's model is the worst away from home and the best at home; North
# has the worst mean if home counts, South travels best, and East is the hardest place to be tested.
AUCS = np.array(
    [
        [0.70, 0.82, 0.60, 0.84],
        [0.95, 0.50, 0.70, 0.90],
        [0.84, 0.80, 0.90, 0.78],
        [0.78, 0.76, 0.62, 0.99],
    ]
)
RATE = 0.5


@exercise("""02.1, the parameters of a dense layer
    More: inputs * units + units""")
def parameters_of_dense_layer(count: Answer) -> None:
    got = one_number(count(4, 3))
    if got == 12:
        raise Wrong("""Those are the weights; something else in the layer is learned too.
            Hint: each unit adds a number of its own to its weighted sum.""")
    if got == 16:
        raise Wrong("""You have given every input a bias.
            Hint: the bias is added to the weighted sum, and each unit has one such sum.""")
    if got == 7:
        raise Wrong("""You have added inputs and units, as if each unit saw one input.
            Hint: in a dense layer every unit is connected with every input.""")
    if got != 15:
        raise Wrong(f"""A layer from 4 inputs to 3 units has 15 parameters; you count {got}.
            Hint: draw the 4 inputs, the 3 units and all lines between them.""")
    other_case(count(10, 2) == 22)


@exercise("""02.2, one training step
    More: tf.reduce_mean(criterion(labels, outputs))""")
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


@exercise("""02.3, whose model travels worst
    More: per row (aucs.sum(axis=1) - aucs.diagonal()) / (n - 1), then np.argmin.""")
def travels_worst(worst: Answer) -> None:
    got = worst(AUCS.copy(), NAMES)
    if not isinstance(got, str) or got not in NAMES:
        raise Wrong(f"""The name of a hospital is asked for; yours is {got}.
            Hint: `np.argmin` gives the number of a row, and `names` the names in their order.""")
    abroad = (AUCS.sum(axis=1) - AUCS.diagonal()) / (len(NAMES) - 1)
    if got == NAMES[abroad.argmax()]:
        raise Wrong(f"""{got} has the model that travels best.
            Hint: a high AUC is a good one.""")
    if got == NAMES[AUCS.mean(axis=0).argmin()]:
        raise Wrong(f"""At {got} the models of the others do worst; its own model does well
            elsewhere.
            Hint: a row is a model, a column a place where it is tested.
            More: take the mean along a row: axis=1.""")
    if got == NAMES[AUCS.mean(axis=1).argmin()]:
        raise Wrong(f"""{got} has the lowest mean of its whole row, its own hospital included.
            Hint: travelling means leaving home: the diagonal does not count.""")
    if got != NAMES[abroad.argmin()]:
        raise Wrong(f"""Away from home {got}'s model has not the lowest mean AUC.
            Hint: for each row the mean over all other hospitals; then the smallest of those.""")
    other_case(worst(AUCS[::-1, ::-1].copy(), NAMES) == NAMES[0])
