"""Wrong answers to the exercises of flower_simulation; each must earn a hint of its own."""

from __future__ import annotations

from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from wrong import wrong, wrong_value

from fedtutor.course.lessons.flower_simulation import STORY
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


class _FirstHalf(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        node_ids = sorted(grid.get_node_ids())
        record = RecordDict({"arrays": arrays, "config": config})
        half_of_them = node_ids[: len(node_ids) // 2]
        return self._construct_messages(record, half_of_them, MessageType.TRAIN)


@wrong("05.2")
def everybody(num_hospitals):
    return FedAvg()


@wrong("05.2")
def fraction_of_the_evaluation(num_hospitals):
    return FedAvg(fraction_evaluate=0.5)


@wrong("05.2")
def a_minimum_overrules(num_hospitals):
    return FedAvg(fraction_train=0.5, min_train_nodes=num_hospitals)


@wrong("05.2")
def four_whatever_happens(num_hospitals):
    return FedAvg(fraction_train=0.1, min_train_nodes=4)


@wrong("05.2")
def per_cent(num_hospitals):
    return FedAvg(fraction_train=50)


@wrong("05.2")
def nobody(num_hospitals):
    return FedAvg(fraction_train=0.0)


@wrong("05.2")
def a_tenth(num_hospitals):
    return FedAvg(fraction_train=0.1)


@wrong("05.2")
def always_the_first_half(num_hospitals):
    return _FirstHalf()


@wrong("05.2")
def a_number(num_hospitals):
    return num_hospitals // 2


wrong_value("05.3", "the_survivors", {"Alder", "Cedar", "Elm", "Ginkgo"})
wrong_value("05.3", "also_the_bad_learner", {"Birch", "Cedar", "Dogwood", "Fir"})
wrong_value("05.3", "also_the_small_one", {"Birch", "Dogwood", "Elm", "Fir"})
wrong_value("05.3", "also_the_liar", {"Birch", "Dogwood", "Fir", "Ginkgo"})
wrong_value("05.3", "not_the_late_one", {"Dogwood", "Fir"})
wrong_value("05.3", "not_the_nan", {"Birch", "Fir"})
wrong_value("05.3", "not_the_empty_one", {"Birch", "Dogwood"})
wrong_value("05.3", "everybody", set(STORY))
wrong_value("05.3", "one_string", "Birch, Dogwood, Fir")
