"""Command: confirms a mismatch by swapping tokens: which tokens move which logits, against what is declared.

    python -m tests.campaigns.swaps TYPE --impl sdpa --scenario plain [--variant no-mask] [--set key=value]
    python -m tests.campaigns.swaps ... --release 4.44.2 --cache DIR

Every token is replaced by another one and the logits of all tokens are compared. What one token may move is declared
layer by layer and multiplied out over the layers, cell by cell (tests/plain_masks.py). No attention call is watched.
Prints pairs of (query, key) that move without being allowed to, and that are allowed and do not; exit 1 when there are
any, so a confirmed mismatch exits 1. Weights are drawn wide, so that every visible token moves something.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

#: Share of the largest logit by which a visible token moves another one at least, in float32. Rounding stays below.
MOVED = 1e-6
#: Spread of the weights, in units of one over the square root of the fan-in: the library's own hides differences.
SPREAD = 1.5

Pair = tuple[int, int, int]


def confirm(config: dict[str, Any], implementation: str, scenario: str, variant: str) -> dict[str, Any]:
    """Pairs (row, query, key) that move and may not (`leaked`), that may and do not (`missed`), and across rows."""
    import torch

    from attncheck.declared import oracle
    from attncheck.probe.feeding import Feeder
    from attncheck.probe.flash import virtual
    from attncheck.probe.protocol import NotBuilt
    from attncheck.probe.scenario import every_scenario
    from attncheck.probe.subject import subject_of
    from attncheck.probe.tiny.build import build
    from attncheck.semantics.observation import NotApplicable

    tiny = build(config)
    if isinstance(tiny, NotBuilt):
        raise SystemExit("; ".join(reason.text for reason in tiny.reasons))
    spec = oracle.declare(tiny.info.config, tiny.defaults)
    model = tiny.instantiate(implementation)
    _widen(model)
    subject = subject_of(tiny.info, model, {layer.part for layer in spec.layers})
    plan = next(entry for entry in every_scenario() if entry.name == scenario).plan(subject)
    if isinstance(plan, NotApplicable):
        raise SystemExit(plan.reason)
    chosen = next((entry for entry in plan if variant in ("", entry.name)), None)
    if chosen is None:
        raise SystemExit(f"--variant {variant}: there are {', '.join(entry.name for entry in plan)}")
    feeder = Feeder(subject, device="cpu", dtype=torch.float32, seed=0)
    layout = chosen.main
    tokens = feeder._tokens("main", layout)
    flash = virtual.supports(implementation)

    def logits() -> torch.Tensor:
        heard: list[torch.Tensor] = []
        handle = model.register_forward_hook(lambda m, args, output: heard.append(output.logits))
        try:
            with torch.no_grad(), virtual.installed(implementation, model) if flash else nullcontext():
                feeder.run(model, chosen, lambda step: None)
        finally:
            handle.remove()
        return torch.cat(heard, 1)

    usual = logits()
    limit = MOVED * float(usual.abs().max())
    leaked: list[Pair] = []
    missed: list[Pair] = []
    across: list[tuple[int, int, int, int]] = []
    allowed = [_reach(spec.layers, layout, row) for row in range(len(layout.rows))]
    for row, row_layout in enumerate(layout.rows):
        for key in range(layout.length):
            before = int(tokens[row, key])
            tokens[row, key] = before + 1 if before != 65 else 66
            moved = ((logits() - usual).abs().amax(-1) > limit).tolist()
            tokens[row, key] = before
            for other, queries in enumerate(moved):
                for query, moves in enumerate(queries):
                    if layout.rows[other].document[query] < 0:
                        continue  # what padding rows do is not judged
                    if other != row:
                        across += [(other, query, row, key)] if moves else []
                    elif moves and not allowed[row][query][key]:
                        leaked.append((row, query, key))
                    elif not moves and allowed[row][query][key] and row_layout.document[key] >= 0:
                        missed.append((row, query, key))
    return {"leaked": leaked, "missed": missed, "across": across}


def _widen(model: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(drawn * SPREAD / parameter.shape[-1] ** 0.5)


def _reach(layers: Sequence[Any], layout: Any, row: int) -> list[list[bool]]:
    """query x key: may the key's token move the query's output, over all layers, each with its residual connection."""
    from tests.plain_masks import sees

    length = layout.length
    tokens = layout.rows[row]
    reach = [[query == key for key in range(length)] for query in range(length)]
    for layer in layers:
        if not layer.attends:
            raise SystemExit("a layer without attention: swapping tokens says nothing about masks here")
        one = [
            [query == key or sees(layer.mask, tokens, query, key) for key in range(length)] for query in range(length)
        ]
        reach = [
            [any(one[query][middle] and reach[middle][key] for middle in range(length)) for key in range(length)]
            for query in range(length)
        ]
    return reach


def main() -> None:
    """Parses the arguments, in a release of its own if one is named, and prints the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("type")
    parser.add_argument("--impl", required=True)
    parser.add_argument("--scenario", required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--release", help="run in this release of transformers")
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    if arguments.release:
        from tests.legacy.environments import cache, variables
        from tests.legacy.runs import folders

        rest = [word for word in sys.argv[1:] if word not in ("--release", arguments.release)]
        with cache(arguments.cache) as root:
            environment = dict(variables(folders("transformers", arguments.release, root), root))
            command = [sys.executable, "-m", "tests.campaigns.swaps", *rest]
            sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    import transformers

    transformers.logging.set_verbosity_error()
    config: dict[str, Any] = {"model_type": arguments.type}
    for text in arguments.set:
        key, _, value = text.partition("=")
        config[key] = json.loads(value)
    found = confirm(config, arguments.impl, arguments.scenario, arguments.variant)
    print(f"transformers {transformers.__version__}, {arguments.type} under {arguments.impl}, {arguments.scenario}")
    for name, pairs in found.items():
        print(f"{name}: {len(pairs)}{': ' + ', '.join(map(str, pairs[:6])) if pairs else ''}")
    sys.exit(1 if any(found.values()) else 0)


if __name__ == "__main__":
    main()
