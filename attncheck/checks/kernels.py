"""Findings from the convention table: calls that break their promise, windows that mean two things, crashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attncheck.checks.defects import workarounds
from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.semantics import describe
from attncheck.semantics.convention import WINDOW, Convention, Outcome
from attncheck.semantics.observation import Basis

CONTRACT_BROKEN = Rule(
    "ATC821",
    "kernel-contract-broken",
    "A kernel does something else than its documentation says",
    "A call of a kernel library, spelled as its documentation shows, lets other keys be seen than it promises.",
    "Who follows the documentation gets another attention, often without any error.",
    "Values are slices of the identity matrix, so the output shows which keys every query sees. Each spelling is read at 64 queries x 64 keys, and with fewer and with more queries than keys.",
    "Spell the call in one of the ways that were read as promised, or report it to the library with the numbers.",
    ("TransformerEngine#1197",),
)

WINDOWS_DIFFER = Rule(
    "ATC823",
    "window-conventions-differ",
    "The same window number means different key counts to two kernels",
    "Some APIs count the token itself as part of the window, others count the tokens before it.",
    "A number handed on from one to the other is off by one: models see one key too many or too few, and nothing fails.",
    "A window of 8 is asked of every API in its own spelling, and the keys that an inner query sees are counted.",
    "Convert at the border: write for each API what the evidence says for a window of W tokens, the token itself included.",
    ("TransformerEngine#1197",),
)

CRASHES = Rule(
    "ATC826",
    "kernel-crashes",
    "A kernel that should run here crashes",
    "Nothing known speaks against this kernel library here, but loading or calling it breaks.",
    "A program that picks it ends in the same way, often without a Python error.",
    "Every API is loaded and called in a worker process of its own; how that ends is the result.",
    "Reinstall the library for the running torch, or make the frameworks use another implementation.",
)


def broken_contracts(machine: Machine) -> Iterator[Finding]:
    """One warning for each API and for all its calls that were misread in the same way: they have one cause."""
    rows = machine.conventions or ()
    alike: dict[tuple[str, str], dict[str, list[Convention]]] = {}
    for (api, call), broken in grouped(row for row in rows if row.agrees is False).items():
        alike.setdefault((api, _way(broken[0])), {})[call] = broken
    for (api, _), calls in alike.items():
        every = [row for broken in calls.values() for row in broken]
        first = every[0]
        lengths = f" with {first.q_len} queries x {first.kv_len} keys" if first.q_len != first.kv_len else ""
        also = [call for call in calls if call != first.call]
        yield measured(
            CONTRACT_BROKEN,
            Severity.WARNING,
            f"{api}, {first.call}: promised {first.expected}{lengths}, measured {meaning(first)}"
            + (f"; likewise {'; '.join(also)}" if also else ""),
            Evidence(
                declared=f"{first.expected} (the documentation of {api})",
                requested="; ".join(calls),
                effective="; ".join(
                    (f"{row.call}, " if also else "") + f"{row.q_len} x {row.kv_len}: {meaning(row)}" for row in every
                ),
                figures={**first.figures, "queries": first.q_len, "keys": first.kv_len},
            ),
            _instead(rows, first, machine),
            first.kernel,
        )


def _way(row: Convention) -> str:
    """How a reading differs from what was promised, in words that are equal for calls with the same cause."""
    lengths = f"{row.q_len} x {row.kv_len}: "
    if row.empty_rows == row.q_len:
        return lengths + "nothing but zeros"
    if row.number is not None and row.keys is not None:
        return f"{lengths}the number of the window {row.keys - row.number:+d}"
    return f"{row.call}, {lengths}"


def _instead(rows: Sequence[Convention], broken: Convention, machine: Machine) -> Recommendation:
    """What to write in the place of a call that breaks its promise; where nothing was read as promised, what is known."""
    api = broken.api
    if good := _kept_promise(rows, broken):
        return Recommendation(
            f"Write {good} instead: it was read as promised.", (Setting(api, "arguments", good, good),)
        )
    if broken.number is not None and (call := broken.for_tokens()):
        text = f"For a window of W tokens, the token itself included, write {call}: so it was read."
        return Recommendation(text, (Setting(api, "a window of W tokens", call, call),))
    if known := next((advice for probe, advice in workarounds(machine, api) if probe.kind == "convention"), None):
        return known
    if broken.q_len != broken.kv_len:
        return Recommendation("Do not use this call at such lengths, or hand over the mask written out.")
    return Recommendation(f"Do not use this spelling; the table of conventions shows which calls of {api} are right.")


def differing_windows(machine: Machine) -> Iterator[Finding]:
    """One note that says, for each API, how many keys the number 8 means and what to write for W tokens."""
    counts: dict[int, dict[str, Convention]] = {}
    counted = [row for row in machine.conventions or () if _counts_window(row)]
    for row in counted:
        counts.setdefault(row.keys or 0, {}).setdefault(row.api, row)
    if len(counts) < 2:
        return
    main: dict[str, Convention] = {}
    for row in counted:
        main.setdefault(row.api, row)
    main = dict(sorted(main.items(), key=lambda entry: entry[1].keys or 0))
    lines = [
        f"{keys} keys to {', '.join(_named(row, main[api]) for api, row in rows.items())}"
        for keys, rows in sorted(counts.items())
    ]
    settings = tuple(
        Setting(api, "a window of W tokens", row.for_tokens(), row.for_tokens()) for api, row in main.items()
    )
    yield measured(
        WINDOWS_DIFFER,
        Severity.NOTE,
        f"A window of {WINDOW} means {' and '.join(lines)}",
        Evidence(
            declared=f"a window of {WINDOW} in each API's own spelling",
            effective="; ".join(
                f"{api} {row.call}: {row.keys} keys" for _, rows in sorted(counts.items()) for api, row in rows.items()
            ),
        ),
        Recommendation(
            'Write for each API what the table of window numbers gives for a window of W tokens ("for W tokens write").',
            settings,
        ),
    )


def crashes(machine: Machine) -> Iterator[Finding]:
    """One warning for each API of which some step broke; refusals are none."""
    broken: dict[str, list[tuple[str, str]]] = {}
    for row in machine.conventions or ():
        if row.outcome is Outcome.CRASHED:
            lengths = f", {row.q_len} queries x {row.kv_len} keys" if row.q_len else ""
            broken.setdefault(row.api, []).append((f"{row.call}{lengths}", row.detail))
    for ability in machine.abilities or ():
        if ability.outcome is Outcome.CRASHED or " crashed: " in ability.detail:
            broken.setdefault(ability.api, []).append((ability.feature, ability.detail))
    for api, places in broken.items():
        where, how = places[0]
        more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
        yield measured(
            CRASHES,
            Severity.WARNING,
            f"{api} crashes here: {where}{more}: {how}",
            Evidence(
                declared="nothing known speaks against it",
                effective="; ".join(f"{name}: {text}" for name, text in places),
            ),
            Recommendation("Reinstall the library for the running torch, or use another implementation."),
        )


def unread(machine: Machine, *, promised: bool = False) -> str:
    """Why the convention table says nothing, "" when some call was read. promised: one with a documented meaning."""
    rows = machine.conventions or ()
    if any(row.outcome is Outcome.READ and (row.agrees is not None or not promised) for row in rows):
        return ""
    return _no_reading(rows)


def _one_counts(machine: Machine) -> str:
    """Why no two windows can be compared, "" when two APIs that take a number were read."""
    counting = {row.api for row in machine.conventions or () if _counts_window(row)}
    if len(counting) > 1:
        return ""
    only = f": only {', '.join(counting)}" if counting else ""
    return f"fewer than two APIs that take a window's number could be read{only}"


def _untried(machine: Machine) -> str:
    """Why nothing could crash, "" when some API was called."""
    rows = machine.conventions or ()
    return "" if any(row.outcome is not Outcome.NOT_RUN for row in rows) else _no_reading(rows)


def _no_reading(rows: Sequence[Convention]) -> str:
    """What kept the APIs from being read, by the reason of the first."""
    first = next((f" ({row.api}: {row.detail})" for row in rows if row.detail), "")
    return f"no kernel API could be read{first}"


def meaning(row: Convention) -> str:
    """What a call was read to mean, in words."""
    if row.empty_rows == row.q_len or "irregular queries" in row.figures:
        return row.detail
    words = describe.band(row.left, row.right)
    if row.alignment is not None:
        words += f", {row.alignment.value}"
    return f"{words} ({row.detail})" if row.detail else words


def _counts_window(row: Convention) -> bool:
    """True for a causal window that the library was handed as this number; a mask written out means what it says."""
    return (
        row.outcome is Outcome.READ
        and row.question == "window"
        and row.number == WINDOW
        and row.q_len == row.kv_len
        and row.right == 0
        and row.keys is not None
    )


def _named(row: Convention, main: Convention) -> str:
    """The API, with the call where another of its calls means something else by the same number."""
    return row.api if row is main else f"{row.api} ({row.call})"


def _kept_promise(rows: Sequence[Convention], broken: Convention) -> str:
    """Another call of the same API with the same promise that was read as promised at every length; "" for none."""
    promise = broken.expected
    for (api, call), others in grouped(rows).items():
        same = any(row.expected == promise and row.agrees for row in others)
        if api == broken.api and same and call != broken.call and all(row.agrees is not False for row in others):
            return call
    return ""


def grouped(rows: Iterable[Convention]) -> dict[tuple[str, str], list[Convention]]:
    """(API, call) -> its rows, in order."""
    groups: dict[tuple[str, str], list[Convention]] = {}
    for row in rows:
        groups.setdefault((row.api, row.call), []).append(row)
    return groups


def measured(
    rule: Rule,
    severity: Severity,
    message: str,
    evidence: Evidence,
    advice: Recommendation,
    kernel: str = "",
    check: Rule | None = None,
) -> Finding:
    """A finding of this rule, measured here. check: what runs it again, where that is another rule's check."""
    return Finding(
        rule.code,
        rule.slug,
        severity,
        message,
        Basis.MEASURED,
        kernel=kernel,
        evidence=evidence,
        reproduction=f"attncheck doctor --check {(check or rule).slug}",
        recommendations=(advice,),
    )


GROUP = RuleGroup(
    "kernels",
    (CONTRACT_BROKEN, WINDOWS_DIFFER, CRASHES),
    order=96,
    machine=(
        MachineCheck(CONTRACT_BROKEN, broken_contracts, ("conventions",), idle=lambda m: unread(m, promised=True)),
        MachineCheck(WINDOWS_DIFFER, differing_windows, ("conventions",), idle=_one_counts),
        MachineCheck(CRASHES, crashes, ("conventions", "abilities"), idle=_untried),
    ),
)
