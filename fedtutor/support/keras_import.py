"""The only door to Keras and TensorFlow: opened when a model is asked for, and quietly."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# One thread an operation, see fedtutor.cores; 0 gives each all cores. TensorFlow looks at it when
# it first computes; Ray's workers have imported TensorFlow before they come here.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


def load_keras() -> Any:
    """Import Keras on TensorFlow; this is the only door to it, and it takes seconds."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _held_stderr():
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
