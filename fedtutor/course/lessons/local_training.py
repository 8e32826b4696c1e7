"""What notebook 02 checks: parameters of a layer, one training step, and who travels worst."""

from __future__ import annotations

import numpy as np

from fedtutor.course.exercises import Wrong, exercise

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


@exercise("02.1", "the parameters of a dense layer")
def dense_parameters(count):
    got = count(4, 3)
    if not isinstance(got, (int, float, np.number)):
        raise Wrong(f"""A number of parameters is asked for; yours is a {type(got).__name__}.
            Hint: return one number.
            More: return inputs * units + ...""")
    if got == 12:
        raise Wrong("""Those are the weights; something else in the layer is learned too.
            Hint: each unit adds a number of its own to its weighted sum.
            More: there is one bias a unit: add `units`.""")
    if got == 16:
        raise Wrong("""You have given every input a bias.
            Hint: the bias is added to the weighted sum, and each unit has one such sum.
            More: add `units`, not `inputs`.""")
    if got == 7:
        raise Wrong("""You have added inputs and units, as if each unit saw one input.
            Hint: in a dense layer every unit is connected with every input.
            More: that makes inputs * units weights; then come the biases.""")
    if got != 15:
        raise Wrong(f"""A layer from 4 inputs to 3 units has 15 parameters; you count {got}.
            Hint: draw the 4 inputs, the 3 units and all lines between them.
            More: 12 lines, and one bias for each of the 3 units.""")
    if count(10, 2) != 22:
        raise Wrong("""It fits 4 inputs and 3 units, and no other layer.
            Hint: use the two arguments, not their values.
            More: inputs * units + units""")


@exercise("02.2", "one training step")
def one_step(step):
    model, optimizer, criterion = _tiny()
    images, labels = _batch(6)
    before = _weights(model)
    loss_before, gradients = _by_hand(before, images, labels)
    try:
        got = step(model, optimizer, criterion, images, labels)
    except ValueError as error:
        if "No gradients provided" not in str(error):
            raise
        raise Wrong("""The tape has recorded nothing, so that there are no gradients.
            Hint: a tape records what is computed inside its `with` block.
            More: compute the outputs and the loss inside the block, the gradients after it.""") from error
    moved = [new - old for new, old in zip(_weights(model), before, strict=True)]
    _check_move(moved, [-RATE * g for g in gradients], len(images))
    got = np.asarray(got, dtype=np.float64)
    if got.shape != ():
        raise Wrong(f"""The step is right; but the loss is one number, and yours has shape
            {got.shape}.
            Hint: the criterion gives one loss an image.
            More: tf.reduce_mean(criterion(labels, outputs))""")
    if not np.isclose(got, loss_before, atol=1e-4):
        raise Wrong("""The weights move as they should; but what you give back is not the loss of
            this step.
            Hint: give back the loss that the tape has recorded, the one before the step.
            More: return loss""")


def _check_move(moved, expected, num_images: int) -> None:
    if all(not np.any(m) for m in moved):
        raise Wrong("""The weights are where they were before the step.
            Hint: the gradients alone change nothing; the optimiser must be told of them.
            More: optimizer.apply_gradients(zip(gradients, model.trainable_variables))""")
    if _close(moved, [-e for e in expected]):
        raise Wrong("""Your step goes up the hill: the loss gets larger.
            Hint: the optimiser subtracts by itself.
            More: hand it the gradients as they are, without a minus sign.""")
    if _close(moved, [num_images * e for e in expected]):
        raise Wrong(f"""Your step goes the right way, and {num_images} times too far: there are
            {num_images} images in the batch.
            Hint: is the loss of a batch the sum over its images, or the mean?
            More: tf.reduce_mean(criterion(labels, outputs))""")
    if not _close(moved, expected):
        raise Wrong("""The weights move, but not by one step along the gradients of the mean loss.
            Hint: one forward pass, one loss, one backward pass, one step; each of them once.
            More: follow the cells above line by line, with the names of your function.""")


def _tiny():
    from fedtutor.model import load_keras

    keras = load_keras()
    layer = keras.layers.Dense(
        3, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(seed=3)
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    criterion = keras.losses.sparse_categorical_crossentropy
    return model, keras.optimizers.SGD(RATE), criterion


def _batch(count: int):
    rng = np.random.default_rng(5)
    return rng.normal(size=(count, 4)).astype(np.float32), rng.integers(0, 3, count)


def _weights(model):
    return [np.array(array, dtype=np.float64) for array in model.get_weights()]


def _by_hand(weights, images, labels):
    """Mean cross-entropy of a softmax layer, and its gradients, worked out on paper."""
    scores = images @ weights[0] + weights[1]
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    truth = np.eye(3)[labels]
    error = (p - truth) / len(images)
    loss = -np.log((p * truth).sum(axis=1)).mean()
    return float(loss), [images.T @ error, error.sum(axis=0)]


def _close(moved, expected) -> bool:
    return all(np.allclose(m, e, atol=1e-4) for m, e in zip(moved, expected, strict=True))


@exercise("02.3", "whose model travels worst")
def travels_worst(worst):
    got = worst(AUCS.copy(), NAMES)
    if isinstance(got, (int, np.integer)):
        raise Wrong("""That is the number of a row; a hospital's name is asked for.
            Hint: `names` holds the names in the order of the rows.
            More: return names[...]""")
    if isinstance(got, (float, np.floating)):
        raise Wrong("""That is an AUC; the name of the hospital is asked for.
            Hint: `np.argmin` says where the smallest number is.
            More: return names[np.argmin(...)]""")
    if got not in NAMES:
        raise Wrong(f"""{got!r} is none of the hospitals' names.
            Hint: give back one of `names`.
            More: return names[...]""")
    away = ~np.eye(len(NAMES), dtype=bool)
    abroad = np.array([AUCS[k][away[k]].mean() for k in range(len(NAMES))])
    if got == NAMES[abroad.argmax()]:
        raise Wrong(f"""{got} has the model that travels best.
            Hint: a high AUC is a good one.
            More: np.argmin instead of np.argmax.""")
    if got == NAMES[AUCS.mean(axis=0).argmin()]:
        raise Wrong(f"""At {got} the models of the others do worst; its own model does well
            elsewhere.
            Hint: a row is a model, a column a place where it is tested.
            More: take the mean along a row: axis=1.""")
    if got == NAMES[AUCS.mean(axis=1).argmin()]:
        raise Wrong(f"""{got} has the lowest mean of its whole row, and in that row is its own
            hospital.
            Hint: travelling means leaving home: the diagonal does not count.
            More: set the diagonal to nan with np.fill_diagonal and use np.nanmean, or subtract it
            from the row's sum.""")
    if got != NAMES[abroad.argmin()]:
        raise Wrong(f"""Away from home {got}'s model has not the lowest mean AUC.
            Hint: for each row the mean over all other hospitals; then the smallest of those.
            More: rows without their diagonal: (aucs.sum(axis=1) - aucs.diagonal()) / (n - 1).""")
    if worst(AUCS[::-1, ::-1].copy(), NAMES) != NAMES[0]:
        raise Wrong("""Your answer stays the same when the hospitals change places in the matrix.
            Hint: is a name or a number written out in your code?
            More: work with `aucs` and `names` only.""")
