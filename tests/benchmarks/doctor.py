"""CPU and wall time of `attncheck doctor` against what else shows a machine, and CPU time of `doctor --static`.

Start: `python -m tests.benchmarks.doctor` from the repository root. Prints medians and ratios; judges nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

DOCTOR = ("-m", "attncheck", "doctor", "--fail-on", "never")
STATIC = (*DOCTOR, "--static")
COLLECT = ("-m", "torch.utils.collect_env")
IMPORT = ("-c", "import torch")


@dataclass(frozen=True)
class Run:
    """One finished process: CPU seconds of it and the children it waited for, and seconds on the clock."""

    cpu: float
    wall: float

    def __add__(self, other: Run) -> Run:
        return Run(self.cpu + other.cpu, self.wall + other.wall)


def run(arguments: tuple[str, ...]) -> Run:
    """Run Python with these arguments to its end. Exits when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
    )
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} failed with {process.returncode}:\n{said}")
    return Run(usage.ru_utime + usage.ru_stime, time.perf_counter() - start)


def line(name: str, runs: list[Run]) -> str:
    """`name  CPU 1.23 s  wall 2.34 s`, medians."""
    cpu, wall = statistics.median(r.cpu for r in runs), statistics.median(r.wall for r in runs)
    return f"{name:<38} CPU {cpu:6.2f} s   wall {wall:6.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="Readings of each command, of which the median counts.")
    repeat = parser.parse_args().repeat
    commands = {"doctor": DOCTOR, "static": STATIC, "collect": COLLECT, "import": IMPORT}
    for arguments in commands.values():  # once for the disk's cache
        run(arguments)
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(repeat):  # in turn, so that a busy machine slows all of them alike
        for name, arguments in commands.items():
            runs[name].append(run(arguments))
    both = [a + b for a, b in zip(runs["collect"], runs["import"])]
    print(f"medians of {repeat} runs in turn")
    print(line("attncheck doctor", runs["doctor"]))
    print(line("python -m torch.utils.collect_env", runs["collect"]))
    print(line('python -c "import torch"', runs["import"]))
    for what in ("cpu", "wall"):
        ratio = statistics.median(
            getattr(ours, what) / getattr(theirs, what) for ours, theirs in zip(runs["doctor"], both)
        )
        print(f"doctor / (collect_env + import torch), {what}: {ratio:.2f} times")
    print(line("attncheck doctor --static", runs["static"]))


if __name__ == "__main__":
    main()
