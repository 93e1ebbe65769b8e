"""Reports read back from JSON: nothing of the contract is lost, every page looks the same, bad files are named."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attncheck.errors import UsageError
from attncheck.findings import Evidence, Finding, Recommendation, Setting, Severity
from attncheck.render import interface
from attncheck.render.interface import Style
from attncheck.render.json import schema, to_wire
from attncheck.report import Report
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.shape import Errors, Shape, ShapeReading, WrongCells
from attncheck.semantics.spec import AttentionSpec, Bias, MaskSpec, Part, SoftmaxSpec, Window
from attncheck.stored import report as stored
from attncheck.stored.decoding import Fault
from attncheck.verdicts import LayerGroup
from tests import sample_benches, sample_machines, sample_reports

_TESTS = Path(__file__).parents[1]
RECORDED = [
    *sorted((_TESTS / "gpu" / "recorded").rglob("*.json")),
    *sorted((_TESTS / "render" / "stored").glob("*.json")),
]


def odd_report() -> Report:
    """What the other samples have not: NaN, unknown fields, several ways to paste, true sizes gone wrong."""
    strange = AttentionSpec(
        Part.ENCODER,
        0,
        mask=MaskSpec(Window(None, 0), chunk=4),
        softmax=SoftmaxSpec(bias=Bias.LEARNED, sinks=True, scale=0.25),
        head_dim=64,
        head_dim_v=32,
        unknown=frozenset({"window", "scale", "head_map", "sinks"}),
    )
    finding = Finding(
        "ATC501",
        "nan-rows",
        Severity.WARNING,
        "A whole\nmessage.",
        Basis.MEASURED,
        "sdpa",
        "sdpa-math",
        Part.ENCODER,
        (0, 1),
        "plain",
        "no mask",
        Evidence("a", "b", "c", (1, 2, 3), 4, 5, (0,), figures={"dq": math.nan, "dk": 1, "dv": 0.5, "where": "row 3"}),
        "import torch\n",
        (
            Recommendation(
                "Do.", (Setting("f", "k", "1", "k: 1"), Setting("g", "k", "2", "-k 2"), Setting("f", "k", "3", "k: 3"))
            ),
        ),
        "Short.",
    )
    sizes = Shape(8, 2, 128, 64, Window(4095, 0), 8192, 0.1, 50.0, True, True, "float16")
    shape = ShapeReading(
        "flash-attn-2",
        sizes,
        Outcome.READ,
        Basis.MEASURED,
        "flash_attention_2",
        Part.DECODER,
        (0, 2),
        reasons=(Reason("too wide", "256", "512", "its documentation"),),
        wrong=WrongCells((3, 4), (1, 2), 5, 6, 7, (1, 2), None, (3, 9)),
        head_map=(0, 0, 1, 1),
        nan=("dq",),
        kernel=Errors(0.1, math.nan, 0.2, None),
        plain=Errors(0.1),
        backward=Outcome.CRASHED,
        peak_bytes=1 << 30,
        left_out=("softcap",),
    )
    report = sample_reports.healthy_report()
    assert report.model is not None
    model = dataclasses.replace(report.model, groups=(LayerGroup(Part.ENCODER, (0, 1), strange),), num_layers=None)
    return dataclasses.replace(report, model=model, findings=(finding,), shapes=(shape,), fail_on="warning")


def _samples() -> Iterator[Callable[[], Report]]:
    yield odd_report
    for module in (sample_reports, sample_machines, sample_benches):
        for name, build in inspect.getmembers(module, inspect.isfunction):
            if name.endswith("_report") and build.__module__ == module.__name__:
                yield build


SAMPLES = list(_samples())


def wire(report: Report) -> Any:
    return json.loads(json.dumps(to_wire(report), allow_nan=False))


@pytest.mark.parametrize("build", SAMPLES)
def test_what_is_read_is_written_again_the_same(build: Callable[[], Report]) -> None:
    entry = wire(build())
    assert wire(stored.parse(entry)) == entry


@pytest.mark.parametrize("style", [Style(100), Style(80, "truecolor"), Style(72, unicode=False)])
@pytest.mark.parametrize("build", SAMPLES)
def test_pages_of_a_read_report_are_those_of_the_original(build: Callable[[], Report], style: Style) -> None:
    original = build()
    again = stored.parse(wire(original))
    for format_name in ("terminal", "markdown", "json", *(["csv"] if original.bench is not None else [])):
        assert interface.render(again, format_name, style) == interface.render(original, format_name, style)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_reports_of_older_releases_lose_nothing(path: Path) -> None:
    """They lack what was added since; everything that they say is kept."""
    entry = json.loads(path.read_text(encoding="utf-8"))
    again = wire(stored.read(str(path)))
    assert lost(entry, again) == []
    assert wire(stored.parse(again)) == again
    for format_name in ("terminal", "markdown"):
        assert interface.render(stored.read(str(path)), format_name)


def test_there_are_recorded_reports() -> None:
    assert len(RECORDED) > 2


def lost(before: Any, after: Any, where: str = "report") -> list[str]:
    """Places whose value is not the same in `after`; keys may be new there."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [text for key in before for text in lost(before[key], after.get(key, "gone"), f"{where}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [text for n, (a, b) in enumerate(zip(before, after)) for text in lost(a, b, f"{where}[{n}]")]
    return [] if before == after else [where]


@pytest.mark.parametrize("build", SAMPLES)
def test_what_the_contract_does_not_require_may_be_absent(build: Callable[[], Report]) -> None:
    document = schema()
    bare = required_only(wire(build()), document, document)
    assert set(bare) == set(document["required"])
    stored.parse(bare)
    every = required_only(wire(build()), document, document, parts=True)
    again = stored.parse(every)
    assert lost(every, wire(again)) == []
    for format_name in ("terminal", "markdown"):
        assert interface.render(again, format_name)


def required_only(value: Any, node: Any, document: Any, *, parts: bool = False) -> Any:
    """The value without the keys that the schema does not require. parts: those of the whole report are kept."""
    if "$ref" in node:
        node = document["$defs"][node["$ref"].rpartition("/")[2]]
    for choice in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        kinds = {dict: "object", list: "array", type(None): "null"}
        target = document["$defs"][choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice
        if target.get("type") == kinds.get(type(value)):
            node = target
    if isinstance(value, dict) and "properties" in node:
        known = node["properties"]
        kept = known if parts else node.get("required", ())
        return {name: required_only(value[name], known[name], document) for name in kept if name in value}
    if isinstance(value, dict) and isinstance(node.get("additionalProperties"), dict):
        return {name: required_only(one, node["additionalProperties"], document) for name, one in value.items()}
    if isinstance(value, list) and "items" in node:
        return [required_only(one, node["items"], document) for one in value]
    return value


def test_keys_of_later_releases_are_passed_over() -> None:
    entry = wire(odd_report())
    later = copy.deepcopy(entry)
    for part in (later, later["tool"], later["model"], later["findings"][0], later["shapes"][0], later["environment"]):
        part["new"] = {"anything": [None]}
    assert wire(stored.parse(later)) == entry


@pytest.mark.parametrize("level", ["error", "warning", "never"])
def test_the_exit_code_is_that_of_the_measurement(level: str) -> None:
    for build in SAMPLES:
        report = dataclasses.replace(build(), fail_on=level)
        assert stored.parse(wire(report)).exit_code == report.exit_code


def test_nan_comes_back_and_unknown_fields_stay_unknown() -> None:
    again = stored.parse(wire(odd_report()))
    assert math.isnan(again.findings[0].evidence.figures["dq"])  # type: ignore[arg-type]
    assert again.shapes[0].kernel is not None
    assert math.isnan(again.shapes[0].kernel.dq or 0.0)
    assert again.shapes[0].kernel.dv is None
    assert again.model is not None
    assert again.model.groups[0].spec.unknown == {"window", "scale", "head_map", "sinks"}
    pastes = [setting.paste for setting in again.findings[0].recommendations[0].settings]
    assert pastes == ["k: 1", "k: 3", "-k 2"]


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    entry = wire(sample_reports.faulty_report())
    entry["command"] = "\x1b[2Jcompare\ud800"
    entry["findings"][0]["slug"] = "\x1b]0;title\x07"
    entry["environment"]["sources"]["\x1b[31m"] = "\x1b[31m"
    text = interface.render(stored.parse(entry), "terminal")
    assert "\x1b" not in text
    assert "\\x1b[2Jcompare" in text
    text.encode("utf-8")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not JSON"),
        (b"attncheck compare\n", "not JSON"),
        (b'{"schema": 1', "not JSON"),
        (b"\xff\xfe\xfd\x00\x01", "no text"),
        (b'{"schema": NaN}', "NaN"),
        (b"[" * 100_000, "recursion"),
        (b'{"schema": 1' + b"0" * 5000 + b"}", "digits"),
        (b"[]", "the whole file is [], not an object"),
        (b"null", "null"),
        (b"{}", "schema is null"),
        (b'{"schema": 2}', "schema is 2"),
        (b'{"schema": true}', "schema is true"),
        (b'{"schema": 1}', "tool is null"),
        (b'{"model_type": "mistral"}', "schema is null"),
    ],
)
def test_a_file_that_is_no_report_gets_one_line(tmp_path: Path, content: bytes, word: str) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(content)
    with pytest.raises(UsageError) as error:
        stored.read(str(file))
    assert word in error.value.message
    assert "\n" not in error.value.message
    assert len(error.value.message) < 400 + len(str(file))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("findings", 0, "severity"), "fatal", 'report.findings[0].severity is "fatal", not one of error, warning'),
        (("findings", 0, "evidence", "leaked"), "x", 'report.findings[0].evidence.leaked is "x", not a whole number'),
        (("findings", 0, "evidence", "leaked"), True, "leaked is true, not a whole number"),
        (("findings", 0, "evidence", "leaked"), 1 << 70, "out of range"),
        (("findings", 0, "evidence", "masks"), {"declared": ["01", "0"], "effective": []}, "not rows of 0 and 1"),
        (("findings", 0, "evidence", "masks"), {"declared": ["0_1"], "effective": []}, "not rows of 0 and 1"),
        (("findings",), {}, "report.findings is {}, not a list"),
        (("findings", 0, "layers"), [0, None], "layers[1] is null, not a whole number"),
        (("findings", 0, "recommendations", 0, "paste"), {"f": "x"}, 'paste."f" is "x", not a list'),
        (("environment",), None, "report.environment is null, not an object"),
        (("environment", "gpus"), [{"capability": "nine"}], 'capability is "nine"'),
        (("model", "groups", 0, "declared", "window"), [1], "has 1 entries, not 2"),
        (("model", "groups", 0, "declared", "window"), [-1, 0], "at least 0"),
        (("model", "groups", 0, "declared", "head_dim"), 0, "head_dim is 0, not a size"),
        (("model", "groups", 0, "declared", "unknown"), ["colour"], "unknown fields"),
        (("model", "groups", 0, "declared", "scale"), 1e999, "out of range"),
        (("matrix", 0, "implementation"), 7, "matrix[0].implementation is 7, not a text"),
        (("tool",), {}, "tool.version is null, not a text"),
    ],
)
def test_a_broken_report_names_the_place(path: tuple[Any, ...], value: Any, message: str) -> None:
    entry = wire(sample_reports.faulty_report())
    node = entry
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(Fault) as error:
        stored.parse(entry)
    assert message in str(error.value)


def test_a_missing_key_is_named() -> None:
    entry = wire(sample_reports.faulty_report())
    del entry["findings"][2]["slug"]
    with pytest.raises(Fault, match=r"report\.findings\[2\]\.slug is missing"):
        stored.parse(entry)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with file.open("wb") as made:
        made.truncate(200 << 20)
    with pytest.raises(UsageError, match="larger than 64 MiB"):
        stored.read(str(file))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_that_shells_write(tmp_path: Path, encoding: str) -> None:
    """PowerShell's `>` writes UTF-16 or a byte order mark."""
    file = tmp_path / "report.json"
    file.write_text(json.dumps(wire(odd_report()), ensure_ascii=False), encoding=encoding)
    assert wire(stored.read(str(file))) == wire(odd_report())


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))


def _thinned(build: Callable[[], Report]) -> Any:
    """The report with short lists: every kind of place is left."""

    def thin(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: thin(child) for key, child in value.items()}
        return [thin(child) for child in value[:3]] if isinstance(value, list) else value

    return thin(wire(build()))


THINNED = [_thinned(build) for build in SAMPLES]
PLACES = [(number, place) for number, entry in enumerate(THINNED) for place in _places(entry)][1:]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from([place for place in PLACES if place[1]]), value=JSON, gone=st.booleans())
def test_any_change_of_a_report_is_read_and_rendered_or_named(place: Any, value: Any, gone: bool) -> None:
    number, path = place
    entry = copy.deepcopy(THINNED[number])
    node = entry
    for step in path[:-1]:
        node = node[step]
    if gone:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    try:
        report = stored.parse(entry)
    except Fault:
        return
    for format_name in ("terminal", "markdown", "json", "html"):
        interface.render(report, format_name)
