"""CPU time and peak memory of attncheck's commands against bare processes, side by side in one run.

Start: `python -m tests.benchmarks.whole_process` from the repository root. Prints medians and ratios; judges nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

HELLO = """
import typer
from rich.console import Console
app = typer.Typer()
@app.command()
def hello(name: str = "world") -> None:
    Console().print(f"hello {name}")
app()
"""

BARE = """
import torch, transformers
torch.set_num_threads(1)
config = transformers.MistralConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, vocab_size=128, sliding_window=8, max_position_embeddings=256)
model = transformers.AutoModelForCausalLM.from_config(config).eval()
with torch.no_grad():
    model(torch.arange(64, 88)[None])
"""


@dataclass(frozen=True)
class Run:
    """One finished process: CPU seconds (its children included) and peak memory in MB (of the largest process)."""

    cpu: float
    peak: float


def run(command: list[str]) -> Run:
    """Run a command to its end; its output is thrown away."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
    )
    _, _, usage = os.wait4(process.pid, 0)
    # wait4 counts the process and the children it has waited for itself.
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def pair(name: str, ours: list[str], bare: list[str], repeat: int) -> None:
    """Run two commands in turn and print the medians and their ratio."""
    for command in (ours, bare):
        run(command)
    runs = [(run(ours), run(bare)) for _ in range(repeat)]
    cpu, bare_cpu = (statistics.median(r[i].cpu for r in runs) for i in (0, 1))
    peak, bare_peak = (max(r[i].peak for r in runs) for i in (0, 1))
    ratio = statistics.median(a.cpu / b.cpu for a, b in runs)
    print(
        f"{name:<52} {cpu:7.2f} s  {bare_cpu:7.2f} s  ratio {ratio:5.2f}   "
        f"peak {peak:6.0f} MB  {bare_peak:6.0f} MB  (+{peak - bare_peak:.0f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    python, ours = [sys.executable], [sys.executable, "-m", "attncheck"]
    print(f"{'CPU time, medians of ' + str(repeat):<52} {'attncheck':>9}  {'bare':>9}")
    pair("--help / typer hello world", [*ours, "--help"], [*python, "-c", HELLO], repeat)
    pair(
        "compare Mistral-7B, 3 implementations / one forward",
        [*ours, "compare", "mistralai/Mistral-7B-v0.1", "--offline", "--impl", "eager,sdpa,flex_attention"],
        [*python, "-c", BARE],
        repeat,
    )


if __name__ == "__main__":
    main()
