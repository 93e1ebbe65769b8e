"""The attention functions that a watch stands in for, as data, and what a call of one says in common words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Api:
    """One function. module, attribute: where its users find it. layout: order of the axes of its tensors.

    layout: "bhsd", "bshd" (batch, heads, tokens, width), or "thd" for packed sequences told apart by cu_seqlens.
    signature: parameters of a function that Python cannot inspect. packed: tensors that come as one argument, in order.
    repeatable: False where a second call would change something (a cache), or cost minutes.
    """

    name: str
    module: str
    attribute: str
    layout: str
    signature: tuple[tuple[str, Any], ...] = ()
    packed: tuple[str, ...] = ()
    repeatable: bool = True


_EMPTY = inspect.Parameter.empty

#: torch/nn/functional.py documents it: it is a builtin without a signature. `enable_gqa` since torch 2.5.
_SDPA = (
    ("query", _EMPTY), ("key", _EMPTY), ("value", _EMPTY), ("attn_mask", None), ("dropout_p", 0.0),
    ("is_causal", False), ("scale", None), ("enable_gqa", False),
)  # fmt: skip

_FA2 = "flash_attn.flash_attn_interface"
_FA3 = "flash_attn_interface"
_FA4 = "flash_attn.cute.interface"

#: The module is the one that defines the function: what re-exports it, is imported after it and gets the stand-in.
APIS = (
    Api("sdpa", "torch.nn.functional", "scaled_dot_product_attention", "bhsd", _SDPA),
    Api("flash-attn-2", _FA2, "flash_attn_func", "bshd"),
    Api("flash-attn-2", _FA2, "flash_attn_kvpacked_func", "bshd", packed=("q", "kv")),
    Api("flash-attn-2", _FA2, "flash_attn_qkvpacked_func", "bshd", packed=("qkv",)),
    Api("flash-attn-2", _FA2, "flash_attn_varlen_func", "thd"),
    Api("flash-attn-2", _FA2, "flash_attn_varlen_kvpacked_func", "thd", packed=("q", "kv")),
    Api("flash-attn-2", _FA2, "flash_attn_varlen_qkvpacked_func", "thd", packed=("qkv",)),
    Api("flash-attn-2", _FA2, "flash_attn_with_kvcache", "bshd", repeatable=False),
    Api("flash-attn-3", _FA3, "flash_attn_func", "bshd"),
    Api("flash-attn-3", _FA3, "flash_attn_varlen_func", "thd"),
    Api("flash-attn-3", _FA3, "flash_attn_qkvpacked_func", "bshd", packed=("qkv",)),
    Api("flash-attn-3", _FA3, "flash_attn_with_kvcache", "bshd", repeatable=False),
    Api("flash-attn-4", _FA4, "flash_attn_func", "bshd"),
    Api("flash-attn-4", _FA4, "flash_attn_varlen_func", "thd"),
    Api("xformers", "xformers.ops.fmha", "memory_efficient_attention", "bshd"),
)

_QUERY, _KEY, _VALUE = ("query", "q"), ("key", "k", "k_cache"), ("value", "v", "v_cache")
_MASK = ("attn_mask", "attn_bias")
_DROPOUT = ("dropout_p", "p")
#: Arguments of flash-attn (2, 3 and 4) that hide keys in ways of their own: what is asked for is then not known.
_FURTHER = (
    "attention_chunk", "mask_mod", "score_mod", "block_sparse_tensors", "full_block_cnt", "full_block_idx",
    "mask_block_cnt", "mask_block_idx", "seqused_q", "seqused_k", "leftpad_k",
)  # fmt: skip
#: Arguments under which keys lie in pages, not in the order of the tokens.
_PAGES = ("block_table", "page_table")


@dataclass(slots=True)
class Ask:
    """One live call in common words. query, key, value: as given, or cut out of what was packed.

    mask: the mask or bias argument. window: (left, right) as given, None without one. segments: cumulative lengths of
    queries and keys of a variable-length call, as given. further: other arguments that may hide keys. repeat: the same
    call with other tensors, without dropout; None where it must not be repeated, why_not says why.
    """

    api: Api
    query: Any
    key: Any
    value: Any
    mask: Any = None
    is_causal: bool | None = None
    window: tuple[Any, ...] | None = None
    scale: float | None = None
    softcap: float | None = None
    dropout: float = 0.0
    segments: tuple[Any, Any] | None = None
    further: tuple[str, ...] = ()
    repeat: Callable[[Any, Any, Any], Any] | None = None
    why_not: str = ""


def ask(api: Api, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Ask:
    """What a call of the function says. Raises TypeError for arguments that the function itself would refuse."""
    given = _bound(api, function, args, kwargs)
    query, key, value = _tensors(api, given)
    segments = None
    if api.layout == "thd":
        packed = given.get("cu_seqlens")
        segments = (packed, packed) if packed is not None else (given.get("cu_seqlens_q"), given.get("cu_seqlens_k"))
    causal = _first(given, ("is_causal", "causal"))
    why = "" if api.repeatable else f"a second call of {api.attribute} would change its cache"
    if any(given.get(name) is not None for name in _PAGES):
        why = "its keys lie in pages"
    return Ask(
        api=api,
        query=query,
        key=key,
        value=value,
        mask=_first(given, _MASK),
        is_causal=None if causal is None else bool(causal),
        window=_window(given.get("window_size")),
        scale=_number(_first(given, ("scale", "softmax_scale"))),
        softcap=_number(given.get("softcap")) or None,
        dropout=_number(_first(given, _DROPOUT)) or 0.0,
        segments=segments,
        further=tuple(name for name in _FURTHER if not _absent(given.get(name))),
        repeat=None if why else _repeating(api, function, given),
        why_not=why,
    )


def _bound(api: Api, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, defaults filled in; further keyword arguments beside them."""
    if api.signature:
        names = [name for name, _ in api.signature]
        if len(args) > len(names):
            raise TypeError(f"{api.attribute} takes {len(names)} arguments, {len(args)} were given")
        found = {name: default for name, default in api.signature if default is not _EMPTY}
        # An argument that is not given stays out: an older torch may not have it.
        given = {**dict(zip(names, args)), **kwargs}
        return {**{name: found[name] for name in found if name != "enable_gqa"}, **given}
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name, {})
        elif parameter.kind is parameter.VAR_POSITIONAL:
            arguments.pop(name, None)
    return arguments


def _tensors(api: Api, given: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Query, key and value; packed ones lie in the axis before heads and width."""
    if api.packed == ("qkv",):
        query, key, value = given["qkv"].unbind(-3)
        return query, key, value
    if api.packed:
        key, value = given["kv"].unbind(-3)
        return given["q"], key, value
    return _first(given, _QUERY), _first(given, _KEY), _first(given, _VALUE)


def _repeating(api: Api, function: Callable[..., Any], given: Mapping[str, Any]) -> Callable[[Any, Any, Any], Any]:
    """The same call on other tensors: no dropout, and nothing but the output."""
    quiet: dict[str, Any] = {name: 0.0 for name in _DROPOUT if name in given}
    if (slopes := given.get("alibi_slopes")) is not None:  # far keys would get a weight of exactly zero
        quiet["alibi_slopes"] = slopes * 0
    quiet |= {name: False for name in ("return_attn_probs", "return_softmax", "return_lse") if name in given}

    def repeat(query: Any, key: Any, value: Any) -> Any:
        import torch

        if api.packed == ("qkv",):
            tensors = {"qkv": torch.stack((query, key, value), -3)}
        elif api.packed:
            tensors = {"q": query, "kv": torch.stack((key, value), -3)}
        else:
            found = zip((_QUERY, _KEY, _VALUE), (query, key, value))
            tensors = {next(name for name in names if name in given): tensor for names, tensor in found}
        output = function(**{**given, **quiet, **tensors})
        return output[0] if isinstance(output, tuple) else output

    return repeat


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, int) and value == 0)


def _window(given: Any) -> tuple[Any, ...] | None:
    """The window argument where it limits something; flash-attn spells no limit as -1, the fourth as None."""
    if not isinstance(given, (tuple, list)) or all(side is None or side == -1 for side in given):
        return None
    return tuple(given)


def _first(given: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((given[name] for name in names if given.get(name) is not None), None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
