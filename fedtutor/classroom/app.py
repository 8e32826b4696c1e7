"""The class's Flower app: the course's own, in which laptops can be asked to play a part."""

from __future__ import annotations

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from fedtutor import federation
from fedtutor.aggregation import update_norm
from fedtutor.deployment.app import check_classes, images_of, name_of, server_app
from fedtutor.deployment.resident import ask_resident
from fedtutor.federation.records import arrays_in, config_in, to_record, to_weights
from fedtutor.topics.robustness.attacks import flip_sign, leave_after, round_of

SCENARIOS = {
    "none": "all are honest and stay",
    "leaves": "one leaves half-way",
    "lies": "one sends its update turned round",
    "noise": "each adds noise as long as its update",
}
"""What a run can be about, besides its settings."""

CODE = '''"""The class's app, as it is installed on every laptop."""

from fedtutor.classroom.app import client_app, server_app

__all__ = ["client_app", "server_app"]
'''


def play(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Train as the run's scenario asks this laptop to: a Flower mod."""
    scenario, number = context.run_config["scenario"], context.node_config["partition-id"]
    if "config" not in message.content or scenario == "none":
        return call_next(message, context)
    if scenario == "noise":
        return _add_noise(call_next(message, context), message, int(number))
    if number != context.run_config["scenario-hospital"]:
        return call_next(message, context)
    half = int(str(config_in(message)["num-rounds"])) // 2
    mod = leave_after(half) if scenario == "leaves" else flip_sign()
    return mod(message, context, call_next)


def _add_noise(reply: Message, message: Message, number: int) -> Message:
    """Add to each weight normal noise, on the whole as long as the update is."""
    sent, trained = to_weights(arrays_in(message)), to_weights(arrays_in(reply))
    length = update_norm([b - a for a, b in zip(sent, trained, strict=True)])
    deviation = length / sum(array.size for array in sent) ** 0.5
    rng = np.random.default_rng([round_of(message), number])
    noisy = [w + np.float32(deviation) * rng.standard_normal(w.shape, np.float32) for w in trained]
    reply.content["arrays"] = to_record(noisy)
    return reply


client_app = federation.make_client_app(
    images_of, name_of=name_of, mods=[ask_resident, play, check_classes]
)
"""A laptop's half; the server's, :data:`server_app`, is the deployment's."""

__all__ = ["CODE", "SCENARIOS", "client_app", "play", "server_app"]
