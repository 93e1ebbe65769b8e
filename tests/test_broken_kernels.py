"""A kernel that dies, hangs, raises, chatters or returns NaN is a result; the others are still judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.probe.processes import wait_until_gone

PLUGINS = Path(__file__).parent / "plugins"
COMPARE = (sys.executable, "-m", "attncheck", "compare", "llama", "--offline", "--plugin", "broken_kernels")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PLUGINS), *filter(None, sys.path)])}
#: The broken ones before, between and after the healthy ones.
IMPLEMENTATIONS = ("printing", "segfaulting", "eager", "hanging", "raising", "poisoned", "sdpa")


def report_of(*arguments: str) -> dict[str, Any]:
    """The JSON report; nothing but that may be on standard output, whatever the kernels print there."""
    command = [*COMPARE, *arguments, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def status(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in report["implementations"] if entry["name"] == name)


def test_broken_kernels_are_named_and_the_rest_goes_on() -> None:
    """All of them in one run: each that ends its process costs a new one, which is what makes this test dear."""
    report = report_of("--impl", ",".join(IMPLEMENTATIONS), "--scenario", "plain", "--timeout", "6")
    assert [entry["name"] for entry in report["implementations"]] == list(IMPLEMENTATIONS)
    words = {"segfaulting": "SIGSEGV", "hanging": "no answer within 6 s", "raising": "the kernel is out of sorts"}
    for name, word in words.items():
        broken = status(report, name)
        assert broken["status"] == "crashed", name
        assert any(word in reason["text"] for reason in broken["reasons"]), name
        assert {cell["verdict"] for cell in report["matrix"] if cell["implementation"] == name} == {"error"}
    for name in ("eager", "sdpa"):
        assert status(report, name)["status"] == "ok"
        assert {cell["verdict"] for cell in report["matrix"] if cell["implementation"] == name} == {"ok"}
    # Chatter changes nothing, and NaN is no crash but a finding.
    assert status(report, "printing")["status"] == "ok"
    poisoned = {finding["slug"] for finding in report["findings"] if finding["implementation"] == "poisoned"}
    assert poisoned == {"nan-rows"}
    assert report["recommended"]["implementation"] in ("eager", "sdpa", "printing")


def test_an_interrupt_ends_the_worker_too(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of the terminal; here it comes while a kernel hangs."""
    started = tmp_path / "started"
    process = subprocess.Popen(
        [*COMPARE, "--impl", "hanging", "--scenario", "plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "HANGING_KERNEL_WRITES_ITS_PROCESS_TO": str(started)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run may ignore it
    )
    try:
        while process.poll() is None and not started.exists():
            time.sleep(0.05)
        worker = int(started.read_text())
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output, errors) == (130, "", "")
    assert wait_until_gone(worker)
