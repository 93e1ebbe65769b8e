"""A headless Chromium for tests of pages: what it logs, what the page looks like to a script, a picture of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in _NAMES if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


def run(page: Path, folder: Path, *options: str, width: int = 1400, height: int = 1000) -> tuple[str, list[str]]:
    """What Chromium writes to stdout, and the lines of its console: errors and messages of the page's scripts."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
        f"--user-data-dir={folder}/profile",
        f"--window-size={width},{height}",
        *options,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(folder)})
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)
