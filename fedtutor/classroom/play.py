"""What a laptop of a class does: the course's own app, in which it can be asked to play a part."""

from __future__ import annotations

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from fedtutor import federation
from fedtutor.aggregation import update_norm
from fedtutor.deployment.halves import check_classes, images_of, name_of
from fedtutor.federation.records import arrays_in, config_in, to_record, to_weights
from fedtutor.model import Weights

LIE = 5.0
"""How many times longer; the server's guard leaves out what is ten times the median's length."""


def play(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Train as the run's scenario asks this laptop to: a Flower mod."""
    scenario, number = context.run_config["scenario"], int(context.node_config["partition-id"])
    if "config" not in message.content or scenario == "none":
        return call_next(message, context)
    config = config_in(message)
    now, last = (int(str(config[key])) for key in ("server-round", "num-rounds"))
    chosen = number == context.run_config["scenario-hospital"]
    if chosen and scenario == "leaves" and now > last // 2:
        raise ConnectionError("has left the class")
    reply = call_next(message, context)
    sent, trained = to_weights(arrays_in(message)), to_weights(arrays_in(reply))
    if chosen and scenario == "lies":
        pairs = zip(sent, trained, strict=True)
        reply.content["arrays"] = to_record([w - np.float32(LIE) * (w_k - w) for w, w_k in pairs])
    if scenario == "noise":
        rng = np.random.default_rng([now, number])
        reply.content["arrays"] = to_record(_noisy(sent, trained, rng))
    return reply


def _noisy(sent: Weights, trained: Weights, rng: np.random.Generator) -> Weights:
    """Add to each weight normal noise, on the whole as long as the update is."""
    length = update_norm([b - a for a, b in zip(sent, trained, strict=True)])
    deviation = np.float32(length / sum(array.size for array in sent) ** 0.5)
    return [w + deviation * rng.standard_normal(w.shape, np.float32) for w in trained]


client_app = federation.make_client_app(images_of, name_of=name_of, mods=[play, check_classes])
"""A laptop's half."""
