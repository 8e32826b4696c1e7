"""Settings: the one table behind the command line, Flower's run config and what hospitals are told.

Every field below states once its default, what it allows and its help. From the fields come the
options of ``fedtutor run``, Flower's run config and the part of a message that tells a hospital how
to train; :mod:`fedtutor.deployment.server_settings` adds what only a server in a network needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from numbers import Real
from typing import Any

from fedtutor.errors import DataError, PartitionError

OPTIMIZERS = ("adam", "sgd", "momentum")
SCHEDULES = ("constant", "cosine")
COLOURS = ("grey", "rgb")
FEDPROX_MU = 0.01
"""FedProx's pull where nothing else is asked for; the smallest that Li et al. 2020 try is 0.001."""

Config = dict[str, str | int | float]
"""A Flower config: keys with hyphens, and "" or 0 where a setting is None."""


def setting(
    default: Any,
    text: str,
    metavar: str = "N",
    *,
    least: float | None = None,
    above: float | None = None,
    known: tuple[str, ...] = (),
    kind: type | None = None,
) -> Any:
    """Return a dataclass field that carries its help and what it allows.

    Parameters
    ----------
    default : the value if nothing is asked for; None says that the program decides.
    text : the help; ``metavar`` stands for the value in it.
    least, above, known : a number's bounds, or the words that are allowed.
    kind : the value's type, by default that of ``default``.
    """
    allowed = {"least": least, "above": above, "known": known, "kind": kind or type(default)}
    return field(default=default, metadata={"help": text, "metavar": metavar, **allowed})


class Checked:
    """A dataclass whose fields were made by :func:`setting`, checked when it is made."""

    def __post_init__(self) -> None:
        for one in settings_in(type(self)):
            value, allowed = getattr(self, one.name), one.metadata
            words = one.name.replace("_", " ")
            if value is None and one.default is None:
                continue
            if allowed["known"] and value not in allowed["known"]:
                known = ", ".join(allowed["known"])
                raise DataError(f"unknown {words} {value!r}; known: {known}.")
            if allowed["above"] is not None and not allowed["above"] < value < math.inf:
                raise DataError(f"{words} must be above {allowed['above']}; got {value}.")
            if allowed["least"] is not None and not allowed["least"] <= value < math.inf:
                bound = "0 or more" if allowed["least"] == 0 else f"at least {allowed['least']}"
                raise DataError(f"{words} must be {bound}; got {value}.")


@dataclass(frozen=True)
class TrainingSettings(Checked):
    """How a hospital trains; each setting's own text says what it is."""

    optimizer: str = setting(
        "adam", "adam (Kingma & Ba 2015), sgd, or momentum (0.9)", "NAME", known=OPTIMIZERS
    )
    learning_rate: float = setting(1e-3, "step size", "X", above=0)
    batch_size: int = setting(8, "images in a gradient step", least=1)
    proximal_mu: float = setting(
        0.0,
        f"FedProx's pull (Li et al. 2020, eq. 2); fedprox takes {FEDPROX_MU} for 0",
        "X",
        least=0,
    )
    schedule: str = setting(
        "constant", "step size: constant, or lowered like a cosine", "NAME", known=SCHEDULES
    )


@dataclass(frozen=True)
class RunSettings(Checked):
    """What one run of the main job is asked for; :class:`TrainingSettings` is a part of it.

    With ``strategy="fedprox"`` and no ``proximal_mu`` the hospitals train with
    :data:`FEDPROX_MU`, and ``training`` says so.
    """

    dataset: str = setting(
        "chest-phantoms", "a name from 'fedtutor datasets', an .npz file or a folder", "NAME|PATH"
    )
    task: str | None = setting(
        None, "what to learn, where 'fedtutor datasets' names several tasks", "TEXT", kind=str
    )
    hospitals: int | None = setting(
        None, "how many (default: 5; with by:COLUMN one for each value)", least=1, kind=int
    )
    partition: str | None = setting(
        None,
        "iid, dirichlet, shards, quantity or by:COLUMN, such as by:view "
        "(default: by:hospital if the set knows its hospitals, else dirichlet)",
        "SCHEME",
        kind=str,
    )
    alpha: float = setting(
        0.5, "evenness of dirichlet and quantity: 0.1 very uneven, 100 nearly even", "X"
    )
    rounds: int = setting(12, "rounds of federation", least=1)
    local_epochs: int = setting(
        1, "passes a hospital makes over its own images in a round", least=1
    )
    strategy: str = setting(
        "fedavg",
        "how the server averages: fedavg, fedprox, fedavgm, fedadam, fedyogi, fedadagrad, "
        "fedmedian, fedtrimmedavg, krum, multikrum or bulyan",
        "NAME",
    )
    size: int | None = setting(
        None, "side of the images (default: the set's own)", "PIXELS", kind=int
    )
    colour: str = setting("grey", "how a folder is read: grey, or rgb", "NAME", known=COLOURS)
    seed: int = setting(0, "of everything random", least=0)
    min_hospitals: int = setting(1, "stop if fewer send a usable update in a round", least=1)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dataset", str(self.dataset))  # a path is welcome, too
        check_alpha(self.alpha)
        if self.strategy == "fedprox" and not self.training.proximal_mu:
            pulled = replace(self.training, proximal_mu=FEDPROX_MU)
            object.__setattr__(self, "training", pulled)


def check_alpha(alpha: float) -> None:
    """Raise :class:`PartitionError` unless alpha is a finite number above 0."""
    if not isinstance(alpha, Real) or not 0 < alpha < math.inf:
        raise PartitionError(
            f"alpha must be a number above 0 (0.1 is very uneven, 100 nearly even); got {alpha}."
        )


def settings_in(cls: Any) -> Iterator[Field]:
    """Yield the fields of a class that :func:`setting` made."""
    return (one for one in fields(cls) if "help" in one.metadata)


def to_config(settings: Checked) -> Config:
    """Return settings as a Flower config."""
    values = {one: getattr(settings, one.name) for one in settings_in(type(settings))}
    return {
        one.name.replace("_", "-"): one.metadata["kind"]() if value is None else value
        for one, value in values.items()
    }


def from_config(cls: type, config: Mapping[str, Any], **further: Any) -> Any:
    """Return settings of a class from a Flower config, which may hold more than they need.

    ``further`` are the class's other fields.
    """
    found = {}
    for one in settings_in(cls):
        value = one.metadata["kind"](config[one.name.replace("_", "-")])
        found[one.name] = None if one.default is None and not value else value
    return cls(**found, **further)
