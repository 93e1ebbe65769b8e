"""Command: do the verdicts of the flash contract agree with those of the real kernels? Needs a GPU and the package.

    python -m tests.campaigns.agreement [--impl flash_attention_2] [--jobs 8] [--json FILE] [TYPE ...]

Every model type of the installed transformers is probed twice in one process on the GPU: with the real kernel, and with
the contract in plain torch that stands in where no kernel can run. Cells are compared one by one, and every difference
is listed with what both sides say.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.campaigns.batches import appender, sweep
from tests.campaigns.sweep import chosen, judged, support

#: Verdicts that say something about the call; a refusal or a crash of a kernel cannot be foreseen by a contract.
_JUDGED = ("ok", "mismatch")


def examine(model_type: str, implementation: str, scenarios: Sequence[str], dtype: str) -> dict[str, Any]:
    """The cells of one type from both sides, as plain data; `skipped` where there is nothing to compare."""
    from attncheck.environment import read_environment
    from attncheck.frameworks import transformers as framework
    from attncheck.frameworks.interface import Usable
    from attncheck.probe.protocol import NotBuilt, UnknownType
    from attncheck.probe.tiny.build import build
    from attncheck.probe.tiny.facts import describe

    config = {"model_type": model_type}
    facts = describe(config)
    if isinstance(facts, UnknownType):
        return {"skipped": facts.reason}
    decision = framework.decide(support(facts), read_environment(), implementation)
    if not isinstance(decision, Usable):
        return {"skipped": "; ".join(reason.text for reason in decision.reasons)}
    tiny = build(config)
    if isinstance(tiny, NotBuilt):
        return {"skipped": "; ".join(reason.text for reason in tiny.reasons)}
    sides = {side: _cells(tiny, facts, implementation, scenarios, dtype, side == "predicted") for side in SIDES}
    return {"class": tiny.info.model_class, **sides}


SIDES = ("measured", "predicted")


def _cells(tiny: Any, facts: Any, implementation: str, scenarios: Sequence[str], dtype: str, predict: bool) -> Any:
    from attncheck import checks
    from attncheck.probe.protocol import Probe
    from attncheck.probe.runner import run
    from attncheck.semantics.observation import ScenarioRun

    runs = [
        answer
        for name, flag in (("eager", False), (implementation, predict))
        for answer in run(tiny, Probe(name, tuple(scenarios), dtype, "cuda", predict=flag))
        if isinstance(answer, ScenarioRun)
    ]
    options = checks.Options(dtype=dtype)
    conclusion, _ = judged(tiny, facts, runs, ("eager", implementation), options=options)
    return {
        f"{cell.scenario}/{cell.variant}/{cell.part.value if cell.part else ''}/{','.join(map(str, cell.layers))}": {
            "verdict": cell.verdict.value,
            "difference": cell.difference,
            "reason": cell.reason[:300],
        }
        for cell in conclusion.cells
        if cell.implementation == implementation
    }


def differences(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(place, measured, predicted) of the cells on which both sides judged and disagree."""
    measured, predicted = (row[side] for side in SIDES)
    for place in measured.keys() & predicted.keys():
        one, other = measured[place], predicted[place]
        if {one["verdict"], other["verdict"]} <= set(_JUDGED) and (one["verdict"], one["difference"]) != (
            other["verdict"],
            other["difference"],
        ):
            yield place, one, other


def table(rows: Sequence[dict[str, Any]], implementation: str) -> int:
    """Prints the agreement; returns the number of cells that disagree."""
    both = [row for row in rows if "measured" in row]
    judged, same, kinds = 0, 0, Counter[str]()
    apart: list[str] = []
    for row in both:
        wrong = {place: (one, other) for place, one, other in differences(row)}
        for place in row["measured"].keys() | row["predicted"].keys():
            one, other = (row[side].get(place, {"verdict": "absent"}) for side in SIDES)
            if one["verdict"] in _JUDGED and other["verdict"] in _JUDGED:
                judged += 1
                same += place not in wrong
                kinds[one["difference"] or "ok"] += place not in wrong
            elif (one["verdict"] in _JUDGED) != (other["verdict"] in _JUDGED):
                words = "; ".join(
                    f"{side} {cell['verdict']}: {cell.get('reason', '')}" for side, cell in zip(SIDES, (one, other))
                )
                apart.append(f"{row['type']} {place}: {words}")
        for place, (one, other) in sorted(wrong.items()):
            print(f"DISAGREE {row['type']} {place}: measured {one}, predicted {other}")
    print(f"{implementation}: {len(both)} of {len(rows)} types ran on both sides")
    print(f"{same} of {judged} cells agree: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))
    print(f"{len(apart)} cells that only one side could judge:")
    for line, count in Counter(line.split(": ", 1)[1] for line in apart).most_common(40):
        names = sorted({one.split(" ", 1)[0] for one in apart if one.endswith(line)})
        print(f"  {count} x {line[:300]} ({', '.join(names[:12])}{' ...' * (len(names) > 12)})")
    print("not compared:")
    for reason, count in Counter(
        row.get("skipped") or row.get("broke") or row.get("lost", "") for row in rows if "measured" not in row
    ).most_common(20):
        print(f"  {count} x {reason[:200]}")
    return judged - same


def child(names: Sequence[str], result: Path, options: argparse.Namespace) -> None:
    """Examines types one after another and appends one JSON line each."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    emit = appender(result)
    for name in names:
        emit({"type": name, "started": True})
        try:
            row = examine(name, options.impl, options.scenario.split(","), options.dtype)
        except Exception as error:
            row = {"broke": f"{type(error).__name__}: {error}"[:300]}
        emit({"type": name, **row})
        torch.cuda.synchronize()  # raises after a lost context: the process ends, and a new one goes on


def collected(arguments: argparse.Namespace, options: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of all types, worked through by `--jobs` processes."""
    names = chosen((), arguments.names)
    command = [sys.executable, "-m", __spec__.name, *options]
    waiting: Queue[list[str]] = Queue()
    for first in range(0, len(names), arguments.batch):
        waiting.put(names[first : first + arguments.batch])
    rows: list[dict[str, Any]] = []

    def work() -> None:
        while True:
            try:
                batch = waiting.get_nowait()
            except Empty:
                return
            for row in sweep(command, batch, arguments.batch, arguments.limit):
                rows.append(row)
                if arguments.json:
                    appender(arguments.json)(row)

    threads = [threading.Thread(target=work) for _ in range(arguments.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(rows, key=lambda row: str(row["type"]))


def main() -> None:
    """Parses the arguments, runs both sides, prints the table."""
    from attncheck.probe.scenario import scenarios

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impl", default="flash_attention_2")
    parser.add_argument("--scenario", default=",".join(entry.name for entry in scenarios()))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds one type may take")
    parser.add_argument("--json", type=Path, help="store the rows here, one JSON line a type")
    parser.add_argument("--from", dest="stored", type=Path, help="print the table of a stored run")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="only these types")
    arguments = parser.parse_args()
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.child:
        child(arguments.names, arguments.child, arguments)
        return
    begin = time.monotonic()
    if arguments.stored:
        rows = [json.loads(line) for line in arguments.stored.read_text().splitlines()]
    else:
        options = ["--impl", arguments.impl, "--scenario", arguments.scenario, "--dtype", arguments.dtype]
        rows = collected(arguments, options)
    wrong = table(rows, arguments.impl)
    print(f"{time.monotonic() - begin:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
