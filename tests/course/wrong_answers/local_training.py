"""Wrong answers to the exercises of local_training; each must earn a hint of its own."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from wrong import wrong


@wrong("02.1")
def forgets_to_step(model, optimizer, criterion, images, labels):
    return _typical_step(model, None, criterion, images, labels)


@wrong("02.1")
def up_the_hill(model, optimizer, criterion, images, labels):
    return _typical_step(model, optimizer, criterion, images, labels, sign=-1)


@wrong("02.1")
def adds_the_losses_up(model, optimizer, criterion, images, labels):
    return _typical_step(model, optimizer, criterion, images, labels, reduce="reduce_sum")


@wrong("02.1")
def steps_twice(model, optimizer, criterion, images, labels):
    _typical_step(model, optimizer, criterion, images, labels)
    return _typical_step(model, optimizer, criterion, images, labels)


@wrong("02.1")
def loss_outside_the_tape(model, optimizer, criterion, images, labels):
    import tensorflow as tf

    outputs = model(images, training=True)
    with tf.GradientTape() as tape:
        pass
    loss = tf.reduce_mean(criterion(labels, outputs))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@wrong("02.1")
def a_loss_for_each_image(model, optimizer, criterion, images, labels):
    _typical_step(model, optimizer, criterion, images, labels)
    return criterion(labels, model(images))


@wrong("02.1")
def the_loss_after_the_step(model, optimizer, criterion, images, labels):
    import tensorflow as tf

    _typical_step(model, optimizer, criterion, images, labels)
    return tf.reduce_mean(criterion(labels, model(images)))


@wrong("02.1")
def cannot_be_compiled(model, optimizer, criterion, images, labels):
    return _typical_step(model, optimizer, criterion, images, labels).numpy()


def _typical_step(model, optimizer, criterion, images, labels, *, sign=1, reduce="reduce_mean"):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = getattr(tf, reduce)(criterion(labels, outputs))
    gradients = [sign * g for g in tape.gradient(loss, model.trainable_variables)]
    if optimizer is not None:
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def counted(probabilities, labels):
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)
    return matrix


@wrong("02.2")
def the_other_way_round(probabilities, labels):
    return counted(probabilities, labels).T


@wrong("02.2")
def shares(probabilities, labels):
    matrix = counted(probabilities, labels)
    return matrix / matrix.sum(axis=1, keepdims=True)


@wrong("02.2")
def sums_of_probabilities(probabilities, labels):
    return np.stack([probabilities[labels == k].sum(axis=0) for k in range(3)])


@wrong("02.2")
def the_diagonal(probabilities, labels):
    return np.diag(np.diag(counted(probabilities, labels)))


@wrong("02.2")
def only_classes_that_it_says(probabilities, labels):
    return counted(probabilities, labels)[:, :2]


@wrong("02.2")
def one_for_a_cell(probabilities, labels):
    matrix = np.zeros((3, 3), int)
    matrix[labels, probabilities.argmax(axis=1)] += 1
    return matrix


def in_order(these, others):
    return np.mean(these[:, None] > others) + np.mean(these[:, None] == others) / 2


@wrong("02.3")
def against_the_rest(probabilities, labels):
    p = probabilities
    return np.mean([in_order(p[labels == k, k], p[labels != k, k]) for k in range(3)])


@wrong("02.3")
def each_pair_once(probabilities, labels):
    p, pairs = probabilities, combinations(range(3), 2)
    return np.mean([in_order(p[labels == a, a], p[labels == b, a]) for a, b in pairs])


@wrong("02.3")
def the_sum(probabilities, labels):
    p, pairs = probabilities, permutations(range(3), 2)
    return sum(in_order(p[labels == a, a], p[labels == b, a]) for a, b in pairs)


@wrong("02.3")
def a_list(probabilities, labels):
    p, pairs = probabilities, permutations(range(3), 2)
    return [in_order(p[labels == a, a], p[labels == b, a]) for a, b in pairs]


@wrong("02.3")
def share_of_right_answers(probabilities, labels):
    return np.mean(probabilities.argmax(axis=1) == labels)
