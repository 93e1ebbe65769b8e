"""Whose attention a live call is, and what its model was fed: read from the Python frames above the call."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from attncheck.probe.inside import batches
from attncheck.probe.inside.unwrap import config_of, learned_prompts
from attncheck.probe.reading.place import Places
from attncheck.semantics.spec import Part
from attncheck.semantics.watched import Tokens

#: Frames that are looked at: from an attention function to the model's own forward there are about 20.
_DEEPEST = 100
_TOKENS = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")
#: Functions of models. Before Python 3.13 a frame whose locals have been looked at keeps them until it ends: those of a
#: training loop would live as long as the training.
_OF_MODELS = ("forward", "generate")
#: Longer sequences are not laid out token by token.
_LONGEST = 65_536


@dataclass(slots=True)
class Root:
    """A model with a config: its modules' places, and its number in the record. model: a weak reference to it."""

    model: Any
    number: int
    places: Places
    paths: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """Where a call comes from. where: "model.py:41 in forward". batch: arguments of the root's forward call."""

    where: str = ""
    module: Any = None
    root: Root | None = None
    batch: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The module's path in its model, else its class's name, "" without a module."""
        if self.module is None:
            return ""
        path = self.root.paths.get(id(self.module), "") if self.root is not None else ""
        return path or type(self.module).__name__

    def place(self) -> tuple[Part | None, int | None]:
        """Part and layer, (None, None) outside of a model with a config."""
        if self.root is None or self.module is None or id(self.module) not in self.root.paths:
            return None, None
        self.root.places.begin_step()
        return self.root.places.of(self.module)


class Contexts:
    """Finds contexts; remembers the models it has met."""

    def __init__(self) -> None:
        self.roots: dict[int, Root] = {}
        self.count = 0

    def of(self, frame: FrameType | None, module: Any = None) -> Context:
        """frame: of the caller of the attention function. module: the attention module where the call names it."""
        where, batch, root = place_of(frame), dict[str, Any](), None
        for entry in _above(frame):
            owner = _owner(entry) if entry.f_code.co_name in _OF_MODELS else None
            if owner is None:
                continue
            module = owner if module is None else module
            if not _is_config(config_of(owner)):
                continue
            # The outermost wins: inner models are handed what the outer one made, and `generate` calls encoders alone.
            given = _arguments(entry) if entry.f_code.co_name == "forward" else {}
            if any(isinstance(given.get(name), Tensor) for name in _TOKENS):
                root, batch = owner, given
            elif root is not None and owner is not root and any(inner is root for inner in owner.modules()):
                root = owner
        if root is None:
            return Context(where, module)
        return Context(where, module, self._root(root), batch)

    def _root(self, model: Any) -> Root:
        known = self.roots.get(id(model))
        if known is None or known.model() is not model:
            paths = {id(module): path for path, module in model.named_modules()}
            known = self.roots[id(model)] = Root(weakref.ref(model), self.count, Places(model), paths)
            self.count += 1
        return known


def place_of(frame: FrameType | None) -> str:
    """`model.py:41 in forward`: file name, line and function; the folder of a file that is called as many others."""
    if frame is None:
        return ""
    folder, name = os.path.split(frame.f_code.co_filename)
    name = f"{os.path.basename(folder)}/{name}" if name == "__init__.py" else name
    return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"


def nearest_module(frame: FrameType | None) -> Any:
    """The torch module whose method the frame, or the one above it, runs; None without one."""
    for _ in range(2):
        if frame is None:
            return None
        if (owner := _owner(frame)) is not None:
            return owner
        frame = frame.f_back
    return None


def _owner(frame: FrameType) -> Any:
    """The torch module whose method runs in this frame; None for other functions."""
    code = frame.f_code
    if not code.co_argcount or code.co_varnames[0] != "self":
        return None
    owner = frame.f_locals.get("self")
    return owner if isinstance(owner, torch.nn.Module) else None


def tokens(context: Context, rows: Sequence[int], batch: int, part: Part | None) -> Tokens:
    """What the root model was fed, cut to these batch rows. batch: rows of the attention call."""
    root, given = context.root, context.batch
    if root is None or part is None:
        return Tokens()
    model = root.model()
    if learned_prompts(model):
        return Tokens(remarks=("an adapter puts learned tokens before the input",))
    config = config_of(model)
    seq2seq = bool(getattr(config, "is_encoder_decoder", False))
    two_stacks = seq2seq and part is not Part.ENCODER
    given = {**given, **_encoded(given)} if two_stacks else given
    prefix = "decoder_" if two_stacks else ""
    count, length = batches.size_of(given, prefix, "labels" if two_stacks else "")
    if count != batch:
        return Tokens(remarks=(f"the model got {count} rows, its attention {batch}",))
    if length > _LONGEST:
        return Tokens(remarks=(f"{length} tokens are too many to be laid out one by one",))
    cut = {name: _rows(value, rows, count) for name, value in given.items()}
    cut |= dict.fromkeys(batches.CACHES) if seq2seq and part is Part.ENCODER else _held(given, length)
    said = batches.read(
        cut,
        two_stacks=two_stacks,
        encoder=part is Part.ENCODER,
        vision=getattr(config, "vision_config", None) is not None,
    )
    return Tokens(said.decoder, said.encoder, said.remarks, True)


def _encoded(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for the encoder's tokens where its output is handed in instead."""
    if any(isinstance(batch.get(name), Tensor) for name in ("input_ids", "inputs_embeds")):
        return {}
    output = batch.get("encoder_outputs")
    states = getattr(output, "last_hidden_state", None)
    states = output[0] if states is None and isinstance(output, (tuple, list)) and output else states
    return {"inputs_embeds": states} if isinstance(states, Tensor) else {}


class _Held:
    """Stands for a cache that held so many tokens before this forward call."""

    def __init__(self, length: int) -> None:
        self._length = length

    def get_seq_length(self) -> int:
        return self._length


def _held(batch: Mapping[str, Any], length: int) -> dict[str, Any]:
    """The cache of the batch as it was before the call: by now, the first layer has added the call's own tokens."""
    found: dict[str, Any] = dict.fromkeys(batches.CACHES)
    for name in batches.CACHES:
        if batch.get(name) is not None:
            found[name] = _Held(max(0, batches.held(batch) - length))
    return found


def _rows(value: Any, rows: Sequence[int], count: int) -> Any:
    own = isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == count
    return value[list(rows)] if own else value


def _above(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_DEEPEST):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _arguments(frame: FrameType) -> dict[str, Any]:
    """Arguments of a running function by name, those in its `**kwargs` too; locals of the body are left out."""
    code, values = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    found = {name: values.get(name) for name in code.co_varnames[:count] if name != "self"}
    if code.co_flags & 0x08:  # CO_VARKEYWORDS
        rest = values.get(code.co_varnames[count + bool(code.co_flags & 0x04)])
        found |= rest if isinstance(rest, dict) else {}
    return found


def _is_config(config: Any) -> bool:
    return isinstance(getattr(config, "model_type", None), str) and callable(getattr(config, "to_dict", None))
