"""The folder that ``flwr run`` sends: the app's name, its defaults, and two lines of code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from fedtutor.errors import FederationError

CODE = '''"""The course's app, as it is installed on every machine of the federation."""

from fedtutor.deployment.app import client_app, server_app

__all__ = ["client_app", "server_app"]
'''

PROJECT = """[project]
name = "hospitals"
version = "1.0.0"
dependencies = []  # all is installed beforehand, and nothing by the app

[tool.flwr.app]
publisher = "fedtutor"

[tool.flwr.app.components]
clientapp = "app:client_app"
serverapp = "app:server_app"

[tool.flwr.app.config]
"""


def write_app(folder: Path, config: Mapping[str, str | int | float], code: str = CODE) -> Path:
    """Write ``app.py`` and ``pyproject.toml``, and return the folder.

    Parameters
    ----------
    folder : made if it is not there.
    config : the run config.
    code : of ``app.py``; it must define ``client_app`` and ``server_app``. By default those of the
        installed package, so that what travels is only these lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.py").write_text(code, encoding="utf-8")
    (folder / "pyproject.toml").write_text(PROJECT + to_toml(config), encoding="utf-8")
    return folder


def to_toml(values: Mapping[str, Any]) -> str:
    """Return values as TOML, or raise :class:`FederationError` for bytes that are not UTF-8."""
    text = tomli_w.dumps(values)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text[: error.end].splitlines()[-1]
        raise FederationError(f"not in UTF-8: {line!r}. Rename the file or folder.") from error
    return text
