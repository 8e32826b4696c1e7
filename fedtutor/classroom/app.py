"""The class's Flower app; :mod:`fedtutor.classroom.play` is loaded only where no resident is."""

from __future__ import annotations

from fedtutor.deployment.app import server_app
from fedtutor.deployment.resident import ask_first

SCENARIOS = {
    "none": "all are honest and stay",
    "leaves": "one leaves half-way",
    "lies": "one sends its update turned round, five times as long",
    "noise": "each adds noise as long as its update",
}
"""What a run can be about, besides its settings."""

CODE = '''"""The class's app, as it is installed on every laptop."""

from fedtutor.classroom.app import client_app, server_app

__all__ = ["client_app", "server_app"]
'''

client_app = ask_first("fedtutor.classroom.play:client_app")
"""A laptop's half; the server's, :data:`server_app`, is the deployment's."""

__all__ = ["CODE", "SCENARIOS", "client_app", "server_app"]
