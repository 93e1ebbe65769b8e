"""On which line of a config.json each key stands. Standard library only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

#: A string, a mark of structure, or anything else between them. Whitespace between tokens is passed over.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def of_file(path: str) -> Mapping[str, int]:
    """Dotted key -> line, from 1, of a file that `read_config` has read; of a repeated key the last, which counts.

    Keys inside lists are left out. Empty when the file is gone by now.
    """
    try:
        return of_text(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return {}


def of_text(text: str) -> Mapping[str, int]:
    """The same for the text of a JSON object."""
    found: dict[str, int] = {}
    path: list[str | None] = []  # the key of each open object or list; None inside a list
    key, line, place = "", 1, 0
    tokens = list(_TOKEN.finditer(text))
    for number, token in enumerate(tokens):
        line += text.count("\n", place, token.start())
        place = token.start()
        if token[0] in ("{", "["):
            path.append(None if token[0] == "[" else key)
        elif token[0] in ("}", "]"):
            if path:
                path.pop()
        elif token[0][0] == '"' and number + 1 < len(tokens) and tokens[number + 1][0] == ":":
            key = token[0][1:-1]
            if None not in path:
                found[".".join([*(one for one in path[1:] if one), key])] = line
    return found


def shown(path: str) -> str:
    """The path as tools that annotate files expect it: from the root of the checkout, or from the current folder.

    GITHUB_WORKSPACE is that root in a GitHub workflow. A path outside of both comes back as it was given.
    """
    whole = Path(os.path.abspath(Path(path).expanduser()))
    for root in filter(None, (os.environ.get("GITHUB_WORKSPACE", ""), os.getcwd())):
        if whole.is_relative_to(root):
            return whole.relative_to(root).as_posix()
    return path
