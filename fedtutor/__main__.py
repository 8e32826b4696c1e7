"""``python -m fedtutor`` is the command ``fedtutor``."""

import sys

from fedtutor.cli import main

sys.exit(main())
