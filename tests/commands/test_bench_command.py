"""`attncheck bench`: options in, results as they come, plots, an older run beside it, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from attncheck import cli
from attncheck.bench import run
from attncheck.bench.options import BenchOptions
from attncheck.commands import partial
from attncheck.errors import TargetError
from attncheck.render import interface
from attncheck.report import Report
from tests import sample_benches

#: What a run does: it gets the options and the two callbacks.
Run = Callable[[BenchOptions, Callable[[str], None], Callable[[Report], None]], Report]


def shown_so_far(cells: int) -> Report:
    """The standard report after that many cells."""
    report = sample_benches.standard_report()
    assert report.bench is not None
    return replace(report, bench=replace(report.bench, cells=report.bench.cells[:cells], complete=False))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[BenchOptions]:
    """The options that reach the bench, which answers with the standard report."""
    seen: list[BenchOptions] = []

    def answer(options: BenchOptions, progress: Any, partial: Any) -> Report:
        progress("timing")
        seen.append(options)
        return sample_benches.standard_report()

    monkeypatch.setattr(run, "bench", answer)
    return seen


def running(monkeypatch: pytest.MonkeyPatch, then: BaseException | Report, cells: int = 0) -> None:
    """A run that reports its first cells one by one and then ends in that way."""

    def answer(options: BenchOptions, progress: Any, partial: Any) -> Report:
        for number in range(cells):
            partial(lambda cells=number + 1: shown_so_far(cells))
        if isinstance(then, BaseException):
            raise then
        return then

    monkeypatch.setattr(run, "bench", answer)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["bench", *arguments])


def old_run(folder: Path) -> str:
    path = folder / "old.json"
    path.write_text(interface.render(sample_benches.standard_report(), "json"), encoding="utf-8")
    return str(path)


def test_every_option_reaches_the_bench(asked: list[BenchOptions]) -> None:
    result = call(
        "qwen2", "--set", "a=1", "--set-unknown", "b=2", "--revision", "main", "--offline", "--trust-remote-code",
        "--preset", "swa", "--seq-lens", "4k,1024", "--seq-lens", "16K", "--batch", "2", "--level", "layer,kernel",
        "--phase", "decode", "--inputs", "padded,packed", "--mask", "full", "--forward-only", "--impl", "sdpa,eager",
        "--include-wrong", "--device", "cpu", "--dtype", "float16", "--plugin", "p", "--timeout", "7", "--seed", "3",
    )  # fmt: skip
    assert result.exit_code == 0
    assert asked == [
        BenchOptions(
            target="qwen2",
            preset="swa",
            seq_lens=(1024, 4096, 16384),
            batch=2,
            levels=("layer", "kernel"),
            phases=("decode",),
            passes=("forward",),
            masks=("full",),
            inputs=("padded", "packed"),
            impl=("sdpa", "eager"),
            include_wrong=True,
            device="cpu",
            dtype="float16",
            assignments=("a=1",),
            unchecked=("b=2",),
            revision="main",
            offline=True,
            trust_remote_code=True,
            plugins=("p",),
            timeout=7.0,
            seed=3,
        )
    ]


def test_what_is_not_said_stays_unsaid(asked: list[BenchOptions]) -> None:
    assert call().exit_code == 0
    assert asked == [BenchOptions()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seq-lens", "0"), "--seq-lens '0' is no length in tokens"),
        (("--seq-lens", "many"), "--seq-lens 'many' is no length in tokens"),
        (("--seq-lens", "-4"), "--seq-lens '-4' is no length in tokens"),
        (("--seq-lens", "²"), "is no length in tokens"),
        (("--seq-lens", ","), "--seq-lens ',' names nothing"),
        (("--seq-lens", "1k,,2k"), "--seq-lens '1k,,2k' lacks a length beside a comma"),
        (("--seq-lens", "1k", "--seq-lens", "2k,"), "--seq-lens '2k,' lacks a length beside a comma"),
        (("--level", "model"), "--level model: there is no such thing to time"),
        (("--phase", "warmup"), "--phase warmup: there is no such thing to time"),
        (("--inputs", "ragged"), "--inputs ragged: there is no such thing to time"),
        (("--mask", "swa"), "--mask swa: there is no such thing to time"),
        (
            ("--format", "tarot"),
            "'tarot' is not a format of bench; there are csv, html, json, junit, markdown, sarif, terminal",
        ),
        (("--compare", "no/such.json"), "--compare no/such.json cannot be read: No such file or directory"),
        (("-o", "no/such/folder/x.json"), "there is no folder no/such/folder"),
        (("--plots", "/dev/null/plots"), "--plots '/dev/null/plots' cannot be made"),
    ],
)
def test_bad_input_is_one_line_and_2_before_the_work(
    arguments: tuple[str, ...], said: str, asked: list[BenchOptions]
) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout, asked) == (2, "", [])
    assert said in result.stderr
    assert len(result.stderr.splitlines()) <= 2


def test_an_unknown_preset_is_one_line_and_2() -> None:
    result = call("--preset", "tarot")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--preset" in result.stderr
    assert "swa" in result.stderr


def test_the_presets_in_the_help_are_the_presets() -> None:
    from attncheck.bench.presets import PRESETS

    text = " ".join(call("--help").stdout.replace("│", " ").split())
    assert all(name in text for name in PRESETS)


def test_the_formats_in_the_help_are_the_formats() -> None:
    for command in ("bench", "render"):
        result = CliRunner().invoke(cli.app, [command, "--help"])
        text = " ".join(result.stdout.replace("│", " ").split()).split("--format", 1)[1]
        assert {name for name in interface.renderers() if name not in text} == set()


def test_formats(asked: list[BenchOptions]) -> None:
    assert json.loads(call("--format", "json").stdout)["command"] == "bench"
    assert len(list(csv.DictReader(io.StringIO(call("--format", "csv").stdout)))) == 49
    assert call("--format", "markdown").stdout.startswith("## attncheck bench")
    assert call().stdout.startswith("attncheck bench")


@pytest.mark.parametrize(("fail_on", "code"), [("error", 0), ("warning", 1), ("never", 0)])
def test_exit_codes(fail_on: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch, sample_benches.swa_report())
    written = call("--format", "json", "--fail-on", fail_on)
    assert json.loads(written.stdout)["summary"]["exit_code"] == written.exit_code == code


def test_an_interrupt_prints_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch, KeyboardInterrupt(), cells=3)
    result = call("--format", "json")
    bench = json.loads(result.stdout)["bench"]
    assert (result.exit_code, len(bench["cells"]), bench["complete"]) == (130, 3, False)
    assert "interrupted" in call().stdout


def test_an_interrupt_says_where_the_results_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "bench.md"
    running(monkeypatch, KeyboardInterrupt(), cells=1)
    result = call("--format", "markdown", "-o", str(file))
    said = f"attncheck: interrupted: 1 cell is in {file}\n"
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", said)
    assert "interrupted" in file.read_text(encoding="utf-8")
    assert call().stderr == ""  # the page itself says so
    running(monkeypatch, sample_benches.standard_report())
    assert call("-o", str(file)).stderr == ""


def test_a_run_that_says_itself_that_it_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch, shown_so_far(2))
    result = call()
    assert result.exit_code == 130
    assert "interrupted" in result.stdout


def test_an_interrupt_before_the_first_cell_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch, KeyboardInterrupt())
    result = call()
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize(("failure", "code"), [(RuntimeError("oh no"), 3), (TargetError("gone", ""), 2)])
def test_a_failure_midway_loses_nothing(
    failure: Exception, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running(monkeypatch, failure, cells=4)
    file = tmp_path / "bench.json"
    result = call("--format", "json", "-o", str(file))
    assert result.exit_code == code
    assert result.stderr.startswith("attncheck: error: ")
    bench = json.loads(file.read_text(encoding="utf-8"))["bench"]
    assert (len(bench["cells"]), bench["complete"]) == (4, False)
    printed = call("--format", "json")
    assert len(json.loads(printed.stdout)["bench"]["cells"]) == 4
    assert printed.exit_code == code


def test_the_file_is_rewritten_as_results_come(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text("an older report", encoding="utf-8")
    seen: list[tuple[int, bool]] = []

    def answer(options: BenchOptions, progress: Any, partial: Any) -> Report:
        for number in range(3):
            partial(lambda cells=number + 1: shown_so_far(cells))
            bench = json.loads(file.read_text(encoding="utf-8"))["bench"]
            seen.append((len(bench["cells"]), bench["complete"]))
        return sample_benches.standard_report()

    monkeypatch.setattr(partial, "_SHARE", float("inf"))
    monkeypatch.setattr(run, "bench", answer)
    assert call("--format", "json", "-o", str(file)).exit_code == 0
    assert seen == [(1, False), (2, False), (3, False)]
    assert json.loads(file.read_text(encoding="utf-8"))["bench"]["complete"]
    assert os.listdir(tmp_path) == ["bench.json"]


def test_what_is_no_plain_file_gets_the_last_report_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link, file = tmp_path / "link.json", tmp_path / "bench.json"
    link.symlink_to(file)
    seen: list[bool] = []

    def answer(options: BenchOptions, progress: Any, partial: Any) -> Report:
        partial(lambda: shown_so_far(1))
        seen.append(file.exists())
        return sample_benches.standard_report()

    monkeypatch.setattr(run, "bench", answer)
    assert call("--format", "json", "-o", str(link)).exit_code == 0
    assert seen == [False]
    assert link.is_symlink()
    assert json.loads(file.read_text(encoding="utf-8"))["bench"]["complete"]


def test_writing_takes_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = [0.0]
    written: list[float] = []

    def write(text: str, output: str | None) -> None:
        written.append(clock[0])
        clock[0] += 0.1

    monkeypatch.setattr(partial.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(partial, "emit", write)
    keeper = partial.Partial("json", str(tmp_path / "x"), cli_fail_on(), None)
    made = [0]

    def make() -> Report:
        made[0] += 1
        return shown_so_far(1)

    for _ in range(500):
        keeper(make)
        clock[0] += 0.1
    assert written[0] == 0.0
    assert 4 <= len(written) <= 6  # 0.1 s of 10 s each
    assert made[0] == len(written)  # a report that nobody sees costs nothing


def test_a_report_that_cannot_be_made_costs_neither_the_failure_before_it_nor_what_was_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "bench.json"

    def unmade() -> Report:
        raise ValueError("no report")

    def answer(options: BenchOptions, progress: Any, partial: Any) -> Report:
        partial(lambda: shown_so_far(2))
        partial(unmade)
        raise KeyError("the run")

    monkeypatch.setattr(run, "bench", answer)
    result = call("--format", "json", "-o", str(file))
    assert result.exit_code == 3
    assert "the run" in result.output
    bench = json.loads(file.read_text(encoding="utf-8"))["bench"]
    assert (len(bench["cells"]), bench["complete"]) == (2, False)


def cli_fail_on() -> Any:
    from attncheck.options import FailOn

    return FailOn.ERROR


def test_plots_are_written(asked: list[BenchOptions], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = call("--plots", str(tmp_path / "new"), "--format", "json")
    assert sorted(os.listdir(tmp_path / "new")) == [
        "kernel-decode-forward-causal-d128.svg",
        "kernel-prefill-forward-causal-d128.svg",
    ]
    assert result.stderr == f"attncheck: 2 plots in {tmp_path / 'new'}\n"
    json.loads(result.stdout)


def test_no_plot_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    running(monkeypatch, shown_so_far(2))
    assert "no plot: no table has times at two lengths" in call("--plots", str(tmp_path)).stderr


def test_a_missing_matplotlib_is_said_before_the_work(
    asked: list[BenchOptions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find(name, *rest)
    )
    result = call("--plots", str(tmp_path))
    assert (result.exit_code, asked) == (2, [])
    assert "pip install 'attncheck[plots]'" in result.stderr


def test_an_older_run_stands_beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    running(monkeypatch, replace(sample_benches.changed_report(), changes=None))
    old = old_run(tmp_path)
    text = call("--compare", old).stdout
    assert "Against" in text.split()
    assert "driver" in text
    written = json.loads(call("--compare", old, "--format", "json").stdout)["bench_changes"]
    ratios = {entry["case"]["subject"]: entry["ratio"] for entry in written["changes"]}
    assert ratios["sdpa-cudnn"] == pytest.approx(1.3)
    assert [entry["case"]["subject"] for entry in written["lost"]] == ["sdpa-efficient"] * 2
    assert {entry["what"] for entry in written["differences"]} == {"driver"}


@pytest.mark.parametrize("format_name", ["csv", "sarif", "junit"])
def test_a_format_without_a_place_for_changes_is_refused(
    format_name: str, asked: list[BenchOptions], tmp_path: Path
) -> None:
    result = call("--compare", old_run(tmp_path), "--format", format_name)
    assert (result.exit_code, result.stdout, asked) == (2, "", [])
    assert result.stderr.splitlines() == [
        f"attncheck: error: --compare: --format {format_name} has no place for changes",
        "  hint: choose from html, json, markdown, terminal",
    ]


def test_every_other_format_shows_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    running(monkeypatch, replace(sample_benches.changed_report(), changes=None))
    old = old_run(tmp_path)
    for name, renderer in interface.renderers().items():
        if renderer.changes:
            assert call("--compare", old, "--format", name).stdout != call("--format", name).stdout, name


def test_the_same_run_shows_no_change(asked: list[BenchOptions], tmp_path: Path) -> None:
    written = json.loads(call("--compare", old_run(tmp_path), "--format", "json").stdout)["bench_changes"]
    assert written["differences"] == written["lost"] == written["only_old"] == []
    assert not any(entry["beyond_noise"] for entry in written["changes"])


def test_the_result_may_replace_what_it_is_compared_with(asked: list[BenchOptions], tmp_path: Path) -> None:
    old = old_run(tmp_path)
    assert call("--compare", old, "--format", "json", "-o", old).exit_code == 0
    assert json.loads(Path(old).read_text(encoding="utf-8"))["bench_changes"]["source"].endswith("old.json")


@pytest.mark.parametrize("text", ["{", '{"schema": 1, "command": "doctor"}'])
def test_a_bad_file_to_compare_with_is_one_line_and_2(text: str, asked: list[BenchOptions], tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(text, encoding="utf-8")
    result = call("--compare", str(tmp_path / "old.json"))
    assert (result.exit_code, result.stdout, asked) == (2, "", [])
    assert len(result.stderr.splitlines()) == 2
    assert "hint: attncheck bench -o old.json --format json writes one" in result.stderr


SLOW_RUN = """
import sys, time
from attncheck import cli
from attncheck.bench import run
from tests.commands.test_bench_command import shown_so_far

def bench(options, progress, partial):
    partial(lambda: shown_so_far(1))
    partial(lambda: shown_so_far(5))
    print("measuring", file=sys.stderr, flush=True)
    time.sleep(60)

run.bench = bench
sys.argv = ["attncheck", "bench", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_measured(sent: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, "--format", "json", "-o", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "measuring\n"
    child.send_signal(sent)
    rest = child.stderr.read()
    child.stderr.close()
    assert (child.wait(timeout=30), rest) == (130, f"attncheck: interrupted: 5 cells are in {file}\n")
    bench = json.loads(file.read_text(encoding="utf-8"))["bench"]
    assert (len(bench["cells"]), bench["complete"]) == (5, False)
