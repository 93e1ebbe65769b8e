"""Command: builds a tiny model of every model type of the installed transformers and prints the build-rate table.

    python tests/campaigns/build_rates.py [--group causal-lm] [--batch 25] [--limit 60] [--json FILE]

Each type starts from its class defaults (`{"model_type": t}`). Types run in batches, one child process a batch, one
batch at a time; a child that dies or hangs costs only the type it was at.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

GROUPS = ("causal-lm", "seq2seq", "masked-lm", "multimodal")


def types() -> dict[str, list[str]]:
    """Model types a group, every type in the first group that has it; multimodal text is counted over all its types."""
    from transformers.models.auto import modeling_auto

    causal = set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    seq2seq = set(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES) - causal
    masked = set(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES) - causal - seq2seq
    multimodal = set(getattr(modeling_auto, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", {}))
    return {name: sorted(group) for name, group in zip(GROUPS, (causal, seq2seq, masked, multimodal))}


def child(names: list[str], result: Path) -> None:
    """Builds the types one after another and appends one JSON line each."""
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    import torch
    import transformers

    from attncheck.probe import tiny
    from attncheck.probe.protocol import NotBuilt

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in names:
        with result.open("a") as sink:
            sink.write(json.dumps({"type": name, "started": True}) + "\n")
        begin = time.process_time()
        built = tiny.build({"model_type": name})
        first = time.process_time() - begin
        row: dict[str, object] = {"type": name, "first": first}
        if isinstance(built, NotBuilt):
            row["reasons"] = [f"{reason.text} [{reason.limit}]" for reason in built.reasons]
        else:
            begin = time.process_time()
            tiny.build({"model_type": name})
            row["seconds"] = time.process_time() - begin
            row["rung"] = built.info.rung
            row["kind"] = built.info.kind
            row["class"] = built.info.model_class
            row["layers"] = built.info.num_layers
            row["parameters"] = sum(p.numel() for p in built.instantiate("eager").parameters())
            for implementation in ("sdpa", "flex_attention", "flash_attention_2"):
                begin = time.process_time()
                try:
                    built.instantiate(implementation)
                    row[implementation] = time.process_time() - begin
                except Exception as error:
                    row[implementation] = f"{type(error).__name__}: {str(error)[:120]}"
        with result.open("a") as sink:
            sink.write(json.dumps(row) + "\n")


def sweep(names: list[str], batch: int, limit: float) -> list[dict[str, object]]:
    """Rows of all types; a type at which a child died or stood still longer than `limit` seconds says so."""
    rows: list[dict[str, object]] = []
    waiting = list(names)
    while waiting:
        now = waiting[:batch]
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "rows"
            result.touch()
            process = subprocess.Popen([sys.executable, __file__, "--child", str(result), *now])
            size, seen, slow = -1, time.monotonic(), False
            while process.poll() is None:
                time.sleep(0.2)
                if result.stat().st_size != size:
                    size, seen = result.stat().st_size, time.monotonic()
                elif time.monotonic() - seen > limit:
                    process.kill()
                    process.wait()
                    slow = True
            lines = [json.loads(line) for line in result.read_text().splitlines()]
        done = [line for line in lines if "started" not in line]
        rows += done
        finished = {str(row["type"]) for row in done}
        lost = next((name for name in now if name not in finished), None)
        if lost is not None:
            why = f"longer than {limit:.0f} s" if slow else f"the process died with status {process.returncode}"
            rows.append({"type": lost, "reasons": [why]})
            finished.add(lost)
        waiting = [name for name in waiting if name not in finished]
    return rows


def table(group: str, rows: list[dict[str, object]]) -> None:
    """Prints one group."""
    built = [row for row in rows if "seconds" in row]
    print(f"{group}: built {len(built)} of {len(rows)}")
    if built:
        seconds = sorted(float(str(row["seconds"])) for row in built)
        middle = median(int(str(row["parameters"])) for row in built)
        shared = [float(row["sdpa"]) for row in built if isinstance(row.get("sdpa"), float)]
        print(f"  build, median {median(seconds):.3f} s, worst {seconds[-1]:.2f} s; median parameters {middle:.0f}")
        if shared:
            print(f"  sdpa instance of a built model, median {median(shared):.4f} s, worst {max(shared):.3f} s")
        for row in sorted(built, key=lambda row: -float(str(row["seconds"])))[:5]:
            size = row["parameters"]
            print(f"  slow: {row['type']} {row['seconds']:.2f} s, {row['layers']} layers, {size} parameters")
        for row in built:
            if row["rung"] != "16":
                print(f"  rung {row['rung']}: {row['type']}")
    for row in rows:
        if "seconds" not in row:
            print(f"  not built: {row['type']}")
            for reason in list(row["reasons"])[:5]:  # type: ignore[call-overload]
                print(f"      {reason[:230]}")


def main() -> None:
    """Parses the arguments and runs the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", action="append", choices=GROUPS)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="only these types")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.names, arguments.child)
        return
    kept: dict[str, list[dict[str, object]]] = {}
    for group, names in types().items():
        if arguments.group and group not in arguments.group:
            continue
        chosen = [name for name in names if not arguments.names or name in arguments.names]
        if chosen:
            kept[group] = sweep(chosen, arguments.batch, arguments.limit)
            table(group, kept[group])
            sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
