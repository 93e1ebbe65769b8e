"""Which layer is of which type: `layer_types` when it is there, else the model type's own rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.declared.families import Family, legacy
from attncheck.declared.values import Keys, as_int

#: Stands for a layer whose type nothing tells.
UNKNOWN_KIND = "unknown"

#: Keys that hold a pattern. A file or class with one that no rule in families.toml reads declares something unknown.
PATTERN_KEYS = (
    "layer_types",
    "layers_block_type",
    "block_types",
    "sliding_window_pattern",
    "attn_layer_period",
    "attn_layer_indices",
    "full_attn_idxs",
    "full_attention_interval",
    "global_attn_every_n_layers",
    "hybrid_override_pattern",
    "hybrid_layer_pattern",
    "attention_types",
    "no_rope_layers",
    "attention_windows",
    "layer_group_size",
    "compress_ratios",
    "linear_attn_config",
    "dense_attention_every_n_layers",
)
#: Pattern keys that say where position encoding goes, not what a layer sees, unless a rule reads them.
_HARMLESS = frozenset({"no_rope_layers"})


@dataclass(frozen=True, slots=True)
class Kinds:
    """The layer types of one stack, in order, where they came from, and why they are unknown if they are.

    explicit: the types do not depend on whether the window is on.
    """

    kinds: tuple[str, ...]
    source: str
    why: str = ""
    explicit: bool = False


def kinds_of(keys: Keys, known: Family, count: int, window_on: bool) -> Kinds:
    """The layer types of a stack of `count` layers. `window_on`: the window is set and not switched off."""
    declared = keys.find("layer_types")
    if isinstance(declared.value, (list, tuple)):
        return _listed([str(kind) for kind in declared.value], count, declared.source)
    rule = known.pattern
    if not rule:
        return _without_rule(keys, count, window_on)
    if "list" in rule and isinstance((entries := keys.find(rule["list"])).value, (list, tuple)):
        values = rule.get("values")
        return _listed(
            [str(values[e]) if values and _indexes(e, values) else str(e) for e in entries.value], count, entries.source
        )
    built = _RULES[rule["rule"]](keys, rule, count, window_on)
    if built is None:
        return Kinds(
            (UNKNOWN_KIND,) * count, "", f"the keys that the pattern of {known.model_type} needs are missing or strange"
        )
    explicit = rule["rule"] not in ("uniform", "from_threshold", "even_below") and not rule.get("only_if_window")
    return _listed(built, count, f"families.toml: pattern of {known.model_type}", explicit)


def own_length(keys: Keys, known: Family) -> int | None:
    """The number of layers that a pattern key itself shows, for files that write no count."""
    for name in ("layer_types", known.pattern.get("list", "")):
        value = keys.find(name).value if name else None
        if isinstance(value, list):
            return len(value)
    if known.pattern.get("rule") == "letters":
        written = keys.find(known.pattern["key"]).value if "key" in known.pattern else None
        return len(written if isinstance(written, str) else known.pattern["text"])
    return None


def _listed(kinds: list[str], count: int, source: str, explicit: bool = True) -> Kinds:
    if len(kinds) != count:
        return Kinds((UNKNOWN_KIND,) * count, source, f"{source} has {len(kinds)} entries for {count} layers")
    return Kinds(tuple(legacy(kind) for kind in kinds), source, explicit=explicit)


def _without_rule(keys: Keys, count: int, window_on: bool) -> Kinds:
    for name in PATTERN_KEYS:
        found = keys.find(name)
        class_computes = name == "layer_types" and found.default
        if name in _HARMLESS or (found.value in (None, [], 0) and not class_computes):
            continue
        return Kinds((UNKNOWN_KIND,) * count, "", f"no rule is known for the key {found.key} of this model type")
    return Kinds(("sliding_attention" if window_on else "full_attention",) * count, "one kind for all layers")


Rule = Callable[[Keys, Mapping[str, Any], int, bool], "list[str] | None"]


def _uniform(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    return ["sliding_attention" if window_on else "full_attention"] * count


def _all(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    return [rule["kind"]] * count


def _from_threshold(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    start = keys.integer(rule["key"])
    if not window_on:
        return ["full_attention"] * count
    return None if start is None else ["sliding_attention" if i >= start else "full_attention" for i in range(count)]


def _even_below(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    stop = keys.integer(rule["key"])
    if not window_on:
        return ["full_attention"] * count
    return (
        None
        if stop is None
        else ["sliding_attention" if i % 2 == 0 and i < stop else "full_attention" for i in range(count)]
    )


def _every(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    """Every period-th layer is `at`: layer i when period divides i + offset (offset 1: the last of each period)."""
    if rule.get("only_if_window") and not window_on:
        return [rule["at"]] * count
    at, rest = rule["at"], rule["rest"]
    if (listed := _rest_list(keys, rule, count)) is not None:
        return listed
    written = keys.find_set(rule["key"]).value if "key" in rule else None
    if isinstance(written, str):
        letters = rule.get("letters")
        if not letters or not written or set(written) - set(letters):
            return None
        return [letters[written[i % len(written)]] for i in range(count)]
    period = as_int(written) if written is not None else rule.get("period")
    offset = rule.get("offset", 1)
    if "offset_key" in rule:
        declared = keys.integer(rule["offset_key"])
        offset = None if declared is None else -declared
    if period is None or period < 1 or offset is None:
        return None
    first = list(rule.get("first", ()))
    length = max(count - len(first), 0)
    hits = [((length - 1 - i) if rule.get("from_end") else i + offset) % period == 0 for i in range(length)]
    kinds = (first + [at if hit else rest for hit in hits])[:count]
    for index in rule.get("also", ()):
        if -count <= index < count:
            kinds[index] = at
    if rule.get("at_least_last") and at not in kinds:
        kinds[-1] = at
    return kinds


def _rest_list(keys: Keys, rule: Mapping[str, Any], count: int) -> list[str] | None:
    for name, truth in (("window_list", None), ("rest_list", "index")):
        entries = keys.find(rule[name]).value if name in rule else None
        if isinstance(entries, list):
            if truth == "index":
                return [rule["rest"] if i in entries else rule["at"] for i in range(count)]
            return [rule["rest"] if entry else rule["at"] for entry in entries]
    return None


def _ends(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    """`at` in the first and the last layer where the flag is on, `rest` elsewhere."""
    flag = keys.flag(rule["flag"])
    if flag is None:
        return None
    return [rule["at"] if flag and index in (0, count - 1) else rule["rest"] for index in range(count)]


def _two_parts(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    first, one, two = (keys.integer(rule[name]) for name in ("first_key", "first_period_key", "period_key"))
    if one is None or two is None or min(one, two) < 1:
        return None
    head = min(first or 0, count)
    hits = [(i + 1) % one == 0 for i in range(head)] + [(i + 1) % two == 0 for i in range(count - head)]
    return ["full_attention" if hit else "sliding_attention" for hit in hits]


def _rope(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    """`no_rope_layers[i]` = 1 means that layer i uses RoPE, whatever the name suggests; an empty list: default."""
    listed = keys.find("no_rope_layers").value
    if isinstance(listed, list) and listed:
        uses = [bool(entry) for entry in listed]
    else:
        period = keys.integer("no_rope_layer_interval") or rule["interval"]
        uses = [(i + 1) % period != 0 for i in range(count)]
    if rule.get("only_if_window") and not window_on:
        return [rule["rope"]] * count
    return [rule["rope"] if use else rule["nope"] for use in uses]


def _attention_types(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    if isinstance((layers := keys.find("attention_layers")).value, list):
        return [str(kind) for kind in layers.value]
    types = keys.find_set(rule["key"]).value
    if types is None:
        return ["global" if i % 2 == 0 else "local" for i in range(count)]
    try:
        return [str(kind) for kinds, times in types for _ in range(times) for kind in kinds]
    except (TypeError, ValueError):
        return None


def _indices(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    listed = keys.find(*rule["keys"]).value
    if listed is None and "empty" in rule:
        return [rule["empty"]] * count
    if listed is not None and not isinstance(listed, list):
        return None
    return [rule["at"] if i in (listed or ()) else rule["rest"] for i in range(count)]


def _cycle(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    written = keys.find_set(rule["key"]).value if "key" in rule else None
    kinds = list(written) if isinstance(written, (list, tuple)) and written else list(rule["kinds"])
    rename = rule.get("rename", {})
    built = [rename.get(str(kinds[i % len(kinds)]), str(kinds[i % len(kinds)])) for i in range(count)]
    return (list(rule.get("first", ())) + built[len(rule.get("first", ())) :])[:count]


def _letters(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    written = keys.find_set(rule["key"]).value if "key" in rule else None
    text = written if isinstance(written, str) else rule["text"]
    return None if set(text) - set(rule["letters"]) else [rule["letters"][letter] for letter in text]


def _one_based_lists(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    lists = keys.find(rule["key"]).value
    if isinstance(lists, Mapping) and rule["at_key"] in lists and rule["rest_key"] in lists:
        at, rest = set(lists[rule["at_key"]]), set(lists[rule["rest_key"]])
        return [rule["at"] if i + 1 in at else rule["rest"] if i + 1 in rest else UNKNOWN_KIND for i in range(count)]
    return [rule["at"] if i and i % rule["period"] == 0 else rule["rest"] for i in range(count)]


def _sparse_list(keys: Keys, rule: Mapping[str, Any], count: int, window_on: bool) -> list[str] | None:
    inner = keys.find(rule["key"]).value
    flags = inner.get(rule["list"]) if isinstance(inner, Mapping) else None
    if not isinstance(flags, list):
        return [rule["rest"]] * count
    return [rule["at"] if flag else rule["rest"] for flag in flags]


def _indexes(entry: Any, values: list[str]) -> bool:
    index = as_int(entry)
    return index is not None and 0 <= index < len(values)


_RULES: dict[str, Rule] = {
    "uniform": _uniform,
    "all": _all,
    "from_threshold": _from_threshold,
    "even_below": _even_below,
    "every": _every,
    "ends": _ends,
    "two_parts": _two_parts,
    "rope": _rope,
    "attention_types": _attention_types,
    "indices": _indices,
    "cycle": _cycle,
    "letters": _letters,
    "one_based_lists": _one_based_lists,
    "sparse_list": _sparse_list,
}
