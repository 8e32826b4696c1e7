"""Federated learning with Flower: one ClientApp and one ServerApp for every engine."""

from fedtutor.federation.client import make_client_app
from fedtutor.federation.guard import GuardedGrid, LeftOut, Traffic
from fedtutor.federation.in_process import InProcessGrid, run_in_process
from fedtutor.federation.server import RoundLog, make_server_app, train_config
from fedtutor.federation.strategies import STRATEGIES, StreamingFedAvg, make_strategy, strategy_for

__all__ = [
    "STRATEGIES",
    "GuardedGrid",
    "InProcessGrid",
    "LeftOut",
    "RoundLog",
    "StreamingFedAvg",
    "Traffic",
    "make_client_app",
    "make_server_app",
    "make_strategy",
    "run_in_process",
    "strategy_for",
    "train_config",
]
