"""Write a pid file, then become another program: ``python -m workers.dev.launch PIDFILE PORT PROGRAM ARGUMENT...``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workers.dev.processes import Identity, write_identity

if __name__ == "__main__":
    write_identity(Path(sys.argv[1]), Identity.own(int(sys.argv[2])))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - the program is the supervisor's fixed choice
