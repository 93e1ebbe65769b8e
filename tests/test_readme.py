"""The README says what is true: its commands exist, its rules are the rules, its outputs are those of real runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer

from attncheck import checks
from attncheck.cli import app
from attncheck.findings import Rule
from attncheck.probe.scenario import scenarios
from attncheck.stored import report as stored
from tests import ability_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = README.splitlines()
SETUP = ("pip install . && attncheck compare mistralai/Mistral-7B-v0.1", 'pip install ".[test]" && pytest')
LEFT_OUT = "[...]"


def table_row(rule: Rule) -> str:
    return f"| `{rule.slug}` | {rule.code} | {rule.title} |"


def commands() -> list[str]:
    """Every `attncheck ...` that a reader could copy: code blocks, prompts, inline code."""
    in_blocks = [
        line.removeprefix("$ ")
        for block in re.findall(r"```\w*\n(.*?)```", README, re.S)
        for line in block.splitlines()
    ]
    prompted = [
        line
        for line in in_blocks
        if re.match(r"attncheck (compare|doctor|explain|render|bench|run|survey) (?!\d)\S+.*", line)
    ]
    prompted += [line.split("&& ")[1] for line in in_blocks if "&& attncheck" in line]
    prompted += [line.split("repro  ")[1] for line in in_blocks if "repro  attncheck" in line]
    inline = re.findall(r"`(attncheck [^`]+)`", README)
    return sorted({command for command in (*prompted, *inline) if "CODE" not in command})


def shown_runs() -> list[tuple[str, list[str]]]:
    """Prompted commands and the output below them."""
    blocks = re.findall(r"```console\n\$ (.*?)\n(.*?)```", README, re.S)
    return [(command, output.splitlines()) for command, output in blocks]


def test_the_set_up_commands_stand_in_blocks_of_their_own() -> None:
    for command in SETUP:
        place = LINES.index(command)
        assert LINES[place - 1].startswith("```"), command
        assert LINES[place + 1] == "```", command
    set_up = README.split("## Set up")[1].split("\n## ")[0]
    assert set_up.count("```") == 2 * len(SETUP)


def test_the_rules_are_the_rules() -> None:
    start = next(i for i, line in enumerate(LINES) if line.startswith("<!-- rules:"))
    end = LINES.index("<!-- end of rules -->")
    expected = [table_row(rule) for rule in sorted(checks.rules(), key=lambda rule: rule.code)]
    assert LINES[start + 3 : end] == expected


def test_the_abilities_are_those_of_the_recorded_run() -> None:
    recorded = stored.read(str(ROOT / "tests" / "gpu" / "recorded" / "doctor.json"))
    assert LINES[ability_table.between_marks(LINES)] == ability_table.lines(recorded)


def test_the_scenarios_are_the_scenarios() -> None:
    expected = [f"| `{s.name}` | {'core' if s.core else 'opt-in'} | {s.summary} |" for s in scenarios()]
    found = [line for line in LINES if re.match(r"\| `[\w-]+` \| (core|opt-in) \|", line)]
    assert found == expected


def test_there_are_commands() -> None:
    assert len(commands()) >= 12
    assert len(shown_runs()) >= 2


@pytest.mark.parametrize("command", commands())
def test_every_command_parses(command: str) -> None:
    program, name, *arguments = shlex.split(command)
    assert program == "attncheck"
    group = typer.main.get_command(app)
    if name.startswith("-"):
        assert any(name in option.opts for option in group.params)
        return
    subcommand = group.commands[name]  # type: ignore[attr-defined]
    if "--help" in arguments:
        with pytest.raises(typer.Exit):
            subcommand.make_context(name, arguments)
        return
    subcommand.make_context(name, arguments)


def test_a_command_that_does_not_exist_would_be_seen() -> None:
    group = typer.main.get_command(app)
    with pytest.raises(Exception, match="No such option"):
        group.commands["compare"].make_context("compare", ["qwen2", "--no-such-option"])  # type: ignore[attr-defined]


def test_files_that_are_linked_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_modules_that_are_named_exist() -> None:
    for module in re.findall(r"python -m (tests\.[\w.]+)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module


def rendered(run: tuple[str, list[str]]) -> bool:
    return run[0].startswith("attncheck render")


@pytest.mark.parametrize(
    ("command", "output"), [run for run in shown_runs() if rendered(run)], ids=lambda value: str(value)[:60]
)
def test_pages_of_recorded_reports_are_shown_as_they_are(command: str, output: list[str], tmp_path: Path) -> None:
    shown_as_it_is(command, output, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "output"), [run for run in shown_runs() if not rendered(run)], ids=lambda value: str(value)[:60]
)
def test_outputs_are_those_of_real_runs(command: str, output: list[str], tmp_path: Path) -> None:
    shown_as_it_is(command, output, tmp_path)


def shown_as_it_is(command: str, output: list[str], tmp_path: Path) -> None:
    """Line by line, in order; lines may be missing only where the README says so."""
    here = next((re.search(r"transformers (\S+), torch (\S+),", line) for line in output if "  here " in line), None)
    if here and here.groups() != (metadata.version("transformers"), metadata.version("torch")):
        pytest.skip("the README shows the output of other versions")
    files = re.findall(r"```(?:python|yaml)\n(# ([\w-]+\.(?:py|yaml)).*?)```", README, re.S)
    assert {name for _, name in files} == {"my_kernels.py", "train.yaml"}
    for text, name in files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    run = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONIOENCODING": "utf-8"},
    )
    real = [line for line in run.stdout.splitlines() if line]
    place, gap = 0, False
    for line in filter(None, output):
        if line == LEFT_OUT:
            gap = True
            continue
        found = real.index(line, place)
        assert gap or found == place, f"the README leaves out {real[place]!r} without saying so"
        place, gap = found + 1, False
    assert gap or place == len(real)
