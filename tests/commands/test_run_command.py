"""`attncheck run` round real scripts in real processes: right findings, and the script's own output and end."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
WRONG = """
import sys, torch, torch.nn.functional as F
query, key = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 10, 8)
for _ in range(5):
    F.scaled_dot_product_attention(query, key, key, is_causal=True)
F.scaled_dot_product_attention(key, key, key, torch.ones(10, 10).triu(1).bool())
F.scaled_dot_product_attention(key, key, key, torch.ones(10, 10).tril())
F.scaled_dot_product_attention(key, key, key, torch.ones(10, 10).tril().bool())
print("to stdout")
print("to stderr", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
TRAINER = """
import sys, torch
from transformers import MistralConfig, MistralForCausalLM, Trainer, TrainingArguments
sizes = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
torch.manual_seed(0)
model = MistralForCausalLM(MistralConfig(**sizes, vocab_size=64, sliding_window=5))
if "planted" in sys.argv:
    from transformers import modeling_utils
    sdpa = modeling_utils.ALL_ATTENTION_FUNCTIONS["sdpa"]
    def forgetful(module, query, key, value, attention_mask, **kwargs):
        return sdpa(module, query, key, value, None, **kwargs)
    modeling_utils.AttentionInterface.register("sdpa", forgetful)
data = [{"input_ids": list(range(3, 3 + 12)), "labels": list(range(3, 3 + 12))} for _ in range(8)]
arguments = TrainingArguments(output_dir=sys.argv[1], max_steps=3, per_device_train_batch_size=2, report_to=[],
                              save_strategy="no", logging_steps=1, use_cpu=True, disable_tqdm=True)
trainer = Trainer(model=model, args=arguments, train_dataset=data)
trainer.train()
print("losses", [entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
"""


def attncheck(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "attncheck", "run", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def reported(tmp_path: Path, code: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The finished run of a script, and its report."""
    script, report = tmp_path / "script.py", tmp_path / "report.json"
    script.write_text(code)
    done = attncheck("--format", "json", "-o", str(report), "--", sys.executable, str(script), *arguments)
    return done, json.loads(report.read_text())


def test_a_script_with_wrong_masks(tmp_path: Path) -> None:
    done, report = reported(tmp_path, WRONG, "3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "to stdout\n", "to stderr\n")
    assert sorted(finding["slug"] for finding in report["findings"]) == [
        "causal-misaligned",
        "mask-hides-nothing",
        "mask-inverted",
    ]
    watch = report["watch"]
    assert (report["command"], watch["status"], watch["processes"]) == ("run", 3, 1)
    assert [(site["difference"], site["calls"]) for site in watch["sites"]] == [
        ("causal-misaligned", 3),
        ("mask-inverted", 1),
        ("mask-hides-nothing", 1),
        (None, 1),
    ]
    assert all(site["kernel"] and site["where"].startswith("script.py:") for site in watch["sites"])


def test_the_reproduction_of_a_finding_shows_it(tmp_path: Path) -> None:
    _, report = reported(tmp_path, WRONG, "0")
    for finding in report["findings"]:
        shown = subprocess.run(
            [sys.executable, "-c", finding["reproduction"]], env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        rows = [line.strip(" []tensor(),").replace(",", "").split() for line in shown.stdout.splitlines()]
        first = rows[0]
        expected = {"causal-misaligned": ["1"] + ["0"] * 9, "mask-inverted": ["0"] + ["1"] * 9}
        assert first == expected.get(finding["slug"], ["1"] * 10), finding["slug"]


def test_the_report_goes_to_standard_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WRONG)
    done = attncheck("--", sys.executable, str(script), "0")
    assert (done.returncode, done.stdout) == (0, "to stdout\n")
    assert done.stderr.startswith("to stderr\n")
    assert "causal-misaligned" in done.stderr
    assert "the script's exit code 0" in done.stderr


def test_findings_may_fail_a_script_that_does_not_fail_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WRONG)
    assert attncheck("--fail-on", "error", "--", sys.executable, str(script), "0").returncode == 1
    assert attncheck("--fail-on", "error", "--", sys.executable, str(script), "5").returncode == 5


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="the Trainer needs accelerate")
def test_a_real_trainer(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text(TRAINER)
    alone = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    done, report = reported(tmp_path, TRAINER, str(tmp_path))
    losses = [line for line in done.stdout.splitlines() if line.startswith("losses")]
    assert done.returncode == 0
    assert losses == [line for line in alone.stdout.splitlines() if line.startswith("losses")]
    assert report["findings"] == []
    (site,) = report["watch"]["sites"]
    assert (site["verdict"], site["implementation"], site["layers"], site["phase"]) == ("ok", "sdpa", [0, 1], "train")
    assert site["sees"] == site["declared"] == "5 keys: 4 back, 0 ahead"


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="the Trainer needs accelerate")
def test_a_real_trainer_that_loses_its_window(tmp_path: Path) -> None:
    done, report = reported(tmp_path, TRAINER, str(tmp_path), "planted")
    assert done.returncode == 0
    (finding,) = report["findings"]
    assert (finding["slug"], finding["layers"], finding["implementation"]) == ("window-ignored", [0, 1], "sdpa")
    assert finding["evidence"]["masks"]["effective"][-1] == "1" * 12


def test_an_interrupt_reaches_the_script_and_what_was_seen_is_reported(tmp_path: Path) -> None:
    script, report = tmp_path / "script.py", tmp_path / "report.json"
    script.write_text(
        "import time, torch\n"
        "x = torch.ones(1, 1, 3, 4)\n"
        "torch.nn.functional.scaled_dot_product_attention(x, x, x)\n"
        "try:\n    print('ready', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('stopping', flush=True); raise SystemExit(9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "attncheck", "run", "--format", "json", "-o", str(report), sys.executable, str(script)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "stopping\n"
    assert process.returncode == 9
    assert len(json.loads(report.read_text())["watch"]["sites"]) == 1


def test_a_segmentation_fault_is_the_scripts_and_its_calls_are_reported(tmp_path: Path) -> None:
    code = (
        "import ctypes, torch\n"
        "x = torch.ones(1, 1, 3, 4)\n"
        "torch.nn.functional.scaled_dot_product_attention(x, x, x)\n"
        "ctypes.string_at(0)\n"
    )
    done, report = reported(tmp_path, code)
    assert done.returncode == -signal.SIGSEGV
    assert (report["watch"]["ended_by"], report["watch"]["status"]) == ("SIGSEGV", 139)
    assert len(report["watch"]["sites"]) == 1


def test_child_processes_are_watched_and_ranks_merged(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
if len(sys.argv) > 1:
    import torch
    x = torch.ones(1, 1, 3, 4)
    for _ in range(2):
        torch.nn.functional.scaled_dot_product_attention(x, x, x)
else:
    for rank in "01":
        subprocess.run([sys.executable, __file__, "child"], env={**os.environ, "RANK": rank}, check=True)
"""
    _, report = reported(tmp_path, code)
    assert report["watch"]["ranks"] == [0, 1]
    (site,) = report["watch"]["sites"]
    assert (site["ranks"], site["calls"]) == ([0, 1], 4)


def test_compiled_code_is_neither_broken_nor_called_right(tmp_path: Path) -> None:
    code = """
import torch
def attend(x):
    return torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
x = torch.randn(1, 2, 6, 8)
compiled = torch.compile(attend, fullgraph=True, backend="eager")
print(torch.equal(compiled(x), attend(x)))
"""
    script, path = tmp_path / "script.py", tmp_path / "report.json"
    script.write_text(code)
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "TORCHDYNAMO_DISABLE"}
    done = subprocess.run(
        [sys.executable, "-m", "attncheck", "run", "--format", "json", "-o", str(path), sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    report = json.loads(path.read_text())
    assert report["watch"]["compiled"] == 1
    assert [site["calls"] for site in report["watch"]["sites"]] == [1]  # the call outside of the graph


def test_a_script_without_attention_says_so(tmp_path: Path) -> None:
    done = attncheck("--", sys.executable, "-c", "print(1)")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "no attention call was seen" in done.stderr


def test_options_behind_the_command_are_the_commands(tmp_path: Path) -> None:
    done = attncheck(sys.executable, "-c", "import sys; print(sys.argv[1:])", "--format", "html", "-o", "x")
    assert done.stdout == "['--format', 'html', '-o', 'x']\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--", "no-such-program"), "no-such-program: there is no such command"),
        (("--format", "nothing", "--", "true"), "--format 'nothing'"),
        (("-o", "/no/such/folder/x", "--", "true"), "there is no folder"),
        (("--calls", "0", "--", "true"), "--calls"),
        ((), "Missing argument"),
    ],
)
def test_wrong_usage_is_told_before_anything_runs(arguments: tuple[str, ...], expected: str) -> None:
    done = attncheck(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
