"""Shell completion: scripts for the common shells, and names of rules, implementations, scenarios and presets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from attncheck import completion
from attncheck.cli import app

ROOT = Path(__file__).parents[1]


PROGRAM = "import sys; sys.argv[0] = 'attncheck'; from attncheck.cli import main; main()"


def completed(line: str) -> list[str]:
    """What the program answers to bash's own completion script at the end of the line."""
    asked = {"_ATTNCHECK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={**os.environ, **asked}, cwd=ROOT
    )
    return found.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("attncheck explain window-ig", "window-ignored"),
        ("attncheck compare qwen2 --impl eager,sd", "eager,sdpa"),
        ("attncheck bench --preset head", "headline"),
        ("attncheck doctor --for", "--format"),
    ],
)
def test_a_shell_is_answered(line: str, expected: str) -> None:
    assert completed(line) == [expected]


def test_it_installs_itself(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--install-completion", "bash"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    assert found.returncode == 0
    assert "_ATTNCHECK_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "attncheck.sh").read_text()


def test_it_is_switched_on() -> None:
    options = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    assert {"--install-completion", "--show-completion"} <= options


def test_rules() -> None:
    assert [name for name, _ in completion.rules("ATC10")] == [f"ATC10{n}" for n in range(1, 10)]
    assert "window-ignored" in dict(completion.rules("window"))
    assert "window-off-by-one" in dict(completion.rules("window_off"))


def test_implementations_come_one_after_another() -> None:
    assert {"eager", "sdpa", "flash_attention_2"} <= set(dict(completion.implementations("")))
    assert [name for name, _ in completion.implementations("eager,sd")] == ["eager,sdpa"]
    assert "sdpa,sdpa" not in dict(completion.implementations("sdpa,"))


@pytest.mark.parametrize(
    ("function", "begun", "expected"),
    [
        (completion.scenarios, "plain,dec", "plain,decode"),
        (completion.machine_checks, "install-b", "install-broken"),
        (completion.apis, "flash-attn-", "flash-attn-2"),
        (completion.presets, "head", "headline"),
        (completion.incidents, "te", "te-window"),
        (completion.frameworks, "llama", "llama-factory"),
        (completion.formats, "sa", "sarif"),
    ],
)
def test_names(function: object, begun: str, expected: str) -> None:
    assert expected in dict(function(begun))  # type: ignore[operator]
    assert not function("no-such-name")  # type: ignore[operator]


def test_no_torch_is_loaded_for_it() -> None:
    program = (
        "import sys; from attncheck import completion as c;"
        "[f('') for f in (c.rules, c.implementations, c.scenarios, c.machine_checks, c.apis, c.presets, c.formats)];"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "False False\n"
