"""How many query and key-value heads a layer has and how wide they are, by every spelling (2.8 of the field survey)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.declared.families import Family
from attncheck.declared.values import Keys, as_int

HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "emb_dim")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
HEAD_DIM = ("head_dim", "kv_channels", "d_kv", "d_head", "attention_head_dim", "attention_head_size")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers", "decoder_layers")
POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
)


@dataclass(frozen=True, slots=True)
class Heads:
    """Head counts and widths of one layer; None where the config does not say. head_dim is the q/k width."""

    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    head_dim_v: int | None = None
    mla: bool = False


def heads_of(keys: Keys, known: Family, layer: int, kind: str, side: str = "") -> Heads:
    """The heads of one layer. `side`: "encoder_" or "decoder_" for stacks whose keys carry that prefix."""
    named = [f"{side}{name}" for name in HEADS] if side else []
    num_heads = _kind_value(keys, known, layer, kind, "num_attention_heads") or keys.integer(*named, *HEADS)
    if (latent := _latent(keys)) is not None:
        value_width = keys.integer("v_head_dim")
        # K is built per query head from the latent, whatever num_key_value_heads says
        return Heads(num_heads, num_heads, latent, value_width or latent, mla=True)
    num_kv_heads = _kind_value(keys, known, layer, kind, "num_key_value_heads") or _kv_heads(
        keys, known, num_heads, side
    )
    head_dim = _kind_value(keys, known, layer, kind, "head_dim") or keys.integer(*HEAD_DIM)
    if head_dim is None:
        hidden = keys.integer(*HIDDEN)
        if hidden is not None and num_heads:
            head_dim = known.width_factor * hidden // num_heads
    return Heads(num_heads, num_kv_heads, head_dim, keys.integer("v_head_dim") or head_dim)


def _latent(keys: Keys) -> int | None:
    nope, rope = keys.integer("qk_nope_head_dim"), keys.integer("qk_rope_head_dim")
    return nope + rope if nope is not None and rope is not None else None


def _kv_heads(keys: Keys, known: Family, num_heads: int | None, side: str) -> int | None:
    multi_query = keys.flag("multi_query", "multi_query_attention")
    if multi_query and not keys.flag("new_decoder_architecture") and keys.find("multi_query_group_num").value is None:
        # Falcon-7b writes num_kv_heads 71 beside multi_query: the flag wins
        return 1
    named = [f"{side}{name}" for name in KV_HEADS] if side else []
    inner = keys.find("attn_config").value
    if isinstance(inner, Mapping) and as_int(inner.get("kv_n_heads")) is not None:
        return as_int(inner["kv_n_heads"])
    found = keys.find(*named, *KV_HEADS)
    return as_int(found.value) if found.value is not None else num_heads


def _kind_value(keys: Keys, known: Family, layer: int, kind: str, field: str) -> int | None:
    """A value that per_layer_config or the layer type sets instead of the general key."""
    per_layer: Any = keys.find("per_layer_config").value
    entry: Any = None
    if isinstance(per_layer, Mapping):
        entry = per_layer.get(str(layer), per_layer.get(layer))
    elif isinstance(per_layer, list) and layer < len(per_layer):
        entry = per_layer[layer]
    if isinstance(entry, Mapping):
        return as_int(entry.get(field))
    names = known.per_kind.get(kind, {}).get(field, [])
    spelled = [name for name in names if isinstance(name, str)]
    own = next((name for name in names if not isinstance(name, str)), None)
    if isinstance(own, Mapping):
        general = keys.integer(field)
        own = general * own["times"] if general is not None else None
    return (keys.integer(*spelled) if spelled else None) or own
