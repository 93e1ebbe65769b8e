"""The job "written": kernel calls with the arguments that a user wrote, beside what the model's layers declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from attncheck.probe.kernels import sparse
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.shape_calls import Setting, sinks, tensors
from attncheck.probe.kernels.shapes import read_or_refused
from attncheck.probe.kernels.subject import Refused, refusals, subject
from attncheck.probe.refusal import out_of_memory
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import NotRun
from attncheck.semantics.spec import Alignment, Window
from attncheck.semantics.written import AskedCall, Seen


def run(step: str, arguments: Mapping[str, Any]) -> Seen | NotRun:
    """Step: "<api>|<key of a call>". arguments: as of `subject`, with calls: key -> `AskedCall`, and backward (bool).

    Memory: what the kernel takes; where that is too much, one group of query heads is read. Raises what the library
    raises when it breaks; its refusals are outcomes.
    """
    name, _, key = step.partition("|")
    asked: AskedCall = arguments["calls"][key]
    try:
        return _seen(name, asked, arguments)
    except Exception as error:
        if not out_of_memory(error):
            raise
    group = asked.shape.num_heads // asked.shape.num_kv_heads
    torch.cuda.empty_cache()
    try:
        seen = _seen(name, replace(asked, shape=replace(asked.shape, num_heads=group, num_kv_heads=1)), arguments)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return NotRun(f"{asked.tokens} tokens with {group} heads do not fit into the device's memory")
    remark = f"one group of {group} query heads: all {asked.shape.num_heads} do not fit into the device's memory"
    told = "; ".join(filter(None, (remark, seen.reading.detail)))
    return replace(seen, reading=replace(seen.reading, shape=asked.shape, detail=told))


def _seen(name: str, asked: AskedCall, arguments: Mapping[str, Any]) -> Seen:
    tested = subject(name, {**arguments, "dtype": asked.shape.dtype})
    setting = Setting(tested, asked.shape, asked.queries, asked.tokens)
    given = dict(asked.arguments)
    if given.get("softmax_type") == "learnable":
        given["softmax_offset"] = sinks(setting)
    try:
        reading = read_or_refused(setting, given, bool(arguments.get("backward", True)))
        aligned = None
        if reading.outcome is Outcome.READ and asked.queries < asked.tokens:
            aligned = _aligned(setting, given, asked.means)
        return Seen(reading, aligned)
    finally:
        if tested.device == "cuda":
            torch.cuda.empty_cache()


def _aligned(setting: Setting, arguments: Mapping[str, Any], means: Window | None) -> Alignment | None:
    """The diagonal under which every chosen column is the window that the layers declare, or that the call means."""
    shape, device = setting.shape, setting.subject.device
    columns = sparse.plan(shape, setting.kv_len)
    query, key, value = tensors(setting, flat=True)
    try:
        with refusals(), torch.no_grad():
            output = setting.subject.bound(arguments)(query, key, sparse.marked_values(value, columns))
    except Refused:
        return None
    seen = output[0, :, :, : len(columns.keys)] > 0
    keys = torch.tensor(columns.keys, device=device)
    starts = {Alignment.BOTTOM_RIGHT: setting.kv_len - setting.q_len, Alignment.TOP_LEFT: 0}
    for window in (shape.window, means):
        found = [
            alignment
            for alignment, first in starts.items()
            if window is not None
            and bool(
                (
                    seen
                    == sparse.declared(
                        replace(shape, window=window), torch.arange(first, first + setting.q_len, device=device), keys
                    )
                ).all()
            )
        ]
        if len(found) == 1:
            return found[0]
    return None


JOB = KernelJob("written", run)
