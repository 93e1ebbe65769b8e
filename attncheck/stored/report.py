"""A report that was written with `--format json`, read back: the inverse of `attncheck.render.json` for schema 1."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

from attncheck.errors import UsageError
from attncheck.render.wire import SCHEMA
from attncheck.report import Report
from attncheck.semantics.timing_changes import BenchChanges
from attncheck.stored import bench, findings, machine, model, shapes
from attncheck.stored.decoding import Decoder, Fault, quoted

#: Bytes. Doctor's own report of a machine with every library is about 1 MB.
LARGEST = 64 << 20
HINT = "attncheck doctor --format json -o report.json writes one; so do compare and bench"

_DECODER = Decoder({**model.SPECIALS, **findings.SPECIALS, **machine.SPECIALS, **shapes.SPECIALS, **bench.SPECIALS})


def read(path: str) -> Report:
    """The report in that file, of this release or an older one; keys that are not known are passed over.

    path: of the file, "-" for standard input. What JSON cannot hold comes back as NaN (so does an infinity), and what
    the contract leaves out as empty: of the inventory the requirements, versions and packages; of wrong cells whether
    all or none were seen; of settings that share a key the further values. Control characters are escaped.
    Raises UsageError for what is no such file.
    """
    try:
        return parse(_loaded(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", HINT) from None
    except (Fault, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no report of attncheck that can be read: {error}", HINT) from None


def parse(found: Any) -> Report:
    """The report in a JSON value. Raises Fault."""
    entry = _DECODER.entries(found, "the whole file")
    schema = entry.get("schema")
    if isinstance(schema, bool) or schema != SCHEMA:
        raise Fault(f"its schema is {quoted(schema)}; this attncheck reads {SCHEMA}")
    tool = _DECODER.entries(entry.get("tool"), "tool")
    scenarios = _DECODER.of(Mapping[str, tuple[str, ...]], entry, "scenarios", "report", {})
    core, opt_in = scenarios.get("core", ()), scenarios.get("opt_in", ())
    report = _DECODER.record(
        Report,
        entry,
        "report",
        version=_DECODER.value(str, tool.get("version"), "tool.version"),
        core_scenarios=core,
        scenarios=(*core, *opt_in),
        changes=_DECODER.of(BenchChanges | None, entry, "bench_changes", "report"),
        fail_on="error",
    )
    return dataclasses.replace(report, fail_on=_fail_on(report, entry))


def _fail_on(report: Report, entry: Mapping[str, Any]) -> str:
    """The level under which the report ends with the exit code that stands in it."""
    summary = _DECODER.entries(entry.get("summary", {}), "summary")
    levels = ("error", "warning", "never")
    codes = {level: dataclasses.replace(report, fail_on=level).exit_code for level in levels}
    return next((level for level in levels if codes[level] == summary.get("exit_code")), "error")


def _loaded(path: str) -> Any:
    if path == "-":
        text = sys.stdin.buffer.read(LARGEST + 1)
    else:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise Fault(f"it is larger than {LARGEST >> 20} MiB")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Fault("it is no text") from None
    except json.JSONDecodeError as error:
        raise Fault(f"it is not JSON: {error}") from None


def _no_constant(name: str) -> float:
    raise Fault(f"it is not JSON: {name} is no number")
