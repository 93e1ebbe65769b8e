"""CPU time of one more model in a warm worker: three implementations, core scenarios and all of them.

Start: `python -m tests.benchmarks.further_model` from the repository root. Prints one line a type and the medians.
"""

from __future__ import annotations

import os
import statistics
import time

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

TYPES = (
    "mistral llama qwen2 qwen3 gemma gemma2 gemma3_text phi3 starcoder2 mixtral olmo2 olmo3 cohere cohere2 granite "
    "smollm3 qwen2_moe gpt_neox opt stablelm"
).split()  # noqa: SIM905
IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention")


def probe(tiny: object, scenarios: tuple[str, ...]) -> float:
    """CPU seconds of probing a built model under the three implementations."""
    from attncheck.probe.protocol import Probe
    from attncheck.probe.runner import run

    start = time.process_time()
    for implementation in IMPLEMENTATIONS:
        for _ in run(tiny, Probe(implementation, scenarios)):  # type: ignore[arg-type]
            pass
    return time.process_time() - start


def main() -> None:
    import torch

    from attncheck.probe.protocol import NotBuilt
    from attncheck.probe.scenario import scenarios
    from attncheck.probe.tiny.build import build

    torch.set_num_threads(1)
    everything = tuple(s.name for s in scenarios())
    core = tuple(s.name for s in scenarios() if s.core)
    rows = []
    for model_type in ("mistral", *TYPES):
        start = time.process_time()
        tiny = build({"model_type": model_type})
        if isinstance(tiny, NotBuilt):
            print(f"{model_type}: not built: {tiny.reasons[0].text}")
            continue
        built = time.process_time() - start
        row = (built + probe(tiny, core), built + probe(tiny, everything))
        rows.append(row)
        print(f"{model_type:<14} build {built:5.2f} s   core {row[0]:5.2f} s   all {row[1]:5.2f} s", flush=True)
    rows = rows[1:]  # the first model also pays for imports
    print(
        f"median over {len(rows)} types: core {statistics.median(r[0] for r in rows):.2f} s, "
        f"all {statistics.median(r[1] for r in rows):.2f} s of CPU"
    )


if __name__ == "__main__":
    main()
