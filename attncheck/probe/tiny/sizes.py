"""The new value of one size: heads, widths, windows, experts, tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck.probe.tiny import rules
from attncheck.probe.tiny.layers import Config, is_size


@dataclass(frozen=True, slots=True)
class Sizes:
    """Old and new sizes of one config level.

    base: width of a head on this rung, None on the native rung, where widths and heads stay. kept: real indices of the
    layers that stay, out of `count`. view: raw values over defaults. extra, fill: as in `shrink`.
    """

    base: int | None
    heads_old: int | None
    heads: int
    hidden_old: int | None
    hidden: int
    head_dim: int
    kept: tuple[int, ...]
    count: int | None
    view: Config = field(default_factory=dict)
    extra: int = 0
    fill: bool = False


def measure(
    view: Config, base: int | None, kept: tuple[int, ...], count: int | None, *, extra: int = 0, fill: bool = False
) -> Sizes:
    """The sizes of a level whose layers have been chosen."""
    heads_old = next((view[key] for key in rules.HEADS_KEYS if is_size(view.get(key))), None)
    hidden_old = next((view[key] for key in rules.HIDDEN if is_size(view.get(key))), None)
    if base is None:
        heads = heads_old or rules.HEADS
        width = view.get("head_dim") or (hidden_old // heads if hidden_old else 64)
        width = width if is_size(width) and width > 0 else 64
        hidden = hidden_old or heads * width
    else:
        heads, width = min(heads_old or rules.HEADS, rules.HEADS), base
        hidden = heads * base
    return Sizes(base, heads_old, heads, hidden_old, hidden, width, kept, count, view, extra, fill)


class Tokens:
    """Hands out special token ids: pad 0, bos 1, eos 2, every other from 40 up, below the ids that probes use."""

    def __init__(self) -> None:
        self._next = 40

    def place(self, key: str, value: Any) -> Any:
        """The new id of one key; a list keeps its first. Null and negative ids stay."""
        if isinstance(value, list):
            return [self.place(key, item) for item in value[:1]]
        if not is_size(value) or value < 0:
            return value
        for word, token in (("pad", 0), ("decoder_start", 0), ("bos", 1), ("eos", 2)):
            if key.startswith(word):
                return token
        self._next += 1
        return self._next - 1


def filled(key: str, sizes: Sizes) -> Any:
    """A value for a size that stands at null and that the class needs. Null kv heads mean as many as query heads."""
    if key == "vocab_size":
        return rules.VOCAB
    if key in rules.EXPERT_COUNTS:
        return rules.EXPERTS
    if key in rules.TOP_KS:
        return rules.TOP_K
    if key in rules.ONES:
        return 1
    if key == "num_key_value_heads":
        return sizes.heads
    if key in rules.NEEDED_TOKENS:
        return rules.NEEDED_TOKENS[key]
    languages = sizes.view.get("languages")
    if key == "default_language" and isinstance(languages, list) and languages:
        return languages[0]
    return None


def shrunk_list(key: str, value: list[Any], sizes: Sizes) -> list[Any]:
    """Lists of sizes entry by entry; any other list as it is."""
    if not value or not all(is_size(item) for item in value):
        return value
    each = key in rules.WINDOWS or key in rules.EXPERT_COUNTS or key in rules.TOP_KS
    if each or any(p.search(key) for p in (rules.FEED_FORWARDS, rules.HEAD_COUNTS, rules.KV_COUNTS)):
        return [shrunk_int(key, item, sizes) for item in value]
    if key == "block_sizes":  # funnel: layers of each block
        return [1 for _ in value]
    return value


def shrunk_int(key: str, value: int, sizes: Sizes) -> int:
    """The new value of an int; zero and negative values stay."""
    if key in rules.NO_LAYERS:
        return 0
    if value <= 0:
        return value
    always = _cut_on_every_rung(key, value, sizes)
    if always is not None:
        return always
    return value if sizes.base is None else _cut_width(key, value, sizes)


def _cut_on_every_rung(key: str, value: int, sizes: Sizes) -> int | None:
    if key in rules.LAYERS:
        return len(sizes.kept) if value == sizes.count else min(value, len(sizes.kept))
    if key in rules.WINDOWS:
        return min(value, rules.WINDOW)
    if key in rules.EXPERT_COUNTS:
        return min(value, rules.EXPERTS)
    if key in rules.TOP_KS:
        return min(value, rules.TOP_K)
    if key in rules.ONES:
        return 1
    if key == "vocab_size":
        return rules.VOCAB  # also for a smaller one: probes draw ids up to 119
    if rules.VOCABS.search(key) and key != "type_vocab_size":
        return min(value, rules.VOCAB)
    if key in rules.POSITION_KEYS:
        # the ratio of the two is a rotary parameter; rotary models keep no table of this length
        return value if _has_original_length(sizes.view) else min(value, rules.POSITIONS)
    if key in rules.CHUNKS:
        return min(value, rules.STATE)
    return None


def _cut_width(key: str, value: int, sizes: Sizes) -> int:
    if rules.KV_COUNTS.search(key):
        return _kv_heads(key, value, sizes)
    if key in rules.SSM_HEADS or (key == "num_heads" and "n_groups" in sizes.view):
        return _ssm_heads(sizes)
    if rules.HEAD_COUNTS.search(key):
        return min(value, rules.HEADS)
    if key in rules.WIDE_HEAD_DIMS:
        return 2 * sizes.head_dim
    if key in rules.HEAD_DIMS:
        return _head_width(key, value, sizes)
    if key in rules.ROTARY_DIMS:
        return min(value, sizes.head_dim)
    if key in rules.RANKS:
        return min(value, rules.RANK)
    if key in rules.STATES:
        return min(value, rules.STATE)
    if rules.FEED_FORWARDS.search(key) and value != sizes.hidden_old:
        return min(value, max(rules.FEED_FORWARD, sizes.hidden))
    if key in rules.HIDDEN or (value == sizes.hidden_old and value >= 128 and not rules.NOT_WIDTHS.search(key)):
        return sizes.hidden
    return value


def _head_width(key: str, value: int, sizes: Sizes) -> int:
    """The base width; queries and keys stay wider than values where the config says so."""
    other = sizes.view.get("v_head_dim")
    if key == "head_dim" and is_size(other) and value > other and not is_size(sizes.view.get("qk_nope_head_dim")):
        return 2 * sizes.head_dim
    return sizes.head_dim


def _kv_heads(key: str, value: int, sizes: Sizes) -> int:
    """1 stays 1, as many as query heads stays as many, anything between becomes 2."""
    partner = key.replace("key_value_heads", "attention_heads").replace("key_value_attention", "attention")
    heads = sizes.view.get(partner)
    heads = heads if is_size(heads) else sizes.heads_old
    new_heads = min(heads, rules.HEADS) if heads else rules.HEADS
    if value == 1:
        return 1
    return new_heads if value == heads else min(rules.KV_HEADS, new_heads)


def _ssm_heads(sizes: Sizes) -> int:
    """As many state-space heads as fill the expanded width."""
    expand = sizes.view.get("mamba_expand", sizes.view.get("expand", 2))
    if is_size(sizes.view.get("mamba_headdim")) or not isinstance(expand, int | float):
        return sizes.heads
    return max(1, int(expand * sizes.hidden) // sizes.head_dim)


def _has_original_length(view: Config) -> bool:
    ropes = (view.get("rope_parameters"), view.get("rope_scaling"))
    return is_size(view.get("original_max_position_embeddings")) or any(
        isinstance(item, Mapping) and "original_max_position_embeddings" in item for item in ropes
    )
