"""The exact signatures of flash-attention 2, 3 and 4 over the plain-torch contract.

Each function has the parameters of the library's own, because transformers derives from the signature which features it
may ask for; an unknown argument is a TypeError, one that is documented but not modelled a NotImplementedError.
Sources: flash-attn 2.8.3, `hopper/flash_attn_interface.py` (FA3), `flash_attn/cute/interface.py` of 4.0.0b36 (FA4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attncheck.probe.flash import contract
from attncheck.probe.flash.contract import Bound, ContractError, Softmax

#: Largest head size of FA2 and FA3, as their own checks have it.
_WIDEST = 256


@dataclass(frozen=True, slots=True)
class Functions:
    """The two entry points that transformers calls."""

    dense: Callable[..., Any]
    varlen: Callable[..., Any]


def _integer_bounds(window_size: tuple[int, int], causal: bool) -> tuple[Bound, Bound]:
    """FA2 and FA3: any negative side is unbounded; causal forces the right side to 0."""
    left, right = window_size
    return (None if left < 0 else left), 0 if causal else (None if right < 0 else right)


def _optional_bounds(window_size: tuple[Bound, Bound], causal: bool) -> tuple[Bound, Bound]:
    """FA4: None is unbounded, and so is a pair of negative sides; a single negative side is a bound like any other.

    That last clause is why `causal=True, window_size=(-1, 0)` leaves no key at all (measured on H100, 4.0.0b36).
    """
    left, right = window_size
    if left is not None and right is not None and left < 0 and right < 0:
        left = right = None
    return left, 0 if causal else right


def _refuse(**arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"the plain-torch flash contract does not model `{name}`")


def _widths(*tensors: Tensor) -> None:
    """FA2 and FA3 refuse wider heads on every GPU (FA2 2.8.3: read on an H100). FA4's limits depend on the GPU."""
    if (widest := max(tensor.shape[-1] for tensor in tensors)) > _WIDEST:
        raise ContractError(f"flash-attn supports head sizes up to {_WIDEST}, got {widest}")


def _whole(**lengths: object) -> None:
    """FA4 hands them to its compiler, which takes no tensors (4.0.0b36: read on an H200; transformers PR #48353)."""
    for name, given in lengths.items():
        if isinstance(given, Tensor):
            raise ContractError(f"flash-attn 4 takes {name} as an int, got a tensor")


def _fa2_terms(q: Tensor, v: Tensor, terms: Softmax) -> Softmax:
    _widths(q, v)
    if v.shape[-1] != q.shape[-1]:
        raise ContractError(f"FlashAttention-2 needs one head size, got {q.shape[-1]} for q and {v.shape[-1]} for v")
    if terms.softcap > 0 and terms.dropout > 0:
        raise ContractError("Softcapping does not support dropout for now")
    return terms


def fa2_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """`flash_attn.flash_attn_func` 2.8: (B, S, H, D), window inclusive with -1 unbounded, bottom-right."""
    terms = _fa2_terms(q, v, Softmax(softmax_scale, softcap, alibi_slopes, dropout=dropout_p))
    out, lse = contract.dense(q, k, v, *_integer_bounds(window_size, causal), terms)
    return (out, lse, None) if return_attn_probs else out


def fa2_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Tensor | None = None,
) -> Any:
    """`flash_attn.flash_attn_varlen_func` 2.8: (total, H, D) with int32 cumulative lengths that start at 0."""
    _refuse(block_table=block_table)
    terms = _fa2_terms(q, v, Softmax(softmax_scale, softcap, alibi_slopes, dropout=dropout_p))
    bounds = _integer_bounds(window_size, causal)
    out, lse = contract.varlen(q, k, v, (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k), *bounds, terms)
    return (out, lse, None) if return_attn_probs else out


def fa3_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: Tensor | None = None,
    q_descale: Tensor | None = None,
    k_descale: Tensor | None = None,
    v_descale: Tensor | None = None,
    window_size: tuple[int, int] = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    return_attn_probs: bool = False,
) -> Any:
    """`flash_attn_interface.flash_attn_func` (FA3): as FA2, without dropout and ALiBi."""
    _widths(q, v)
    _refuse(qv=qv, attention_chunk=attention_chunk or None)
    _refuse(q_descale=q_descale, k_descale=k_descale, v_descale=v_descale)
    out, lse = contract.dense(q, k, v, *_integer_bounds(window_size, causal), Softmax(softmax_scale, softcap))
    return (out, lse) if return_attn_probs else out


def fa3_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    seqused_q: Tensor | None = None,
    seqused_k: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: Tensor | None = None,
    q_descale: Tensor | None = None,
    k_descale: Tensor | None = None,
    v_descale: Tensor | None = None,
    window_size: tuple[int, int] = (-1, -1),
    attention_chunk: int = 0,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    return_attn_probs: bool = False,
) -> Any:
    """`flash_attn_interface.flash_attn_varlen_func` (FA3)."""
    _widths(q, v)
    _refuse(seqused_q=seqused_q, seqused_k=seqused_k, qv=qv, attention_chunk=attention_chunk or None)
    _refuse(q_descale=q_descale, k_descale=k_descale, v_descale=v_descale)
    bounds, terms = _integer_bounds(window_size, causal), Softmax(softmax_scale, softcap)
    out, lse = contract.varlen(q, k, v, (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k), *bounds, terms)
    return (out, lse) if return_attn_probs else out


def fa4_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    qv: Tensor | None = None,
    gather_kv_indices: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[Bound, Bound] = (None, None),
    learnable_sink: Tensor | None = None,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    score_mod: Callable[..., Any] | None = None,
    score_mod_bwd: Callable[..., Any] | None = None,
    mask_mod: Callable[..., Any] | None = None,
    aux_tensors: list[Tensor] | None = None,
    block_sparse_tensors: object = None,
    block_sparse_tensors_bwd: object = None,
    return_lse: bool = False,
) -> Any:
    """`flash_attn.cute.flash_attn_func` (FA4): None unbounded, sinks as one more logit a head, always (out, lse)."""
    _refuse(qv=qv, gather_kv_indices=gather_kv_indices, score_mod=score_mod, mask_mod=mask_mod)
    _refuse(block_sparse_tensors=block_sparse_tensors)
    terms = Softmax(softmax_scale, softcap, sinks=learnable_sink)
    return contract.dense(q, k, v, *_optional_bounds(window_size, causal), terms)


def fa4_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    qv: Tensor | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    min_seqlen_k: int | None = None,
    seqused_q: Tensor | None = None,
    seqused_k: Tensor | None = None,
    gather_kv_indices: Tensor | None = None,
    page_table: Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[Bound, Bound] = (None, None),
    learnable_sink: Tensor | None = None,
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    score_mod: Callable[..., Any] | None = None,
    score_mod_bwd: Callable[..., Any] | None = None,
    mask_mod: Callable[..., Any] | None = None,
    block_sparse_tensors: object = None,
    aux_tensors: list[Tensor] | None = None,
    return_lse: bool = False,
) -> Any:
    """`flash_attn.cute.flash_attn_varlen_func` (FA4), always (out, lse). Both cumulative lengths must be given."""
    if cu_seqlens_q is None or cu_seqlens_k is None:
        raise NotImplementedError("the plain-torch flash contract needs cu_seqlens_q and cu_seqlens_k")
    _refuse(qv=qv, seqused_q=seqused_q, seqused_k=seqused_k, gather_kv_indices=gather_kv_indices, page_table=page_table)
    _refuse(score_mod=score_mod, mask_mod=mask_mod, block_sparse_tensors=block_sparse_tensors)
    _whole(max_seqlen_q=max_seqlen_q, max_seqlen_k=max_seqlen_k)
    longest = (max_seqlen_q or q.shape[0], max_seqlen_k or k.shape[0])
    bounds, terms = _optional_bounds(window_size, causal), Softmax(softmax_scale, softcap, sinks=learnable_sink)
    return contract.varlen(q, k, v, (cu_seqlens_q, cu_seqlens_k), longest, *bounds, terms)


#: The contract behind each of transformers' names.
FUNCTIONS = {
    "flash_attention_2": Functions(fa2_dense, fa2_varlen),
    "flash_attention_3": Functions(fa3_dense, fa3_varlen),
    "flash_attention_4": Functions(fa4_dense, fa4_varlen),
}
