"""Whether the same call gives bitwise the same output and gradients again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attncheck.backends.interface import Ask
from attncheck.probe.kernels.identity import Tensors, tensors
from attncheck.probe.kernels.subject import NoBackward, Refused, Subject, refusals
from attncheck.probe.reading import gradients
from attncheck.probe.reading.kernel import Call
from attncheck.semantics.convention import Ability, Outcome
from attncheck.semantics.observation import Basis, Rejected

REPETITIONS = 5
#: Long enough that blocks of keys are summed into dq by many workers at once; a CPU kernel shows nothing by its length.
TOKENS, TOKENS_ON_CPU = 1024, 96
NUM_HEADS, NUM_KV_HEADS = 8, 2

Run = tuple[Tensor, ...]


def determinism(probed: Subject, _: str) -> Ability:
    """Five runs of forward and backward, compared bit for bit; then with the deterministic switch, if there is one."""
    tokens = TOKENS_ON_CPU if probed.on_cpu else TOKENS
    given = tensors(probed, tokens, tokens, num_heads=NUM_HEADS, num_kv_heads=NUM_KV_HEADS, batch=2)
    usual = probed.arguments(Ask(), tokens, tokens)
    strict = probed.api.spell(Ask(deterministic=True), tokens, tokens)
    figures: dict[str, float | int | str] = {"repetitions": REPETITIONS, "tokens": tokens}
    forward = spread([_forward(probed.bound(usual), given) for _ in range(REPETITIONS)])
    figures |= {"forward": _word(forward), "forward difference": forward}
    parts, notes = [f"forward: {_word(forward)}"], []
    backward, refusal = _backwards(probed.bound(usual), given)
    if backward is None:
        parts.append("no backward")
        notes.append(refusal)
    else:
        figures |= {"backward": _word(backward), "backward difference": backward}
        parts.append(f"backward: {_word(backward)}")
    if not isinstance(strict, Rejected) and (switch := switched(usual, strict)):
        figures["switch"] = switch
        again, refusal = _backwards(probed.bound(strict), given)
        parts.append(f"backward with {switch}: {'refused' if again is None else _word(again)}")
        if again is None:
            notes.append(refusal)
        else:
            figures |= {"backward with the switch": _word(again), "difference with the switch": again}
    return Ability(
        probed.api.name,
        "determinism",
        "; ".join(parts),
        Outcome.READ,
        Basis.MEASURED,
        detail="; ".join(filter(None, notes)),
        figures=figures,
    )


def spread(runs: list[Run]) -> float:
    """Largest difference of any run from the first; 0.0 only where all bits are equal."""
    worst = 0.0
    for run in runs[1:]:
        for first, again in zip(runs[0], run):
            if not torch.equal(_bits(first), _bits(again)):
                difference = float((first.double() - again.double()).abs().nan_to_num(float("inf")).max())
                worst = max(worst, difference, torch.finfo(torch.float64).tiny)
    return worst


def switched(usual: Mapping[str, Any], strict: Mapping[str, Any]) -> str:
    """The arguments of the deterministic call that the usual one has not, as written in Python; "" for none."""
    changed = [
        f"{name}={value!r}"
        for name, value in strict.items()
        if isinstance(value, (bool, int, str)) and usual.get(name) != value
    ]
    return ", ".join(changed)


def _backwards(call: Call, given: Tensors) -> tuple[float | None, str]:
    """The spread of the gradients, or None and why there are none."""
    try:
        with refusals():
            return spread([_backward(call, given) for _ in range(REPETITIONS)]), ""
    except Refused as refused:
        return None, str(refused)


def _forward(call: Call, given: Tensors) -> Run:
    with torch.no_grad():
        return (call(given.query, given.key, given.value).clone(),)


def _backward(call: Call, given: Tensors) -> Run:
    with torch.enable_grad():
        leaves = given.leaves()
        output = call(*leaves)
        if not output.requires_grad:
            raise NoBackward
        upstream = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=torch.float32)
        return gradients.backward(output, leaves, upstream.view(output.shape).to(output.dtype))


def _bits(tensor: Tensor) -> Tensor:
    """NaN equals NaN when it is the same bits."""
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(sizes[tensor.element_size()])


def _word(difference: float) -> str:
    return "the same every time" if difference == 0.0 else "differs"
