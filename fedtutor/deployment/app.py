"""The course's Flower app: what ``flwr run .`` starts, and what hospitals run in a deployment.

``[tool.flwr.app]`` in ``pyproject.toml`` names :data:`client_app` and :data:`server_app`, and
lists the run config with its defaults. Flower loads this anew for every message, so nothing heavy
is imported before it is needed: where a resident replies, :mod:`fedtutor.deployment.halves` is not.
"""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedtutor.deployment.resident import ask_first

client_app = ask_first("fedtutor.deployment.halves:client_app")
"""The hospital's half."""

server_app = ServerApp()
"""The server's half."""


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the server's half."""
    from fedtutor.deployment.halves import lead

    lead(grid, context)
