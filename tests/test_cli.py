"""The command line: options in, exit codes and clean streams out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from attncheck import cli, pipeline
from attncheck.commands.running import progress
from attncheck.errors import NoVerdictError, TargetError, UsageError
from attncheck.report import Report
from tests import sample_reports


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that reach the pipeline, which answers with a healthy report."""
    seen: list[Any] = []

    def answer(options: Any, progress: Callable[[str], None]) -> Report:
        progress("working")
        seen.append(options)
        return sample_reports.healthy_report()

    monkeypatch.setattr(pipeline, "compare", answer)
    return seen


def answering(monkeypatch: pytest.MonkeyPatch, outcome: Report | BaseException) -> None:
    def answer(options: Any, progress: Callable[[str], None]) -> Report:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(pipeline, "compare", answer)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attncheck", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        check=False,
    )


def test_every_option_reaches_the_pipeline(asked: list[Any]) -> None:
    result = call(
        "compare", "m", "--impl", "eager,sdpa", "--impl", "flex_attention", "--scenario", "plain, decode",
        "--set", "a=1", "--set", "b=x,y", "--set-unknown", "c=2", "--seq-len", "2048", "--use", "train", "--packing",
        "--device", "cpu", "--dtype", "bfloat16", "--revision", "main", "--trust-remote-code", "--plugin", "p",
        "--offline", "--timeout", "5", "--seed", "7",
    )  # fmt: skip
    assert result.exit_code == 0
    assert asked == [
        pipeline.CompareOptions(
            target="m",
            impl=("eager", "sdpa", "flex_attention"),
            scenario=("plain", "decode"),
            assignments=("a=1", "b=x,y"),
            unchecked=("c=2",),
            seq_len=2048,
            use="train",
            packing=True,
            device="cpu",
            dtype="bfloat16",
            revision="main",
            trust_remote_code=True,
            plugins=("p",),
            offline=True,
            timeout=5.0,
            seed=7,
        )
    ]


@pytest.mark.parametrize("value", ["inf", "nan", "1e10", "86401", "0"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "--timeout"),
        ("compare", "m", "--timeout"),
        ("bench", "--timeout"),
        ("survey", "--timeout"),
        ("survey", "--type-timeout"),
    ],
    ids=" ".join,
)
def test_a_limit_without_an_end_is_wrong_usage(arguments: tuple[str, ...], value: str, asked: list[Any]) -> None:
    result = call(*arguments, value)
    assert (result.exit_code, asked) == (2, [])
    assert f"Invalid value for '{arguments[-1]}'" in result.stderr


def test_what_is_not_said_stays_unsaid(asked: list[Any]) -> None:
    call("compare", "m")
    assert asked == [pipeline.CompareOptions(target="m")]


@pytest.mark.parametrize(
    ("report", "fail_on", "code"),
    [
        ("healthy", "error", 0),
        ("healthy", "warning", 1),
        ("healthy", "never", 0),
        ("faulty", "error", 1),
        ("faulty", "never", 0),
        ("silent", "error", 3),
    ],
)
def test_exit_codes(report: str, fail_on: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, getattr(sample_reports, f"{report}_report")())
    assert call("compare", "m", "--fail-on", fail_on).exit_code == code
    written = call("compare", "m", "--fail-on", fail_on, "--format", "json")
    assert json.loads(written.stdout)["summary"]["exit_code"] == written.exit_code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("--set x: no such key", "did you mean y?"), 2),
        (TargetError("m is not a config", "did you mean y?"), 2),
        (NoVerdictError("torch is missing", "did you mean y?"), 3),
    ],
)
def test_an_announced_error_is_one_line_and_a_hint(error: Any, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, error)
    result = call("compare", "m")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == f"attncheck: error: {error.message}\n  hint: did you mean y?\n"


def test_a_bug_is_one_line_and_exit_3(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, KeyError("oh\nno"))
    result = call("compare", "m")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 2
    assert result.stderr.startswith("attncheck: error: attncheck itself failed: KeyError")
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNCHECK_DEBUG", "1")
    answering(monkeypatch, KeyError("oh"))
    assert "Traceback" in call("compare", "m").stderr


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, KeyboardInterrupt())
    result = call("compare", "m")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("arguments", [("--format", "tarot"), ("-o", "no/such/folder/x.json")])
def test_a_bad_output_is_refused_before_the_work(arguments: tuple[str, str], asked: list[Any]) -> None:
    result = call("compare", "m", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("attncheck: error: ")
    assert asked == []


@pytest.mark.parametrize(
    "arguments", [("compare",), ("compare", "m", "--seq-len", "0"), ("compare", "m", "--use", "x"), ("nonsense",)]
)
def test_wrong_usage_is_2(arguments: tuple[str, ...], asked: list[Any]) -> None:
    assert call(*arguments).exit_code == 2
    assert asked == []


def test_json_is_alone_on_stdout(asked: list[Any]) -> None:
    result = call("compare", "m", "--format", "json")
    assert json.loads(result.stdout)["command"] == "compare"
    assert result.stderr == ""


def test_a_report_goes_to_the_file(asked: list[Any], tmp_path: Path) -> None:
    result = call("compare", "m", "-o", str(tmp_path / "report.txt"))
    assert result.exit_code == 0
    assert result.stdout == ""
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert text.startswith("attncheck compare mistralai/Mistral-7B-v0.1")
    assert "\x1b" not in text


def test_a_file_that_cannot_be_written_is_2(asked: list[Any], tmp_path: Path) -> None:
    result = call("compare", "m", "-o", str(tmp_path))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_version() -> None:
    from attncheck import __version__

    assert call("--version").stdout == f"attncheck {__version__}\n"


def test_without_a_command_the_help_is_shown() -> None:
    result = call()
    assert "compare" in result.output
    assert result.exit_code == 2


def test_explain_a_rule_by_code_and_by_slug() -> None:
    by_code, by_slug = call("explain", "atc101"), call("explain", "window_ignored")
    assert by_code.exit_code == 0
    assert by_code.stdout == by_slug.stdout
    assert by_code.stdout.startswith("ATC101 window-ignored")
    assert "How it is measured" in by_code.stdout


def test_explain_lists_all_rules() -> None:
    listed = call("explain").stdout
    rules = json.loads(call("explain", "--format", "json").stdout)["rules"]
    assert all(rule["slug"] in listed and rule["code"] in listed for rule in rules)
    assert len(rules) > 20


def test_explain_an_unknown_code_names_the_nearest() -> None:
    result = call("explain", "window-ignord")
    assert result.exit_code == 2
    assert "window-ignored" in result.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "attncheck", "explain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 0
    assert errors == b""


def test_a_pipe_gets_no_escape_codes_and_80_columns() -> None:
    done = process("explain", "window-ignored", COLUMNS="80")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_colour_can_be_forced_and_is_refused_by_no_color() -> None:
    assert "\x1b[" in process("explain", "window-ignored", FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[3" not in process("explain", "window-ignored", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm").stdout


def test_an_ascii_output_does_not_break() -> None:
    done = process("doctor", "--static", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "can run" in done.stdout


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as tell:
        tell("working")
    assert capsys.readouterr().err == ""
