"""The results of a survey as JSON lines that survive a kill: appended whole, repaired at the next start, locked."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import IO, Any

from attncheck.errors import UsageError
from attncheck.surveyed import Plan, Row, State, Status, SurveyCell, SurveyFinding

#: Version of the lines. It rises when older lines can no longer be read.
FORMAT = 1


class Store:
    """A file of rows. A context manager: it holds the file's lock, so that two surveys never mix their lines."""

    def __init__(self, path: str, plan: Plan) -> None:
        """Opens the file and reads what is in it; the plan is written into an empty one.

        An unfinished last line, as a kill leaves it, is cut off. Raises UsageError when the file belongs to another
        survey, to another plan, or cannot be written.
        """
        self._path = path
        try:
            self._file: IO[bytes] = open(path, "a+b")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", "name another folder: -o DIR") from None
        try:
            _lock(self._file, path)
            self.rows = self._resumed(plan)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, row: Row) -> None:
        """Add one row; it is in the file, whole, when this returns."""
        self._write(plain(row))
        self.rows.append(row)

    def _resumed(self, plan: Plan) -> list[Row]:
        lines = self._repaired()
        if not lines:
            self._write({"survey": FORMAT, **plain(plan)})
            return []
        before = _plan(lines[0], self._path)
        if changed := _changes(before, plan):
            raise UsageError(
                f"{self._path} holds a survey with {changed[0]}, and this one has {changed[1]}",
                "name another folder with -o DIR, or give the options of the first run to go on with it",
            )
        return [row_of(line) for line in lines[1:]]

    def _repaired(self) -> list[dict[str, Any]]:
        """Every whole line; the file is cut behind the last one."""
        self._file.seek(0)
        data = self._file.read()
        lines: list[dict[str, Any]] = []
        whole = 0
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            try:
                found = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                found = None
            if not isinstance(found, dict):
                if whole + len(line) < len(data):
                    raise UsageError(
                        f"{self._path}: line {number} is no result of a survey",
                        "name another folder with -o DIR, or delete that line",
                    )
                break
            lines.append(found)
            whole += len(line)
        if whole < len(data):
            self._file.truncate(whole)
        return lines

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self._file.flush()


def load(path: str) -> tuple[Plan, list[Row]]:
    """The plan and rows of a file, as far as its lines are whole; nothing is changed. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            raw = file.read().splitlines(keepends=True)
        lines = [json.loads(line) for line in raw if line.endswith(b"\n")]
        if not lines:
            raise ValueError("it is empty")
        return _plan(lines[0], path), [row_of(line) for line in lines[1:]]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} holds no results of a survey: {error}", "attncheck survey -o DIR writes them"
        ) from None


def plain(value: Any) -> Any:
    """A row or plan as JSON-like data; what is empty is left out of records."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        return {name: entry for name, entry in fields.items() if not _empty(entry)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _empty(entry: Any) -> bool:
    return entry is None or entry is False or (isinstance(entry, (str, list, dict)) and not entry)


def row_of(entry: Mapping[str, Any]) -> Row:
    """A row out of its line. Raises KeyError or ValueError for what is none."""
    return Row(
        model_type=str(entry["model_type"]),
        setting=str(entry.get("setting", "")),
        assignments=_texts(entry, "assignments"),
        status=Status(entry["status"]),
        reason=str(entry.get("reason", "")),
        kind=str(entry.get("kind", "")),
        model_class=str(entry.get("model_class", "")),
        method=str(entry.get("method", "")),
        default=str(entry.get("default", "")),
        declared={str(part): tuple(map(str, fields)) for part, fields in entry.get("declared", {}).items()},
        notes=_texts(entry, "notes"),
        cells=tuple(_cell(cell) for cell in entry.get("cells", ())),
        findings=tuple(_finding(finding) for finding in entry.get("findings", ())),
        last=bool(entry.get("last", False)),
        seconds=float(entry.get("seconds", 0.0)),
    )


def _cell(entry: Mapping[str, Any]) -> SurveyCell:
    texts = {name: str(entry.get(name, "")) for name in ("basis", "severity", "reason", "open")}
    state = State(entry["state"])
    return SurveyCell(entry["implementation"], entry["scenario"], state, slugs=_texts(entry, "slugs"), **texts)


def _finding(entry: Mapping[str, Any]) -> SurveyFinding:
    names = [field.name for field in dataclasses.fields(SurveyFinding) if field.name not in ("layers", "variants")]
    texts = {name: str(entry.get(name, "")) for name in names}
    layers = tuple(int(layer) for layer in entry.get("layers", ()))
    return SurveyFinding(layers=layers, variants=_texts(entry, "variants"), **texts)


def _texts(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(str(text) for text in entry.get(name, ()))


def _plan(entry: Mapping[str, Any], path: str) -> Plan:
    if entry.get("survey") != FORMAT:
        raise UsageError(
            f"{path} holds no survey results that this attncheck reads (expected survey {FORMAT} in its first line)",
            "name another folder with -o DIR",
        )
    return Plan(
        implementations=_texts(entry, "implementations"),
        scenarios=_texts(entry, "scenarios"),
        core=_texts(entry, "core"),
        dtype=str(entry["dtype"]),
        device=str(entry["device"]),
        seed=int(entry.get("seed", 0)),
        versions={str(name): str(version) for name, version in entry.get("versions", {}).items()},
        settings=bool(entry.get("settings", False)),
        plugins=_texts(entry, "plugins"),
        asked=bool(entry.get("asked", False)),
    )


def _changes(before: Plan, now: Plan) -> tuple[str, str] | None:
    """What the two plans differ in, in words; None when the rows of both can stand side by side."""
    for field in dataclasses.fields(Plan):
        old, new = getattr(before, field.name), getattr(now, field.name)
        if old != new:
            without, having = _FLAGS.get(field.name, ("", ""))
            if without:
                return (having, without) if old else (without, having)
            return f"{field.name} {_words(old)}", _words(new)
    return None


#: Field that is true or false -> what a survey has without it, and with it.
_FLAGS = {
    "settings": ("the class defaults alone (--defaults-only)", "several settings of each type"),
    "asked": ("scenarios not counted as used", "scenarios counted as used, since --scenario names them"),
}


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _lock(file: IO[bytes], path: str) -> None:
    """Hold the file alone until it is closed; systems without such locks go without."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"another survey is writing {path}", "wait for it, or name another folder: -o DIR") from None


def exists(path: str) -> bool:
    """True when there are results to go on with."""
    return os.path.isfile(path) and os.path.getsize(path) > 0
