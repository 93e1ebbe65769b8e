"""`attncheck survey` from the outside: results survive a kill, a second run goes on, bad input is one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: One small scenario: what is tested is what happens around the probes.
QUICK = ("--impl", "eager", "--scenario", "plain", "--defaults-only", "--jobs", "1")
TYPES = ("bart", "gpt2", "llama", "opt", "vit")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "attncheck", "survey", "-o", str(folder), *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT
    )


def rows(folder: Path) -> list[dict[str, object]]:
    lines = (folder / "results.jsonl").read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines[1:] if line.endswith(b"\n")]


def test_a_killed_survey_goes_on_where_it_was(tmp_path: Path) -> None:
    words = ("--types", ",".join(TYPES), *QUICK)
    first = subprocess.Popen(
        command(tmp_path, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    results = tmp_path / "results.jsonl"
    end = time.monotonic() + 240
    while time.monotonic() < end and not (results.exists() and len(rows(tmp_path)) >= 2):
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = rows(tmp_path)
    assert 2 <= len(before) < len(TYPES)
    with results.open("ab") as file:
        file.write(b'{"model_type":"opt","status":"surv')  # as a kill in the middle of a line leaves it
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    after = rows(tmp_path)
    assert after[: len(before)] == before
    assert sorted(str(row["model_type"]) for row in after) == sorted(TYPES)
    assert (tmp_path / "matrix.html").exists()
    assert (tmp_path / "matrix.md").exists()
    again = run(tmp_path, *words, "--format", "json")
    assert rows(tmp_path) == after
    assert json.loads(again.stdout)["survey"]["types"] == {"surveyed": 4, "no_text": 1, "not_built": 0, "lost": 0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--types", "lama"), "no such model type"),
        (("--impl", "magic"), "no such implementation"),
        (("--scenario", "magic"), "no such scenario"),
        (("--format", "html"), "terminal, json"),
        (("--agreement",), "--device cuda"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run(tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_results_of_other_options_are_not_mixed(tmp_path: Path) -> None:
    assert run(tmp_path, "--types", "vit", *QUICK).returncode == 0
    other = run(tmp_path, "--types", "vit", *QUICK, "--seed", "3")
    assert other.returncode == 2
    assert "seed 0" in other.stderr


def test_the_tables_hold_all_types_of_the_folder_and_the_summary_those_of_the_call(tmp_path: Path) -> None:
    assert run(tmp_path, "--types", "llama,vit", *QUICK).returncode == 0
    later = run(tmp_path, "--types", "gpt2", *QUICK)
    assert later.returncode == 0, later.stderr
    assert "1 model type probed" in later.stdout
    for name in ("matrix.html", "matrix.md"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert "2 model types probed" in page
        assert all(word in page for word in ("gpt2", "llama", "vit")), name


def test_a_scenario_that_is_named_counts_as_used_on_the_page_as_in_its_own_command(tmp_path: Path) -> None:
    done = run(tmp_path, "--types", "llama", "--impl", "sdpa", "--scenario", "packed", "--defaults-only")
    assert done.returncode == 1, done.stderr
    assert "1 type with a difference in a scenario that was asked for: llama" in done.stdout
    page = (tmp_path / "matrix.md").read_text(encoding="utf-8")
    ((severity, shown),) = re.findall(r"\*\*(\w+)\*\* `packing-leak`.*`attncheck (compare [^`]+)`", page)
    assert severity == "error"
    again = subprocess.run(
        [sys.executable, "-m", "attncheck", *shown.split(), "--format", "json"],
        capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT,
    )  # fmt: skip
    leaks = [entry for entry in json.loads(again.stdout)["findings"] if entry["slug"] == "packing-leak"]
    assert {entry["severity"] for entry in leaks} == {severity}
