"""False alarms of a watch: tiny models of many types run real steps under `attncheck.watch`; its findings are listed.

Start: `python -m tests.campaigns.watched_types [TYPE ...]` from the repository root; about 25 minutes for all types on
one core. Prints a line a type with findings or failures, and the sums. A finding is one to look at: either a defect of
the installed transformers, or a false alarm.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.campaigns.batches import appender, sweep

IMPLEMENTATIONS = ("eager", "sdpa")


def steps(model: Any, info: Any) -> Iterator[dict[str, Any]]:
    """Inputs of real steps: plain, padded on either side, and where the model takes one, a decoder's."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(64, 72, (3, 19), generator=generator)
    left, right = torch.ones_like(tokens), torch.ones_like(tokens)
    left[1, :7], right[2, 11:] = 0, 0
    further = {"decoder_input_ids": tokens[:, :6]} if info.kind == "seq2seq" else {}
    yield {"input_ids": tokens, **further}
    yield {"input_ids": tokens, "attention_mask": right, **further}
    yield {"input_ids": tokens, "attention_mask": left, **further}


def look(name: str) -> dict[str, Any]:
    """What watching a tiny model of this type says."""
    import torch

    import attncheck
    from attncheck.probe.tiny.build import TinyModel, build

    made = build({"model_type": name})
    if not isinstance(made, TinyModel):
        return {"type": name, "skipped": "; ".join(reason.text for reason in made.reasons)[:200]}
    row: dict[str, Any] = {"type": name, "findings": [], "failures": [], "verdicts": Counter()}
    for implementation in IMPLEMENTATIONS:
        try:
            model = made.instantiate(implementation)
        except Exception as error:
            row["failures"].append(f"{implementation}: {type(error).__name__}: {error}"[:160])
            continue
        with attncheck.watch(model, calls=2) as watching:
            for inputs in steps(model, made.info):
                try:
                    with torch.no_grad():
                        model(**inputs)
                except Exception as error:  # a type may refuse padding; that is not the watch's matter
                    row["failures"].append(f"{implementation}: {type(error).__name__}: {error}"[:160])
            if made.info.kind == "causal-lm" and hasattr(model, "generate"):
                try:
                    inputs = list(steps(model, made.info))[2]
                    model.generate(**inputs, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
                except Exception as error:
                    row["failures"].append(f"{implementation} generate: {type(error).__name__}: {error}"[:160])
        report = watching.report
        row["findings"] += [
            f"{implementation} {f.severity.value} {f.slug} {f.part and f.part.value} {f.layers}: {f.message}"[:220]
            for f in report.findings
        ]
        assert report.watch is not None
        row["failures"] += [f"{implementation} watch: {text}"[:200] for text in report.watch.failures]
        row["verdicts"].update(site.verdict for site in report.watch.sites)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--child", type=Path)
    parser.add_argument("--batch", type=int, default=40)
    options = parser.parse_args()
    if options.child is not None:
        warnings.simplefilter("ignore")
        emit = appender(options.child)
        for name in options.types:
            emit({"started": name, "type": name})
            try:
                emit(look(name))
            except Exception as error:
                emit({"type": name, "lost": f"{type(error).__name__}: {error}"[:200]})
        return
    from attncheck.probe.tiny.library import model_types

    names = options.types or list(model_types())
    verdicts: Counter[str] = Counter()
    found = seen = 0
    for row in sweep([sys.executable, "-m", "tests.campaigns.watched_types"], names, options.batch, 240.0):
        verdicts.update(row.get("verdicts", {}))
        found += bool(row.get("findings"))
        seen += bool(row.get("verdicts"))
        for line in (*row.get("findings", ()), *row.get("failures", ()), *filter(None, [row.get("lost")])):
            print(f"{row['type']}: {line}", flush=True)
    print(f"{seen} types with attention calls, {found} with findings; kinds of call: {dict(verdicts)}")


if __name__ == "__main__":
    main()
