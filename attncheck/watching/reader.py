"""Makes the record of one live call: which kernel ran, what it was asked, what it let each query see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.inside.reader import Unreadable
from attncheck.probe.randomness import random_state_kept
from attncheck.probe.reading.kernel import broken_rows
from attncheck.probe.reading.requested import kind
from attncheck.semantics.watched import Tokens, WatchedCall
from attncheck.watching import asked, cells
from attncheck.watching.apis import Ask
from attncheck.watching.cells import Shape
from attncheck.watching.context import Context, tokens

#: torch/_C/_SDPBackend: what its own dispatch answers.
_SDPA_KERNELS = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn", 4: "overrideable"}
#: Kernels that a profiler is asked for, over a whole process: starting it takes a while.
_PROFILED = 8


@dataclass(slots=True)
class Reader:
    """Reads calls. profiled: how many of them a profiler has been asked about."""

    profiled: int = 0

    def read(self, call: WatchedCall, ask: Ask, context: Context, output: Any, *, measure: bool) -> WatchedCall:
        """The record, complete. Never raises: what could not be read stands in `unread`.

        measure: also repeat the call with marked values; without it, only facts are recorded.
        """
        try:
            shape = cells.shape_of(ask)
        except Exception as error:
            return replace(call, unread=f"not understood: {said(error)}")
        call = self._facts(call, ask, shape, output)
        reason = ask.why_not or ("" if measure else "only facts were asked for")
        if reason:
            return replace(call, unread=reason)
        try:
            with torch.no_grad(), random_state_kept(ask.query.device):
                return self._measured(call, ask, shape, context)
        except Unreadable as error:
            return replace(call, unread=str(error))
        except Exception as error:
            return replace(call, unread=f"the repeated call failed: {said(error)}")

    def _facts(self, call: WatchedCall, ask: Ask, shape: Shape, output: Any) -> WatchedCall:
        """What the call's own tensors say."""
        found = {
            "query": tuple(ask.query.shape),
            "key": tuple(ask.key.shape),
            "value": tuple(ask.value.shape),
            "q_len": shape.queries,
            "kv_len": shape.keys,
            "num_heads": shape.heads,
            "dtype": str(ask.query.dtype).removeprefix("torch."),
            "device": ask.query.device.type,
            "mask_kind": _kind(ask),
            "is_causal": ask.is_causal,
            "window": "" if ask.window is None else str(ask.window[0] if len(ask.window) == 1 else ask.window),
            "scale": ask.scale,
            "softcap": ask.softcap,
            "dropout": ask.dropout,
        }
        call = replace(call, **found)
        try:
            with torch.no_grad():
                hides = asked.hides(ask.mask)
                return replace(
                    call,
                    mask_hides=hides,
                    mask_values=() if hides else asked.values(ask.mask),
                    nan_rows=_nan_rows(ask, output),
                    hidden_keys_used=_hidden_keys_used(ask, shape),
                    segments=_segments(ask),
                )
        except Exception as error:
            return replace(call, unread=f"its tensors could not be read: {said(error)}")

    def _measured(self, call: WatchedCall, ask: Ask, shape: Shape, context: Context) -> WatchedCall:
        asked.flat_enough(ask, shape)
        rows = tuple(sorted({0, _most_padded(ask, shape, context)}))
        chosen = cells.chosen(shape, rows, int(ask.value.shape[-1]))
        seen = cells.seen(ask, shape, chosen)
        call = replace(
            call,
            rows=rows,
            seen=seen,
            asked=asked.requested(ask, shape, chosen, seen),
            launched=call.launched or self._launched(ask),
        )
        try:
            return replace(call, tokens=tokens(context, rows, shape.batch, call.part))
        except Exception as error:
            return replace(call, tokens=Tokens(remarks=(f"the model's inputs were not understood: {said(error)}",)))

    def _launched(self, ask: Ask) -> str:
        """The CUDA kernel of the call, as a profiler sees it; "" on a CPU, or where the script itself is profiling."""
        if ask.query.device.type != "cuda" or self.profiled >= _PROFILED or torch._C._autograd._profiler_enabled():
            return ""
        self.profiled += 1
        from attncheck.probe.kernels import launched

        query, key, value = (torch.zeros_like(given) for given in (ask.query, ask.key, ask.value))
        assert ask.repeat is not None
        repeat = ask.repeat
        return launched.attention_kernel(launched.launched(lambda: repeat(query, key, value)))


def sdpa_kernel(ask: Ask) -> str:
    """The kernel that torch's own dispatch picks for a call of its own attention function; "" if it will not say."""
    choose: Callable[..., int] | None = getattr(torch, "_fused_sdp_choice", None)
    if choose is None or not isinstance(ask.query, Tensor):
        return ""
    grouped = {"enable_gqa": True} if ask.query.dim() > 2 and ask.query.shape[-3] != ask.key.shape[-3] else {}
    try:
        number = choose(
            ask.query, ask.key, ask.value, ask.mask, ask.dropout, bool(ask.is_causal), scale=ask.scale, **grouped
        )
    except Exception:  # a private function: its arguments may change with a release
        return ""
    return _SDPA_KERNELS.get(int(number), "")


def untouchable(values: Iterable[Any]) -> str:
    """Why a call must be left alone here and now, "" when it may be looked at.

    values: its arguments. Under a trace or a transform even a comparison of two sizes would become part of the graph.
    """
    if torch._C._get_tracing_state() is not None:
        return "it is being traced"
    if torch._C._len_torch_dispatch_stack() or _function_modes():
        return "the script itself looks at every operation (a torch mode is active)"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "it runs under a function transform (vmap, grad)"
    for value in values:
        kind = type(value)
        if kind is not Tensor and kind is not torch.nn.Parameter and hasattr(kind, "__torch_function__"):
            return f"its tensors are of a class of their own ({kind.__name__})"
        if kind is Tensor and value.device.type == "meta":
            return "its tensors hold no data"
        if kind is Tensor and value.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return "a CUDA graph is being captured"
    return ""


def _function_modes() -> bool:
    """True for modes that see operations. `torch.device` as a context only says where tensors are made."""
    if not torch._C._len_torch_function_stack():
        return False
    modes: Any = getattr(torch.overrides, "_get_current_function_mode_stack", lambda: [None])()
    return any(type(mode).__name__ != "DeviceContext" for mode in modes)


def said(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _kind(ask: Ask) -> str:
    """As in `Requested`; kernel libraries take 2D masks for dense ones, transformers for padding."""
    if isinstance(ask.mask, Tensor) and ask.mask.dim() == 2 and ask.api.name != "transformers":
        return kind(ask.mask[None])
    return kind(ask.mask)


def _nan_rows(ask: Ask, output: Any) -> tuple[int, int, int] | None:
    """(batch row, query, how many rows) of NaN or Inf in the output, None without any or with broken inputs."""
    result = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(result, Tensor) or type(result) is not Tensor or bool(result.isfinite().all()):
        return None
    if not all(bool(given.isfinite().all()) for given in (ask.query, ask.key, ask.value)):
        return None
    rows = broken_rows(cells.heads_first(result.detach(), ask.api.layout))
    return (*rows[0], len(rows)) if rows else None


def _hidden_keys_used(ask: Ask, shape: Shape) -> bool | None:
    """Whether the keys beyond the first queries hold anything, where torch's is_causal hides them from every query."""
    if ask.api.name != "sdpa" or not ask.is_causal or shape.keys <= shape.queries:
        return None
    return bool(ask.key[..., shape.queries :, :].any())


def _segments(ask: Ask) -> tuple[tuple[int, int], ...]:
    """(queries, keys) of each packed sequence; at most the first 64."""
    if ask.segments is None or any(not isinstance(ends, Tensor) for ends in ask.segments):
        return ()
    lengths = [ends[:65].diff().tolist() for ends in ask.segments]
    return tuple((int(q), int(k)) for q, k in zip(*lengths))


def _most_padded(ask: Ask, shape: Shape, context: Context) -> int:
    """The batch row with the most padding, by the model's own 2D mask, else by the mask of the call."""
    given = context.batch.get("attention_mask")
    if isinstance(given, Tensor) and given.dim() == 2 and given.shape[0] == shape.batch:
        return int(given.sum(-1).argmin())
    return asked.emptiest(asked.dense(ask.mask, shape, ask.api.layout), shape) if isinstance(ask.mask, Tensor) else 0
