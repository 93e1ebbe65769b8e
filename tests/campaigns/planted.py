"""Command: plants every fault of `tests/faults.py` in tiny models of every causal type and prints what was found.

    python -m tests.campaigns.planted [--dtype float32] [--types llama,mistral] [--json FILE]

A fault counts as flagged when its scenario gains a mismatch that the healthy control does not have, and as rightly
named when one of the new slugs is the fault's own. Every control alarm is listed, never hidden. Exit 1 when a fault is
missed or wrongly named, a type is lost on the way, or nothing was planted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns.batches import sweep

DTYPES = ("float32", "bfloat16", "float16")

#: Types in which nothing can be planted, and why.
EXCLUDED = {"moshi": "never applies its own window, a genuine finding that hides every fault behind it"}


def causal_types() -> list[str]:
    """Every causal LM type of the installed transformers."""
    from transformers.models.auto import modeling_auto

    return sorted(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def differences(tiny: Any, spec: Any, scenario: str, dtype: str) -> tuple[set[tuple[str, str]], int, str]:
    """The (variant, slug) pairs of the planted implementation in one scenario, the calls read, and why none were."""
    from attncheck import checks
    from attncheck.probe.protocol import Probe
    from attncheck.probe.runner import run
    from attncheck.semantics.observation import Observed, ScenarioRun
    from tests import faults

    runs = [
        answer
        for name in ("eager", faults.NAME)  # eager stands in where nothing knowable is declared
        for answer in run(tiny, Probe(name, (scenario,), dtype))
        if isinstance(answer, ScenarioRun)
    ]
    conclusion = checks.evaluate(
        checks.Inputs(
            target=tiny.info.config["model_type"],
            real=spec,
            tiny=spec,
            declare=lambda _: spec,
            runs=runs,
            implementations=("eager", faults.NAME),
            options=checks.Options(dtype=dtype),
        )
    )
    mine = [run.outcome for run in runs if run.implementation == faults.NAME]
    read = sum(len(outcome.calls) for outcome in mine if isinstance(outcome, Observed))
    why = "; ".join(str(outcome)[:160] for outcome in mine if not isinstance(outcome, Observed))
    cells = [cell for cell in conclusion.cells if cell.implementation == faults.NAME]
    return {(cell.variant, cell.difference) for cell in cells if cell.difference}, read, why


def examine(model_type: str, dtypes: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """One row a dtype and fault (and one a dtype and scenario for the healthy control)."""
    from attncheck.declared import oracle
    from attncheck.probe.protocol import NotBuilt, UnknownType
    from attncheck.probe.tiny.build import build
    from attncheck.probe.tiny.facts import describe
    from tests import faults

    if model_type in EXCLUDED:
        yield {"type": model_type, "skipped": EXCLUDED[model_type]}
        return
    tiny = build({"model_type": model_type})
    if isinstance(tiny, NotBuilt):
        yield {"type": model_type, "skipped": tiny.reasons[0].text}
        return
    facts = describe(tiny.info.config)
    spec = oracle.declare(tiny.info.config, None if isinstance(facts, UnknownType) else facts.defaults)
    faults.install()
    for dtype in dtypes:
        healthy: dict[str, set[tuple[str, str]]] = {}
        unread: set[str] = set()
        for fault in faults.FAULTS:
            if not fault.befalls(spec):
                continue
            for scenario in fault.scenarios:
                if scenario not in healthy:
                    healthy[scenario], read, why = differences(tiny, spec, scenario, dtype)
                    row = {"type": model_type, "dtype": dtype, "scenario": scenario, "read": read, "why": why}
                    yield {**row, "control": sorted(f"{variant}: {slug}" for variant, slug in healthy[scenario])}
                    unread |= set() if read else {scenario}
                if scenario in unread:
                    continue
                with faults.planted(fault) as plant:
                    found, _, _ = differences(tiny, spec, scenario, dtype)
                if plant.spoiled:
                    row = {"type": model_type, "dtype": dtype, "scenario": scenario, "fault": fault.name}
                    new = {slug for _, slug in found - healthy[scenario]}
                    yield {**row, "found": sorted(new), "flagged": bool(new), "right": bool(fault.slugs & new)}


def child(names: list[str], emit: Any, dtypes: tuple[str, ...]) -> None:
    """Examines types one after another."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in names:
        emit({"type": name, "started": True})
        rows: list[dict[str, Any]] = []
        try:
            rows.extend(examine(name, dtypes))
        except Exception as error:
            rows.append({"type": name, "skipped": f"{type(error).__name__}: {error}"[:200]})
        emit({"type": name, "rows": rows})


def table(rows: list[Mapping[str, Any]]) -> None:
    """Prints faults found of faults planted, then every control alarm, every miss and every wrong name."""
    planted = [row for row in rows if "fault" in row]
    controls = [row for row in rows if "control" in row and row["read"]]
    types = {row["type"] for row in planted}
    print(f"{len(types)} types, {len(planted)} faults planted, {len(controls)} healthy controls")
    print(f"{'dtype':<10} {'planted':>8} {'flagged':>8} {'right name':>11} {'controls':>9} {'alarms':>7}")
    for dtype in DTYPES:
        mine = [row for row in planted if row["dtype"] == dtype]
        if not mine:
            continue
        flagged, right = sum(row["flagged"] for row in mine), sum(row["right"] for row in mine)
        healthy = [row for row in controls if row["dtype"] == dtype]
        loud = sum(bool(row["control"]) for row in healthy)
        share = f"{100 * right / len(mine):.2f} %"
        print(f"{dtype:<10} {len(mine):>8} {flagged:>8} {right:>5} {share:>8} {len(healthy):>7} {loud:>7}")
    counts = Counter(row["fault"] for row in planted)
    print("by fault: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    missed: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in planted:
        if not row["flagged"] or not row["right"]:
            what = "not flagged" if not row["flagged"] else "named " + ", ".join(row["found"])
            missed[(row["fault"], what)].append(f"{row['type']} ({row['dtype']})")
    for (fault, what), where in missed.items():
        print(f"  {fault}: {what}: {', '.join(where[:12])}{' ...' if len(where) > 12 else ''}")
    alarms: dict[str, set[str]] = defaultdict(set)
    for row in controls:
        for text in row["control"]:
            alarms[f"{row['scenario']} {text}"].add(row["type"])
    for what, where in sorted(alarms.items()):
        print(
            f"  control alarm: {what}: {len(where)} types: {', '.join(sorted(where)[:12])}{' ...' * (len(where) > 12)}"
        )
    for name in sorted({row["type"] for row in rows if "skipped" in row}):
        print(f"  not probed: {name}: {next(r['skipped'] for r in rows if r['type'] == name and 'skipped' in r)[:150]}")
    unread = sorted({row["type"] for row in rows if "control" in row and not row["read"]} - types)
    print(f"  never reached: {', '.join(unread)}")


def main() -> None:
    """Parses the arguments and runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", action="append", choices=DTYPES)
    parser.add_argument("--types", default="")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--limit", type=float, default=240.0, help="seconds one type may take")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    dtypes = tuple(arguments.dtype or DTYPES)
    if arguments.child:
        with arguments.child.open("a") as sink:

            def emit(row: object) -> None:
                print(json.dumps(row), file=sink, flush=True)

            child(arguments.names, emit, dtypes)
        return
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names = arguments.types.split(",") if arguments.types else causal_types()
    options = [text for dtype in dtypes for text in ("--dtype", dtype)]
    rows: list[Mapping[str, Any]] = []
    for entry in sweep([sys.executable, "-m", __spec__.name, *options], names, arguments.batch, arguments.limit):
        rows += entry.get("rows", [{"type": entry["type"], "skipped": entry.get("lost", ""), "lost": True}])
    table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows))
    sys.exit(1 if missed(rows) else 0)


def missed(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a fault was not flagged or not under its own name, a type was lost, or nothing was planted at all."""
    planted = [row for row in rows if "fault" in row]
    return not planted or any(not row["right"] for row in planted) or any(row.get("lost") for row in rows)


if __name__ == "__main__":
    main()
