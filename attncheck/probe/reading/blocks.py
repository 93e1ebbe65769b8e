"""Finding the repeated attention blocks of a model that offers no other way in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attncheck.semantics.spec import Part

#: Words in the path of a stack that does not read text.
_OTHER_SENSES = ("vision", "visual", "image", "audio")
_ATTENDS = ("attention", "attn", "mixer", "rwkv", "mamba")


@dataclass(frozen=True, slots=True)
class Block:
    """One repeated layer. index: its place in its stack. module: the torch module, called with hidden states first."""

    index: int
    module: Any


def blocks(model: Any, part: Part) -> tuple[Block, ...]:
    """The layers of the stack that `part` names, in order; empty where the model keeps none in a recognisable form.

    A stack is a module list whose entries are of one class and hold attention. The longest list wins, the outermost
    among equals. In an encoder-decoder the list's path must lie in the wanted stack.
    """
    two_stacks = bool(getattr(model.config, "is_encoder_decoder", False))
    best: list[Any] = []
    for path, entries in _lists(model):
        if not two_stacks or _stack(path) is part:
            best = entries if len(entries) > len(best) else best
    return tuple(Block(index, module) for index, module in enumerate(best))


def _lists(model: Any) -> list[tuple[str, list[Any]]]:
    """Module lists that may be stacks, outermost first; lists inside another candidate are left out."""
    from torch.nn import ModuleList

    found: list[tuple[str, list[Any]]] = []
    for path, module in model.named_modules():
        if not isinstance(module, ModuleList) or len(module) == 0 or any(word in path for word in _OTHER_SENSES):
            continue
        entries = list(module)
        inside = any(path.startswith(f"{outer}.") for outer, _ in found)
        if not inside and len({type(entry) for entry in entries}) == 1 and _attends(entries[0]):
            found.append((path, entries))
    return found


def _attends(block: Any) -> bool:
    return any(word in type(module).__name__.lower() for module in block.modules() for word in _ATTENDS)


def _stack(path: str) -> Part:
    for word in path.lower().split("."):
        if "decoder" in word:
            return Part.DECODER
        if "encoder" in word:
            return Part.ENCODER
    return Part.DECODER
