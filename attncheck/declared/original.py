"""Recognises checkpoints of the original LLaVA repositories: one flat file, which describes the language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attncheck.declared.families import original_format


@dataclass(frozen=True, slots=True)
class Original:
    """A config in the original repositories' format.

    language: model type whose class the repository's own model inherits from, "" where the file does not tell. known:
    transformers has a type of that name too, which means something else. tower: what `mm_vision_tower` names, "" none.
    """

    model_type: str
    language: str
    known: bool
    tower: str = ""

    @property
    def text(self) -> str:
        """What a reader of the report must know about such a file."""
        read = f"read as its language model, {self.language}" if self.language else "its file names no language model"
        other = (
            "transformers itself would build a default Llama and ignore these keys"
            if self.known
            else "transformers has no such type"
        )
        return (
            f"model_type {self.model_type!r} in the original repository's flat format: {read}; {other}, only the llava "
            "package runs this checkpoint"
        )


def original(config: Mapping[str, Any]) -> Original | None:
    """The original format of a raw config, None for any other. Content decides: transformers' own LLaVA nests its text.

    The class that the file names comes before its model type: lmms-lab's Qwen2 checkpoints say `llava` too.
    """
    model_type = str(config.get("model_type", ""))
    known = original_format(model_type)
    if known is None or isinstance(config.get("text_config"), Mapping):
        return None
    written = config.get("architectures")
    names = [name for name in written if isinstance(name, str)] if isinstance(written, list) else []
    language = next((known["architectures"][name] for name in names if name in known["architectures"]), "")
    language = language or str(known.get("language", ""))
    if not language and not any(mark in config for mark in known["marks"]):
        return None
    tower = config.get("mm_vision_tower")
    return Original(model_type, language, bool(known["native"]), tower if isinstance(tower, str) else "")
