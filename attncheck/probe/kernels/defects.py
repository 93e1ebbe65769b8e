"""The job "defects": calls under which a kernel is known to have gone wrong, made here and compared with float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from attncheck.backends.interface import Ask
from attncheck.probe.kernels.accuracy import deviation
from attncheck.probe.kernels.identity import tensors
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.subject import Inexpressible, Refused, Subject, refusals, subject
from attncheck.probe.reading.reference import Terms
from attncheck.semantics.convention import Ability, Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import FULL

#: pytorch#196678: a length with length % 128 == 64, and logits so low that every row's log-sum-exp lies below
#: -88.7 = ln(smallest normal float32).
BACKWARD_TOKENS, BACKWARD_LOGIT = 704, -120.0
#: pytorch#193893: head counts of the two models that were seen wrong (12 on 2, 28 on 4), and of one that was not.
HEADS = ((12, 2), (28, 4), (40, 8))
DECODE_HEAD_DIM, DECODE_BATCH = 128, 8
#: Keys in the cache while decoding; the report saw texts diverge after tens to hundreds of tokens.
DECODE_LENGTHS = (33, 65, 128, 200, 333, 704, 1025)
MASK_TOKENS = 64


def masked_backward(probed: Subject) -> Ability:
    """Gradients with an explicit causal mask, where every logit of a row lies near -120."""
    length, width = BACKWARD_TOKENS, 64
    given = tensors(probed, length, length, head_dim=width, num_heads=1, num_kv_heads=1)
    query, key = given.query * 0.1, given.key * 0.1
    query[..., 0], key[..., 0] = 1.0, BACKWARD_LOGIT / given.scale
    leaves = [tensor.detach().requires_grad_() for tensor in (query, key, given.value)]
    keep = torch.ones(length, length, dtype=torch.bool, device=probed.device).tril()[None, None]
    output = probed.asked(Ask(window=FULL, mask=keep), length, length)(*leaves)
    output.backward(torch.ones_like(output))
    broken = {
        name: int((~leaf.grad.isfinite()).sum())
        for name, leaf in zip(("dq", "dk", "dv"), leaves)
        if leaf.grad is not None
    }
    named = ", ".join(f"{count} entries of {name}" for name, count in broken.items() if count)
    return _ability(
        probed,
        "masked-backward-704",
        "finite gradients" if not named else "NaN or Inf in the gradients",
        not named,
        f"{named} are NaN or Inf at {length} tokens" if named else "",
        {"tokens": length, "logits": BACKWARD_LOGIT, **broken},
    )


def few_kv_heads(probed: Subject) -> Ability:
    """One query on a growing cache, with head counts that were seen to go wrong and one that was not."""
    lengths = DECODE_LENGTHS[:3] if probed.on_cpu else DECODE_LENGTHS
    worst, limit, wrong = 0.0, 0.0, []
    for heads, kv_heads in HEADS:
        for kv_len in lengths:
            given = tensors(
                probed,
                1,
                kv_len,
                head_dim=DECODE_HEAD_DIM,
                num_heads=heads,
                num_kv_heads=kv_heads,
                batch=DECODE_BATCH,
            )
            with torch.no_grad():
                output = probed.asked(Ask(window=FULL), 1, kv_len)(given.query, given.key, given.value)
            found = deviation(output, given.query, given.key, given.value, None, Terms(given.scale))
            worst, limit = max(worst, found.error), max(limit, found.limit)
            if not found.agrees:
                wrong.append(f"{heads} on {kv_heads} heads, {kv_len} keys: {found.words}")
    return _ability(
        probed,
        "few-kv-heads",
        "right" if not wrong else "wrong",
        not wrong,
        f"{wrong[0]} ({len(wrong)} of {len(HEADS) * len(lengths)} cases)" if wrong else "",
        {"cases": len(HEADS) * len(lengths), "relative error": worst, "limit": limit},
    )


def float32_mask(probed: Subject) -> Ability:
    """A causal float32 mask, added to half-precision logits."""
    given = tensors(probed, MASK_TOKENS, MASK_TOKENS)
    keep = torch.ones(MASK_TOKENS, MASK_TOKENS, dtype=torch.bool, device=probed.device).tril()
    mask = torch.zeros(keep.shape, device=probed.device).masked_fill(~keep, -torch.inf)
    # Handed over as a function: a tensor would be cast to the dtype of the queries on the way, as it should be.
    call = probed.bound({"attn_mask": lambda query, key: mask})
    with torch.no_grad():
        output = call(given.query, given.key, given.value)
    found = deviation(output, given.query, given.key, given.value, keep, Terms(given.scale))
    return _ability(
        probed,
        "float32-mask",
        "right" if found.agrees else "wrong",
        found.agrees,
        "" if found.agrees else found.words,
        {"relative error": found.error, "limit": found.limit},
    )


def _ability(
    probed: Subject, feature: str, value: str, agrees: bool, detail: str, figures: Mapping[str, float | int | str]
) -> Ability:
    return Ability(
        probed.api.name, feature, value, Outcome.READ, Basis.MEASURED, agrees, detail=detail, figures=figures
    )


#: Step -> what it calls. Each answers an `Ability` of that feature.
STEPS: Mapping[str, Callable[[Subject], Ability]] = {
    "masked-backward-704": masked_backward,
    "few-kv-heads": few_kv_heads,
    "float32-mask": float32_mask,
}


def run(step: str, arguments: Mapping[str, Any]) -> Ability:
    """Make the calls of one step. arguments: as of `subject`, and `api`, the API to call.

    Raises what the call raises unless it is a refusal, and KeyError for an unknown step.
    """
    name = str(arguments["api"])
    probed = subject(name, arguments)
    try:
        with refusals():
            return STEPS[step](probed)
    except (Inexpressible, Refused) as refused:
        return Ability(name, step, "refused", Outcome.REFUSED, None, detail=str(refused))


JOB = KernelJob("defects", run)
