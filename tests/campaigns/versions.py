"""Command: common model types in the newest patch release of every minor version of transformers, as one matrix.

    python -m tests.campaigns.versions --cache DIR --rows FILE [--jobs 2] [--versions 4.37,5.23] [--types llama,qwen2]
    python -m tests.campaigns.versions --rows FILE --from [--markdown FILE] [--json FILE]

Rows are appended to FILE, one JSON line a release and type, and a restart goes on with what is missing. A release is
installed beside the same torch. Windows are set so that they bind. Flash is predicted. Each mismatch is dated: first
and last release in which it shows, and marked where bank.toml or known_defects.toml holds it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.campaigns.batches import appender
from tests.campaigns.version_matrix import as_data, as_markdown
from tests.legacy.releases import newest_patches

_QWEN = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}

#: Type -> what is set beside its class defaults, so that its windows bind.
TYPES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "mixtral": {"sliding_window": 8},
    "qwen2": _QWEN,
    "qwen2_moe": _QWEN,
    "qwen3": _QWEN,
    "gemma": {},
    "gemma2": {},
    "gemma3_text": {},
    "phi": {},
    "phi3": {"sliding_window": 8},
    "starcoder2": {"sliding_window": 8},
    "falcon": {},
    "gpt2": {},
    "gpt_neo": {},
    "gpt_neox": {},
    "gptj": {},
    "gpt_bigcode": {},
    "opt": {},
    "bloom": {},
    "mpt": {},
    "codegen": {},
    "cohere": {},
    "cohere2": {},
    "stablelm": {},
    "olmo": {},
    "olmo2": {},
    "granite": {},
    "gpt_oss": {},
    "bert": {},
    "roberta": {},
    "distilbert": {},
    "t5": {},
    "bart": {},
}

IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2")
SCENARIOS = ("plain", "left-pad", "right-pad", "decode", "chunked-prefill", "packed", "custom-mask")

Row = Mapping[str, Any]


def examine(
    config: Mapping[str, Any], implementations: Sequence[str], scenarios: Sequence[str], dtype: str = "float32"
) -> dict[str, Any]:
    """What the checks say of a config in the transformers that is imported, as `attncheck compare` would reach it."""
    from attncheck import checks
    from attncheck.comparison.options import CompareOptions
    from attncheck.comparison.target import framework_decisions
    from attncheck.declared import oracle
    from attncheck.environment import read_environment
    from attncheck.frameworks.interface import Redirected
    from attncheck.probe.protocol import NotBuilt, Probe, UnknownType
    from attncheck.probe.runner import run
    from attncheck.probe.tiny.build import build
    from attncheck.probe.tiny.facts import describe
    from attncheck.semantics.observation import Rejected, ScenarioRun

    facts = describe(config)
    if isinstance(facts, UnknownType):
        return {"absent": facts.reason}
    tiny = build(config)
    if isinstance(tiny, NotBuilt):
        return {"skipped": "; ".join(reason.text for reason in tiny.reasons)}
    options = CompareOptions(str(config["model_type"]), impl=tuple(implementations))
    decisions = framework_decisions(facts, read_environment(), options)
    refused = {
        name: Rejected(entry.reasons)
        for name, entry in decisions.items()
        if isinstance(entry, Rejected) or (isinstance(entry, Redirected) and not entry.available)
    }
    runs = [
        answer
        for name in implementations
        if name not in refused
        for answer in run(tiny, Probe(name, tuple(scenarios), dtype))
        if isinstance(answer, ScenarioRun)
    ]
    tiny_config = dict(tiny.info.config)
    inputs = checks.Inputs(
        target=str(config["model_type"]),
        real=oracle.declare(config, facts.defaults),
        tiny=oracle.declare(tiny_config, facts.defaults),
        declare=lambda changed: oracle.declare({**tiny_config, **dict(changed)}, facts.defaults),
        runs=runs,
        implementations=tuple(implementations),
        default=facts.default_implementation,
        refused=refused,
        tiny_config=tiny_config,
        model_class=tiny.info.model_class,
        vocab_size=tiny.info.vocab_size,
        options=checks.Options(dtype=dtype),
    )
    conclusion = checks.evaluate(inputs)
    return {
        "class": tiny.info.model_class,
        "default": facts.default_implementation,
        "status": {entry.name: entry.status.value for entry in conclusion.implementations},
        "reasons": {entry.name: [reason.text for reason in entry.reasons][:3] for entry in conclusion.implementations},
        "cells": _counted(conclusion.cells),
        "variants": [
            {
                "implementation": cell.implementation,
                "scenario": cell.scenario,
                "variant": cell.variant,
                "verdict": cell.verdict.value,
                "difference": cell.difference,
            }
            for cell in conclusion.cells
        ],
        "findings": [
            {
                "slug": found.slug,
                "severity": found.severity.value,
                "implementation": found.implementation,
                "scenario": found.scenario,
                "variant": found.variant,
                "variants": [found.variant, *str(found.evidence.figures.get("variants", "")).split(", ")],
                "part": found.part.value if found.part else "",
                "message": found.message[:300],
            }
            for found in conclusion.findings
            if found.implementation is not None
        ],
    }


def _counted(cells: Iterable[Any]) -> dict[str, dict[str, dict[str, int]]]:
    """implementation -> scenario -> verdict -> cells."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for cell in cells:
        counts = found.setdefault(cell.implementation, {}).setdefault(cell.scenario, {})
        counts[cell.verdict.value] = counts.get(cell.verdict.value, 0) + 1
    return found


def child(version: str, names: Sequence[str], result: Path, scenarios: Sequence[str]) -> None:
    """Examines types one after another in the release that PYTHONPATH brings, and appends one row each."""
    import torch
    import transformers

    if transformers.__version__ != version:
        raise SystemExit(f"transformers {transformers.__version__} was imported, not {version}")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    emit = appender(result)
    for name in names:
        begin = time.process_time()
        emit({"version": version, "type": name, "started": True})
        try:
            row = examine({"model_type": name, **TYPES[name]}, IMPLEMENTATIONS, scenarios)
            row["variants"] = [cell for cell in row.get("variants", ()) if cell["verdict"] == "mismatch"]
        except Exception as error:
            row = {"broke": f"{type(error).__name__}: {error}"[:300]}
        emit({"version": version, "type": name, **row, "seconds": round(time.process_time() - begin, 2)})


def stored(rows: Path) -> list[dict[str, Any]]:
    """The finished rows of a file, the last of each release and type; a line that a kill cut off is left out."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in rows.read_text().splitlines() if rows.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "started" not in row:
            found[row["version"], row["type"]] = row
    return list(found.values())


def missing(rows: Path, version: str, names: Iterable[str]) -> list[str]:
    """The types of a release without a finished row."""
    done = {row["type"] for row in stored(rows) if row["version"] == version}
    return [name for name in names if name not in done]


def release(version: str, names: Sequence[str], arguments: argparse.Namespace) -> None:
    """All missing types of a release; a type that ends its process costs that type only."""
    from tests.legacy.environments import variables
    from tests.legacy.runs import folders

    try:
        path = folders("transformers", version, arguments.cache)
    except RuntimeError as error:
        print(f"{version}: {error}", file=sys.stderr, flush=True)
        return
    while left := missing(arguments.rows, version, names):
        print(f"{version}: {len(left)} types", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "tests.campaigns.versions", "--rows", str(arguments.rows), "--child", version]
        command += ["--scenario", arguments.scenario, "--types", ",".join(left)]
        environment = dict(variables(path, arguments.cache))
        try:
            code = subprocess.run(command, env=environment, check=False, timeout=arguments.limit * len(left)).returncode
        except subprocess.TimeoutExpired:
            code = -1
        still = missing(arguments.rows, version, left)
        if still and (code or len(still) == len(left)):
            appender(arguments.rows)({"version": version, "type": still[0], "broke": f"the process ended with {code}"})


def one_line_each(data: Mapping[str, Any]) -> str:
    """JSON with one line for each type and mismatch, so that a change of one is a change of one line."""

    def lines(value: Any, depth: int) -> str:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if not any(isinstance(entry, dict | list) for entry in inner):
            return json.dumps(value, ensure_ascii=False)
        ends = "{}" if isinstance(value, dict) else "[]"
        names = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
        body = [" " * (depth + 1) + name + lines(entry, depth + 1) for name, entry in zip(names, inner, strict=True)]
        return f"{ends[0]}\n" + ",\n".join(body) + f"\n{' ' * depth}{ends[1]}"

    return lines(dict(data), 0) + "\n"


def main() -> None:
    """Parses the arguments, runs what is missing, prints the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="rows are appended here")
    parser.add_argument("--cache", type=Path, help="where releases are installed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--versions", default="", help="minor versions or releases, separated by commas")
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--scenario", default=",".join(SCENARIOS))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds one type may take")
    parser.add_argument("--from", dest="only_print", action="store_true", help="run nothing, print what is stored")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    names = arguments.types.split(",")
    if arguments.child:
        child(arguments.child, names, arguments.rows, arguments.scenario.split(","))
        return
    if not arguments.only_print:
        if arguments.cache is None:
            parser.error("--cache: name a folder for the releases")
        asked = [text for text in arguments.versions.split(",") if text]
        chosen = [
            v for v in newest_patches() if not asked or any(v == text or v.startswith(f"{text}.") for text in asked)
        ]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda version: release(version, names, arguments), chosen))
    data = as_data(stored(arguments.rows), newest_patches(), tuple(TYPES), IMPLEMENTATIONS)
    text = as_markdown(data)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.json:
        arguments.json.write_text(one_line_each(data))
    print(text)


if __name__ == "__main__":
    main()
