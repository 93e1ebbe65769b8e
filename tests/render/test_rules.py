"""The list of checks and the pages of `explain`: every format holds every rule, and says what a check takes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from attncheck import cli
from attncheck.checks.machine import MachineCheck
from attncheck.doctor import machine_checks
from attncheck.errors import UsageError
from attncheck.findings import Rule
from attncheck.render import interface, rules
from attncheck.render.interface import Style

RULE = Rule(
    "ATC899", "odd-thing", "A thing | is <odd>", "Finds *it*.", "It matters.", "By looking.", "Mend it.", ("a#1",)
)


def check(*needs: str) -> MachineCheck:
    return MachineCheck(RULE, lambda machine: (), needs)


def listed(format_name: str, *checks: MachineCheck) -> str:
    return rules.render_checks(checks, format_name, Style())


@pytest.mark.parametrize("format_name", rules.FORMATS)
def test_every_check_is_listed(format_name: str) -> None:
    found = machine_checks()
    text = listed(format_name, *found)
    for entry in found:
        assert entry.rule.code in text
        assert entry.rule.slug in text


@pytest.mark.parametrize(
    ("needs", "takes"),
    [
        ((), "files"),
        (("inventory",), "files"),
        (("imports", "inventory"), "imports"),
        (("torch",), "imports"),
        (("imports", "conventions"), "kernels"),
        (("abilities",), "kernels"),
    ],
)
def test_a_check_says_the_dearest_thing_that_it_takes(needs: tuple[str, ...], takes: str) -> None:
    assert f"odd-thing  {takes}" in listed("terminal", check(*needs))


def test_needs_are_plain_data_in_json() -> None:
    (entry,) = json.loads(listed("json", check("torch", "imports")))["checks"]
    assert (entry["code"], entry["needs"]) == ("ATC899", ["torch", "imports"])


def test_a_list_fits_80_columns() -> None:
    assert max(map(len, listed("terminal", *machine_checks()).splitlines())) <= 80


def test_markup_in_a_rule_stays_text() -> None:
    page = rules.render([RULE], "markdown", Style(), full=True)
    assert "A thing \\| is &lt;odd&gt;" in page
    assert "**What it finds.** Finds \\*it\\*." in page
    assert "| ATC899 | `odd-thing` | files | A thing \\| is &lt;odd&gt; |" in listed("markdown", check())


def test_a_format_without_a_form_for_rules_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="terminal, json, markdown"):
        listed("tarot", check())


@pytest.mark.parametrize("arguments", [("doctor", "--list-checks"), ("explain",), ("explain", "install-broken")])
@pytest.mark.parametrize("format_name", rules.FORMATS)
def test_the_command_line_prints_them(arguments: tuple[str, ...], format_name: str) -> None:
    result = CliRunner().invoke(cli.app, [*arguments, "--format", format_name])
    assert result.exit_code == 0, result.output
    assert "ATC801" in result.stdout


@pytest.mark.parametrize("command", ["doctor", "compare", "bench", "explain"])
def test_help_names_every_format(command: str) -> None:
    text = CliRunner().invoke(cli.app, [command, "--help"]).output
    for name, renderer in interface.renderers().items():
        assert (name in text) == (not renderer.commands or command in renderer.commands)
