"""Unsloth's settings as they are typed on the command line: arguments of from_pretrained and of its trainer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from attncheck.errors import UsageError
from attncheck.frameworks import settings_file
from attncheck.frameworks.plugin import Asked

_WORDS = {bool: "true or false", int: "a whole number", str: "a text"}

#: Setting -> (type, what it is, for messages and help). The first eight are arguments of
#: FastLanguageModel.from_pretrained, two of SFTConfig; the last two say what the model is used for.
KEYS: Mapping[str, tuple[type, str]] = {
    "max_seq_length": (int, "from_pretrained"),
    "dtype": (str, "from_pretrained"),
    "load_in_4bit": (bool, "from_pretrained"),
    "load_in_8bit": (bool, "from_pretrained"),
    "full_finetuning": (bool, "from_pretrained"),
    "qat_scheme": (str, "from_pretrained"),
    "attn_implementation": (str, "from_pretrained"),
    "use_gradient_checkpointing": (str, "get_peft_model"),
    "packing": (bool, "SFTConfig"),
    "padding_free": (bool, "SFTConfig"),
    "for_inference": (bool, "FastLanguageModel.for_inference"),
    "attention_mask": (str, "what is passed: none, 2d or custom"),
}
_CHOICES = {"attention_mask": ("none", "2d", "custom")}


def settings(asked: Asked) -> dict[str, Any]:
    """The settings with their types. Raises UsageError for an unknown key or a value of the wrong type."""
    assigned = {
        key: settings_file.typed(text, settings_file.shown(f"{key}={text}")) for key, text in asked.assigned.items()
    }
    found = {**asked.settings, **assigned}
    for key, value in found.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(KEYS)}"
            raise UsageError(f"{asked.where(key)}: {key!r} is no setting of Unsloth that decides about attention", hint)
        kind, _ = KEYS[key]
        if key == "use_gradient_checkpointing" and isinstance(value, bool):
            continue
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UsageError(f"{asked.where(key)}: {key} is {str(value)[:60]!r}, expected {_WORDS[kind]}")
        if key == "max_seq_length" and isinstance(value, int) and value < 1:
            raise UsageError(f"{asked.where(key)}: max_seq_length is {value}, expected a number from 1 on")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise UsageError(f"{asked.where(key)}: {key} is {value!r}, expected one of {', '.join(_CHOICES[key])}")
    return found


def shown(value: Any) -> str:
    """A value as the user would write it in Python."""
    return str(value)
