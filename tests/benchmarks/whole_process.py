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

#: The tiny model that `compare` builds for Mistral, once, and one forward pass of 24 tokens.
BARE = """
import torch, transformers
torch.set_num_threads(1)
config = transformers.MistralConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, vocab_size=128, sliding_window=8, max_position_embeddings=256)
model = transformers.AutoModelForCausalLM.from_config(config).eval()
with torch.no_grad():
    model(torch.arange(64, 88)[None])
"""

OURS = """
import runpy, sys
sys.argv = ["attncheck", *{arguments!r}]
runpy.run_module("attncheck", run_name="__main__", alter_sys=True)
"""

#: Makes a process tell its own peak memory, and that of the largest child that it waited for, when it ends.
_TELLS = """
import atexit, resource, sys
peaks = lambda: [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
atexit.register(lambda: print(*peaks(), file=sys.__stderr__))
"""


@dataclass(frozen=True)
class Run:
    """One finished process: CPU seconds (its children included), and the peaks of it and of its worker in MB."""

    cpu: float
    peak: float
    worker: float

    @property
    def memory(self) -> float:
        """The sum of both peaks, which need not have come at the same time."""
        return self.peak + self.worker


def run(code: str) -> Run:
    """Run Python code in a process of its own to its end. Exits when it fails: 0 and 1 are attncheck's good codes."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TELLS + code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
    )
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1) or "Traceback" in said:
        sys.exit(f"failed with {process.returncode}:\n{said}")
    peak, worker = (int(kilobytes) / 1024 for kilobytes in said.split()[-2:])
    # wait4 counts the process and the children it has waited for itself.
    return Run(usage.ru_utime + usage.ru_stime, peak, worker)


def pair(name: str, arguments: list[str], bare: str, repeat: int) -> None:
    """Run attncheck and the bare process in turn and print medians, and the median of the ratios of neighbours."""
    ours = OURS.format(arguments=arguments)
    for code in (ours, bare):  # once for the disk's cache
        run(code)
    runs = [(run(ours), run(bare)) for _ in range(repeat)]
    cpu, bare_cpu = (statistics.median(r[i].cpu for r in runs) for i in (0, 1))
    ratio = statistics.median(a.cpu / b.cpu for a, b in runs)
    most = max((a for a, _ in runs), key=lambda one: one.memory)
    bare_peak = max(b.peak for _, b in runs)
    print(
        f"{name}\n"
        f"  CPU time  {cpu:6.2f} s  against {bare_cpu:6.2f} s: {ratio:.2f} times\n"
        f"  memory    {most.memory:6.0f} MB against {bare_peak:6.0f} MB: {most.memory - bare_peak:+.0f} MB "
        f"(attncheck {most.peak:.0f} MB and its worker {most.worker:.0f} MB)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    print(f"medians of {repeat} pairs")
    pair("--help / a Typer hello world with rich", ["--help"], HELLO, repeat)
    pair(
        "compare Mistral-7B, three implementations, all scenarios / torch, transformers, one forward pass",
        ["compare", "mistralai/Mistral-7B-v0.1", "--offline", "--impl", "eager,sdpa,flex_attention"],
        BARE,
        repeat,
    )


if __name__ == "__main__":
    main()
