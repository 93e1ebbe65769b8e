"""Writes a text to a file such that the old one or the new one is there at any time."""

from __future__ import annotations

import contextlib
import os
import shutil


def write(path: str, text: str) -> None:
    """The file is the old one or the new one at any time, whatever happens; what is no plain file is written to.

    Raises OSError.
    """
    if os.path.lexists(path) and (not os.path.isfile(path) or os.path.islink(path)):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return
    beside = f"{path}.{os.getpid()}.part"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        if os.path.exists(path):
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
