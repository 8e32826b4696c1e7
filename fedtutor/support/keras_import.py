"""The only door to Keras and TensorFlow: opened when a model is asked for, and quietly."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# One thread an operation, see fedtutor.cores; 0 gives each all cores. TensorFlow looks at it when
# it first computes; Ray's workers have imported TensorFlow before they come here.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


NOT_OPENED = ("sklearn", "matplotlib", "matplotlib.pyplot")
"""Keras opens them only for its own wrappers and galleries; a quarter of the time goes to them."""


def load_keras() -> Any:
    """Import Keras on TensorFlow; this is the only door to it, and it takes seconds.

    Who wants ``keras.wrappers`` or ``keras.visualization`` imports :data:`NOT_OPENED` before.
    """
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _held_stderr(), _unopened(), _left_alone():
            import tensorflow as tf

            tf.config.list_physical_devices()
    import keras

    return keras


@contextmanager
def _held_stderr() -> Iterator[None]:
    """Hold back what is written to stderr, and show it only if something goes wrong.

    TensorFlow announces missing GPUs from C++, before its own log level is in force.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)


@contextmanager
def _left_alone() -> Iterator[None]:
    """Keep the garbage collector off what is loaded here, now and for good.

    TensorFlow makes half a million objects, and each look through them takes half a second.
    """
    gc.collect()  # what is garbage now would be left alone, too
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@contextmanager
def _unopened() -> Iterator[None]:
    """Have this thread find none of :data:`NOT_OPENED` but what has been imported already."""
    here = threading.get_ident()

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name in NOT_OPENED and threading.get_ident() == here:
                raise ModuleNotFoundError(f"Keras does without {name} here", name=name)

    sys.meta_path.insert(0, Finder)
    try:
        yield
    finally:
        sys.meta_path.remove(Finder)
