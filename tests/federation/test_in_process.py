from __future__ import annotations

import ast
import builtins
import gc
import threading
import time
import weakref
from threading import Lock

import numpy as np
import pytest
from flwr.app import Array, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from fedtutor import federation
from fedtutor.aggregation import GROUP
from fedtutor.compiled_training import Trainer, trainer_for
from fedtutor.cores import WORKERS, Stopped, check_stopped, side_by_side
from fedtutor.errors import DataError, FederationError
from fedtutor.federation.records import ArrayView, num_bytes, to_record, to_weights
from fedtutor.model import create_model
from fedtutor.settings import TrainingSettings
from fedtutor.topics import with_mods


def echo_app(log=None):
    app = ClientApp()

    @app.train()
    def train(message, context):
        if log is not None:
            log.append(context.node_config["partition-id"])
        context.state["visits"] = ConfigRecord(
            {"n": context.state["visits"]["n"] + 1 if "visits" in context.state else 1}
        )
        metrics = MetricRecord({"num-examples": 1, "visits": context.state["visits"]["n"]})
        content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
        return Message(content, reply_to=message)

    return app


def messages(grid, order=None):
    content = RecordDict({"arrays": to_record([np.ones(3, np.float32)])})
    nodes = grid.get_node_ids()
    return [Message(content, nodes[k], "train") for k in order or range(len(nodes))]


def test_nobody_trains_before_the_reply_is_asked_for():
    log = []
    grid = federation.InProcessGrid(echo_app(log), ["a", "b", "c"])
    replies = iter(grid.send_and_receive(messages(grid)))
    assert log == []
    next(replies)
    assert log == [0]


def test_hospitals_are_visited_in_order_whatever_the_strategy_drew():
    log = []
    grid = federation.InProcessGrid(echo_app(log), ["a", "b", "c"])
    list(grid.send_and_receive(messages(grid, [2, 0, 1])))
    assert log == [0, 1, 2]


def test_a_hospital_keeps_its_context_over_the_rounds():
    grid = federation.InProcessGrid(echo_app(), ["a", "b"])
    for visit in (1, 2, 3):
        replies = list(grid.send_and_receive(messages(grid)))
        assert [reply.content["metrics"]["visits"] for reply in replies] == [visit, visit]


def test_messages_can_be_pushed_and_pulled_later():
    grid = federation.InProcessGrid(echo_app(), ["a", "b"])
    pushed = grid.push_messages(messages(grid))
    (second,) = grid.pull_messages(pushed[1:])
    assert second.metadata.src_node_id == grid.get_node_ids()[1]
    assert second.metadata.reply_to_message_id == pushed[1]


def test_an_unknown_node_gets_an_error_not_a_crash():
    grid = federation.InProcessGrid(echo_app(), ["a"])
    content = RecordDict({"arrays": to_record([np.ones(3, np.float32)])})
    (reply,) = grid.send_and_receive([Message(content, 999, "train")])
    assert reply.has_error()
    assert "999" in reply.error.reason


def test_a_federation_of_nobody_is_refused():
    with pytest.raises(FederationError, match="at least one"):
        federation.InProcessGrid(echo_app(), [])


def test_ctrl_c_goes_through():
    app = ClientApp()

    @app.train()
    def train(message, context):
        raise KeyboardInterrupt

    grid = federation.InProcessGrid(app, ["a"])
    with pytest.raises(KeyboardInterrupt):
        list(grid.send_and_receive(messages(grid)))


def test_with_a_streaming_strategy_no_more_models_are_alive_than_are_added_at_a_time():
    alive, most = [], []
    app = ClientApp()

    class Tracked(np.ndarray):
        pass

    @app.train()
    def train(message, context):
        gc.collect()
        most.append(sum(reference() is not None for reference in alive))
        update = np.ones(1000, np.float32).view(Tracked)
        alive.append(weakref.ref(update))
        record = to_record([np.zeros(1000, np.float32)])
        record["0"].__dict__["_ndarray"] = update
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    server_app = federation.make_server_app(
        [np.zeros(1000, np.float32)],
        federation.make_strategy("fedavg", 50),
        num_rounds=1,
        config=ConfigRecord({}),
    )
    context = federation.run_in_process(server_app, app, [f"h{k}" for k in range(50)])
    np.testing.assert_array_equal(to_weights(context.state["arrays"])[0], np.ones(1000))
    assert len(most) == 50
    assert max(most) <= GROUP + 1


def test_a_record_does_not_copy_and_cannot_be_written_to():
    weights = [np.arange(6, dtype=np.float32).reshape(2, 3)]
    (back,) = to_weights(to_record(weights))
    assert np.shares_memory(back, weights[0])
    with pytest.raises(ValueError, match="read-only"):
        back[0, 0] = 1


def test_on_a_wire_a_view_is_an_ordinary_array():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    view, plain = ArrayView(values), Array(values)
    assert view.data == plain.data
    assert view.deflate() == plain.deflate()
    inflated = Array.inflate(view.deflate(), view.children)
    np.testing.assert_array_equal(inflated.numpy(), values)
    assert num_bytes(to_record([values])) == values.nbytes


def meeting_app(*, side_by_side):
    """Three hospitals that train only at the same time; the second one fails."""
    app, meeting = echo_app(), threading.Barrier(3, timeout=600)
    app.side_by_side = side_by_side

    def meet(message, context, call_next):
        if side_by_side:
            meeting.wait()
        if context.node_config["partition-id"] == 1:
            raise SystemExit("no")
        assert side_by_side or threading.current_thread() is threading.main_thread()
        return call_next(message, context)

    return with_mods(app, meet)


@pytest.mark.parametrize("side_by_side", [True, False])
def test_hospitals_train_side_by_side_if_the_app_bears_it(side_by_side, monkeypatch):
    monkeypatch.setenv(WORKERS, "3")
    grid = federation.InProcessGrid(meeting_app(side_by_side=side_by_side), ["a", "b", "c"])
    replies = list(grid.send_and_receive(messages(grid, [2, 0, 1])))
    assert [reply.metadata.src_node_id for reply in replies] == grid.get_node_ids()
    assert [reply.has_error() for reply in replies] == [False, True, False]


@pytest.mark.parametrize(("trainer_for", "at_once"), [(trainer_for, True), (Trainer, False)])
def test_an_app_bears_it_if_each_thread_has_its_own_trainer(trainer_for, at_once):
    app = federation.make_client_app(lambda context: None, trainer_for=trainer_for)
    assert app.side_by_side is at_once
    assert with_mods(app).side_by_side is at_once


def test_no_two_threads_parse_python_at_a_time(make_images, monkeypatch):
    """As before Python 3.11.8 one of them may fail: NumPy parses headers, autograph functions."""
    monkeypatch.setenv(WORKERS, "2")
    images, compile_here, parsing, met = make_images(20, size=13), compile, Lock(), []

    def spy(source, filename, mode, flags=0, *more, **options):
        if not flags & ast.PyCF_ONLY_AST:
            return compile_here(source, filename, mode, flags, *more, **options)
        alone = parsing.acquire(blocking=False)
        met.append(not alone)
        time.sleep(0.002)  # the other thread's chance
        if alone:
            parsing.release()
        return compile_here(source, filename, mode, flags, *more, **options)

    def federate(strategy):
        config = federation.train_config(TrainingSettings(), num_rounds=2)
        first = create_model((13, 13, 1), 3).get_weights()
        server = federation.make_server_app(first, strategy, num_rounds=2, config=config)
        app = federation.make_client_app(lambda context: images)
        federation.run_in_process(server, app, ["a", "b", "c"])

    monkeypatch.setattr(builtins, "compile", spy)
    federate(FedAvg())  # its hospitals side by side
    list(side_by_side(federate, [FedAvg(), FedAvg()]))
    assert met
    assert not any(met)


def test_what_goes_on_is_stopped_when_the_run_ends_in_an_error(monkeypatch):
    monkeypatch.setenv(WORKERS, "2")
    app, begun, stopped = ClientApp(), threading.Event(), threading.Event()
    app.side_by_side = True

    @app.train()
    def train(message, context):
        if context.node_config["partition-id"] == 0:
            assert begun.wait(600)
            return Message(RecordDict(), reply_to=message)
        begun.set()
        try:
            while True:
                check_stopped()
        except Stopped:
            stopped.set()
            raise

    server = ServerApp()

    @server.main()
    def main(grid, context):
        for _ in grid.send_and_receive(messages(grid)):
            raise DataError("the strategy cannot go on")

    with pytest.raises(DataError) as caught:
        federation.run_in_process(server, app, ["a", "b"])
    assert stopped.wait(600), caught  # with the traceback, and so the grid, still at hand
