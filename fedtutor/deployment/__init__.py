"""From the notebook to hospitals: a federation of real processes, with TLS and keys.

For learning and for rehearsing: what is started here is Flower's own SuperLink and SuperNodes, as
in real hospitals, and no second implementation of anything.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "LocalFederation": "federation",
    "LocalSimulation": "superlink",
    "RecordingProxy": "proxy",
    "Running": "running",
    "SuperLink": "superlink",
    "TlsFiles": "certificates",
    "write_app": "appfolder",
    "write_key_pair": "certificates",
    "write_tls_files": "certificates",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:  # the command line's help need not wait for Flower
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
