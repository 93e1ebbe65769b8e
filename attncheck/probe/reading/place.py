"""Which part and layer of a model an attention call belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attncheck.semantics.spec import Part

_CROSS_PATHS = (
    "encoder_attn", "crossattention", "cross_attn", "cross_attention", "encdecattention", "encoder_decoder_attn"
)  # fmt: skip
_VISION_PATHS = ("vision", "visual", "image")
_STATES = ("key_value_states", "encoder_hidden_states", "cross_attention_states")


class Places:
    """Tells part and layer of each attention module of one model.

    single: the part of a model with one stack; None leaves it to `config.is_decoder`, to the model's class (masked
    language models are encoders) and to the module's path ("encoder" in it).
    """

    def __init__(self, model: Any, single: Part | None = None) -> None:
        self._paths: dict[int, str] = {id(module): path.lower() for path, module in model.named_modules()}
        self._two_stacks = bool(getattr(model.config, "is_encoder_decoder", False))
        self._crossing = self._two_stacks or bool(getattr(model.config, "add_cross_attention", False))
        self._single = single
        self._decoder_switch = getattr(model.config, "is_decoder", False) is True
        self._encoder_class = any(word in type(model).__name__ for word in ("MaskedLM", "PreTraining", "Encoder"))
        self._attending_outside: set[int] = set()
        self._counts: dict[Part, int] = {}
        self._seen: set[int] = set()

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Note, while it lasts, which attention modules are handed another stack's states as keys."""
        handles = []
        try:
            if self._crossing:
                for module in model.modules():
                    if "attention" in type(module).__name__.lower():
                        handles.append(module.register_forward_pre_hook(self._note(), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin_step(self) -> None:
        """A new forward call starts: calls are counted from 0 again."""
        self._counts.clear()
        self._seen.clear()

    def of(self, module: Any) -> tuple[Part, int]:
        """Part and layer index of the attention call that `module` makes now."""
        part = self._part(module)
        order = self._counts.get(part, 0)
        self._counts[part] = order + 1
        again = id(module) in self._seen
        self._seen.add(id(module))
        if again:  # layers that share their weights (Albert): only the order tells them apart
            return part, order
        index = getattr(module, "layer_idx", None)
        if isinstance(index, int) and not isinstance(index, bool) and index >= 0:
            return part, index
        numbers = [int(word) for word in self._path(module).split(".") if word.isdigit()]
        return part, numbers[0] if numbers else order

    def _part(self, module: Any) -> Part:
        words = self._path(module).split(".")
        if any(mark in word for word in words for mark in _VISION_PATHS):
            return Part.VISION
        if self._crosses(module, words):
            return Part.CROSS
        if not self._two_stacks:
            if self._single is not None:
                return self._single
            if self._decoder_switch:
                return Part.DECODER
            encoder = self._encoder_class or any(word.startswith("encoder") for word in words)
            return Part.ENCODER if encoder else Part.DECODER
        for word in words:
            if "decoder" in word:
                return Part.DECODER
            if "encoder" in word:
                return Part.ENCODER
        return Part.DECODER

    def _crosses(self, module: Any, words: list[str]) -> bool:
        if not self._crossing:
            return False
        if any(mark in word for word in words for mark in _CROSS_PATHS) or "cross" in type(module).__name__.lower():
            return True
        if "merged" in type(module).__name__.lower():  # one softmax over both stacks (T5Gemma 2) is the decoder's own
            return False
        return getattr(module, "is_cross_attention", False) is True or id(module) in self._attending_outside

    def _path(self, module: Any) -> str:
        return self._paths.get(id(module), "")

    def _note(self) -> Callable[..., None]:
        def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            outside = any(kwargs.get(name) is not None for name in _STATES)
            (self._attending_outside.add if outside else self._attending_outside.discard)(id(module))

        return note
