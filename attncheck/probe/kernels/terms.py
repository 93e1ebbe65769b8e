"""Features that change what is computed: softmax terms, heads, dtypes, widths and the backward, against float64."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from attncheck.backends.interface import Ask
from attncheck.probe.kernels import launched
from attncheck.probe.kernels.accuracy import FACTOR, Deviation, deviation, plain
from attncheck.probe.kernels.identity import Tensors, tensors
from attncheck.probe.kernels.subject import NoBackward, Refused, Subject, refusals
from attncheck.probe.reading import gradients
from attncheck.probe.reading.kernel import Call, head_map
from attncheck.probe.reading.reference import Terms, interleaved, keep_tensor
from attncheck.semantics.convention import Ability, Outcome
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Basis, GradientObservation, Rejected
from attncheck.semantics.spec import CAUSAL, Window
from attncheck.semantics.tolerances import tolerances

#: Tokens of a call: no multiple of a kernel's tile, so that the last tile is a partial one; fewer on a CPU.
TOKENS, TOKENS_ON_CPU = 200, 72
#: A cap that bends logits of a standard deviation of 4 strongly: without it the probabilities are others altogether.
CAP, SPREAD = 5.0, 4.0
#: Window of the second backward, as in the convention table.
WINDOW = Window(8, 0)


def softcap(probed: Subject, _: str) -> Ability:
    """Whether a cap on large logits is applied."""
    given = _given(probed)
    given = replace(given, query=given.query * SPREAD)
    return _honoured(
        probed, "softcap", Ask(softcap=CAP), given, Terms(given.scale, softcap=CAP), {"cap": CAP, "spread": SPREAD}
    )


def sinks(probed: Subject, _: str) -> Ability:
    """Whether an extra logit a head takes its share of the probability."""
    given = _given(probed)
    values = torch.linspace(-1.0, 3.0, given.query.shape[1], device=probed.device, dtype=probed.dtype)
    return _honoured(probed, "sinks", Ask(sinks=values), given, Terms(given.scale, sinks=values))


def alibi(probed: Subject, _: str) -> Ability:
    """Whether `-slope * distance` is added to the scaled logits, with a slope of its own for each head."""
    given = _given(probed)
    heads = given.query.shape[1]
    slopes = torch.tensor([2.0 ** -(head + 1) for head in range(heads)], device=probed.device, dtype=torch.float32)
    places = torch.arange(given.query.shape[2], device=probed.device, dtype=torch.float64)
    bias = -slopes.double().view(1, -1, 1, 1) * (places[:, None] - places[None, :]).abs()
    return _honoured(probed, "alibi", Ask(slopes=slopes), given, Terms(given.scale, bias=bias))


def gqa(probed: Subject, _: str) -> Ability:
    """Which kv head each of 8 query heads reads when there are 2 kv heads; tried also where that is said to fail."""
    try:
        with refusals():
            return _gqa(replace(probed, grouped=True))
    except Refused as refused:
        if probed.grouped:
            raise
        detail = f"read with as many kv heads as query heads; with fewer: {refused}"
        return Ability(probed.api.name, "gqa", "no grouped heads: refused", Outcome.REFUSED, None, detail=detail)


def _gqa(probed: Subject) -> Ability:
    tokens = _tokens(probed)
    given = tensors(probed, tokens, tokens, num_heads=8, num_kv_heads=2)
    call = probed.asked(Ask(), tokens, tokens)
    with torch.no_grad():
        read = head_map(call, given.query, given.key, given.value)
        output = call(given.query, given.key, given.value)
    names = {interleaved(8, 2): "interleaved", tuple(head % 2 for head in range(8)): "tiled"}
    value = "not readable" if read is None else names.get(read, f"irregular: {', '.join(map(str, read))}")
    found = deviation(
        output, given.query, given.key, given.value, _causal(probed, tokens), Terms(given.scale, head_map=read)
    )
    agrees = value == "interleaved" and found.agrees
    return _ability(probed, "gqa", value, agrees, call, given, found)


def dtype(probed: Subject, variant: str) -> Ability:
    """Whether one dtype runs and is as exact as plain torch in it. variant: torch's short name."""
    changed = probed.using(getattr(torch, variant))
    return _plainly(changed, "dtype", variant, _given(changed))


def head_dim(probed: Subject, variant: str) -> Ability:
    """Whether one width runs and is right. variant: "64", or "192x128" for q and k of 192 and values of 128."""
    width, _, width_v = variant.partition("x")
    tokens = _tokens(probed)
    given = tensors(probed, tokens, tokens, head_dim=int(width), head_dim_v=int(width_v or width))
    return _plainly(probed, "head_dim", variant, given)


def backward(probed: Subject, _: str) -> Ability:
    """Gradients of a causal call, and of one with a window where the API has windows, against float64's.

    The window alone may be refused: then the causal call is the answer, and the refusal is added to it.
    """
    given = _given(probed)
    tokens = given.query.shape[2]
    call = probed.asked(Ask(), tokens, tokens)
    figures, seen = _judged(probed, "causal", call, given, CAUSAL)
    # The names now, not at the end: going back to an earlier call may mean compiling it again.
    causal = _ability(probed, "backward", "right", not seen, _with_backward(call), given, None, figures)
    if not _expressible(probed, Ask(window=WINDOW), tokens):
        return replace(causal, value="; ".join(seen) or "right")
    try:
        with refusals():
            call = probed.asked(Ask(window=WINDOW), tokens, tokens)
            further, wrong = _judged(probed, "window 8 back", call, given, WINDOW)
    except Refused as refused:
        value = f"{'; '.join(seen) or 'right (causal)'}; window: {refused.value}"
        return replace(causal, value=value, detail=f"window: {refused.value}: {refused}")
    value = "; ".join((*seen, *wrong)) or "right"
    return replace(causal, value=value, agrees=not seen and not wrong, figures={**causal.figures, **further})


def _judged(
    probed: Subject, name: str, call: Call, given: Tensors, window: Window
) -> tuple[dict[str, float | int | str], list[str]]:
    """The errors of dq, dk and dv with their limits, and those beyond their limit in words."""
    figures: dict[str, float | int | str] = {}
    seen = []
    keep = _keep(probed, given.query.shape[2], window)
    found, same = _gradients(probed, call, given, keep), _gradients(probed, _plain_call(given, keep), given, keep)
    for what in ("dq", "dk", "dv"):
        error = getattr(found, what)
        limit = max(FACTOR * getattr(same, what), tolerances(probed.dtype_name).gradient)
        figures |= {f"{name} {what}": error, f"{name} {what} limit": limit}
        if not error <= limit:
            seen.append(f"{name}: {what} {'holds NaN or Inf' if math.isnan(error) else f'off by {error:.2g}'}")
    return figures, seen


def _honoured(
    probed: Subject,
    feature: str,
    ask: Ask,
    given: Tensors,
    asked: Terms,
    extra: dict[str, float | int | str] | None = None,
) -> Ability:
    """Compare one call with the attention that has the term and with the one that has not."""
    tokens = given.query.shape[2]
    call, keep = probed.asked(ask, tokens, tokens), _causal(probed, tokens)
    with torch.no_grad():
        output = call(given.query, given.key, given.value)
    with_it = deviation(output, given.query, given.key, given.value, keep, asked)
    without = deviation(output, given.query, given.key, given.value, keep, Terms(given.scale))
    if without.agrees and not without.error > with_it.error:
        value, agrees = "ignored", False
    else:
        value, agrees = ("honoured", True) if with_it.agrees else ("wrong", False)
    figures = {**(extra or {}), "relative error without it": without.error}
    return _ability(probed, feature, value, agrees, call, given, with_it, figures)


def _plainly(probed: Subject, feature: str, variant: str, given: Tensors) -> Ability:
    """One causal call, compared with causal attention."""
    tokens = given.query.shape[2]
    call = probed.asked(Ask(), tokens, tokens)
    with torch.no_grad():
        output = call(given.query, given.key, given.value)
    found = deviation(output, given.query, given.key, given.value, _causal(probed, tokens), Terms(given.scale))
    return _ability(probed, feature, variant, found.agrees, call, given, found)


def _ability(
    probed: Subject,
    feature: str,
    value: str,
    agrees: bool,
    call: Call,
    given: Tensors,
    found: Deviation | None,
    figures: dict[str, float | int | str] | None = None,
) -> Ability:
    numbers = dict(figures or {})
    if found is not None:
        numbers |= {"relative error": found.error, "plain torch": found.plain, "limit": found.limit}
    names = launched.launched(lambda: call(given.query, given.key, given.value))
    kernel = launched.attention_kernel(names)
    if names:
        numbers |= {"kernel": kernel, "launched": "\n".join(names)}
    return Ability(
        probed.api.name,
        feature,
        value,
        Outcome.READ,
        Basis.MEASURED,
        agrees,
        launched.shortened(kernel),
        "" if agrees or found is None else found.words,
        numbers,
    )


def _gradients(probed: Subject, call: Call, given: Tensors, keep: Tensor) -> GradientObservation:
    rows = torch.ones((1, given.query.shape[2]), device=probed.device)

    def differentiable(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = call(query, key, value)
        if not output.requires_grad:
            raise NoBackward
        return output

    return gradients.compare(
        differentiable, given.query, given.key, given.value, keep, rows, Terms(given.scale), probed.seed
    )


def _with_backward(call: Call) -> Call:
    """The backward as well, so that its kernels are seen too."""

    def both(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [tensor.detach().clone().requires_grad_() for tensor in (query, key, value)]
            output = call(*leaves)
            gradients.backward(output, leaves, torch.ones_like(output))
        return output

    return both


def _plain_call(given: Tensors, keep: Tensor) -> Call:
    return lambda query, key, value: plain(query, key, value, keep, Terms(given.scale))


def _expressible(probed: Subject, ask: Ask, tokens: int) -> bool:
    return not isinstance(probed.api.spell(ask, tokens, tokens), Rejected)


def _tokens(probed: Subject) -> int:
    return TOKENS_ON_CPU if probed.on_cpu else TOKENS


def _given(probed: Subject) -> Tensors:
    return tensors(probed, _tokens(probed), _tokens(probed))


def _causal(probed: Subject, tokens: int) -> Tensor:
    return _keep(probed, tokens, CAUSAL)


def _keep(probed: Subject, tokens: int, window: Window) -> Tensor:
    left = tokens if window.left is None else window.left
    mask = KeepMask.from_rule(tokens, tokens, lambda i, j: j <= i and i - j <= left)
    return keep_tensor(mask, torch.device(probed.device))
