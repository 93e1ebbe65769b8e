"""Findings: what is wrong, how sure, the evidence, and the setting that mends it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Part


class Severity(str, Enum):
    """error: what runs is not what is declared. warning: at risk, or quietly replaced. note: advice."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return {"note": 0, "warning": 1, "error": 2}[self.value]


#: What evidence sets against one another, unless a rule says otherwise.
SIDES = ("declared", "effective")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and its documentation; it stands in the file that implements it.

    code: `ATC` and three digits. slug: the stable name of the difference. The texts answer what it finds, why it
    matters, how it is measured and what to do, in plain sentences. references: thread or documentation names. sides:
    what its evidence sets against one another; where that is not declared against effective, each finding is a figure
    of its own, and pages tell each.
    """

    code: str
    slug: str
    title: str
    finds: str
    why: str
    measured: str
    fix: str
    references: tuple[str, ...] = ()
    sides: tuple[str, str] = SIDES


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing to paste. framework: "transformers", "llama-factory", ... key/value as the framework spells them."""

    framework: str
    key: str
    value: str
    paste: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do and the settings that do it."""

    text: str
    settings: tuple[Setting, ...] = ()

    @property
    def paste(self) -> str:
        """The first way to paste it; "" without any, and where one key has several values, as none stands for all."""
        if len({setting.value for setting in self.settings}) > len({setting.key for setting in self.settings}):
            return ""
        return self.settings[0].paste if self.settings else ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verdict rests on.

    declared, requested, effective: one plain line each ("8 keys: 7 back, 0 ahead"). first_difference: (batch row,
    query, key) in token coordinates of the first wrong cell. leaked: kept but not declared; missed: declared but not
    kept (cells, summed over the judged rows of one head mask; of a probe that looks at chosen keys only, what figures
    has under keys_probed and heads_probed: of those keys, summed over those heads). heads: query heads concerned, empty
    = all.
    masks: declared and effective mask of the row that holds the first difference, for pictures; requested_mask is what
    the framework handed to the kernel there, None where it was no dense mask.
    """

    declared: str = ""
    requested: str = ""
    effective: str = ""
    first_difference: tuple[int, int, int] | None = None
    leaked: int = 0
    missed: int = 0
    heads: tuple[int, ...] = ()
    declared_mask: KeepMask | None = None
    effective_mask: KeepMask | None = None
    requested_mask: KeepMask | None = None
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference, for one slug, implementation, part and scenario.

    message: one sentence that stands by itself. headline: the same without what the evidence says, "" when there is no
    shorter form. layers: real layer indices of the checkpoint, not of the tiny model. implementation is None for
    findings about the config or the installation. reproduction: a snippet or command that shows it by itself. known: it
    stands in the baseline that this report was held against.
    """

    code: str
    slug: str
    severity: Severity
    message: str
    basis: Basis | None
    implementation: str | None = None
    kernel: str = ""
    part: Part | None = None
    layers: tuple[int, ...] = ()
    scenario: str = ""
    variant: str = ""
    evidence: Evidence = Evidence()
    reproduction: str = ""
    recommendations: tuple[Recommendation, ...] = ()
    headline: str = ""
    known: bool = False

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that say which finding this is, the same in every run and release.

        Made of rule, implementation, kernel, part, layers, scenario, variant and place in a script. A finding about the
        installation, the config or speed has but its words for a place; figures, versions and folders in them do not
        count.
        """
        where = _LINE.sub("", str(self.evidence.figures.get("where", "")))
        placed = bool(self.implementation and (self.scenario or where))
        words = "" if placed else _FIGURE.sub("#", _FOLDERS.sub("", self.message))
        place = (self.code, self.implementation or "", self.kernel, "" if self.part is None else self.part.value)
        rest = (",".join(map(str, self.layers)), self.scenario, self.variant, where, words)
        return hashlib.sha256("\0".join((*place, *rest)).encode("utf-8", "backslashreplace")).hexdigest()[:32]


#: What differs between two runs or machines that find the same: the line of a place, folders, figures and versions.
_LINE = re.compile(r":\d+(?= in |$)")
_FOLDERS = re.compile(r"(?<![\w.~<>/-])(?:~|\.{1,2})?/(?:[^\s/'\"]+/)*")
_FIGURE = re.compile(r"(?<![\w-])\d[\w.+]*")
