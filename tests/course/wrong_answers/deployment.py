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


wrong_value("13.1", "weights_themselves", lambda k, b, kernel, bias: kernel[:, 0] / bias[0])
wrong_value("13.1", "all_classes", lambda k, b, kernel, bias: (kernel - k) / (bias - b))
wrong_value("13.1", "always_the_first", lambda k, b, new, bias: (new - k)[:, 0] / (bias - b)[0])
wrong_value("13.1", "one_over", lambda k, b, new, bias: (bias - b)[2] / (new - k)[:, 2])
wrong_value("13.1", "sign_turned", lambda k, b, new, bias: (k - new)[:, 2] / (bias - b)[2])
wrong_value("13.1", "not_divided", lambda k, b, new, bias: (new - k)[:, 2])


wrong_value("13.2", "another_name", _reports(_distance, "distance"))
wrong_value("13.2", "no_root", _reports(lambda sent, new: _distance(sent, new) ** 2))
wrong_value("13.2", "length_of_the_new", _reports(lambda s, n: _distance([0 * a for a in n], n)))
wrong_value("13.2", "first_array_only", _reports(lambda s, n: _distance(s[:1], n[:1])))
wrong_value("13.2", "not_a_plain_number", _reports(lambda s, n: np.float32(1)))
wrong_value("13.2", "sent_with_itself", _reports(lambda s, n: _distance(s, s)))


@wrong("13.2")
def gives_back_the_number(message, context, call_next):
    call_next(message, context)
    return 6.0


@wrong("13.2")
def every_message(message, context, call_next):
    reply = call_next(message, context)
    sent, new = (to_weights(m.content["arrays"]) for m in (message, reply))
    reply.content["metrics"]["moved"] = _distance(sent, new)
    return reply


@wrong("13.2")
def a_record_of_its_own(message, context, call_next):
    reply = call_next(message, context)
    reply.content["more"] = MetricRecord({"moved": 6.0})
    return reply


@wrong("13.2")
def metrics_replaced(message, context, call_next):
    reply = call_next(message, context)
    if message.metadata.message_type == "train":
        reply.content["metrics"] = MetricRecord({"moved": 6.0})
    return reply


wrong_value("13.3", "all_true", dict.fromkeys(STATEMENTS, True))
wrong_value("13.3", "all_false", dict.fromkeys(STATEMENTS, False))
wrong_value("13.3", "words", dict.fromkeys(STATEMENTS, "yes"))
wrong_value("13.3", "a_list", [True, False, False, True, False, False])
wrong_value("13.3", "tls_helps_all", {k: v for k, (v, _) in STATEMENTS.items()} | {"F": True})
