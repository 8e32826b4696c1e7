"""A class's laptop in a notebook, with a laptop that is not one."""

from __future__ import annotations

import threading

import ipywidgets
import pytest

from fedtutor.course import class_panel


class Laptop:
    """Tells a line when it is watched, and remembers that it was left."""

    def __init__(self, address, code, *, tell, **given):
        self.asked, self._tell = (address, code, given), tell
        self.watched, self.left = threading.Event(), False

    def start(self):
        self._tell("you are <North>")
        return self

    def watch(self):
        self._tell("connected")
        self.watched.set()

    def close(self):
        self.left = True


@pytest.fixture
def shown(monkeypatch):
    """What is put on the screen."""
    boxes = []
    monkeypatch.setattr(class_panel, "Laptop", Laptop)
    monkeypatch.setattr(class_panel, "display", boxes.append)
    return boxes


def test_a_cell_joins_shows_what_happens_and_leaves(shown):
    laptop = class_panel.join_class("192.0.2.1", "CODE", name="North")
    laptop.watched.wait(60)
    assert laptop.asked == ("192.0.2.1", "CODE", {"name": "North"})
    told, button = shown[0].children
    assert isinstance(button, ipywidgets.Button)
    assert told.value == "you are &lt;North&gt;<br>connected"
    button.click()
    assert laptop.left and button.disabled
    assert told.value.endswith("you have left the class")
