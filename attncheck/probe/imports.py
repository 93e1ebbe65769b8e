"""Imports a library in a process of its own: an import that raises, crashes or hangs is a result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from attncheck.semantics.observation import Crashed

#: A first import from a cold disk takes tens of seconds; beyond this it hangs.
LIMIT = 120.0
#: Imports nothing but the built-in `sys` before the path is set: a `json.py` in the current folder must not get in.
_CODE = "import sys; sys.path[:] = sys.argv[2:]; __import__(sys.argv[1])"


def failure_of(module: str, limit: float = LIMIT) -> Crashed | None:
    """None when `import module` succeeds; else the exception's line, the signal, or the time limit (in seconds)."""
    try:
        process = subprocess.run(
            [sys.executable, "-c", _CODE, module, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Crashed("timeout", f"the import did not end within {limit:g} s")
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return Crashed("signal", f"the import died of {signal.Signals(-process.returncode).name}")
    lines = process.stderr.decode("utf-8", "replace").strip().splitlines()
    return Crashed("exception", lines[-1].strip() if lines else f"the import exited with {process.returncode}")
