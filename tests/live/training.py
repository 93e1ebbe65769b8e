"""Three training steps of a tiny model, and everything that could tell whether somebody looked in between."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from tests.live.live_models import model, padded

Wrap = Callable[[Any], Any]


@dataclass
class Trace:
    """What a run left behind: losses and gradients of each step, and the state at its end."""

    losses: list[torch.Tensor]
    tensors: dict[str, torch.Tensor]
    random: tuple[Any, ...]
    structure: dict[str, Any]


def wrapped(kind: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A model in one of the states in which users train: dropout everywhere."""
    torch.manual_seed(0)
    live = model("mistral", attention_dropout=0.1).to(device, dtype).train(kind != "eval")
    if kind == "lora":
        from peft import LoraConfig, get_peft_model

        return get_peft_model(live, LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"]))
    if kind == "checkpointing":
        live.gradient_checkpointing_enable()
    if kind == "reentrant checkpointing":
        live.gradient_checkpointing_enable({"use_reentrant": True})
        live.enable_input_require_grads()
    if kind == "compiled":
        return torch.compile(live)
    return live


def trained(live: Any, look: Callable[[Any, Any], object] | None, *, autocast: bool = False) -> Trace:
    """Three steps, gradients kept over two of them; `look(model, batch)` comes before each and before its backward."""
    device = next(live.parameters()).device.type
    optimizer = torch.optim.AdamW([p for p in live.parameters() if p.requires_grad], lr=1e-2)
    batch = {name: value.to(device) for name, value in padded().items()}
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for seed in (torch.manual_seed, random.seed, numpy.random.seed):
        seed(5)
    losses, tensors = [], {}
    for step in range(3):
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            if look is not None:
                look(live, batch)
            loss = live(**batch).loss
            if look is not None:
                look(live, batch)  # between forward and backward: saved tensors must stay valid
        loss.backward()
        losses.append(loss.detach().clone())
        tensors |= {f"{step}.grad.{name}": p.grad.clone() for name, p in live.named_parameters() if p.grad is not None}
        optimizer.step()
        if step:
            optimizer.zero_grad()
    tensors |= {name: value.detach().clone() for name, value in live.named_parameters()}
    tensors |= {f"buffer.{name}": value.clone() for name, value in live.named_buffers()}
    for number, held in enumerate(optimizer.state.values()):
        tensors |= {f"optimizer.{number}.{name}": value.clone() for name, value in held.items()}
    generators = (torch.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1].tolist())
    if device == "cuda":
        generators = (*generators, torch.cuda.get_rng_state().tolist())
    return Trace(losses, tensors, generators, structure(live))


def structure(live: Any) -> dict[str, Any]:
    """Plain attributes, hooks and flags of every module."""
    found: dict[str, Any] = {}
    for path, module in live.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | type(None))}
        plain.pop("_torchdynamo_wrapper_id", None)  # an address, another one in every run
        hooks = {k: len(v) for k, v in vars(module).items() if "hooks" in k and isinstance(v, dict)}
        found[path] = (plain, hooks, copy.copy(module.training), sorted(vars(module)))
    return found


def same(one: Trace, other: Trace) -> bool:
    """True when no bit tells the two apart."""
    return (
        all(map(torch.equal, one.losses, other.losses))
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())
        and one.random == other.random
        and one.structure == other.structure
    )
