"""Run a command, and end all that it leaves behind, and nothing else.

python tools/run_and_end.py COMMAND [ARGUMENT ...]

For programs that outlive whoever started them, such as TensorFlow Federated's ``worker_binary``.
They are known by a variable of the environment, which they have inherited.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fedtutor.deployment.processes import end_all_in

MARK = "RUN_AND_END"


def main(command: list[str]) -> int:
    """Return the command's exit code, once nothing of it runs any more."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return subprocess.run(command, env=os.environ | {MARK: folder}).returncode
        except KeyboardInterrupt:
            return 130
        finally:
            end_all_in(Path(folder), MARK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
