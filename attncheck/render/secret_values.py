"""Finds values that their names call secret: options, assignments, entries of mappings; tokens known by their shape."""

from __future__ import annotations

import re

_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16})"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{12,}"
)
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
#: How names of secrets end, a key and a token of something else among them: `_is_secret` tells them apart.
_NAME = r"[\w.-]*(?i:token|secret|password|passwd|credentials?|key)"
#: One argument as `shlex.join` writes it, between its quotes.
_QUOTED = r"""(?:[^']|'"'"')*"""
_STRINGS = rf"'{_QUOTED}'|\"[^\"]*\""
_NAMED = (
    # --token abc, --api-key=abc, '--api-key=a b'
    re.compile(rf"(?<![\w-])'(?P<name>--?{_NAME})=(?P<value>{_QUOTED})(?=')"),
    re.compile(rf"(?<![\w-])(?P<name>--?{_NAME})(?:=|[ \t]+(?!-))(?P<value>{_STRINGS}|[^\s'\"`]+)"),
    # HF_TOKEN=abc, 'API_KEY=a b', hub.token=abc
    re.compile(rf"(?<![\w.-])'(?P<name>{_NAME})=(?P<value>{_QUOTED})(?=')"),
    re.compile(rf"(?<![\w.-])(?P<name>{_NAME})=(?P<value>{_STRINGS}|[^\s'\"`;)&\]}}]+)"),
    # "token": "abc"
    re.compile(rf"(?P<quote>['\"])(?P<name>{_NAME})(?P=quote)\s*:\s*(?P<value>'[^']*'|\"[^\"]*\")"),
)
_SURE = re.compile(r"(?:secret|password|passwd|credentials?|(?:api|access|private|auth)[_-]?key)$", re.IGNORECASE)
_VOCABULARY = re.compile(
    r"(?:^|[_.-])(?:pad|eos|bos|unk|sep|cls|mask|image|video|audio|stop|special|start|end|next|per|max)[_-]token$",
    re.IGNORECASE,
)
#: A key by itself, or behind a word of its own: `--wandb_key`, `--hubKey`; not `--monkey`.
_OPTION_KEY = re.compile(r"(?:[_.-](?i:key)|[a-z0-9]Key)$")
_NUMBER = re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?")
_SWITCHES = frozenset(("", "true", "false", "none", "null", "yes", "no"))
#: Values that may be replaced wherever else they stand: shorter ones are words of everybody.
_LONG_ENOUGH = 8


def without(text: str) -> str:
    """The text with `<token>` for every secret value."""
    for start, stop in reversed(_found(text)):
        text = f"{text[:start]}<token>{text[stop:]}"
    return _URL_LOGIN.sub("<token>@", _SHAPES.sub("<token>", text))


def values(text: str) -> frozenset[str]:
    """The secret values of a text, long enough to be looked for elsewhere."""
    found = (text[start:stop].strip("'\"") for start, stop in _found(text))
    return frozenset(value for value in found if len(value) >= _LONG_ENOUGH)


def _found(text: str) -> list[tuple[int, int]]:
    """Half-open places of secret values, in order and apart."""
    found: list[tuple[int, int]] = []
    if "=" not in text and "-" not in text and ":" not in text:
        return found
    places = sorted(
        match.span("value")
        for pattern in _NAMED
        for match in pattern.finditer(text)
        if _is_secret(match["name"], match["value"])
    )
    for start, stop in places:
        if found and start < found[-1][1]:  # read in two ways: as a whole argument, and as what it begins with
            start, stop = found[-1][0], max(stop, found.pop()[1])
        found.append((start, stop))
    return found


def _is_secret(name: str, value: str) -> bool:
    """Whether that name makes this value a secret, and not a switch, a number or a token such as `</s>`."""
    value = value.strip("'\"")
    if value.lower() in _SWITCHES or value.startswith("<") or _VOCABULARY.search(name):
        return False
    if _SURE.search(name):
        return True
    if _NUMBER.fullmatch(value):
        return False
    if name.lower().endswith("key"):  # of attention, of a mapping, of a sort: unless an option or a variable says it
        return bool(_OPTION_KEY.search(name)) if name.startswith("-") else name.isupper()
    return True
