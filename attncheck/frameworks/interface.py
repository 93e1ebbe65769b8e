"""What transformers makes of a requested attention implementation on this machine, as data.

The seam of training frameworks, which read settings of their own, is `plugin.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attncheck.semantics.observation import Reason, Rejected


@dataclass(frozen=True, slots=True)
class ClassSupport:
    """What the framework's model class declares, as plain data.

    version: of the framework. supports: implementation -> declared support; a missing name is unknown.
    compatible_flash: the class's own list of flash implementations, None without one. default: what the framework picks
    by itself.
    """

    model_class: str
    version: str
    supports: Mapping[str, bool] = field(default_factory=dict)
    compatible_flash: tuple[str, ...] | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Usable:
    """The framework runs what was asked for. note: a condition worth a word ("" for none)."""

    implementation: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Redirected:
    """The framework runs `actual` instead, with no more than a line in a log.

    available: `actual` can run on this machine. contract: the flash name whose call contract `actual` follows, None
    when none describes it.
    """

    implementation: str
    actual: str
    reasons: tuple[Reason, ...]
    available: bool = True
    contract: str | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The class allows it, but this machine lacks something and the framework would raise.

    What it would compute elsewhere can still be predicted.
    """

    implementation: str
    reasons: tuple[Reason, ...]


#: `Rejected`: the class or the framework's version refuses it on any machine.
Decision = Usable | Redirected | Unavailable | Rejected
