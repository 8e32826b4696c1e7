"""The dashboard of notebook 05, with a federation that only pretends to train."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from fedtutor.course.dashboard import Dashboard
from fedtutor.errors import FederationError
from fedtutor.federation import LeftOut

NAMES = ["North", "South"]


def pretend(rounds, on_reply, on_round, *, meanwhile=lambda server_round: None):
    """South is left out of round 2; round r ends with the model [r]."""
    grid = SimpleNamespace(left_out=[])
    on_round(0, [0], grid)
    for server_round in range(1, rounds + 1):
        meanwhile(server_round)
        on_reply(server_round, "North", {"loss": 1 / server_round})
        if server_round == 2:
            grid.left_out.append(LeftOut(2, "South", "asleep"))
        else:
            on_reply(server_round, "South", {"loss": 2 / server_round})
        on_round(server_round, [server_round], grid)


def dashboard(train=pretend, rounds=3):
    return Dashboard(train, NAMES, lambda weights: 0.5 + 0.1 * weights[0], rounds=rounds)


def test_before_and_after_a_run():
    board = dashboard()
    assert "No round" in board.state
    assert "none yet" in board.picture.alt
    board.run()
    assert board.weights == [3]
    assert board.values == {"round": 3}
    assert board.set(round=0).state.endswith("AUC of ≈0.50.")
    assert "2 hospitals trained" in board.set(round=1).state
    assert "1 hospitals" not in board.state
    assert "South was left out" in board.set(round=2).state
    assert "1: 0.60" in board.picture.alt


def test_the_screen_follows_the_run_and_the_slider():
    board = dashboard()
    words = board.widget.children[2]
    assert "No round" in words.value
    board.run()
    assert "Round 3 of 3" in words.value
    *_, bar, status = board.widget.children[0].children
    assert (bar.value, bar.max) == (5, 6)
    assert "done" in status.value
    board.set(round=1)
    assert "Round 1 of 3" in words.value


def test_stop_keeps_the_last_whole_round():
    board = dashboard(
        lambda *args: pretend(*args, meanwhile=lambda r: stop.click() if r == 3 else None)
    )
    _, stop, _, status = board.widget.children[0].children
    board.run()
    assert board.weights == [2]
    assert "stopped; the model is that of round 2" in status.value
    assert board.values == {"round": 2}


@pytest.mark.slow
def test_start_trains_in_the_background_and_a_second_run_waits_for_it():
    go_on = threading.Event()
    board = dashboard(lambda *args: pretend(*args, meanwhile=lambda r: go_on.wait(10)))
    start, stop, *_ = board.widget.children[0].children
    start.click()
    start.click()  # once more changes nothing
    threading.Timer(0.2, go_on.set).start()
    board.run()
    assert board.weights == [3]
    go_on.clear()
    start.click()
    stop.click()
    go_on.set()
    board._wait()
    assert board.weights == [0]


def test_a_run_that_fails_says_so():
    def fails(rounds, on_reply, on_round):
        raise FederationError("round 1: nobody is there")

    board = dashboard(fails)
    start, *_, status = board.widget.children[0].children
    with pytest.raises(FederationError):
        board.run()
    start.click()
    board._wait()
    assert "nobody is there" in status.value
