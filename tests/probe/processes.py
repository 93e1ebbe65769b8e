"""Whether a process still runs, for tests that none is left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path


def gone(pid: int) -> bool:
    """True when no process of this id runs; one that nobody has buried yet counts as gone."""
    status = Path(f"/proc/{pid}/stat")
    try:
        if Path("/proc/self/stat").exists():
            return status.read_text().rpartition(")")[2].split()[0] in "ZX"
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return True
    return False


def wait_until_gone(pid: int, patience: float = 30.0) -> bool:
    """True once the process is gone; False when it still runs after `patience` seconds."""
    end = time.monotonic() + patience
    while not gone(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
