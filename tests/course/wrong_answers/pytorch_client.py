"""Wrong answers to the exercises of pytorch_client; each must earn a hint of its own."""

from __future__ import annotations

from wrong import wrong


@wrong("A2.1")
def only_transposed(kernel, features):
    return kernel.T


@wrong("A2.1")
def only_reshaped(kernel, features):
    return kernel.reshape(kernel.shape[1], -1)


@wrong("A2.1")
def height_and_width_confused(kernel, features):
    units = kernel.shape[1]
    return kernel.reshape(*features, units).transpose(3, 2, 1, 0).reshape(units, -1)


@wrong("A2.1")
def left_as_it_was(kernel, features):
    return kernel


@wrong("A2.2")
def never_wiped(model, images, labels, criterion, optimizer):
    loss = criterion(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("A2.2")
def wiped_too_late(model, images, labels, criterion, optimizer):
    loss = criterion(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@wrong("A2.2")
def step_first(model, images, labels, criterion, optimizer):
    optimizer.zero_grad()
    loss = criterion(model(images), labels)
    optimizer.step()
    loss.backward()
    return loss.item()


@wrong("A2.2")
def no_backward(model, images, labels, criterion, optimizer):
    optimizer.zero_grad()
    loss = criterion(model(images), labels)
    optimizer.step()
    return loss.item()


@wrong("A2.2")
def no_step(model, images, labels, criterion, optimizer):
    optimizer.zero_grad()
    loss = criterion(model(images), labels)
    loss.backward()
    return loss.item()


@wrong("A2.2")
def labels_first(model, images, labels, criterion, optimizer):
    optimizer.zero_grad()
    loss = criterion(labels, model(images))
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("A2.2")
def model_not_asked(model, images, labels, criterion, optimizer):
    optimizer.zero_grad()
    loss = criterion(images, labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong("A2.2")
def the_object_itself(model, images, labels, criterion, optimizer):
    optimizer.zero_grad()
    loss = criterion(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss
