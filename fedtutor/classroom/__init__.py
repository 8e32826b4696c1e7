"""A class as a federation: ``fedtutor host`` on the teacher's machine, ``fedtutor join`` elsewhere.

Behind it are Flower's own SuperLink and SuperNodes. New are a code to join with, the desk that
checks it, a board for the wall, and words for what can go wrong in a room full of laptops.
"""

import importlib.metadata

from fedtutor import __version__

DEFAULTS = {"hospitals": 30, "size": 32, "rounds": 10}
"""Other defaults than those of a run."""
PORT = 8765
"""Where laptops reach the host, unless another one is asked for."""


def versions() -> dict[str, str]:
    """Return the versions that a laptop must share with its host."""
    return {"fedtutor": __version__, "flwr": importlib.metadata.version("flwr")}
