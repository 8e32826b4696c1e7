"""From the notebook to hospitals: a federation of real processes, with TLS and keys.

For learning and for rehearsing: what is started here is Flower's own SuperLink and SuperNodes, as
in real hospitals, and no second implementation of anything.
"""

DEFAULTS = {"hospitals": 3, "rounds": 3, "size": 32, "round_timeout": 180.0, "patience": 10.0}
"""Other defaults than those of a run: who is gone from one machine will not come back."""
