"""The GitHub Actions example: YAML that parses, commands and options that exist, the same in the README."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from attncheck.cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "example-workflow.yml").read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)


def steps() -> list[dict[str, Any]]:
    return list(WORKFLOW["jobs"]["attention"]["steps"])


def commands() -> list[str]:
    return [step["run"] for step in steps() if step.get("run", "").startswith("attncheck ")]


def test_it_is_a_workflow() -> None:
    assert set(WORKFLOW) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads the key `on` as true
    for step in steps():
        assert ("run" in step) != ("uses" in step)
        assert set(step) <= {"name", "run", "uses", "with", "if"}
    assert len(commands()) == 2


@pytest.mark.parametrize("command", commands())
def test_its_commands_and_options_exist(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    group: Any = typer.main.get_command(app)
    context = group.commands[name].make_context(name, arguments)
    if "format_name" in context.params and "--format" in arguments:
        from attncheck.render import interface

        assert interface.find(context.params["format_name"], name).name == "sarif"


def test_what_is_uploaded_is_what_was_written() -> None:
    written = [shlex.split(command)[-1] for command in commands() if " -o " in command]
    uploads = [step for step in steps() if "upload-sarif" in step.get("uses", "")]
    assert [step["with"]["sarif_file"] for step in uploads] == written
    assert all(f"hashFiles('{name}')" in step["if"] for step, name in zip(uploads, written))


def test_the_readme_shows_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.S)
    assert TEXT in blocks
