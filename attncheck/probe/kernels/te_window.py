"""The job "te-window": one window number given to two kernels, and the cells that they then see differently."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attncheck.backends.interface import Ask
from attncheck.probe.kernels import launched
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.subject import Refused, Subject, laid_out, refusals, subject
from attncheck.probe.reading.kernel import Call
from attncheck.semantics.incident import WindowIncident
from attncheck.semantics.observation import Crashed, Reason, Rejected
from attncheck.semantics.spec import Window

#: The step that compares the two APIs, and the one that compares what the further APIs left behind.
PAIR, OTHERS = "pair", "others"
#: Factor on the usual scale 1/sqrt(head_dim) while masks are read: rows are then nearly uniform, and no visible key's
#: weight underflows float16, as many do at the published scale of 1.0. A mask does not depend on it.
FLAT = 1 / 16

#: How each API of the incident is asked for "the last n": its own arguments, and the words its user writes.
_ARGUMENTS: Mapping[str, Callable[[int, float], Mapping[str, Any]]] = {
    "flash-attn-2": lambda n, scale: {"causal": True, "window_size": (n, 0), "softmax_scale": scale},
    "cudnn-graph": lambda n, scale: {
        "diagonal_alignment": "TOP_LEFT",
        "diagonal_band_left_bound": n,
        "diagonal_band_right_bound": 0,
        "attn_scale": scale,
    },
}
_WORDS: Mapping[str, Callable[[int], str]] = {
    "flash-attn-2": lambda n: f"window_size=({n}, 0)",
    "cudnn-graph": lambda n: f"left_bound={n}, right_bound=0",
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """query, key, value: batch x heads x tokens x head_dim. scale: the softmax scale of the report."""

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float

    @property
    def usual(self) -> float:
        """1 / sqrt(head_dim)."""
        return 1 / math.sqrt(self.query.shape[-1])


class NotFinite(Exception):
    """A kernel gave NaN or Inf: nothing can be compared with that."""


def run(step: str, arguments: Mapping[str, Any]) -> WindowIncident | Mapping[str, float] | str | Rejected | Crashed:
    """One step. `PAIR`: the incident. The name of a further API: leaves its output in a file and gives its kernel's
    name. `OTHERS`: the largest difference of each pair of those, by "a - b".

    arguments: as of `subject`, with window, first, second (names of APIs), batch, length, heads, head_dim, scale and
    folder (of the files). All steps feed the same values.
    """
    try:
        with refusals():
            if step == PAIR:
                return incident(arguments)
            if step == OTHERS:
                return compared(str(arguments["folder"]))
            return left_behind(step, arguments)
    except Refused as refused:
        return Rejected((Reason(str(refused)),))
    except NotFinite as broken:
        return Crashed("exception", str(broken))


def incident(arguments: Mapping[str, Any]) -> WindowIncident:
    """Both APIs with the same number, then with one added to the second's; versions and remarks are the caller's."""
    first, second = (subject(str(arguments[name]), arguments) for name in ("first", "second"))
    window = int(arguments["window"])
    inputs = made(first, arguments)
    before, after = differences(first, second, inputs, window, inputs.scale)
    usual_before, usual_after = differences(first, second, inputs, window, inputs.usual)
    wide, wide_alike = visible(asked(first, window, inputs.usual * FLAT), inputs)
    same, same_alike = visible(asked(second, window, inputs.usual * FLAT), inputs)
    mended, mended_alike = visible(asked(second, window + 1, inputs.usual * FLAT), inputs)
    cells = wide ^ same
    distances = {query - key for query, key in cells.nonzero().tolist()}
    concerned = cells.any(-1).nonzero().flatten().tolist()
    names = first.api.name, second.api.name
    return WindowIncident(
        window,
        _shape(inputs, first.dtype_name),
        *names,
        before,
        after,
        usual_before,
        usual_after,
        cells=int(cells.sum()),
        distance=distances.pop() if len(distances) == 1 else None,
        first_query=concerned[0] if concerned else None,
        cells_after=int((wide ^ mended).sum()),
        kernels={one.api.name: _kernel(one, inputs, window) for one in (first, second)},
        exact=bool((cells == torch.ones_like(cells).tril(-window).triu(-window)).all()),
        heads_agree=wide_alike and same_alike and mended_alike,
        keys={name: int(mask[-1].sum()) for name, mask in zip(names, (wide, same))},
        words={
            names[0]: (_WORDS[names[0]](window), _WORDS[names[0]](window)),
            names[1]: (_WORDS[names[1]](window), _WORDS[names[1]](window + 1)),
        },
    )


def differences(first: Subject, second: Subject, inputs: Inputs, window: int, scale: float) -> tuple[float, float]:
    """Largest absolute difference of the outputs with the same number, and with one added to the second's."""
    output = attended(asked(first, window, scale), inputs, first.api.name)
    return tuple(  # type: ignore[return-value]
        difference(output, attended(asked(second, number, scale), inputs, second.api.name))
        for number in (window, window + 1)
    )


def asked(one: Subject, number: int, scale: float) -> Call:
    """The API with this number in its own words. Raises KeyError for an API that the incident is not about."""
    return one.bound(_ARGUMENTS[one.api.name](number, scale))


def attended(call: Call, inputs: Inputs, name: str) -> Tensor:
    """The output, batch x heads x tokens x head_dim. Raises `NotFinite`."""
    with torch.no_grad():
        output = call(inputs.query, inputs.key, inputs.value)
    if not bool(output.isfinite().all()):
        rows = int((~output.isfinite()).any(-1).any(1).sum())
        raise NotFinite(f"{name} gave NaN or Inf in {rows} of {output.shape[0] * output.shape[2]} rows")
    return output


def difference(left: Tensor, right: Tensor) -> float:
    """Largest absolute difference, in float32."""
    return max(float((one.float() - other.float()).abs().max()) for one, other in zip(left, right))


def visible(call: Call, inputs: Inputs) -> tuple[Tensor, bool]:
    """(keys with weight, tokens x tokens of booleans, of the first head; every head and batch row shows the same).

    Values are slices of the identity matrix: output column c of a call is the weight of key `first + c`. Raises
    `NotFinite`.
    """
    tokens, width = inputs.value.shape[2:]
    mask = torch.zeros((tokens, tokens), dtype=torch.bool, device=inputs.value.device)
    alike = True
    for first in range(0, tokens, width):
        value = torch.zeros_like(inputs.value)
        torch.diagonal(value[:, :, first:, :], dim1=-2, dim2=-1).fill_(1)
        seen = attended(call, Inputs(inputs.query, inputs.key, value, inputs.scale), "the mask reading") > 0
        seen = seen[..., : min(width, tokens - first)]
        mask[:, first : first + width] = seen[0, 0]
        alike = alike and bool((seen == seen[0, 0]).all())
    return mask, alike


def made(one: Subject, arguments: Mapping[str, Any]) -> Inputs:
    """Standard normal inputs, drawn on the CPU so that every process and GPU gets the same."""
    shape = tuple(int(arguments[name]) for name in ("batch", "heads", "length", "head_dim"))
    generator = torch.Generator().manual_seed(one.seed)
    drawn = (torch.randn(shape, generator=generator).to(one.device, one.dtype) for _ in range(3))
    query, key, value = (laid_out(tensor, one.api.layout) for tensor in drawn)
    return Inputs(query, key, value, float(arguments["scale"]))


def left_behind(name: str, arguments: Mapping[str, Any]) -> str:
    """Run a further API on the same values with the window `Window(number, 0)` and keep its output; its kernel."""
    one = subject(name, arguments)
    inputs = made(one, arguments)
    length, window = inputs.query.shape[2], int(arguments["window"])
    call = one.asked(Ask(Window(window, 0), scale=inputs.scale), length, length)
    output = attended(call, inputs, name)
    torch.save(output.cpu(), os.path.join(str(arguments["folder"]), f"{name}.pt"))
    return _kernel_of(call, inputs)


def compared(folder: str) -> Mapping[str, float]:
    """Each pair of outputs in that folder, in order of name."""
    outputs = {
        name.removesuffix(".pt"): torch.load(os.path.join(folder, name), weights_only=True)
        for name in sorted(os.listdir(folder))
    }
    return {f"{a} - {b}": difference(outputs[a], outputs[b]) for a, b in itertools.combinations(outputs, 2)}


def _kernel(one: Subject, inputs: Inputs, window: int) -> str:
    return _kernel_of(asked(one, window, inputs.scale), inputs)


def _kernel_of(call: Call, inputs: Inputs) -> str:
    with torch.no_grad():
        names = launched.launched(lambda: call(inputs.query, inputs.key, inputs.value))
    return launched.shortened(launched.attention_kernel(names))


def _shape(inputs: Inputs, dtype: str) -> str:
    batch, heads, length, head_dim = inputs.query.shape
    return f"batch {batch}, {length} tokens, {heads} heads, head_dim {head_dim}, {dtype}, softmax_scale {inputs.scale}"


JOB = KernelJob("te-window", run)
