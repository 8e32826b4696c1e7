"""Wrong answers to the exercises of local_training; each must earn a hint of its own."""

from __future__ import annotations

from wrong import wrong


@wrong("02.1")
def without_biases(inputs, units):
    return inputs * units


@wrong("02.1")
def a_bias_for_each_input(inputs, units):
    return inputs * units + inputs


@wrong("02.1")
def a_sum(inputs, units):
    return inputs + units


@wrong("02.1")
def one_bias(inputs, units):
    return inputs * units + 1


@wrong("02.1")
def a_fixed_number(inputs, units):
    return 15


@wrong("02.2")
def forgets_to_step(model, optimizer, criterion, images, labels):
    return _typical_step(model, None, criterion, images, labels)


@wrong("02.2")
def up_the_hill(model, optimizer, criterion, images, labels):
    return _typical_step(model, optimizer, criterion, images, labels, sign=-1)


@wrong("02.2")
def adds_the_losses_up(model, optimizer, criterion, images, labels):
    return _typical_step(model, optimizer, criterion, images, labels, reduce="reduce_sum")


@wrong("02.2")
def steps_twice(model, optimizer, criterion, images, labels):
    _typical_step(model, optimizer, criterion, images, labels)
    return _typical_step(model, optimizer, criterion, images, labels)


@wrong("02.2")
def loss_outside_the_tape(model, optimizer, criterion, images, labels):
    import tensorflow as tf

    outputs = model(images, training=True)
    with tf.GradientTape() as tape:
        pass
    loss = tf.reduce_mean(criterion(labels, outputs))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@wrong("02.2")
def a_loss_for_each_image(model, optimizer, criterion, images, labels):
    _typical_step(model, optimizer, criterion, images, labels)
    return criterion(labels, model(images))


@wrong("02.2")
def the_loss_after_the_step(model, optimizer, criterion, images, labels):
    import tensorflow as tf

    _typical_step(model, optimizer, criterion, images, labels)
    return tf.reduce_mean(criterion(labels, model(images)))


def _typical_step(model, optimizer, criterion, images, labels, *, sign=1, reduce="reduce_mean"):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = getattr(tf, reduce)(criterion(labels, outputs))
    gradients = [sign * g for g in tape.gradient(loss, model.trainable_variables)]
    if optimizer is not None:
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@wrong("02.3")
def columns_instead_of_rows(aucs, names):
    return names[aucs.mean(axis=0).argmin()]


@wrong("02.3")
def with_the_diagonal(aucs, names):
    return names[aucs.mean(axis=1).argmin()]


@wrong("02.3")
def the_best(aucs, names):
    return names[(aucs.sum(axis=1) - aucs.diagonal()).argmax()]


@wrong("02.3")
def a_row_number(aucs, names):
    return int((aucs.sum(axis=1) - aucs.diagonal()).argmin())


@wrong("02.3")
def an_auc(aucs, names):
    return aucs.min()


@wrong("02.3")
def always_the_same(aucs, names):
    return "West"
