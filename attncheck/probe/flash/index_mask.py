"""Reads index masks (1, 1, 2, 2, 0) where flash attention's inputs are unpadded, as packing trainers make it do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def index_masks_read() -> Iterator[None]:
    """While it lasts, transformers' own `_get_unpad_data` is replaced by `unpad_data`.

    LLaMA-Factory 0.9.2 to 0.9.4 does this for good (`configure_packing`). Nothing happens before transformers 4.43,
    where every model file has such a function of its own.
    """
    try:
        from transformers import modeling_flash_attention_utils as utils
    except ImportError:
        yield
        return
    original = utils._get_unpad_data
    utils._get_unpad_data = unpad_data
    try:
        yield
    finally:
        utils._get_unpad_data = original


def unpad_data(attention_mask: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(indices of the kept tokens, cumulative document lengths with a leading 0 as int32, longest document).

    attention_mask: (rows, length), the number of the document from 1, 0 for padding. Lengths are counted in the mask's
    own dtype, as LLaMA-Factory's function counts them: of a mask that was cast to bool on its way here nothing is left
    but that there is something.
    """
    most = int(attention_mask.max())
    lengths = torch.zeros((len(attention_mask), most), dtype=attention_mask.dtype, device=attention_mask.device)
    for number in range(most):
        lengths[:, number] = (attention_mask == number + 1).sum(dim=-1)
    lengths = lengths.flatten()
    lengths = lengths[lengths.nonzero().squeeze(dim=-1)]
    kept = torch.nonzero(attention_mask.flatten()).flatten()
    ends = torch.nn.functional.pad(torch.cumsum(lengths, dim=0, dtype=torch.int32), (1, 0))
    return kept, ends, int(lengths.max())
