"""A change of settings as the user would make it: a diff of the file that `patch -p0` takes, arguments or lines."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from enum import Enum
from typing import Any

from attncheck.frameworks.plugin import Asked


class Form(str, Enum):
    """How a change is written where it is no diff.

    ARGUMENTS: `key=value`, beside the file or alone. FLAGS: `--key value`. LINES: as they must stand in the file.
    """

    ARGUMENTS = "arguments"
    FLAGS = "flags"
    LINES = "lines"


def change(asked: Asked, values: Mapping[str, Any], otherwise: Form = Form.ARGUMENTS) -> str:
    """The lines to change, as a diff of the settings file; in the form `otherwise` where none can be applied to it.

    A key that stands in the file changes in its line, comment kept; others are added at its end (in JSON, behind the
    opening brace). "" where the file says all of it already. No diff: without a file, for files that do not have one
    `key: value` a line (JSON in one line, YAML in braces, a value in the line below its key), and for files whose lines
    end in anything but a line feed: what is pasted from a report has lost it, and `patch` would not find the lines.
    So it is with a last line that has no end at all, where it must change. Nor where the command line says a key that
    must change: it wins over the file, and so do the arguments to give instead.
    """
    if asked.file and not asked.assigned.keys().isdisjoint(values):
        return _otherwise(asked, values, Form.FLAGS if otherwise is Form.FLAGS else Form.ARGUMENTS)
    hunks = _hunks(asked, values) if asked.file else None
    if hunks is None:
        return _otherwise(asked, values, otherwise)
    return "\n".join((f"--- {asked.file}", f"+++ {asked.file}", *hunks)) if hunks else ""


def _otherwise(asked: Asked, values: Mapping[str, Any], form: Form) -> str:
    if form is Form.LINES:
        lines = (
            f"{json.dumps(key)}: {json.dumps(value)}" if _is_json(asked) else f"{key}: {_yaml(value)}"
            for key, value in values.items()
        )
        return "\n".join((f"# in {asked.file}:", *lines))
    if form is Form.FLAGS:
        return " ".join(f"--{key} {shlex.quote(_word(value))}" for key, value in values.items())
    return " ".join(shlex.quote(f"{key}={_yaml(value)}") for key, value in values.items())


def _word(value: Any) -> str:
    """A value as argparse takes it: nothing reads it as YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def _hunks(asked: Asked, values: Mapping[str, Any]) -> list[str] | None:
    """The hunks of the diff; None where the file's form allows none."""
    if any(line.splitlines() != [line] for line in asked.text if line):
        return None
    found: dict[int, list[str]] = {}
    added: list[str] = []
    for key, value in values.items():
        line = asked.lines.get(key)
        if line is None:
            added.append(_added(asked, key, value))
            continue
        before = asked.text[line - 1]
        after = _replaced(before, key, value, _is_json(asked))
        if after is None:
            return None
        if after != before:
            if line == len(asked.text) and not asked.ended:
                return None
            found[line] = [f"@@ -{line} +{line} @@", f"-{before}", f"+{after}"]
    hunks = [entry for line in sorted(found) for entry in found[line]]
    if not added:
        return hunks
    if _is_json(asked):
        if asked.text[0].strip() != "{":
            return None
        return [f"@@ -1,0 +2,{len(added)} @@", *(f"+{line}" for line in added), *hunks]
    if any(asked.text[line - 1].lstrip().startswith("{") for line in asked.lines.values()):
        return None
    last = len(asked.text)
    return [*hunks, f"@@ -{last},0 +{last + 1},{len(added)} @@", *(f"+{line}" for line in added)]


def _added(asked: Asked, key: str, value: Any) -> str:
    if _is_json(asked):
        return f'  "{key}": {json.dumps(value)},'
    first = asked.text[min(asked.lines.values()) - 1] if asked.lines else ""
    return f"{first[: len(first) - len(first.lstrip())]}{key}: {_yaml(value)}"


def _is_json(asked: Asked) -> bool:
    return asked.file.lower().endswith(".json")


def _yaml(value: Any) -> str:
    """The value as YAML reads it back: a word like `off`, which YAML makes false, stands in quotes."""
    import yaml

    return value if isinstance(value, str) and yaml.safe_load(value) == value else json.dumps(value)


def _replaced(line: str, key: str, value: Any, as_json: bool) -> str | None:
    """The line with another value, None where the key does not stand in it alone, with its value."""
    if as_json:
        found = re.fullmatch(rf'(\s*"{re.escape(key)}"\s*:\s*)("(?:[^"\\]|\\.)*"|[^,\s{{}}]+)(\s*,?\s*)', line)
        return f"{found[1]}{json.dumps(value)}{found[3]}" if found else None
    found = re.fullmatch(rf"""(\s*(?:"|')?{re.escape(key)}(?:"|')?\s*:\s+)([^#\s|>][^#]*?)(\s*(?:\s#.*)?)""", line)
    return f"{found[1]}{_yaml(value)}{found[3]}" if found else None
