"""Brute force: which tokens change which outputs of a tiny model, found by swapping tokens. Imports no attncheck.

    python -m tests.survey.brute TYPE --impl sdpa --scenario packed [--set key=value ...] [--expect window:6]
    python -m tests.survey.brute TYPE --unread attn_logit_softcapping=2.0
    python -m tests.survey.brute TYPE --impl eager --against sdpa

A second opinion on what `attncheck survey` reports: plain transformers, one layer, float32, strong random weights; each
token is replaced by another one and the outputs are compared. Prints what each query reaches, what it should reach, and
the kind of the wrong pairs; exit 1 when there are any. Nothing here is shared with attncheck's probe, on purpose.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.survey.brute_models import SPREAD, built

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # flex_attention without minutes of compiling
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LENGTH, PADS, FIRST, STATIC = 24, 5, 16, 32
DOCUMENTS = (11, 13)
LEAP = 9
#: An output moved when it differs by this share of the largest output.
MOVED = 1e-6
ONE_SEQUENCE = ("plain", "output-attentions", "gradients", "decode", "chunked-prefill", "static-cache", "bidirectional")
#: From a token to those that it is replaced by.
STEPS = (17, 41)
Keep = Callable[[int, int], bool]


class Case:
    """One way to feed a model.

    rows: batch rows; keep: which pairs a query should reach, by the rows that are looked at. batched: many rows at once
    show the same as one, because nothing in the case depends on the number of rows.
    """

    def __init__(self, rows: int, keep: Mapping[int, Keep], *, batched: bool = False, **inputs: Any) -> None:
        self.rows, self.keep, self.batched, self.inputs = rows, keep, batched, inputs


def expected(text: str) -> Keep:
    """The declared mask of the layer: "causal", "full", "window:6" (6 keys, self included), "both:8" (8 each way)."""
    word, _, number = text.partition(":")
    size = int(number or 0)
    rules: Mapping[str, Keep] = {
        "causal": lambda q, k: k <= q,
        "full": lambda q, k: True,
        "window": lambda q, k: 0 <= q - k < size,
        "both": lambda q, k: abs(q - k) <= size,
        "chunk": lambda q, k: k <= q and q // size == k // size,
    }
    return rules[word]


def case_of(scenario: str, variant: str, declared: Keep) -> Case:
    """The inputs of a scenario, and what each query of the row that is looked at should reach."""
    import torch

    ones = {"attention_mask": torch.ones(1, LENGTH, dtype=torch.long)} if variant == "ones-mask" else {}
    if scenario in ONE_SEQUENCE and variant != "left-pad":
        steps = {
            "decode": [(0, FIRST), *((at, at + 1) for at in range(FIRST, FIRST + 3))],
            "chunked-prefill": [(0, FIRST), (FIRST, FIRST + 5)],
            "static-cache": [(0, FIRST), (FIRST, FIRST + 1), (FIRST + 1, FIRST + 5)],
        }.get(scenario, [(0, LENGTH)])
        extra = {"output_attentions": True} if scenario == "output-attentions" else {}
        static, alike = scenario == "static-cache", scenario in ("plain", "decode", "chunked-prefill")
        return Case(1, {0: declared}, batched=alike, steps=steps, static=static, **ones, **extra)
    if scenario in ("left-pad", "right-pad", "decode"):
        mask = torch.ones(2, LENGTH, dtype=torch.long)
        real = range(LENGTH - PADS) if scenario == "right-pad" else range(PADS, LENGTH)
        mask[1] = torch.tensor([int(at in real) for at in range(LENGTH)])
        rule: Keep = lambda q, k: q not in real or (k in real and declared(q, k))  # noqa: E731
        steps = [(0, FIRST), *((at, at + 1) for at in range(FIRST, LENGTH))] if scenario == "decode" else [(0, LENGTH)]
        return Case(2, {1: rule}, batched=True, attention_mask=mask, real=real, steps=steps)
    if scenario.startswith("packed") or scenario == "position-jump":  # a jump parts documents under eager
        first = DOCUMENTS[0]
        begin = first + LEAP if scenario == "position-jump" else 0
        position = [*range(first), *range(begin, begin + DOCUMENTS[1])]
        rows = 2 if scenario == "packed-batch" else 1
        more = {"attention_mask": torch.ones(rows, LENGTH, dtype=torch.long)} if variant == "ones-mask" else {}
        keep: Keep = lambda q, k: (q < first) == (k < first) and declared(q, k)  # noqa: E731
        inputs = {"position_ids": torch.tensor([position] * rows), "use_cache": scenario == "packed-cache", **more}
        return Case(rows, dict.fromkeys(range(rows), keep), **inputs)
    if scenario == "custom-mask":
        first = DOCUMENTS[0]
        seen: Keep = lambda q, k: (q < first) == (k < first) and k <= q  # noqa: E731
        if variant == "prefix":  # all may see the first tokens
            seen = lambda q, k: k <= q or k < first  # noqa: E731
            declared = expected("full")
        hidden = torch.tensor([[not seen(q, k) for k in range(LENGTH)] for q in range(LENGTH)])
        mask = (
            ~hidden[None, None]
            if variant == "boolean"
            else torch.zeros(1, 1, LENGTH, LENGTH).masked_fill(hidden[None, None], torch.finfo(torch.float32).min)
        )
        return Case(1, {0: lambda q, k: seen(q, k) and declared(q, k)}, attention_mask=mask)
    raise SystemExit(f"--scenario {scenario}: not one that can be brute-forced")


def outputs(model: Any, tokens: Any, case: Case, stack: str) -> Any:
    """Logits (or hidden states) of all fed tokens: rows x tokens x width."""
    import inspect

    import torch

    inputs = dict(case.inputs)
    inputs.pop("real", None)
    steps = inputs.pop("steps", [(0, tokens.shape[1])])
    static = inputs.pop("static", False)
    takes = inspect.signature(model.forward).parameters
    seq2seq = bool(getattr(model.config, "is_encoder_decoder", False)) and "decoder_input_ids" in takes
    handed_on = "past_key_values" in takes and any(each.kind is each.VAR_KEYWORD for each in takes.values())
    if "use_cache" in takes or (handed_on and not seq2seq):  # else config.use_cache decides
        inputs.setdefault("use_cache", len(steps) > 1)
    found, cache = [], None
    if static:
        from transformers import StaticCache

        cache = StaticCache(config=model.config.get_text_config(decoder=True), max_cache_len=STATIC)
    for start, stop in steps:
        now = dict(inputs)
        if (mask := now.get("attention_mask")) is not None and mask.dim() == 2:
            now["attention_mask"] = mask[:, :stop]
        if cache is not None:
            now["past_key_values"] = cache
        ids = tokens[:, start:stop]
        if seq2seq:
            source = (torch.arange(tokens.shape[1]) * 7 + 3).expand(tokens.shape[0], -1) % 90 + 3
            if stack == "encoder":
                now |= {"input_ids": ids, "decoder_input_ids": source[:, :4]}
            elif stack == "cross":
                now |= {"input_ids": ids, "decoder_input_ids": source[:, :LENGTH]}
            else:
                moved = {f"decoder_{name}": now.pop(name) for name in ("attention_mask",) if name in now}
                now |= {"input_ids": source[:, :10], "decoder_input_ids": ids, **moved}
        else:
            now["input_ids"] = _as_taken(model.config, ids)
        if "bbox" in takes:  # a place on the page, the same for every token
            now["bbox"] = torch.zeros(*ids.shape, 4, dtype=torch.long)
        if "last_hidden_state" in takes:  # a decoder that also reads the states of the model above it
            now["last_hidden_state"] = torch.zeros(*ids.shape, model.config.input_size)
        if not seq2seq and hasattr(model.config, "cross_hidden_size"):  # a decoder alone whose encoder is not optional
            now["encoder_hidden_states"] = torch.zeros(ids.shape[0], 1, model.config.cross_hidden_size)
        with torch.no_grad():
            result = model(**now)
        if seq2seq and stack == "encoder":
            found.append(result.encoder_last_hidden_state)
        else:
            value = getattr(result, "logits", None)
            found.append(result.last_hidden_state if value is None else value)
        cache = getattr(result, "past_key_values", cache) if len(steps) > 1 else None
    return torch.cat(found, 1).float()


def _as_taken(config: Any, ids: Any) -> Any:
    """Token ids as the model takes them: audio decoders read one token of each codebook at a time."""
    codebooks = {"dia_decoder": ("num_channels", 0), "kyutai_speech_to_text": ("num_codebooks", 1)}
    if config.model_type not in codebooks:
        return ids
    key, more = codebooks[config.model_type]
    return ids[..., None].expand(*ids.shape, getattr(config, key) + more)


def reached(model: Any, case: Case, stack: str) -> dict[int, list[list[bool]]]:
    """Row -> query -> whether each token changes its output when it alone is replaced."""
    import torch

    generator = torch.Generator().manual_seed(2)
    length = max(stop for _, stop in case.inputs.get("steps", [(0, LENGTH)]))
    tokens = torch.randint(3, 90, (case.rows, length), generator=generator)
    if (mask := case.inputs.get("attention_mask")) is not None and mask.dim() == 2:
        tokens = tokens.masked_fill(mask[:, :length] == 0, 0)
    clean = outputs(model, tokens, case, stack)
    limit = MOVED * float(clean.abs().max())
    found = {}
    for row in case.keep:
        copies = [_replaced(tokens, row, at, step) for at in range(length) for step in STEPS]
        seen = _of_row(model, copies, row, case, stack)
        moved = torch.stack([(one - clean[row]).abs().amax(-1) > limit for one in seen])
        table = moved.view(length, len(STEPS), -1).any(1)  # a saturated softmax may hide one replacement
        found[row] = table.T.tolist()
    return found


def _replaced(tokens: Any, row: int, at: int, step: int) -> Any:
    other = tokens.clone()
    other[row, at] = (int(tokens[row, at]) + step) % 87 + 3
    return other


def _of_row(model: Any, copies: Sequence[Any], row: int, case: Case, stack: str) -> list[Any]:
    """The outputs of one row under each copy of the tokens; all copies as rows of one batch where that is the same."""
    import torch

    if not case.batched:
        return [outputs(model, copy, case, stack)[row] for copy in copies]
    rows = torch.stack([copy[row] for copy in copies])
    inputs = {
        name: value[row : row + 1].expand(len(copies), *value.shape[1:]).contiguous()
        if torch.is_tensor(value)
        else value
        for name, value in case.inputs.items()
    }
    return list(outputs(model, rows, Case(len(copies), {}, **inputs), stack))


def wrong(found: Mapping[int, Sequence[Sequence[bool]]], case: Case) -> tuple[dict[str, int], str]:
    """How many pairs are wrong, by kind, and the first of them in words. A query's own token is not judged."""
    counts = {"future": 0, "past": 0, "padding": 0, "document": 0, "missing": 0}
    first = ""
    real = case.inputs.get("real")
    for row, table in found.items():
        for query, seen in enumerate(table):
            if real is not None and query not in real:
                continue
            for key, moved in enumerate(seen):
                if key == query or moved == case.keep[row](query, key):
                    continue
                if not moved:
                    kind = "missing"
                elif real is not None and key not in real:
                    kind = "padding"
                elif _two_documents(case) and (query < DOCUMENTS[0]) != (key < DOCUMENTS[0]):
                    kind = "document"
                else:
                    kind = "future" if key > query else "past"
                counts[kind] += 1
                first = first or f"row {row}: query {query} {'sees' if moved else 'does not see'} key {key}"
    return {kind: count for kind, count in counts.items() if count}, first


def _two_documents(case: Case) -> bool:
    mask = case.inputs.get("attention_mask")
    return "position_ids" in case.inputs or (mask is not None and mask.dim() == 4)


def model_of(
    model_type: str,
    changes: Mapping[str, Any],
    implementation: str,
    class_name: str = "",
    strength: float = SPREAD,
    stack: str = "decoder",
) -> Any:
    """A small model of the type in the first class that reads plain tokens. changes: config keys, dotted.

    Raises what the library raises where none can be made.
    """
    import torch

    tokens = torch.randint(3, 90, (1, LENGTH), generator=torch.Generator().manual_seed(2))

    def runs(model: Any) -> None:
        if outputs(model, tokens, Case(1, {}), stack).dim() != 3:
            raise ValueError("no output runs along the tokens")

    return built(model_type, changes, implementation, runs, class_name=class_name, strength=strength)


#: Variants of each scenario, where there are several.
VARIANTS: Mapping[str, Sequence[str]] = {
    "left-pad": ("mask",), "right-pad": ("mask",), "position-jump": ("no-mask",),
    "custom-mask": ("additive", "boolean"),
}  # fmt: skip


def examine(
    model: Any, scenario: str, variant: str, declared: str, stack: str = "decoder"
) -> tuple[dict[str, int], str]:
    """The wrong pairs of one case, by kind, and the first of them; an error counts as one of kind "raises"."""
    case = case_of(scenario, variant, expected(declared))
    try:
        return wrong(reached(model, case, stack), case)
    except Exception as error:
        return {"raises": 1}, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def unread(model_type: str, implementation: str, key: str, value: Any, changes: Mapping[str, Any], name: str) -> float:
    """How far outputs move when a config key is set: 0.0 when nothing reads it."""
    import torch

    tokens = torch.randint(3, 90, (1, LENGTH), generator=torch.Generator().manual_seed(2))
    case = Case(1, {})
    clean, other = (
        outputs(model_of(model_type, {**changes, **extra}, implementation, name), tokens, case, "decoder")
        for extra in ({}, {key: value})
    )
    return float((clean - other).abs().max() / clean.abs().max())


def apart(model_type: str, one: str, other: str, changes: Mapping[str, Any], name: str) -> float:
    """How far the outputs of two implementations are from each other."""
    import torch

    tokens = torch.randint(3, 90, (1, LENGTH), generator=torch.Generator().manual_seed(2))
    case = Case(1, {})
    found = [outputs(model_of(model_type, changes, each, name), tokens, case, "decoder") for each in (one, other)]
    return float((found[0] - found[1]).abs().max() / found[0].abs().max())


def parsed(texts: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts; values are JSON where they parse."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Parses the arguments, those of the command line by default, and prints what was found; exits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_type")
    parser.add_argument("--impl", default="eager")
    parser.add_argument("--scenario", action="append", help="repeatable; default plain")
    parser.add_argument("--variant", action="append", help="no-mask, ones-mask, additive, boolean; default all")
    parser.add_argument("--expect", default="causal")
    parser.add_argument("--class", dest="class_name", default="")
    parser.add_argument("--stack", default="decoder", choices=("decoder", "encoder", "cross"))
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--spread", type=float, default=SPREAD, help="less for types that do not scale their logits")
    parser.add_argument("--unread", default="", help="key=value: instead, does this key change anything?")
    parser.add_argument("--against", default="", help="instead: is this implementation's output another one?")
    arguments = parser.parse_args(words)
    if arguments.impl.startswith("flash_attention"):
        from tests.survey import flash_stand_in

        flash_stand_in.install()
    import torch

    torch.set_num_threads(1)
    name, sets = f"{arguments.model_type} x {arguments.impl}", parsed(arguments.sets)
    if arguments.against:
        far = apart(arguments.model_type, arguments.impl, arguments.against, sets, arguments.class_name)
        print(f"{name} against {arguments.against}: outputs differ by {far:.1e}{': 1 apart' if far > 1e-3 else ''}")
        sys.exit(1 if far > 1e-3 else 0)
    if arguments.unread:
        ((key, value),) = parsed([arguments.unread]).items()
        moved = unread(arguments.model_type, arguments.impl, key, value, sets, arguments.class_name)
        print(f"{name}: {arguments.unread} moves outputs by {moved:.1e}{'' if moved else ': 1 unread'}")
        sys.exit(0 if moved else 1)
    try:
        model = model_of(
            arguments.model_type, sets, arguments.impl, arguments.class_name, arguments.spread, arguments.stack
        )
    except Exception as error:
        print(f"{name}: cannot be built: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        sys.exit(2)
    name = f"{arguments.model_type} ({type(model).__name__}) x {arguments.impl}"
    failed = False
    for scenario in arguments.scenario or ["plain"]:
        for variant in arguments.variant or VARIANTS.get(scenario, ("no-mask", "ones-mask")):
            counts, first = examine(model, scenario, variant, arguments.expect, arguments.stack)
            said = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
            print(f"{name}, {scenario} ({variant}): wrong pairs: {said}{f'; {first}' if first else ''}")
            failed |= bool(counts)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
