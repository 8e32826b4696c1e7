"""Marks of tests that need more than the core."""

from importlib.util import find_spec

import pytest

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason='no Ray here; pip install "fedtutor[ray]" has it'
)
