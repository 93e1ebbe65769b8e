"""What one kernel API was seen to do, as plain data: what its window numbers mean, and what it can and cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Alignment

#: Ways to get queries that see no key: three kinds of mask, and a causal call whose diagonal ends at the last key.
#: An `Ability` "empty-rows" has what was seen of each among its figures.
EMPTY_ROWS = ("bool", "-inf", "finfo.min", "more queries than keys")


#: The number that every spelling of the question "window" is about.
WINDOW = 8


class Outcome(str, Enum):
    """What became of one reading. REFUSED: the library raised and said why; CRASHED: it broke; NOT_RUN: not tried."""

    READ = "read"
    REFUSED = "refused"
    CRASHED = "crashed"
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True)
class Convention:
    """What one call, spelled as the API's user spells it, was seen to mean.

    api: name of an API of `attncheck.backends`. call: the arguments as written, "window_size=(8, 0)". question: which
    of the table's questions it answers, such as "window", "unbounded", "short-queries", "more-queries". left, right:
    inclusive distances from the query's own diagonal to the oldest and newest visible key, None = unbounded (only
    meaningful with outcome READ). keys: visible keys of an inner query (one whose window meets no edge), None where
    there is none. alignment: of the diagonal when q_len != kv_len, None when the lengths are equal or no row can tell.
    empty_rows: queries that see no key. expected: the same reading as the API's documentation promises it, in words
    ("9 keys: 8 back, 0 ahead"), "" where it promises nothing. agrees: None without a promise. kernel: name of the
    kernel that was launched, "" if unknown. detail: refusal, crash or remark. figures: raw values, such as the largest
    row sum. number: of the window, as the call hands it to the library; None without one, and where a mask is written
    out. pattern: the call with "{}" in the place of the window's number, "" without one.
    """

    api: str
    call: str
    question: str
    q_len: int
    kv_len: int
    outcome: Outcome
    basis: Basis | None
    left: int | None = None
    right: int | None = None
    keys: int | None = None
    alignment: Alignment | None = None
    empty_rows: int = 0
    expected: str = ""
    agrees: bool | None = None
    kernel: str = ""
    detail: str = ""
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    number: int | None = None
    pattern: str = ""

    def for_tokens(self) -> str:
        """The call for a window of W tokens, the token itself included: "window_size=(W-1, 0)"; "" if it has none."""
        if not self.pattern or self.keys is None:
            return ""
        more = (WINDOW if self.number is None else self.number) - self.keys
        return self.pattern.replace("{}", f"W{more:+d}" if more else "W")


@dataclass(frozen=True, slots=True)
class Ability:
    """One feature of one API as it was seen to work, be refused or go wrong.

    feature: "softcap", "sinks", "alibi", "gqa", "dtype", "head_dim", "backward", "determinism", "empty-rows" ...
    value: the answer in words ("interleaved", "float16, bfloat16", "8 .. 256"). agrees: False where the API computed
    something other than float64 attention does; None where nothing was compared. detail: refusals met and remarks.
    """

    api: str
    feature: str
    value: str
    outcome: Outcome
    basis: Basis | None
    agrees: bool | None = None
    kernel: str = ""
    detail: str = ""
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
