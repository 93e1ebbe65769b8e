"""TransformerEngine's settings as they are typed on the command line: `window_size=1024,0` -> arguments with types."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from attncheck.errors import UsageError
from attncheck.frameworks.plugin import Asked
from attncheck.frameworks.transformer_engine_call import (
    BIAS_TYPES,
    MASK_TYPES,
    QKV_FORMATS,
    SOFTMAX_TYPES,
    TAKEN_SINCE,
    WindowSize,
    Written,
)
from attncheck.frameworks.transformer_engine_selection import VARIABLES, parsed

#: Not TransformerEngine's own: the GPU and the packages to resolve for, where they are not this machine's.
CAPABILITY = "compute_capability"
PACKAGES = ("flash-attn", "flash-attn-3", "flash-attn-4", "cudnn")

#: Other names of a mask type, of `DotProductAttention.__init__`.
_ALIASES = {"padding,causal": "padding_causal", "causal,padding": "padding_causal", "causal_padding": "padding_causal"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What was typed. variables: NVTE_* among the settings. capability: to resolve for, None where nobody said.

    packages: name -> version to resolve for, "" for an absent one.
    """

    written: Written
    variables: Mapping[str, str] = field(default_factory=dict)
    capability: tuple[int, int] | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


def settings(asked: Asked) -> Settings:
    """Everything typed, by type. Raises UsageError with what was found, what was expected and the nearest names."""
    values: dict[str, Any] = {}
    variables: dict[str, str] = {}
    packages: dict[str, str] = {}
    for key, value in {**asked.settings, **asked.assigned}.items():
        if key.startswith("NVTE_"):
            variables[key] = _variable(key, value)
            continue
        if key in PACKAGES:
            packages[key] = _version(key, value)
            continue
        if key not in _TYPED:
            raise UsageError(f"--framework-set {key}: TransformerEngine has no such setting", _nearest(key))
        values[key] = _TYPED[key](key, value)
    capability = values.pop(CAPABILITY, None)
    return Settings(Written(**values, given=tuple(values)), variables, capability, packages)


def _nearest(key: str) -> str:
    known = [*TAKEN_SINCE, *VARIABLES, CAPABILITY, *PACKAGES]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"choose from {', '.join(known)}"


def _wrong(key: str, value: object, expected: str, example: str) -> UsageError:
    return UsageError(f"--framework-set {key}={value}: expected {expected}", f"--framework-set {key}={example}")


def _size(key: str, value: object) -> WindowSize | None:
    expected = "two whole numbers, left and right, both inclusive, -1 for unbounded"
    if str(value).strip().lower() in ("none", "null", ""):
        return None
    parts = list(value) if isinstance(value, list | tuple) else re.split(r"[,\s]+", str(value).strip(" ()[]"))
    try:
        left, right = (int(str(part)) for part in parts)
    except ValueError:
        raise _wrong(key, value, expected, "1024,0") from None
    if min(left, right) < -1:
        raise _wrong(key, value, expected, "1024,0")
    return left, right


def _one_of(names: tuple[str, ...], aliases: Mapping[str, str] | None = None) -> Callable[[str, object], str]:
    def typed(key: str, value: object) -> str:
        text = (aliases or {}).get(str(value).replace(" ", ""), str(value))
        if text not in names:
            raise _wrong(key, value, f"one of {', '.join(names)}", names[0])
        return text

    return typed


def _number(key: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise _wrong(key, value, "a number", "0.0") from None


def _count(key: str, value: object) -> int:
    if not str(value).isdigit() or int(str(value)) < 1:
        raise _wrong(key, value, "a whole number of at least 1", "16")
    return int(str(value))


def _flag(key: str, value: object) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if found is None:
        raise _wrong(key, value, "true or false", "true")
    return found


def _capability(key: str, value: object) -> tuple[int, int]:
    found = re.fullmatch(r"(?:sm)?(\d+)\.?(\d)", str(value))
    if found is None:
        raise _wrong(key, value, "a compute capability", "9.0")
    return int(found[1]), int(found[2])


def _version(key: str, value: object) -> str:
    """A version; "" for none."""
    text = str(value).strip()
    if text.lower() in ("", "none", "no"):
        return ""
    if parsed(text) is None:
        raise _wrong(key, value, "a version, or none", "2.8.3")
    return text


def _variable(key: str, value: object) -> str:
    if key not in VARIABLES:
        near = difflib.get_close_matches(key, VARIABLES, n=3, cutoff=0.5)
        raise UsageError(
            f"--framework-set {key}: TransformerEngine's attention reads no such environment variable",
            f"did you mean {', '.join(near)}?" if near else f"choose from {', '.join(VARIABLES)}",
        )
    if not str(value).isdigit():
        raise _wrong(key, value, "a number", "0")
    return str(value)


_TYPED: Mapping[str, Callable[[str, object], Any]] = {
    "window_size": _size,
    "attn_mask_type": _one_of(MASK_TYPES, _ALIASES),
    "softmax_type": _one_of(SOFTMAX_TYPES),
    "qkv_format": _one_of(QKV_FORMATS),
    "core_attention_bias_type": _one_of(BIAS_TYPES),
    "bottom_right_diagonal": _flag,
    "attention_dropout": _number,
    "softcap": _number,
    "softmax_scale": _number,
    "num_attention_heads": _count,
    "num_gqa_groups": _count,
    "kv_channels": _count,
    CAPABILITY: _capability,
}
