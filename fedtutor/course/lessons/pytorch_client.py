"""What the appendix on PyTorch checks: a layout, and one step of the mission's loop.

Neither check needs PyTorch: the step is tried on a model of one weight that keeps a log.
"""

from __future__ import annotations

import numpy as np

from fedtutor.course.exercises import Answer, Wrong, exercise

FEATURES, UNITS = (2, 3, 4), 5


@exercise("""A2.1, the dense layer after flatten
    More: kernel.reshape(*features, units).transpose(3, 2, 0, 1).reshape(units, -1)""")
def dense_layout(dense_to_torch: Answer) -> None:
    kernel = np.arange(np.prod(FEATURES) * UNITS, dtype=float).reshape(-1, UNITS)
    got = np.asarray(dense_to_torch(kernel, FEATURES))
    if got.shape != (UNITS, len(kernel)):
        raise Wrong(f"""The kernel came as {kernel.shape}, (inputs, units); PyTorch keeps (units,
            inputs), so {(UNITS, len(kernel))}. Yours is {got.shape}.
            Hint: the units go to the front.""")
    if np.allclose(got, kernel.T):
        raise Wrong("""Inputs and units have changed places; the inputs keep Keras's order.
            Hint: the inputs are the numbers of a (height, width, channels) array, as it lies.""")
    if np.allclose(got, kernel.reshape(UNITS, -1)):
        raise Wrong("""Only the shape has changed: each unit now has numbers of all the others.
            Hint: reshape cuts the same row of numbers anew; transpose moves them.""")
    image = np.random.default_rng(0).normal(size=FEATURES)
    theirs = image.reshape(-1) @ kernel
    if not np.allclose(got @ image.transpose(2, 0, 1).reshape(-1), theirs):
        raise Wrong("""The same features, flattened as PyTorch does it, give other numbers.
            Hint: from (height, width, channels, units) to (units, channels, height, width).""")


class _Output(float):
    """What the model says, told apart from a label."""


class _OneWeight:
    """A model ``w * x``, its squared error, which is the loss, and its optimiser, in one."""

    def __init__(self) -> None:
        self.w = self.gradient = self.error = 0.0
        self.log: list[str] = []
        self.swapped = False

    def model(self, images: float) -> _Output:
        self.log.append("forward")
        return _Output(self.w * images)

    def criterion(self, outputs: float, labels: float) -> _OneWeight:
        self.swapped = not isinstance(outputs, _Output)
        self.error = outputs - labels
        return self

    def zero_grad(self) -> None:
        self.log.append("zero_grad")
        self.gradient = 0.0

    def backward(self) -> None:
        self.log.append("backward")
        self.gradient += 2 * self.error

    def step(self) -> None:
        self.log.append("step")
        self.w -= 0.25 * self.gradient

    def item(self) -> float:
        return self.error**2


MISSING = {
    "forward": """The model was never asked.
        Hint: what does the loss compare with the labels?""",
    "backward": """No gradient was computed: nothing went backward through the model.
        Hint: the loss knows how it came about.""",
    "step": """The gradients are there, and the weights have stayed as they were.
        Hint: who changes the weights?""",
    "zero_grad": """The second step used the gradients of the first batch, too.
        Hint: PyTorch adds every new gradient to the one that is there.""",
}
"""What to say if one of the calls was not made."""


@exercise("""A2.2, one step of the loop
    More: optimizer.zero_grad(); loss = criterion(model(images), labels); loss.backward();
    optimizer.step(); return loss.item()""")
def one_step(train_step: Answer) -> None:
    world = _OneWeight()
    losses = [train_step(world.model, 1.0, 2.0, world.criterion, world) for _ in range(2)]
    for call, text in MISSING.items():
        if call not in world.log:
            raise Wrong(text)
    if world.swapped:
        raise Wrong("""The loss was given the labels first.
            Hint: Keras's losses take (labels, outputs), PyTorch's take (outputs, labels).""")
    first = world.log[: len(world.log) // 2]
    if first.index("step") < first.index("backward"):
        raise Wrong("""The optimizer steps before the gradients of this batch are there.
            Hint: which line computes the gradients?""")
    if "zero_grad" in first[first.index("backward") : first.index("step")]:
        raise Wrong("""The gradients are wiped after they were computed: the step has length 0.
            Hint: wipe what the last batch left, not what this one has computed.""")
    if not np.isclose(world.w, 1.5):
        raise Wrong(f"""After two steps the weight should be 1.5; yours is {world.w:g}.
            Hint: one forward pass, one backward pass, one step a batch.""")
    if not isinstance(losses[0], float):
        raise Wrong("""The step is right. Give back the loss as a number, not as PyTorch's object.
            Hint: the object holds on to everything that was computed on the way to it.""")
