"""What the later notebooks are about; the core does not need any of it."""

from __future__ import annotations

from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

from fedtutor.aggregation import update_norm
from fedtutor.model import Weights


def with_mods(app: ClientApp, *mods: Mod) -> ClientApp:
    """Put mods around the training of a ClientApp; the first one is the outermost.

    A mod is Flower's hook for code that sees what comes in and changes what goes out:
    ``mod(message, context, call_next)`` returns the reply.
    """
    outer = ClientApp()
    outer.train(mods=list(mods))(app)
    outer.evaluate()(app)
    outer.query()(app)
    outer.side_by_side = getattr(app, "side_by_side", False)  # type: ignore[attr-defined]
    return outer


def clip_update(update: Weights, max_norm: float) -> Weights:
    """Shorten an update to the length ``max_norm`` if it is longer, in its own dtypes."""
    length = update_norm(update)
    if length <= max_norm:
        return update
    return [(array * (max_norm / length)).astype(array.dtype) for array in update]
