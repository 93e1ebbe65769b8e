"""A kernel that dies, hangs, raises, chatters or returns NaN is a result; the others are still judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent / "plugins"


def compare(*arguments: str) -> tuple[int, dict, str]:
    process = subprocess.run(
        [sys.executable, "-m", "attncheck", "compare", "llama", "--format", "json", "--offline", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGINS), *filter(None, sys.path)])},
        timeout=600,
        check=False,
    )
    assert "Traceback" not in process.stdout
    return process.returncode, json.loads(process.stdout), process.stderr


def status(report: dict, name: str) -> dict:
    return next(entry for entry in report["implementations"] if entry["name"] == name)


@pytest.mark.parametrize(
    ("kernel", "word"),
    [("segfaulting", "SIGSEGV"), ("hanging", "no answer within"), ("raising", "out of sorts")],
)
def test_a_broken_kernel_is_named_and_the_rest_goes_on(kernel: str, word: str) -> None:
    code, report, _ = compare(
        "--plugin", "broken_kernels", "--impl", f"{kernel},eager", "--scenario", "plain,left-pad", "--timeout", "5"
    )
    broken = status(report, kernel)
    assert broken["status"] == "crashed"
    assert any(word in reason["text"] for reason in broken["reasons"])
    assert status(report, "eager")["status"] == "ok"
    assert {cell["verdict"] for cell in report["matrix"] if cell["implementation"] == "eager"} == {"ok"}
    assert code == 1


def test_chatter_never_reaches_standard_output() -> None:
    code, report, _ = compare("--plugin", "broken_kernels", "--impl", "printing", "--scenario", "plain")
    assert status(report, "printing")["status"] == "ok"
    assert code == 0


def test_nan_output_is_a_finding() -> None:
    code, report, _ = compare("--plugin", "broken_kernels", "--impl", "poisoned,sdpa", "--scenario", "plain")
    assert {finding["slug"] for finding in report["findings"] if finding["implementation"] == "poisoned"} == {
        "nan-rows"
    }
    assert status(report, "sdpa")["status"] == "ok"
    assert code == 1
