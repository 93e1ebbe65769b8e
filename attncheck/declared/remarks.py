"""What a config says that deserves a remark although nothing is wrong: windows off or never binding, ignored keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attncheck.declared.families import family
from attncheck.declared.stack import Stack
from attncheck.declared.values import Keys, as_int, as_number
from attncheck.semantics.spec import ModelSpec, Note

#: Layer types that slide, for remarks.
_SLIDING = frozenset({"sliding_attention", "hybrid_sliding", "local"})


def remarks(top: Keys, keys: Keys, text_type: str, stacks: list[Stack], spec: ModelSpec) -> tuple[Note, ...]:
    """Every remark on a declared model, in a stable order and each once.

    top: the file. keys, text_type: the level that describes the text model, and its model type.
    """
    found = [note for stack in stacks for note in _window(keys, text_type, stack, spec)]
    found += [note for stack in stacks for note in _windowless(stack)]
    found += _remote(top)
    found += _ignored(keys, text_type)
    found += _dropout(keys)
    found += _unknown(stacks)
    return tuple(dict.fromkeys(found))


def _windowless(stack: Stack) -> Iterator[Note]:
    window, key = stack.window, stack.window.written.key or "the config"
    sliding = any(layer.kind in _SLIDING for layer in stack.layers)
    if sliding and not window.on and not window.why and not window.off_why:
        text = f"layer_types has sliding layers, but {key} sets no window"
        yield Note("sliding-layer-without-window", text, window.written.key)


def _window(keys: Keys, text_type: str, stack: Stack, spec: ModelSpec) -> Iterator[Note]:
    window, written = stack.window, stack.window.written
    if window.size is None or not written.key:
        return
    number, attending = as_int(written.value), [layer for layer in stack.layers if layer.attends]
    sliding = [layer for layer in attending if layer.mask.window.bounded or layer.kind in _SLIDING]
    start, count = keys.integer("max_window_layers"), len(stack.layers)
    threshold = family(text_type).pattern.get("rule") == "from_threshold"
    beyond = (
        f"max_window_layers ({start}) is not below the number of layers ({count})"
        if start is not None and start >= count and threshold
        else ""
    )
    if window.off_why and not written.default:
        more = f"; switching it on would change no layer, because {beyond}" if beyond else ""
        yield Note(
            "window-switched-off", f"{written.key} {number} is declared but off: {window.off_why}{more}", written.key
        )
    elif window.on and attending and not sliding and not window.why and not {"kind", "window"} & set(stack.reasons):
        why = beyond or "no layer is of a windowed type"
        yield Note(
            "window-switched-off", f"{written.key} {number} is declared, but no layer slides: {why}", written.key
        )
    elif window.off_why and sliding:
        yield Note("window-switched-off", f"layer_types has sliding layers, but {window.off_why}", written.key)
    if window.on and sliding and start and 0 < start < count and threshold:
        slide = f"layers {start} to {count - 1} slide"
        text = f"{slide}; the flash path of transformers up to 4.42 read max_window_layers the other way round"
        yield Note("max-window-layers", text, keys.prefix + "max_window_layers")
    if window.on and sliding and spec.max_position is not None and window.size >= spec.max_position:
        compare = "equals" if window.size == spec.max_position else "exceeds"
        text = (
            f"the window of {window.size} {compare} the longest sequence of the checkpoint ({spec.max_position}), "
            "so it never binds; the model still runs the windowed code paths"
        )
        yield Note("window-exceeds-max-position", text, written.key)
    if written.key.endswith("sliding_window_size") and window.size == (number or 0) + 1:
        yield Note(
            "window-key-meaning",
            f"{written.key} {number} counts the tokens before the query: {window.size} keys",
            written.key,
        )


def _remote(top: Keys) -> Iterator[Note]:
    if isinstance(top.raw.get("auto_map"), Mapping):
        native = (
            "the native class is read and probed unless --trust-remote-code is given"
            if top.defaults is not None
            else "its meaning is not known"
        )
        yield Note("remote-code", f"the file names its own model code (auto_map); {native}", "auto_map")


def _ignored(keys: Keys, text_type: str) -> Iterator[Note]:
    inner: Any = keys.find("attn_config").value
    told = inner if text_type == "mpt" and isinstance(inner, Mapping) else {}
    if told.get("alibi") is False or (as_number(told.get("alibi_bias_max")) or 8) != 8:
        text = "the native class always builds ALiBi with a bias maximum of 8, whatever attn_config says"
        yield Note("ignored-key", text, "attn_config.alibi")
    kv = as_int(keys.raw.get("num_kv_heads"))
    if keys.flag("multi_query") and not keys.flag("new_decoder_architecture") and kv is not None and kv > 1:
        yield Note(
            "ignored-key",
            f"num_kv_heads {kv} does not count: multi_query is true, so there is one",
            keys.prefix + "num_kv_heads",
        )
    if (
        text_type == "exaone4"
        and isinstance(keys.raw.get("sliding_window_pattern"), str)
        and "layer_types" not in keys.raw
    ):
        yield Note(
            "ambiguous-key",
            "sliding_window_pattern as letters without layer_types: transformers 5 cannot load this file",
            "sliding_window_pattern",
        )
    listed, pattern = keys.raw.get("layer_types"), keys.raw.get("sliding_window_pattern")
    if isinstance(listed, list) and pattern and _disagree(listed, pattern):
        text = f"layer_types and sliding_window_pattern {pattern!r} disagree; layer_types counts"
        yield Note("ambiguous-key", text, keys.prefix + "sliding_window_pattern")


def _disagree(listed: list[Any], pattern: Any) -> bool:
    """Whether a list of layer types and a pattern (every p-th layer full, or letters of local and global) differ."""
    if isinstance(pattern, str):
        said = [pattern[i % len(pattern)] == "L" for i in range(len(listed))]
    else:
        period = as_int(pattern)
        said = [bool(period) and (i + 1) % (period or 1) != 0 for i in range(len(listed))]
    return [kind == "sliding_attention" for kind in listed] != said


def _dropout(keys: Keys) -> Iterator[Note]:
    for name in ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop"):
        found = keys.find(name)
        if (as_number(found.value) or 0) > 0:
            yield Note(
                "attention-dropout", f"{found.key} {found.value} drops attention weights in train mode only", found.key
            )


def _unknown(stacks: list[Stack]) -> Iterator[Note]:
    for stack in stacks:
        if not stack.layers:
            continue
        part = stack.layers[0].part.value
        for name, why in stack.reasons.items():
            yield Note("unknown-declared", f"{part}: {name} unknown: {why}", "")
        strange = (
            sorted({layer.kind for layer in stack.layers if "kind" in layer.unknown})
            if "kind" not in stack.reasons
            else []
        )
        for kind in strange:
            count = sum(layer.kind == kind for layer in stack.layers)
            yield Note(
                "unknown-declared",
                f"{part}: what {count} layers of type {kind!r} see cannot be written down from the config",
                "",
            )
