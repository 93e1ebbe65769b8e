"""The convention table as plain rows: what each call of an API was seen to mean, and what to write for W tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attncheck.backends import interface as backends
from attncheck.semantics.convention import WINDOW, Convention, Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import Alignment
from attncheck.verdicts import Verdict

_WORDS = {Outcome.REFUSED: "refused", Outcome.CRASHED: "broke", Outcome.NOT_RUN: "NOT RUN"}
#: In a column: there is nothing to say.
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One call. mark: OK and MISMATCH say whether it does what its documentation promises, None without a promise or
    where only queries that see some key keep it; NOT_APPLICABLE is a refusal, ERROR a crash. keys, back, ahead: as seen
    from a query in the middle; one of the words "refused", "broke", "NOT RUN" stands in keys where nothing was read.
    alignment: of the diagonal where queries and keys differ in number, in the order of `lengths`, once where all agree.
    """

    call: str
    mark: Verdict | None
    keys: str
    back: str = ""
    ahead: str = ""
    alignment: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one API, or of several in which every call reads alike."""

    apis: tuple[str, ...]
    basis: Basis | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one API says "W tokens, the query's own included". means: "9 keys", what the number 8 is to it, "–" where it
    takes no number: a mask written out means what it says.

    write: the call with W in it, "" where no call of the table expresses a window; without says why. alignment: of that
    call, or of a causal one, as in `Row`.
    """

    api: str
    means: str
    write: str
    alignment: str
    without: str = ""


def apis(conventions: Iterable[Convention]) -> dict[str, list[Convention]]:
    """The readings of each API in the report's order."""
    found: dict[str, list[Convention]] = {}
    for convention in conventions:
        found.setdefault(convention.api, []).append(convention)
    return found


def never_ran(conventions: Iterable[Convention]) -> dict[str, list[str]]:
    """Reason -> APIs of which not one call was run."""
    found: dict[str, list[str]] = {}
    for api, readings in apis(conventions).items():
        if all(reading.outcome is Outcome.NOT_RUN for reading in readings):
            found.setdefault(readings[0].detail or "no reason was given", []).append(api)
    return found


def blocks(conventions: Iterable[Convention]) -> list[Block]:
    """Every API of which something was tried; APIs whose rows are the same share a block."""
    found: dict[tuple[Basis | None, tuple[Row, ...]], list[str]] = {}
    for api, readings in apis(conventions).items():
        if any(reading.outcome is not Outcome.NOT_RUN for reading in readings):
            basis = next((reading.basis for reading in readings if reading.basis is not None), None)
            found.setdefault((basis, rows(readings)), []).append(api)
    return [Block(tuple(names), basis, entries) for (basis, entries), names in found.items()]


def lengths(conventions: Iterable[Convention]) -> tuple[tuple[int, int], ...]:
    """The unequal (queries, keys) that were read, fewer queries than keys first."""
    unequal = {(c.q_len, c.kv_len) for c in conventions if c.q_len != c.kv_len}
    return tuple(sorted(unequal, key=lambda pair: (pair[0] > pair[1], pair)))


def lengths_heading(conventions: Iterable[Convention]) -> str:
    """`32x64 / 64x32`, the heading above alignments; "" where only equal lengths were read."""
    return " / ".join(f"{queries}x{keys}" for queries, keys in lengths(conventions))


def beyond_keys(reading: Convention) -> int:
    """Queries whose diagonal lies so far before the first or after the last key that their window reaches none."""
    shift = reading.kv_len - reading.q_len if reading.alignment is Alignment.BOTTOM_RIGHT else 0
    before = 0 if reading.right is None else -shift - reading.right
    after = 0 if reading.left is None else reading.q_len + shift - reading.kv_len - reading.left
    return max(0, before) + max(0, after)


def lengths_legend(conventions: Iterable[Convention]) -> str:
    """What the alignments of the heading mean, and queries without keys where there are some; "" without alignments."""
    readings = tuple(conventions)
    if not (shapes := lengths_heading(readings)):
        return ""
    words = f"{shapes}: where its diagonal lies when queries and keys differ in number."
    if any(reading.empty_rows and reading.empty_rows == beyond_keys(reading) for reading in readings):
        words += " With more queries than keys, those whose window lies before or after all keys see none."
    return words


def remarks(conventions: Iterable[Convention]) -> list[str]:
    """What "–" stands for in the table of `rules`, and which of its APIs run no kernel of their library."""
    readings = tuple(conventions)
    found = rules(readings)
    said = []
    if any(rule.means == NOTHING for rule in found):
        said.append(f'{NOTHING} under "{WINDOW} is": it takes no number; a mask written out means what it says.')
    if any(NOTHING in rule.alignment.split() for rule in found):
        said.append(f'{NOTHING} under "{lengths_heading(readings)}": not read, or no row tells.')
    stand_ins = backends.stand_ins()
    named = [
        f"{rule.api}: {stand_ins[rule.api]}; read for its numbers only." for rule in found if rule.api in stand_ins
    ]
    return [*said, *named]


def rows(readings: Sequence[Convention]) -> tuple[Row, ...]:
    """The readings of one API, one row a call."""
    calls: dict[str, list[Convention]] = {}
    for reading in readings:
        calls.setdefault(reading.call, []).append(reading)
    pairs = lengths(readings)
    return tuple(_row(call, found, pairs) for call, found in calls.items())


def rules(conventions: Iterable[Convention]) -> list[Rule]:
    """What to write for a window of W tokens, for each API of which something was read."""
    found = []
    for api, readings in apis(conventions).items():
        if not any(reading.outcome is Outcome.READ for reading in readings):
            continue
        windows = [reading for reading in readings if _says_window(reading)]
        numbered = next((reading for reading in windows if reading.number == WINDOW), None)
        means = NOTHING if numbered is None or numbered.keys is None else _keys(numbered.keys)
        best = next((window for window in windows if window.agrees is not False), None)
        best = best or next((window for window in windows if _counted(window)), None)
        aligned = _alignment(readings, best)
        if best is None:
            tried = any(reading.question == "window" for reading in readings)
            without = "none that does what is promised" if windows else "none that it accepts"
            found.append(Rule(api, means, "", aligned, without if tried else "it has no window"))
            continue
        found.append(Rule(api, means, best.for_tokens(), aligned))
    return found


def _alignment(readings: Sequence[Convention], best: Convention | None) -> str:
    """Of the call to write where that was read at unequal lengths, else of a causal one."""
    calls = [] if best is None else [best.call]
    calls += [reading.call for reading in readings if reading.question == "causal"]
    found = {row.call: row.alignment for row in rows(readings) if row.alignment.strip(f"{NOTHING} /")}
    return next((found[call] for call in calls if call in found), "")


def _says_window(reading: Convention) -> bool:
    return (
        reading.question == "window"
        and reading.outcome is Outcome.READ
        and reading.q_len == reading.kv_len
        and reading.right == 0
        and bool(reading.for_tokens())
    )


def _counted(window: Convention) -> bool:
    """True when its number counts the keys, or those before the token itself: then a broken promise is one of words."""
    return window.number is not None and window.keys in (window.number, window.number + 1)


def _row(call: str, readings: Sequence[Convention], pairs: Sequence[tuple[int, int]]) -> Row:
    base = next((reading for reading in readings if reading.q_len == reading.kv_len), None)
    unequal = {(reading.q_len, reading.kv_len): reading for reading in readings if reading.q_len != reading.kv_len}
    words = [_aligned(unequal[pair]) if pair in unequal else NOTHING for pair in pairs]
    alignment = "" if not unequal else words[0] if len(set(words)) == 1 else " / ".join(words)
    remarks = _remarks(readings)
    if base is None:
        return Row(call, _mark(readings), "", "", "", alignment, remarks)
    if base.outcome is not Outcome.READ:
        return Row(call, _mark(readings), _WORDS[base.outcome], "", "", alignment, remarks)
    if base.empty_rows >= base.q_len:
        return Row(call, _mark(readings), "0", NOTHING, NOTHING, alignment, remarks)
    keys = NOTHING if base.keys is None else str(base.keys)
    return Row(call, _mark(readings), keys, _side(base.left), _side(base.right), alignment, remarks)


def _mark(readings: Sequence[Convention]) -> Verdict | None:
    outcomes = [reading.outcome for reading in readings]
    if any(reading.agrees is False for reading in readings):
        return Verdict.MISMATCH
    if Outcome.CRASHED in outcomes:
        return Verdict.ERROR
    if Outcome.READ not in outcomes:
        return Verdict.NOT_APPLICABLE if Outcome.REFUSED in outcomes else Verdict.NOT_RUN
    kept = any(reading.agrees for reading in readings) and not any(_fills_empty_rows(reading) for reading in readings)
    return Verdict.OK if kept else None


def _fills_empty_rows(reading: Convention) -> bool:
    """True when queries whose window reaches no key have an output all the same: weights, or NaN."""
    return reading.outcome is Outcome.READ and reading.empty_rows < beyond_keys(reading)


def _remarks(readings: Sequence[Convention]) -> tuple[str, ...]:
    """What the columns cannot say, with the lengths of which it is true."""
    found: dict[str, list[str]] = {}
    for reading in readings:
        where = "" if reading.q_len == reading.kv_len else f"{reading.q_len}x{reading.kv_len}"
        for text in _said(reading):
            found.setdefault(text, []).append(where)
    return tuple(text if "" in where else f"{', '.join(where)}: {text}" for text, where in found.items())


def _said(reading: Convention) -> list[str]:
    detail = " ".join(reading.detail.split())
    if reading.outcome is not Outcome.READ:
        return [f"{_WORDS[reading.outcome]}: {detail}"] if detail else []
    found = []
    if reading.empty_rows >= reading.q_len:
        found.append(f"no query sees any key: {detail or 'every output row is 0'}")
        detail = ""
    elif reading.empty_rows != beyond_keys(reading) and not (_fills_empty_rows(reading) and detail):
        # What is in rows that should be empty stands in the detail; "0 queries see no key" would contradict it.
        found.append(f"{reading.empty_rows} of {reading.q_len} queries see no key")
    if reading.agrees is False and reading.expected:
        found.append(f"its documentation promises {reading.expected}")
    return [*found, *([detail] if detail else [])]


def _aligned(reading: Convention) -> str:
    if reading.outcome is not Outcome.READ:
        return _WORDS[reading.outcome]
    return NOTHING if reading.alignment is None else reading.alignment.value


def _side(distance: int | None) -> str:
    return "all" if distance is None else str(distance)


def _keys(count: int) -> str:
    return f"{count} key" if count == 1 else f"{count} keys"
