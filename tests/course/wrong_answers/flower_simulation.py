"""Wrong answers to the exercises of flower_simulation; each must earn a hint of its own."""

from __future__ import annotations

from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from wrong import wrong, wrong_value

from fedtutor.course.lessons.flower_simulation import InTurn, find_foreign
from fedtutor.federation.in_process import FIRST_NODE_ID
from fedtutor.federation.records import to_weights


def _replying(weights_of=None, metrics_of=None):
    """A right answer but for the given change."""

    def answer(message, context, images, train):
        weights = to_weights(message.content["arrays"])
        trained = train(weights, images) if weights_of is None else weights_of(weights)
        metrics = {"num-examples": len(images)} if metrics_of is None else metrics_of(images)
        content = RecordDict({"arrays": ArrayRecord(trained), "metrics": MetricRecord(metrics)})
        return Message(content, reply_to=message)

    return answer


wrong_value("05.1", "num_examples_with_underscore", _replying(None, lambda i: {"num_examples": 30}))
wrong_value("05.1", "pixels", _replying(None, lambda i: {"num-examples": i.size}))
wrong_value("05.1", "batches", _replying(None, lambda i: {"num-examples": -(-len(i) // 8)}))
wrong_value("05.1", "always_one", _replying(None, lambda i: {"num-examples": 1}))
wrong_value("05.1", "a_fixed_number", _replying(None, lambda i: {"num-examples": 30}))
wrong_value("05.1", "untrained", _replying(lambda weights: weights))


@wrong("05.1")
def no_message(message, context, images, train):
    return train(to_weights(message.content["arrays"]), images), len(images), {}


@wrong("05.1")
def not_a_reply(message, context, images, train):
    content = _replying()(message, context, images, train).content
    return Message(content, dst_node_id=FIRST_NODE_ID, message_type=MessageType.TRAIN)


@wrong("05.1")
def no_metrics(message, context, images, train):
    content = _replying()(message, context, images, train).content
    del content["metrics"]
    return Message(content, reply_to=message)


@wrong("05.1")
def record_in_place_of_arrays(message, context, images, train):
    return train(message.content["arrays"], images)


def _blind_to(record, entry):
    """A right audit but for one thing that it does not see."""
    return lambda content, weights: [
        pair for pair in find_foreign(content, weights) if pair != (record, entry)
    ]


wrong_value("05.2", "two_records_are_enough", _blind_to("notes", "0"))
wrong_value("05.2", "does_not_count_arrays", _blind_to("arrays", "2"))
wrong_value("05.2", "does_not_look_at_shapes", _blind_to("arrays", "1"))
wrong_value("05.2", "trusts_metrics", _blind_to("metrics", "pixels"))


@wrong("05.2")
def yes_or_no(content, weights):
    return bool(find_foreign(content, weights))


@wrong("05.2")
def names_of_records_only(content, weights):
    return [(record, record) for record, _ in find_foreign(content, weights)]


@wrong("05.2")
def distrusts_losses(content, weights):
    return find_foreign(content, weights) or [("metrics", "loss")]


@wrong("05.3")
def no_band(gradients, weights, sent, mu):
    return gradients


@wrong("05.3")
def pushes(gradients, weights, sent, mu):
    return [g + mu * (s - w) for g, w, s in zip(gradients, weights, sent, strict=True)]


@wrong("05.3")
def without_mu(gradients, weights, sent, mu):
    return [g + (w - s) for g, w, s in zip(gradients, weights, sent, strict=True)]


@wrong("05.3")
def weight_decay(gradients, weights, sent, mu):
    return [g + mu * w for g, w in zip(gradients, weights, strict=True)]


@wrong("05.3")
def pull_alone(gradients, weights, sent, mu):
    return [mu * (w - s) for w, s in zip(weights, sent, strict=True)]


@wrong("05.3")
def half_the_pull(gradients, weights, sent, mu):
    return [g + mu / 2 * (w - s) for g, w, s in zip(gradients, weights, sent, strict=True)]


@wrong("05.3")
def one_array_only(gradients, weights, sent, mu):
    return gradients[0] + mu * (weights[0] - sent[0])


class _Choosing(InTurn):
    """A right strategy but for whom it chooses."""

    def choose(self, nodes):
        raise NotImplementedError

    def configure_train(self, server_round, arrays, config, grid):
        config["server-round"] = server_round
        content = RecordDict({"arrays": arrays, "config": config})
        chosen = self.choose(sorted(grid.get_node_ids()))
        self.asked.update(chosen)
        return [Message(content, node, MessageType.TRAIN) for node in chosen]


@wrong("05.4")
class Everybody(_Choosing):
    def choose(self, nodes):
        return nodes


@wrong("05.4")
class AQuarter(_Choosing):
    def choose(self, nodes):
        return sorted(nodes, key=lambda node: self.asked[node])[: len(nodes) // 4]


@wrong("05.4")
class FirstHalf(_Choosing):
    def choose(self, nodes):
        return nodes[: len(nodes) // 2]


@wrong("05.4")
class EveryOther(_Choosing):
    def choose(self, nodes):
        return sorted(nodes, key=lambda node: (self.asked[node], node % 2))[: len(nodes) // 2]


@wrong("05.4")
class Overlapping(_Choosing):
    def choose(self, nodes):
        first = 2 * (sum(self.asked.values()) // 4)
        return nodes[first % 8 :][:4] if first % 8 < 5 else nodes[:4]


@wrong("05.4")
class FourWhateverHappens(_Choosing):
    def choose(self, nodes):
        return sorted(nodes, key=lambda node: (self.asked[node], node))[:4]


@wrong("05.4")
class NodesInPlaceOfMessages(_Choosing):
    def configure_train(self, server_round, arrays, config, grid):
        return grid.get_node_ids()[:4]


@wrong("05.4")
class WithoutTheRound(_Choosing):
    def configure_train(self, server_round, arrays, config, grid):
        content = RecordDict({"arrays": arrays})
        return [Message(content, node, MessageType.TRAIN) for node in grid.get_node_ids()[:4]]


@wrong("05.4")
def a_word(**options):
    return "InTurn"
