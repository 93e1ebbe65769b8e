"""Takes the user's home, user name, host name, tokens and control characters out of a report before it is rendered."""

from __future__ import annotations

import dataclasses
import functools
import getpass
import os
import platform
import re
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from attncheck.render import secret_values

T = TypeVar("T")

#: Fields that hold stable names out of attncheck's or a library's own vocabulary. They are never personal, and a host
#: that happens to be called "llama" must not change them.
_NAMES = frozenset(
    [
        "code",
        "slug",
        "severity",
        "implementation",
        "kernel",
        "scenario",
        "variant",
        "part",
        "basis",
        "status",
        "verdict",
        "difference",
        "model_type",
        "kind",
        "command",
        "version",
        "framework",
        "key",
        "name",
        "api",
        "call",
        "question",
        "feature",
        "expected",
        "subject",
        "level",
        "phase",
        "inputs",
        "dtype",
        "mask",
        "preset",
        "excluded",
    ]
)

#: Control characters, which would act on the reader's terminal, and bytes of file names that are no text.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SHORTEST_HOST = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """What must not appear: home directory, user name, host name ("" where unknown)."""

    home: str = ""
    user: str = ""
    host: str = ""


@functools.cache
def current_person() -> Person:
    """The person and machine this process runs as."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = ""
    return Person(os.path.expanduser("~"), user, platform.node())


def redact(text: str, person: Person | None = None, secrets: Collection[str] | None = None) -> str:
    r"""The text with the home directory as `~`, and user, host and tokens as `<user>`, `<host>`, `<token>`.

    Values whose names say that they are secret count as tokens: `--api-key abc`, `HF_TOKEN=abc`, `"password": "abc"`.
    Control characters and undecodable bytes, which a target or a config may hold, come out as `\x1b`. secrets: further
    tokens; None takes those of this process's environment.
    """
    person = current_person() if person is None else person
    text = printable(text)
    for secret in secrets_of_environment() if secrets is None else secrets:
        text = text.replace(secret, "<token>")
    text = secret_values.without(text)
    if len(person.home) > 1:
        text = re.sub(re.escape(person.home) + r"(?![\w-])", "~", text)
    text = re.sub(r"(?<![\w.~])(/home/|/Users/|[A-Za-z]:\\Users\\)(?!<)[^/\\\s'\":;,)\]}]+", r"\1<user>", text)
    if person.user:
        name = re.escape(person.user)
        # Only as a directory or before @host: as a plain word it may be part of a model id or of prose.
        text = re.sub(rf"(?<=[/\\]){name}(?=[/\\])|\b{name}(?=@)", "<user>", text)
        text = re.sub(rf"(?<![\w.~>:/-])((?:/[^/\s'\"]+)*/){name}(?![\w-])", r"\1<user>", text)  # ends an absolute path
    if len(person.host) >= _SHORTEST_HOST and person.host != "localhost":
        text = re.sub(rf"(?<![\w-]){re.escape(person.host)}(?![\w-])", "<host>", text)
    return text


def printable(text: str) -> str:
    r"""The text with control characters, which would act on a terminal, and undecodable bytes written as `\x1b`."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


def redacted(value: T, person: Person | None = None) -> T:
    """A copy of a frozen report (or any part of one) with its free texts redacted; vocabulary fields stay."""
    person = current_person() if person is None else person
    script = getattr(getattr(value, "watch", None), "script", "")  # what it was started with may come back in a message
    return _walk(value, person, {*secrets_of_environment(), *secret_values.values(script)})  # type: ignore[no-any-return]


def _walk(value: Any, person: Person, secrets: Collection[str]) -> Any:
    if isinstance(value, Enum):
        return value
    if isinstance(value, (str, Path)):
        return redact(str(value), person, secrets)
    if isinstance(value, tuple):
        return tuple(_walk(entry, person, secrets) for entry in value)
    if isinstance(value, Mapping):
        return {key: _walk(entry, person, secrets) for key, entry in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: _walk(getattr(value, field.name), person, secrets)
            for field in dataclasses.fields(value)
            if field.name not in _NAMES or not isinstance(getattr(value, field.name), str)
        }
        return dataclasses.replace(value, **changes)
    return value


def secrets_of_environment() -> tuple[str, ...]:
    """Values of variables whose name says that they are secret, long enough not to be a common word."""
    marks = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "APIKEY")
    return tuple(
        value for name, value in os.environ.items() if len(value) >= 12 and any(mark in name.upper() for mark in marks)
    )
