"""The records of watched processes, read back from the spool; what is damaged is passed over and named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.layout import Layout, Row
from attncheck.semantics.observation import HeadMask
from attncheck.semantics.watched import Tokens, WatchedCall, WatchedModel, WatchedProcess
from attncheck.stored.decoding import Decoder, Fault

#: Failures of one process that are kept: a loop may fail the same way each time.
_FAILURES = 20


def read(folder: str) -> tuple[WatchedProcess, ...]:
    """One entry a process that recorded anything, ranks first and in order; then what could not be attached."""
    found, broken = [], []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.endswith(".jsonl"):
            found.append(_process(path))
        elif name.startswith("broken-"):
            with open(path, encoding="utf-8", errors="replace") as file:
                broken += file.read().splitlines()
    found.sort(key=lambda process: (process.rank is None, process.rank or 0, process.pid))
    if broken:
        found.append(WatchedProcess(0, failures=tuple(dict.fromkeys(broken))))
    return tuple(found)


def _process(path: str) -> WatchedProcess:
    values: dict[str, Any] = {}
    decoder = Decoder({KeepMask: _by_digest(values), Layout: _by_digest(values), HeadMask: _head_mask})
    process: Mapping[str, Any] = {}
    models: list[WatchedModel] = []
    calls: list[WatchedCall] = []
    failures: list[str] = []
    end: Mapping[str, Any] | None = None
    for line, entry in enumerate(_entries(path), 1):
        try:
            if "value" in entry:
                values[entry["value"]] = _value(entry["of"], values)
            elif "call" in entry:
                calls.append(decoder.record(WatchedCall, entry["call"], f"line {line}", tokens=_tokens(decoder, entry)))
            elif "model" in entry:
                models.append(WatchedModel(str(entry["model"]["name"]), dict(entry["model"]["config"])))
            elif "failure" in entry:
                failures.append(str(entry["failure"]))
            elif "process" in entry:
                process = entry["process"]
            elif "end" in entry:
                end = entry["end"]
        except (Fault, AttributeError, KeyError, TypeError, ValueError) as error:
            failures.append(f"a record could not be read back: {error}")
    rank = process.get("rank")
    return WatchedProcess(
        pid=int(process.get("pid", 0)),
        rank=rank if isinstance(rank, int) else None,
        command=str(process.get("command", "")),
        versions={str(k): str(v) for k, v in dict((end or {}).get("versions", process.get("versions", {}))).items()},
        models=tuple(models),
        calls=tuple(calls),
        compiled=int((end or {}).get("compiled", 0)),
        failures=tuple(dict.fromkeys(failures))[:_FAILURES],
        ended=end is not None,
    )


def _entries(path: str) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:  # the process died while it wrote this line
                continue
            if isinstance(entry, dict):
                yield entry


def _tokens(decoder: Decoder, entry: Mapping[str, Any]) -> Any:
    return decoder.record(Tokens, entry["call"].get("tokens", {}), "tokens")


def _head_mask(decoder: Decoder, found: Any, where: str) -> HeadMask:
    """Groups of keys are numbers too large for JSON."""
    entry = decoder.entries(found, where)
    coarse = tuple(int(word, 16) if isinstance(word, str) else int(word) for word in entry.get("coarse", ()))
    return decoder.record(HeadMask, entry, where, coarse=coarse)


def _by_digest(values: Mapping[str, Any]) -> Any:
    def value(decoder: Decoder, found: Any, where: str) -> Any:
        if found not in values:
            raise Fault(f"{where} names a value that is not there")
        return values[found]

    return value


def _value(of: Mapping[str, Any], values: Mapping[str, Any]) -> KeepMask | Layout:
    if "steps" in of:
        rows = tuple(
            Row(
                tuple(row["document"]),
                tuple(row["position"]),
                None if row["custom"] is None else values[row["custom"]],
                frozenset(row["unjudged"]),
            )
            for row in of["rows"]
        )
        return Layout(rows, tuple((start, stop) for start, stop in of["steps"]), of["before"])
    rows_of = {int(query): int(word, 16) for query, word in of["rows"].items()}
    return KeepMask(tuple(rows_of.get(query, 0) for query in range(of["q_len"])), of["kv_len"])
