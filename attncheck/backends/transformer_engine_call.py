"""Calls TransformerEngine's DotProductAttention on torch tensors, and repeats the reasons it logs when it will not."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from attncheck.backends.interface import Attend

#: Arguments of the constructor; what is neither here nor below goes to forward.
_CONSTRUCTOR = (
    "attention_dropout",
    "attn_mask_type",
    "window_size",
    "bottom_right_diagonal",
    "softcap",
    "softmax_scale",
    "softmax_type",
)
_OURS = ("softmax_offset", "deterministic", "qkv_format")
#: Read by the constructor: 0 forbids nondeterministic kernels.
_NONDETERMINISTIC = "NVTE_ALLOW_NONDETERMINISTIC_ALGO"
_LOGGER = "DotProductAttention"
_NO_BACKEND = "No dot product attention backend"


class Reasons(logging.Handler):
    """Keeps what the last selection of a backend said against each of them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """A selection opens with its configuration; "Disabling ..." are the reasons."""
        text = " ".join(record.getMessage().split())
        if text.startswith("Running with config"):
            self.said.clear()
        elif text.startswith("Disabling"):
            self.said.append(text)

    def against(self, name: str) -> str:
        """The reasons that concern the API of that name, in TransformerEngine's words, "" for none.

        Those that only repeat the environment variables of this process are left out.
        """
        kind = name.removeprefix("te-")
        other = {"flash": r"FlashAttention [34]", "flash-4": r"FlashAttention [23]"}.get(kind, r"FlashAttention")
        own = {"fused": r"FusedAttention", "unfused": r"Unfused"}.get(kind, r"FlashAttention")
        found = (
            text.partition(". ")[0].rstrip(".")
            for text in self.said
            if "due to NVTE_" not in text
            and re.search(rf"{own}|all backends", text)
            and not re.match(rf"Disabling {other}\b", text)
        )
        return "; ".join(dict.fromkeys(found))


def attend(name: str, environment: Mapping[str, str]) -> Attend:
    """The callable of one backend; see `attncheck.backends.transformer_engine.load`."""
    wrong = [f"{key}={value}" for key, value in environment.items() if os.environ.get(key) != value]
    if wrong:
        raise RuntimeError(f"{name} needs a process that was started with {' '.join(wrong)}")
    import torch
    from transformer_engine.pytorch import DotProductAttention

    reasons = Reasons()
    # Before the first call: TransformerEngine adds a handler that writes to stderr to a logger that has none.
    logging.getLogger(_LOGGER).addHandler(reasons)
    modules: dict[Any, Any] = {}

    def module(q: Tensor, k: Tensor, v: Tensor, arguments: Mapping[str, Any]) -> Any:
        """The module for these shapes and arguments. It holds no weights but the sinks."""
        build = {key: arguments[key] for key in _CONSTRUCTOR if arguments.get(key) is not None}
        widths = q.shape[-1] if q.shape[-1] == v.shape[-1] else (q.shape[-1], v.shape[-1])
        build |= {"num_attention_heads": q.shape[1], "kv_channels": widths, "num_gqa_groups": k.shape[1]}
        deterministic = bool(arguments.get("deterministic"))
        build["qkv_format"] = arguments.get("qkv_format", "bshd")
        key = (tuple(sorted(build.items())), deterministic, q.device)
        if key not in modules:
            with variable(_NONDETERMINISTIC, "0" if deterministic else None):
                modules[key] = DotProductAttention(**build)
        return modules[key]

    def call(q: Tensor, k: Tensor, v: Tensor, **arguments: Any) -> Tensor:
        made = module(q, k, v, arguments)
        gradients = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        made.train(gradients or bool(arguments.get("attention_dropout")))
        if (sinks := arguments.get("softmax_offset")) is not None:
            with torch.no_grad():
                made.softmax_offset.copy_(sinks.reshape(made.softmax_offset.shape))
        rest = {key: value for key, value in arguments.items() if key not in (*_CONSTRUCTOR, *_OURS)}
        if (bias := rest.get("core_attention_bias")) is not None:
            full = (*(1,) * (4 - bias.dim()), *bias.shape)
            wanted = (full[0], q.shape[1], q.shape[2], k.shape[2])
            rest["core_attention_bias"] = bias.reshape(full).to(q.dtype).expand(wanted).contiguous()
        laid, back, lengths = layout(arguments, q, k)
        try:
            output = made(*(laid(tensor) for tensor in (q, k, v)), **{**lengths, **rest})
        except ValueError as error:
            if _NO_BACKEND not in str(error):
                raise
            why = reasons.against(name) or "it gives no reason"
            raise NotImplementedError(f"TransformerEngine drops {name} for this call: {why}") from error
        apart = output.shape[:1] if arguments.get("qkv_format") == "thd" else output.shape[:2]  # heads may be merged
        return back(output.reshape(*apart, q.shape[1], v.shape[3]))

    return call


def layout(
    arguments: Mapping[str, Any], q: Tensor, k: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], dict[str, Any]]:
    """(to TransformerEngine's layout, back from it, cumulative lengths) for `qkv_format`; ours is batch x heads x ...

    Lengths are told where the layout (thd) or the mask type (padding...) wants them; every sequence is full.
    """
    kind = arguments.get("qkv_format", "bshd")
    batch = q.shape[0]
    lengths: dict[str, Any] = {}
    if kind == "thd" or "padding" in str(arguments.get("attn_mask_type", "")):
        import torch

        for name, tensor in (("q", q), ("kv", k)):
            tokens = tensor.shape[2]
            steps = torch.arange(batch + 1, dtype=torch.int32, device=q.device) * tokens
            lengths |= {f"cu_seqlens_{name}": steps, f"max_seqlen_{name}": tokens}
    if kind == "sbhd":
        return lambda x: x.permute(2, 0, 1, 3).contiguous(), lambda x: x.permute(1, 2, 0, 3), lengths
    if kind == "thd":
        rows = q.shape[2]
        return (
            lambda x: x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3]).contiguous(),
            lambda x: x.reshape(batch, rows, x.shape[-2], x.shape[-1]).transpose(1, 2),
            lengths,
        )
    return lambda x: x.transpose(1, 2).contiguous(), lambda x: x.transpose(1, 2), lengths


@contextlib.contextmanager
def variable(name: str, value: str | None) -> Iterator[None]:
    """The environment variable set while the body runs; with None nothing is changed."""
    before = os.environ.get(name)
    if value is None:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
