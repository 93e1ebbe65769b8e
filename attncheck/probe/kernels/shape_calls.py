"""The calls of a probe at true sizes: what an API is fed, in its layout and its own words, and what is judged of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attncheck.backends.interface import Ask
from attncheck.backends.masks import Biased, Drawn
from attncheck.probe.kernels import rows, sparse
from attncheck.probe.kernels.subject import Inexpressible, Subject
from attncheck.probe.reading.reference import Terms
from attncheck.semantics.shape import Shape
from attncheck.semantics.tolerances import RAISED

#: Queries of a call when a dense mask, or a kernel that holds all logits, does not fit with all of them.
BLOCK = 256
#: Largest dense mask that is made, in cells (one byte each as booleans; kernels that want a bias make it 2 or 4).
MASK_CELLS = 1 << 28
#: Queries that are compared with float64.
ROWS = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """One attempt. q_len, kv_len: tokens. masked: hand over the mask as a tensor. left_out: terms not asked for."""

    subject: Subject
    shape: Shape
    q_len: int
    kv_len: int
    masked: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def asked(self) -> Shape:
        """The shape without what is left out."""
        gone, shape = self.left_out, self.shape
        return replace(
            shape,
            sinks=shape.sinks and "sinks" not in gone,
            softcap=None if "softcap" in gone else shape.softcap,
            alibi=shape.alibi and "alibi" not in gone,
            chunk=None if "chunk" in gone else shape.chunk,
        )


def spelled(setting: Setting) -> tuple[Setting, Mapping[str, Any]]:
    """The setting as the API can express it, and its arguments. Raises Inexpressible when it has no words even for the
    bare mask. Terms it has no argument for are left out; a window it has none for is handed over as a mask tensor.
    """
    shape = setting.shape
    declared = {
        "sinks": shape.sinks,
        "softcap": shape.softcap is not None,
        "alibi": shape.alibi,
        "chunk": shape.chunk is not None,
    }
    terms = tuple(term for term, there in declared.items() if there)
    told = Inexpressible("")
    for left_out in dict.fromkeys(((), *((term,) for term in terms), terms)):
        for masked in (True,) if setting.masked else (False, True):
            if "chunk" in terms and "chunk" not in left_out and not masked:
                continue  # only a mask says where chunks end
            attempt = _fitted(replace(setting, masked=masked, left_out=left_out))
            try:
                arguments = spell(attempt)
            except Inexpressible as error:
                told = error
                continue
            if masked or not any(isinstance(value, Drawn | Biased) for value in arguments.values()):
                return attempt, arguments  # a mask that the API draws by itself might not fit into memory
    raise told


def _fitted(setting: Setting) -> Setting:
    """Fewer queries where a dense mask of all would be too large."""
    if setting.masked and setting.q_len * setting.kv_len > MASK_CELLS:
        return replace(setting, q_len=min(BLOCK, setting.q_len))
    return setting


def tensors(setting: Setting, flat: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v as views of tensors that lie in the API's layout; scaled logits near N(0, 1), or all 0 when `flat`.

    With a softcap every logit is raised by 16, which softmax cannot see but the cap can.
    """
    tested, shape = setting.subject, setting.asked
    generator = torch.Generator(tested.device).manual_seed(tested.seed)
    scale = _scale(shape)
    size = 0.0 if flat else math.sqrt(1 / (abs(scale) * math.sqrt(shape.head_dim)))

    def normal(heads: int, tokens: int, width: int, factor: float = 1.0) -> Tensor:
        inner = (heads, tokens) if tested.api.layout == "bhsd" else (tokens, heads)
        made = torch.randn((1, *inner, width), generator=generator, device=tested.device, dtype=tested.dtype)
        made = made * factor
        return made if tested.api.layout == "bhsd" else made.transpose(1, 2)

    query = normal(shape.num_heads, setting.q_len, shape.head_dim, size)
    key = normal(shape.num_kv_heads, setting.kv_len, shape.head_dim, size)
    if shape.softcap is not None and not flat:
        query[..., 0] = 4.0
        key[..., 0] = RAISED / (scale * 4.0)
    return query, key, normal(shape.num_kv_heads, setting.kv_len, shape.head_dim_v)


def spell(setting: Setting) -> Mapping[str, Any]:
    """The API's own words. Raises Inexpressible."""
    shape = setting.asked
    ask = Ask(
        window=shape.window,
        scale=shape.scale,
        softcap=shape.softcap,
        sinks=sinks(setting) if shape.sinks else None,
        slopes=_slopes(setting) if shape.alibi else None,
        mask=_mask(setting) if setting.masked else None,
    )
    return setting.subject.arguments(ask, setting.q_len, setting.kv_len)


def _mask(setting: Setting) -> Tensor:
    """1 x 1 x queries x keys booleans of the last queries."""
    device = setting.subject.device
    queries = torch.arange(setting.kv_len - setting.q_len, setting.kv_len, device=device)
    return sparse.declared(setting.asked, queries, torch.arange(setting.kv_len, device=device))[None, None]


def sinks(setting: Setting) -> Tensor:
    """One logit a query head."""
    tested = setting.subject
    generator = torch.Generator(tested.device).manual_seed(tested.seed + 1)
    return torch.randn(setting.shape.num_heads, generator=generator, device=tested.device, dtype=tested.dtype)


def _slopes(setting: Setting) -> Tensor:
    """2^(-8 h / heads) for h = 1 .. heads (Press et al. 2021, for powers of two), float32."""
    heads = setting.shape.num_heads
    steps = torch.arange(1, heads + 1, device=setting.subject.device, dtype=torch.float32)
    return torch.exp2(-8.0 * steps / heads)


def _scale(shape: Shape) -> float:
    return shape.scale if shape.scale is not None else shape.head_dim**-0.5


def chosen_rows(setting: Setting, output: Tensor) -> rows.Chosen:
    """The queries to judge in `output`, batch x heads x queries x head_dim_v, with what a reference needs to know."""
    shape, device = setting.asked, output.device
    absolute = sparse.interesting_rows(shape, setting.q_len, setting.kv_len, ROWS)
    queries = torch.tensor(absolute, device=device)
    keys = torch.arange(setting.kv_len, device=device)
    bias = None
    if shape.alibi:
        distance = (queries[:, None] - keys[None, :]).abs().double()
        bias = -_slopes(setting).double().view(1, -1, 1, 1) * distance
    generator = torch.Generator(setting.subject.device).manual_seed(setting.subject.seed + 2)
    upstream = torch.randn(
        (*output.shape[:2], len(absolute), output.shape[3]), generator=generator, device=device, dtype=output.dtype
    )
    terms = Terms(_scale(shape), shape.softcap, bias, sinks(setting) if shape.sinks else None)
    return rows.Chosen(
        queries - (setting.kv_len - setting.q_len), sparse.declared(shape, queries, keys), upstream, terms
    )
