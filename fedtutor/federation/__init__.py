"""Federated learning with Flower: one ClientApp and one ServerApp for every engine."""

import os

# Before Flower is imported: nothing may be sent home from a hospital, or from a classroom.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_LOG_LEVEL", "ERROR")

from fedtutor.federation.apps import make_client_app, make_server_app, train_config  # noqa: E402
from fedtutor.federation.guard import GuardedGrid, LeftOut, Traffic
from fedtutor.federation.in_process import InProcessGrid, run_in_process
from fedtutor.federation.roll import Roll
from fedtutor.federation.strategies import STRATEGIES, StreamingFedAvg, make_strategy

__all__ = [
    "STRATEGIES",
    "GuardedGrid",
    "InProcessGrid",
    "LeftOut",
    "Roll",
    "StreamingFedAvg",
    "Traffic",
    "make_client_app",
    "make_server_app",
    "make_strategy",
    "run_in_process",
    "train_config",
]
