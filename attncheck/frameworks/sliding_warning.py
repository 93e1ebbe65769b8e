"""The sliding-window warning of transformers, by version: who prints it and whether it was true. Data, measured once.

It is used for versions of transformers that are not installed here; what is installed is measured anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from attncheck.frameworks.flash_kernels import parsed
from attncheck.frameworks.plugin import LogWarning

TEXT = "Sliding Window Attention is enabled but not implemented for `{}`; unexpected results may be encountered."
#: Model types whose files hold the line, with the versions that print it for them.
PRINTED = {
    "qwen2": ">=4.37,<4.53",
    "qwen3": ">=4.51,<4.53",
    "qwen2_vl": ">=4.45",
    "qwen2_5_vl": ">=4.50",
    "qwen2_5_omni": ">=4.52",
}


@dataclass(frozen=True, slots=True)
class Era:
    """What sdpa did with Qwen2's window. on, off: the truth ("real", "stale", "inert") where use_sliding_window is true
    or false, with its words."""

    versions: str
    on: tuple[str, str]
    off: tuple[str, str] = ("inert", "the window is switched off")


_EVERY_LAYER = (
    "real",
    "sdpa put the window on every layer, also on those below max_window_layers, which declare none",
)
_THOUGH_OFF = ("real", "sdpa applied the window although use_sliding_window is false")

#: Measured on a CPU with qwen2, a window of 8 in 24 tokens and max_window_layers = 1, in 4.37.2, 4.41.2, 4.45.2,
#: 4.47.1, 4.48.3, 4.51.3, 4.52.4, 4.55.4, 4.57.6, 5.6.0 and 5.23.0; read in the source between them.
ERAS = (
    Era(">=4.37,<4.40", ("real", "sdpa ignored the window")),
    Era(">=4.40,<4.42", ("stale", "sdpa applied the window, one key longer than declared"), _THOUGH_OFF),
    Era(">=4.42,<4.46", ("real", "sdpa ignored the window")),
    Era(">=4.46,<4.48", _EVERY_LAYER),
    Era(">=4.48,<4.49", ("real", "sdpa ignored the window")),
    Era(">=4.49,<4.52", _EVERY_LAYER, _THOUGH_OFF),
    Era(">=4.52,<4.53", _EVERY_LAYER),
    Era(">=4.53", ("stale", "sdpa applied the window as declared")),
)
#: Releases of transformers to look for the newest that a requirement allows.
_RELEASES = (
    "5.23.0", "5.6.0", "4.57.6", "4.57.1", "4.56.2", "4.55.4", "4.54.1", "4.53.3", "4.52.4", "4.51.3", "4.50.3",
    "4.49.0", "4.48.3", "4.47.1", "4.46.3", "4.46.1", "4.45.2", "4.45.0", "4.44.2", "4.43.4", "4.42.4", "4.41.2",
    "4.40.2", "4.39.3", "4.38.2", "4.37.2",
)  # fmt: skip


def for_model(
    model_type: str, config: Mapping[str, Any], implementation: str, installed: str, required: str
) -> LogWarning | None:
    """The line as it would stand in the log of such a run; None for model types that never print it, and for flash.

    required: what the framework demands of transformers. Where the installed one does not meet it, the newest that does
    is spoken of, by the table.
    """
    kind = next((name for name in (model_type, model_type.removesuffix("_text")) if name in PRINTED), "")
    if not kind or implementation not in ("sdpa", "eager"):
        return None
    text = TEXT.format(implementation)
    meant = newest(required)
    if meant is None or SpecifierSet(required).contains(parsed(installed), prereleases=True):
        printed = SpecifierSet(PRINTED[kind]).contains(parsed(installed), prereleases=True)
        by = f"transformers {installed}" if printed else f"transformers {PRINTED[kind]}, not from the installed one"
        return LogWarning(text, "window-ignored", implementation, by)
    if not SpecifierSet(PRINTED[kind]).contains(Version(meant)):
        return LogWarning(text, "window-ignored", implementation, f"transformers {PRINTED[kind]}, not from {meant}")
    era = next(era for era in ERAS if SpecifierSet(era.versions).contains(Version(meant)))
    truth, words = era.on if config.get("use_sliding_window", False) else era.off
    window = config.get("sliding_window", 0)
    if window is None:
        truth, words = "inert", "sliding_window is null"
    known = f"{words} in transformers {meant}, the newest that this version takes"
    tokens = window if isinstance(window, int) and window > 0 else None
    return LogWarning(text, "window-ignored", implementation, f"transformers {meant}", truth, known, tokens)


def newest(required: str) -> str | None:
    """The newest release in the list that a requirement allows; None without a requirement."""
    if not required:
        return None
    specifier = SpecifierSet(required)
    return next((version for version in _RELEASES if specifier.contains(Version(version))), None)
