"""Command: builds a tiny model of every model type of the installed transformers and prints the build-rate table.

    python -m tests.campaigns.build_rates [--group causal-lm] [--batch 25] [--limit 60] [--json FILE]

Each type starts from its class defaults (`{"model_type": t}`). Types run in batches, one child process a batch, one
batch at a time; a child that dies or hangs costs only the type it was at.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

from tests.campaigns.batches import sweep

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

    from attncheck.probe.protocol import NotBuilt
    from attncheck.probe.tiny import build as tiny

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
            kept[group] = list(sweep([sys.executable, "-m", __spec__.name], chosen, arguments.batch, arguments.limit))
            table(group, kept[group])
            sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
