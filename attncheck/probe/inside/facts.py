"""What a live model is, as plain data: its config as keys, its kind, what its forward takes, and its flags."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from attncheck.declared import oracle
from attncheck.probe.caches import hands_on_use_cache
from attncheck.probe.inside import modules, unwrap
from attncheck.probe.protocol import TinyInfo
from attncheck.probe.reading.place import Places
from attncheck.probe.scenario import Stack, Subject
from attncheck.probe.subject import field_types, stack_of, static_cache_refusal
from attncheck.probe.tiny import library
from attncheck.semantics.spec import ModelSpec, Part


@dataclass(frozen=True, slots=True)
class LiveFacts:
    """A live model as the checks must know it.

    config: raw keys. spec: what they declare. single: the part of the only stack, None where there are two. device:
    where inputs go. dtype: of the weights. switched: attention modules whose own `is_causal` is not what their class
    sets, path -> (part, layer, value). vision: the model also takes images. vocabulary: how many token ids have an
    embedding, 0 where that is not known.
    """

    config: Mapping[str, Any]
    spec: ModelSpec
    subject: Subject
    single: Part | None
    implementation: str
    device: torch.device
    dtype: torch.dtype
    switched: Mapping[str, tuple[Part, int, bool]]
    vision: bool = False
    vocabulary: int = 0


def facts(model: Any, declared: Any = None) -> LiveFacts:
    """The facts of an unwrapped model. declared: a config (mapping or object) to judge by instead of its own."""
    own = unwrap.config_of(model)
    chosen = own if declared is None else declared
    config = raw_keys(chosen)
    spec = oracle.declare(config, _defaults(chosen if not isinstance(chosen, Mapping) else own, config))
    base = unwrap.base_of(model)
    parts = {layer.part for layer in spec.layers}
    info = _info(base, own, config, spec)
    text = unwrap.text_config(own)
    subject = Subject(
        info=info,
        stack=stack_of(info, parts),
        forward_args=frozenset(_forward_arguments(base)),
        hands_on_use_cache=hands_on_use_cache(type(base).forward),
        config=dict(vars(text)),
        config_types=field_types(type(text)),
        no_static_cache=static_cache_refusal(type(base)),
    )
    single = {Stack.DECODER: Part.DECODER, Stack.ENCODER: Part.ENCODER}.get(subject.stack)
    table = _table(base)
    weight = table if table is not None else next(base.parameters())
    return LiveFacts(
        config=config,
        spec=spec,
        subject=subject,
        single=single,
        implementation=unwrap.implementation_of(model),
        device=weight.device,
        dtype=weight.dtype if weight.dtype.is_floating_point else torch.float32,
        switched=switched_flags(model, single),
        vision=any(getattr(own, name, None) is not None for name in ("vision_config", "audio_config")),
        vocabulary=_vocabulary(text, table),
    )


def raw_keys(config: Any) -> dict[str, Any]:
    """A config object, or a mapping, as the keys of a config.json; `model_type` of the class where it is not said."""
    if isinstance(config, Mapping):
        return dict(config)
    raw = dict(library.json_like(config.to_dict()))
    raw.setdefault("model_type", getattr(type(config), "model_type", ""))
    return raw


def _defaults(config: Any, raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    try:
        return library.defaults(type(config), raw)
    except Exception:  # a class that cannot be constructed from nothing has no defaults to stand in
        return None


def _info(base: Any, config: Any, raw: Mapping[str, Any], spec: ModelSpec) -> TinyInfo:
    text = unwrap.text_config(config)
    arguments = _forward_arguments(base)
    pad = getattr(text, "pad_token_id", None)
    vocabulary = getattr(text, "vocab_size", None)
    counts = [len(spec.of_part(part)) for part in (Part.DECODER, Part.ENCODER)]
    return TinyInfo(
        config=raw,
        kind=_kind(base, config),
        model_class=type(base).__name__,
        num_layers=counts[0] or counts[1],
        num_encoder_layers=counts[1],
        vocab_size=vocabulary if isinstance(vocabulary, int) and vocabulary > 1 else _rows(base),
        pad_token_id=pad if isinstance(pad, int) and pad >= 0 else 0,
        takes_position_ids="position_ids" in arguments,
        takes_cache=bool({"past_key_values", "cache_params"} & set(arguments)),
    )


def _kind(base: Any, config: Any) -> str:
    if bool(getattr(config, "is_encoder_decoder", False)):
        return "seq2seq"
    name = type(base).__name__
    for mark, kind in (("ForCausalLM", "causal-lm"), ("LMHead", "causal-lm"), ("MaskedLM", "masked-lm")):
        if mark in name:
            return kind
    return "base"


def _table(base: Any) -> Any:
    """The embeddings of the tokens; None without them: an embedding of patches is a module without a weight."""
    try:
        return getattr(base.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):
        return None


def _vocabulary(text: Any, table: Any) -> int:
    """The larger of what the config says and the rows of the table: it may have spare rows, or be a shard."""
    said = getattr(text, "vocab_size", None)
    rows = table.shape[0] if table is not None and table.dim() == 2 else 0
    return max(int(rows), said if isinstance(said, int) else 0)


def _rows(base: Any) -> int:
    table = _table(base)
    return int(table.shape[0]) if table is not None else 128


def _forward_arguments(base: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(inspect.unwrap(type(base).forward)).parameters)


def switched_flags(model: Any, single: Part | None) -> dict[str, tuple[Part, int, bool]]:
    """Attention modules whose `is_causal` somebody changed after construction: (part, layer, value as it is now).

    A module of the same class is constructed anew, without memory, to see what its class sets; where that is not
    possible nothing is said of it.
    """
    config = unwrap.config_of(model)
    paths = {id(module): path for path, module in model.named_modules()}
    fresh: dict[tuple[type, int], bool | None] = {}
    found: dict[str, tuple[Part, int, bool]] = {}
    places = Places(model, single)
    for module in modules.attention_modules(model):
        value = vars(module).get("is_causal")
        if not isinstance(value, bool):
            continue
        part, layer = places.of(module)
        key = type(module), layer
        if key not in fresh:
            fresh[key] = _as_constructed(module, config, layer)
        if fresh[key] is not None and fresh[key] is not value and part in (Part.DECODER, Part.ENCODER):
            found[paths[id(module)]] = part, layer, value
    return found


def _as_constructed(module: Any, config: Any, layer: int) -> bool | None:
    """`is_causal` of a new module of this class; None where it cannot be made."""
    takes = inspect.signature(type(module).__init__).parameters
    own = getattr(module, "config", None) or unwrap.text_config(config)
    offered = {"config": own, "layer_idx": layer}
    try:
        with torch.device("meta"):
            made = type(module)(**{name: value for name, value in offered.items() if name in takes})
    except Exception:  # a class that wants more cannot be asked
        return None
    value = vars(made).get("is_causal")
    return value if isinstance(value, bool) else None
