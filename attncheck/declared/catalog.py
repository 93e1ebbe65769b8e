"""The bundled catalog: attention facts of well-known checkpoints, as raw config keys, for work without a network.

Format of catalog.toml: one table `["id"]` a checkpoint.
  config       keys as config.json spells them; a sub-config is a table of its own
  null_keys    keys that the file writes as null (TOML has no null), dotted for sub-configs
  confidence   "verbatim": the whole file was read in a public copy. "verbatim-partial": a part of it.
               "secondary": values re-encoded in other code
  unconfirmed  what of the row is doubtful or was not seen, in words
  unseen       keys that the file has or may have with a value nobody saw: no class default may stand in for them
  remote_code  "optional": the repository has model code beside a native class. "yes": only that code runs it.
               "external package": only another package does
  remark       what deserves to be known about the checkpoint
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from attncheck.semantics.spec import Note

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint of the catalog; see the head of this file for the fields."""

    id: str
    config: Mapping[str, Any]
    confidence: str
    unconfirmed: str = ""
    unseen: tuple[str, ...] = ()
    remote_code: str = ""
    remark: str = ""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader of the report must know about this row."""
        found = []
        if self.unconfirmed:
            text = f"not confirmed in the catalog: {self.unconfirmed}; check the checkpoint's own config.json"
            found.append(Note("unconfirmed", text))
        if self.confidence == "secondary":
            text = "the catalog has these values from other code, not from the file itself"
            found.append(Note("unconfirmed", text))
        if self.remote_code:
            found.append(Note("remote-code", _REMOTE_CODE[self.remote_code], "auto_map"))
        if self.remark:
            found.append(Note("catalog-remark", self.remark))
        return tuple(found)


_REMOTE_CODE = {
    "optional": "the repository has own model code; the native class is read unless --trust-remote-code is given",
    "yes": "no native class: only the repository's own code runs this checkpoint",
    "external package": "only the publisher's own package runs this checkpoint",
}


@lru_cache(maxsize=1)
def _rows() -> dict[str, Any]:
    text = files("attncheck.declared").joinpath("catalog.toml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = tomllib.loads(text)
    return loaded


def ids() -> tuple[str, ...]:
    """The ids of all checkpoints in the catalog."""
    return tuple(_rows())


def lookup(checkpoint: str) -> Entry | None:
    """The entry of a hub id (upper and lower case count alike), or None."""
    rows = _rows()
    name = checkpoint if checkpoint in rows else None
    name = name or next((known for known in rows if known.lower() == checkpoint.lower()), None)
    if name is None:
        return None
    row = dict(rows[name])
    config = _with_nulls(row.pop("config"), row.pop("null_keys", []))
    row["unseen"] = tuple(row.get("unseen", ()))
    return Entry(name, config, **row)


def _with_nulls(config: dict[str, Any], null_keys: list[str]) -> dict[str, Any]:
    whole = copy.deepcopy(config)
    for dotted in null_keys:
        *path, name = dotted.split(".")
        level = whole
        for part in path:
            level = level.setdefault(part, {})
        level[name] = None
    return whole
