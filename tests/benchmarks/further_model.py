"""CPU time of one more model in a warm worker: three implementations, core scenarios and all of them.

Start: `python -m tests.benchmarks.further_model` from the repository root. Prints one line a type and the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

TYPES = [
    *("mistral", "llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "starcoder2", "mixtral"),
    *("olmo2", "olmo3", "cohere", "cohere2", "granite", "smollm3", "qwen2_moe", "gpt_neox", "opt", "stablelm"),
]
#: Pays in each process for what the first model of any type imports.
FIRST = "olmo"
IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention")


def probe(model_type: str, scenarios: tuple[str, ...]) -> float | None:
    """CPU seconds of building a model and of probing it; None when it cannot be built."""
    from attncheck.probe.protocol import NotBuilt, Probe
    from attncheck.probe.runner import run
    from attncheck.probe.tiny.build import build

    start = time.process_time()
    tiny = build({"model_type": model_type})
    if isinstance(tiny, NotBuilt):
        return None
    for implementation in IMPLEMENTATIONS:
        for _ in run(tiny, Probe(implementation, scenarios)):
            pass
    return time.process_time() - start


def child(which: str) -> None:
    """Probe every type once and print a JSON object of CPU seconds. which: "core" or "all" scenarios."""
    import torch

    from attncheck.probe.scenario import scenarios

    torch.set_num_threads(1)
    names = tuple(scenario.name for scenario in scenarios() if scenario.core or which == "all")
    probe(FIRST, names)
    print(json.dumps({model_type: probe(model_type, names) for model_type in TYPES}))


def measured(which: str) -> dict[str, float | None]:
    """One reading of every type, in a process of its own: the first model of a type also imports what belongs to it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.further_model", "--child", which],
        env={**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    seconds: dict[str, float | None] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="Readings of each type, of which the median counts.")
    parser.add_argument("--child", choices=("core", "all"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    readings = [(measured("core"), measured("all")) for _ in range(arguments.repeat)]
    rows: list[tuple[float, float]] = []
    for model_type in TYPES:
        core, everything = ([s for pair in readings if (s := pair[i][model_type]) is not None] for i in (0, 1))
        if not core or not everything:
            print(f"{model_type}: not built")
            continue
        rows.append((statistics.median(core), statistics.median(everything)))
        print(f"{model_type:<14} core {rows[-1][0]:5.2f} s   all {rows[-1][1]:5.2f} s")
    core_median, median = (statistics.median(row[i] for row in rows) for i in (0, 1))
    print(f"median over {len(rows)} types: core {core_median:.2f} s, all {median:.2f} s of CPU")


if __name__ == "__main__":
    main()
