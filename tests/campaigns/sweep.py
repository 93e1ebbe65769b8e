"""Command: compares every model type of the installed transformers, class defaults, and prints every alarm.

    python -m tests.campaigns.sweep [--group causal-lm] [--impl eager,sdpa] [--scenario plain] [--json FILE] [TYPE ...]
    python -m tests.campaigns.sweep --from FILE

What `attncheck compare TYPE` would say, without a process a type: the same facts, tiny model, runner and checks, in
float32 on the CPU, flash predicted. Errors are listed one by one, warnings by slug with the types they befall. Exit 1
when an error-level finding is not on the list of confirmed ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns.batches import appender, sweep
from tests.campaigns.build_rates import GROUPS, types

IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention", "flash_attention_2")

#: Cells that say nothing about a type but that its inputs or its class do not have the feature.
_SILENT = ("ok", "mismatch", "not_applicable")

Row = Mapping[str, Any]

#: What untouched transformers 5.23 really does wrong with class defaults, (type, implementation) -> slug -> what was
#: seen without attncheck, by swapping tokens and comparing logits (flash: over a stand-in of its own).
GENUINE: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("doge", "flex_attention"): {
        "causal-ignored": "every later token changes the logits; none does under eager and sdpa",
        "padding-ignored": "padding tokens change the logits of 19 real ones; they do not under eager and sdpa",
    },
    ("gpt_neo", "flash_attention_2"): {
        "window-ignored": "two local layers of 8 keys reach 23 tokens back instead of 14: no window is passed",
    },
    ("pegasus_x", "flash_attention_2"): {
        "causal-ignored": "decoder tokens depend on later ones: the module says is_causal=False, and flash believes it",
    },
    **{
        (name, "flex_attention"): {
            "backend-unusable": "IndexError for a batch of two: the position bias of batch size 1 is indexed by row"
        }
        for name in ("t5", "mt5", "umt5")
    },
    ("t5gemma", "flash_attention_2"): {
        "window-off-by-one": "the encoder reaches 7 tokens each way, 8 under eager and flex_attention",
    },
}


def examine(model_type: str, implementations: Sequence[str], scenarios: Sequence[str]) -> dict[str, Any]:
    """Everything the checks say about one type, as plain data; `skipped` where there is nothing to check."""
    from attncheck.probe.protocol import NotBuilt, UnknownType
    from attncheck.probe.tiny.build import build
    from attncheck.probe.tiny.facts import describe

    config = {"model_type": model_type}
    facts = describe(config)
    if isinstance(facts, UnknownType):
        return {"skipped": facts.reason}
    tiny = build(config)
    if isinstance(tiny, NotBuilt):
        return {"skipped": "; ".join(reason.text for reason in tiny.reasons)}
    conclusion, spec = concluded(tiny, facts, implementations, scenarios)
    return {
        "class": tiny.info.model_class,
        "kind": tiny.info.kind,
        "notes": [f"{note.code}: {note.text}" for note in spec.notes],
        "status": {entry.name: entry.status.value for entry in conclusion.implementations},
        "reasons": {entry.name: [r.text for r in entry.reasons] for entry in conclusion.implementations},
        "findings": [
            {
                "slug": found.slug,
                "severity": found.severity.value,
                "implementation": found.implementation,
                "scenario": found.scenario,
                "variant": found.variant,
                "part": found.part.value if found.part else "",
                "layers": list(found.layers),
                "message": found.message,
            }
            for found in conclusion.findings
        ],
        "cells": [
            {
                "implementation": cell.implementation,
                "scenario": cell.scenario,
                "variant": cell.variant,
                "part": cell.part.value if cell.part else "",
                "verdict": cell.verdict.value,
                "reason": cell.reason,
            }
            for cell in conclusion.cells
            if cell.verdict.value not in _SILENT
        ],
    }


def concluded(tiny: Any, facts: Any, implementations: Sequence[str], scenarios: Sequence[str]) -> tuple[Any, Any]:
    """The conclusion about a built type and what its class defaults declare, as `attncheck compare` reaches them."""
    from attncheck.environment import read_environment
    from attncheck.frameworks import transformers as framework
    from attncheck.probe.protocol import Probe
    from attncheck.probe.runner import run
    from attncheck.semantics.observation import Rejected, ScenarioRun

    environment = read_environment()
    decisions = {name: framework.decide(support(facts), environment, name) for name in implementations}
    refused = {name: entry for name, entry in decisions.items() if isinstance(entry, Rejected)}
    runs = [
        answer
        for name in implementations
        if name not in refused and getattr(decisions[name], "available", True)
        for answer in run(tiny, Probe(name, tuple(scenarios)))
        if isinstance(answer, ScenarioRun)
    ]
    named = tuple(name for name in implementations if name in refused or any_run(runs, name))
    return judged(tiny, facts, runs, named, refused=refused)


def support(facts: Any) -> Any:
    """What the model class declares, as the framework's rules take it."""
    from attncheck.frameworks.interface import ClassSupport

    return ClassSupport(
        facts.model_class, facts.transformers, facts.supports, facts.compatible_flash, facts.default_implementation
    )


def judged(
    tiny: Any, facts: Any, runs: Sequence[Any], implementations: Sequence[str], **fields: Any
) -> tuple[Any, Any]:
    """What the checks conclude from runs of a built type, and what its class defaults declare.

    fields: further ones of `checks.Inputs`.
    """
    from attncheck import checks
    from attncheck.declared import oracle

    tiny_config = dict(tiny.info.config)
    spec = oracle.declare({"model_type": facts.model_type}, facts.defaults)
    inputs = checks.Inputs(
        target=facts.model_type,
        real=spec,
        tiny=oracle.declare(tiny_config, facts.defaults),
        declare=lambda changed: oracle.declare({**tiny_config, **dict(changed)}, facts.defaults),
        runs=runs,
        implementations=tuple(implementations),
        default=facts.default_implementation,
        tiny_config=tiny_config,
        model_class=tiny.info.model_class,
        vocab_size=tiny.info.vocab_size,
        **fields,
    )
    return checks.evaluate(inputs), spec


def any_run(runs: Iterable[Any], name: str) -> bool:
    """True when the implementation was tried at all."""
    return any(run.implementation == name for run in runs)


def child(names: Sequence[str], result: Path, implementations: Sequence[str], scenarios: Sequence[str]) -> None:
    """Examines types one after another and appends one JSON line each."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    emit = appender(result)
    for name in names:
        emit({"type": name, "started": True})
        begin = time.process_time()
        try:
            row = examine(name, implementations, scenarios)
        except Exception as error:
            row = {"broke": f"{type(error).__name__}: {error}"[:300]}
        emit({"type": name, **row, "seconds": time.process_time() - begin})


def table(rows: Sequence[Row], core: Sequence[str]) -> None:
    """Prints the result of all types: what is wrong first, then what is not known, then what was not probed."""
    probed = [row for row in rows if "findings" in row]
    seconds = sorted(row["seconds"] for row in probed) or [0.0]
    print(f"{len(probed)} of {len(rows)} types probed, median {seconds[len(seconds) // 2]:.2f} s of CPU")
    print(f"error-level findings that are not explained: {unexplained(probed)}")
    for status in ("ok", "mismatch", "crashed", "rejected", "not_run"):
        per = {name: sum(row["status"].get(name) == status for row in probed) for name in IMPLEMENTATIONS}
        print(f"  {status:<10} " + "  ".join(f"{name} {count}" for name, count in per.items()))
    _errors(probed)
    _by_slug(probed, "warning")
    _by_slug(probed, "note")
    _cells(probed, "unknown cells, core scenarios", ("unknown",), core, True)
    _cells(probed, "cells not read, core scenarios", ("not_run",), core, True)
    _cells(probed, "crashes", ("error",), (), False)
    _cells(probed, "unknown and unread cells, opt-in scenarios", ("unknown", "not_run"), core, False)
    print("not probed:")
    for row in rows:
        if "findings" not in row:
            print(f"  {row['type']}: {row.get('broke') or row.get('skipped') or row.get('lost', '')}"[:240])


def genuine(model_type: str, implementation: str | None, slug: str) -> bool:
    """True for a finding that was confirmed without attncheck."""
    return slug in GENUINE.get((model_type, implementation or ""), {})


def unexplained(rows: Iterable[Row]) -> int:
    """Error-level findings that nobody confirmed: the number that must be zero."""
    return sum(
        found["severity"] == "error" and not genuine(row["type"], found["implementation"], found["slug"])
        for row in rows
        for found in row.get("findings", ())
    )


def _errors(probed: Sequence[Row]) -> None:
    """Every error-level finding, scenarios of the same fault together."""
    print("errors:")
    for row in probed:
        together: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
        for found in row["findings"]:
            if found["severity"] == "error":
                key = (found["implementation"] or "-", found["slug"], found["part"], found["message"])
                together[key].append(found["scenario"])
        for (implementation, slug, part, message), where in together.items():
            known = "genuine" if genuine(row["type"], implementation, slug) else "NOT EXPLAINED"
            print(
                f"  {known}: {row['type']} x {implementation}: {slug} [{part}] in {', '.join(where)}: {message[:200]}"
            )


def _by_slug(probed: Sequence[Row], level: str) -> None:
    print(f"{level}s:")
    befallen: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in probed:
        for found in row["findings"]:
            if found["severity"] == level:
                befallen[found["slug"], found["implementation"] or "-", found["scenario"]].add(row["type"])
    for (slug, implementation, scenario), names in sorted(befallen.items()):
        print(f"  {slug} x {implementation} in {scenario or '-'}: {_names(names)}")


def _cells(probed: Sequence[Row], title: str, verdicts: Sequence[str], core: Sequence[str], inside: bool) -> None:
    """Cells of some verdicts by reason and place; in core scenarios, outside them, or (core empty) in all."""
    print(f"{title}:")
    together: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in probed:
        for cell in row["cells"]:
            if cell["verdict"] in verdicts and (not core or (cell["scenario"] in core) == inside):
                place = f"{cell['implementation']} {cell['scenario']}"
                together[cell["part"], cell["reason"]][row["type"]].add(place)
    for (part, reason), by_type in sorted(together.items(), key=lambda entry: -len(entry[1])):
        places = sorted({place for found in by_type.values() for place in found})
        print(f"  [{part}] {reason[:200]}: {_names(by_type)} ({', '.join(places[:6])}{' ...' * (len(places) > 6)})")


def _names(names: Iterable[str], most: int = 40) -> str:
    ordered = sorted(names)
    return f"{len(ordered)} types: {', '.join(ordered[:most])}{' ...' * (len(ordered) > most)}"


def chosen(groups: Sequence[str], names: Sequence[str]) -> list[str]:
    """The types to examine, each once, in the order of the groups."""
    found = (name for group, members in types().items() if not groups or group in groups for name in members)
    return [name for name in dict.fromkeys((*found, *names)) if not names or name in names]


def results(arguments: argparse.Namespace, options: Sequence[str]) -> Iterator[Row]:
    """The rows of all types, stored and reported on stderr as they come."""
    if arguments.json:
        arguments.json.unlink(missing_ok=True)
    names = chosen(arguments.group or (), arguments.names)
    command = [sys.executable, "-m", __spec__.name, *options]
    for count, row in enumerate(sweep(command, names, arguments.batch, arguments.limit), 1):
        loud = sorted({found["slug"] for found in row.get("findings", ()) if found["severity"] == "error"})
        told = row.get("broke") or row.get("lost") or row.get("skipped") or ", ".join(loud)
        print(f"{count}/{len(names)} {row['type']} {told[:120]}", file=sys.stderr, flush=True)
        if arguments.json:
            appender(arguments.json)(row)
        yield row


def main() -> None:
    """Parses the arguments and runs the sweep."""
    from attncheck.probe.scenario import scenarios

    known = {scenario.name: scenario.core for scenario in scenarios()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", action="append", choices=GROUPS)
    parser.add_argument("--impl", default=",".join(IMPLEMENTATIONS))
    parser.add_argument("--scenario", default=",".join(known))
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds one type may take")
    parser.add_argument("--json", type=Path, help="store the rows here, one JSON line a type")
    parser.add_argument("--from", dest="stored", type=Path, help="print the table of a stored sweep")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="only these types")
    arguments = parser.parse_args()
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.child:
        child(arguments.names, arguments.child, arguments.impl.split(","), arguments.scenario.split(","))
        return
    if arguments.stored:
        rows = [json.loads(line) for line in arguments.stored.read_text().splitlines()]
    else:
        rows = list(results(arguments, ["--impl", arguments.impl, "--scenario", arguments.scenario]))
    table(rows, [name for name, core in known.items() if core])
    sys.exit(1 if unexplained(rows) else 0)


if __name__ == "__main__":
    main()
