"""What the appendix on PyTorch checks: a layout, and one step of the mission's loop.

Neither check needs PyTorch: the step is tried on a model of one weight that keeps a log.
"""

from __future__ import annotations

import numpy as np

from fedtutor.course.exercises import Wrong, exercise

FEATURES, UNITS = (2, 3, 4), 5


@exercise("A2.1", "the dense layer after flatten")
def dense_layout(dense_to_torch):
    kernel = np.arange(np.prod(FEATURES) * UNITS, dtype=float).reshape(-1, UNITS)
    got = np.asarray(dense_to_torch(kernel, FEATURES))
    if got.shape != (UNITS, len(kernel)):
        raise Wrong(
            f"The kernel came as {kernel.shape}, (inputs, units); PyTorch keeps (units, inputs), "
            f"so {(UNITS, len(kernel))}. Yours is {got.shape}.",
            hint="the units go to the front.",
            more="end with .reshape(units, -1), after the axes are in PyTorch's order.",
        )
    if _same(got, kernel.T):
        raise Wrong(
            "Inputs and units have changed places, and the inputs are still in Keras's order.",
            hint="the inputs are the numbers of a (height, width, channels) array, in that order.",
            more="give the inputs their three axes back: kernel.reshape(*features, units).",
        )
    if _same(got, kernel.reshape(UNITS, -1)):
        raise Wrong(
            "Only the shape has changed: each unit now has numbers of all the others.",
            hint="reshape cuts the same row of numbers anew; transpose moves them.",
            more="kernel.reshape(*features, units), then transpose its four axes, then reshape.",
        )
    image = np.random.default_rng(0).normal(size=FEATURES)
    theirs = image.reshape(-1) @ kernel
    if not np.allclose(got @ image.transpose(2, 0, 1).reshape(-1), theirs):
        raise Wrong(
            "The same features, flattened as PyTorch does it, do not give the same numbers.",
            hint="of (height, width, channels, units) PyTorch wants (units, channels, height, "
            "width).",
            more="kernel.reshape(*features, units).transpose(3, 2, 0, 1).reshape(units, -1)",
        )


class _OneWeight:
    """A model ``w * x``, its squared error and its optimiser, as PyTorch would have them."""

    def __init__(self) -> None:
        self.w, self.gradient = 0.0, 0.0
        self.log: list[str] = []
        self.swapped = False

    def model(self, images):
        self.log.append("forward")
        return _Output(self.w * images)

    def criterion(self, outputs, labels):
        self.log.append("loss")
        self.swapped = not isinstance(outputs, _Output)
        return _Loss(self, float(outputs) - float(labels))

    def zero_grad(self) -> None:
        self.log.append("zero_grad")
        self.gradient = 0.0

    def step(self) -> None:
        self.log.append("step")
        self.w -= 0.25 * self.gradient


class _Output(float):
    """What the model says, told apart from a label."""


class _Loss:
    def __init__(self, world: _OneWeight, error: float) -> None:
        self._world, self._error = world, error

    def backward(self) -> None:
        self._world.log.append("backward")
        self._world.gradient += 2 * self._error

    def item(self) -> float:
        return self._error**2


@exercise("A2.2", "one step of the loop")
def one_step(train_step):
    world = _OneWeight()
    losses = [train_step(world.model, 1.0, 2.0, world.criterion, world) for _ in range(2)]
    _complain_of_what_is_missing(world.log)
    if world.swapped:
        raise Wrong(
            "The loss was given the labels first.",
            hint="Keras's losses take (labels, outputs), PyTorch's take (outputs, labels).",
            more="loss = criterion(outputs, labels)",
        )
    first = world.log[: len(world.log) // 2]
    if first.index("step") < first.index("backward"):
        raise Wrong(
            "The optimizer steps before the gradients of this batch are there.",
            hint="which line computes the gradients?",
            more="loss.backward() and after it optimizer.step()",
        )
    if "zero_grad" in first[first.index("backward") : first.index("step")]:
        raise Wrong(
            "The gradients are wiped after they were computed, so that the step is of length zero.",
            hint="wipe what the last batch left, not what this one has computed.",
            more="optimizer.zero_grad() belongs before loss.backward().",
        )
    if not np.isclose(world.w, 1.5):
        raise Wrong(
            f"After two steps the weight should be 1.5; yours is {world.w:g}.",
            hint="one forward pass, one backward pass, one step a batch.",
            more="five lines: zero_grad, forward, loss, backward, step.",
        )
    if not isinstance(losses[0], float):
        raise Wrong(
            "The step is right. Give back the loss as a number, not as PyTorch's object.",
            hint="the object holds on to everything that was computed on the way to it.",
            more="return loss.item()",
        )


def _complain_of_what_is_missing(log: list[str]) -> None:
    if "forward" not in log:
        raise Wrong(
            "The model was never asked.",
            hint="what does the loss compare with the labels?",
            more="outputs = model(images)",
        )
    if "backward" not in log:
        raise Wrong(
            "No gradient was computed: nothing went backward through the model.",
            hint="the loss knows how it came about.",
            more="loss.backward()",
        )
    if "step" not in log:
        raise Wrong(
            "The gradients are there, and the weights have stayed as they were.",
            hint="who changes the weights?",
            more="optimizer.step()",
        )
    if "zero_grad" not in log:
        raise Wrong(
            "The second step used the gradients of the first batch, too.",
            hint="PyTorch adds every new gradient to the one that is there.",
            more="optimizer.zero_grad(), before loss.backward()",
        )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.allclose(one, other)
