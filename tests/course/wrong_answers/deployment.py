"""Wrong answers to the exercises of deployment; each must earn a hint of its own."""

from __future__ import annotations

import numpy as np
from flwr.app import MetricRecord
from wrong import wrong, wrong_value

from fedtutor.course.lessons.deployment import STATEMENTS
from fedtutor.federation.records import to_weights


def _reports(value, name: str = "moved"):
    """A mod that reports ``value(sent, new)``."""

    def mod(message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type == "train":
            sent, new = (to_weights(m.content["arrays"]) for m in (message, reply))
            reply.content["metrics"][name] = value(sent, new)
        return reply

    return mod


def _distance(sent, new) -> float:
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(new, sent, strict=True))))


wrong_value("13.1", "another_name", _reports(_distance, "distance"))
wrong_value("13.1", "no_root", _reports(lambda sent, new: _distance(sent, new) ** 2))
wrong_value("13.1", "length_of_the_new", _reports(lambda s, n: _distance([0 * a for a in n], n)))
wrong_value("13.1", "first_array_only", _reports(lambda s, n: _distance(s[:1], n[:1])))
wrong_value("13.1", "not_a_plain_number", _reports(lambda s, n: np.float32(1)))
wrong_value("13.1", "sent_with_itself", _reports(lambda s, n: _distance(s, s)))


@wrong("13.1")
def gives_back_the_number(message, context, call_next):
    call_next(message, context)
    return 6.0


@wrong("13.1")
def every_message(message, context, call_next):
    reply = call_next(message, context)
    sent, new = (to_weights(m.content["arrays"]) for m in (message, reply))
    reply.content["metrics"]["moved"] = _distance(sent, new)
    return reply


@wrong("13.1")
def a_record_of_its_own(message, context, call_next):
    reply = call_next(message, context)
    reply.content["more"] = MetricRecord({"moved": 6.0})
    return reply


@wrong("13.1")
def metrics_replaced(message, context, call_next):
    reply = call_next(message, context)
    if message.metadata.message_type == "train":
        reply.content["metrics"] = MetricRecord({"moved": 6.0})
    return reply


wrong_value("13.2", "all_true", dict.fromkeys(STATEMENTS, True))
wrong_value("13.2", "all_false", dict.fromkeys(STATEMENTS, False))
wrong_value("13.2", "words", dict.fromkeys(STATEMENTS, "yes"))
wrong_value("13.2", "a_list", [True, False, False, True, False, False])
wrong_value("13.2", "tls_helps_all", {k: v for k, (v, _) in STATEMENTS.items()} | {"F": True})
