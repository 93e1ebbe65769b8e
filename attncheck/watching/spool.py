"""The record of a watched process as a file: a JSON object a line, each written at once, so that a crash loses none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from enum import Enum
from typing import Any

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout
from attncheck.semantics.watched import WatchedCall, WatchedModel

#: Bytes of records of one process; what comes after is counted only.
LARGEST = 64 << 20


class Spool:
    """Writes the record of this process, and of each of its forks into a file of its own.

    Masks and layouts are large and mostly alike: each is written once, and calls name it by its digest.
    """

    def __init__(self, folder: str, process: Mapping[str, Any]) -> None:
        self._folder = folder
        self._process = process
        self._pid = 0
        self._file: Any = None
        self._known: set[str] = set()
        self._written = 0
        self._models: list[Mapping[str, Any]] = []

    def model(self, model: WatchedModel) -> None:
        """Note a model, the next number of this process."""
        entry = {"model": {"name": model.name, "config": model.config}}
        self._write(entry)
        self._models.append(entry)

    def call(self, call: WatchedCall) -> None:
        """Note a call."""
        if self._written < LARGEST:
            self._write({"call": self._plain(call)})

    def failure(self, text: str) -> None:
        """Note what could not be done."""
        self._write({"failure": text})

    def end(self, **facts: Any) -> None:
        """Note that the process came to its own end, and facts known only then; nothing where nothing was noted."""
        if self._pid == os.getpid():
            self._write({"end": facts})

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._open()
        line = json.dumps(entry, default=str) + "\n"
        self._written += len(line)
        self._file.write(line)
        self._file.flush()

    def _open(self) -> None:
        """Begin the file of this process; a fork begins its own, as what its parent wrote is in the parent's file."""
        if self._pid != os.getpid():
            self._pid, self._known, self._written = os.getpid(), set(), 0
            self._file = open(os.path.join(self._folder, f"{self._pid}.jsonl"), "a", encoding="utf-8")  # noqa: SIM115
            self._write({"process": {"pid": self._pid, **self._process}})
            for entry in self._models:  # calls of a fork name them by the parent's numbers
                self._write(entry)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, (KeepMask, Layout)):
            return self._once(value)
        if isinstance(value, Enum):
            return value.value
        if dataclasses.is_dataclass(value):
            return {field.name: self._plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, (tuple, list, frozenset)):
            return [self._plain(entry) for entry in value]
        if isinstance(value, dict):
            return {str(key): self._plain(entry) for key, entry in value.items()}
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 60:
            return hex(value)
        return value

    def _once(self, value: Any) -> str:
        if isinstance(value, KeepMask):
            rows = {str(query): hex(row) for query, row in enumerate(value.rows) if row}
            written: Any = {"q_len": value.q_len, "kv_len": value.kv_len, "rows": rows}
        else:
            written = {
                "rows": [
                    {
                        "document": list(row.document),
                        "position": list(row.position),
                        "custom": self._plain(row.custom),
                        "unjudged": sorted(row.unjudged),
                    }
                    for row in value.rows
                ],
                "steps": [list(step) for step in value.steps],
                "before": value.before,
            }
        digest = hashlib.sha1(json.dumps(written).encode(), usedforsecurity=False).hexdigest()
        self._open()
        if digest not in self._known:
            self._known.add(digest)
            self._write({"value": digest, "of": written})
        return digest
