"""For the tests below this folder, which also import ``toys`` from here."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def no_collecting(monkeypatch):
    """Flower collects garbage after each reply; with TensorFlow loaded that takes a second."""
    monkeypatch.setattr(gc, "collect", lambda *args: 0)
