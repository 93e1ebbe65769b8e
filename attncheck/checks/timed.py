"""Right implementations in the order of their measured time: what a stored bench says for the recommendation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from attncheck.checks import speed
from attncheck.checks.interface import REFERENCE, Inputs
from attncheck.findings import Finding, Recommendation
from attncheck.semantics.speeds import CallSpeed, HeldBench, SpeedRow, Speeds
from attncheck.semantics.timing_changes import BETWEEN_RUNS, FEWEST

#: Of an implementation that nothing is held against.
MEASURED_RIGHT = "measured right"


def deciding(inputs: Inputs, names: Sequence[str]) -> Mapping[str, CallSpeed]:
    """Implementation -> its time in the call that decides; empty without a stored bench. names: those without an error.

    The call is what the user runs: prefill, with a backward for training, packed for packing, as far as that was timed.
    Its length is the longest that the user will run at which two of the names were timed, or one if never two.
    """
    held = inputs.bench
    if held is None:
        return {}
    calls = [call for call in held.calls if call.phase == "prefill"]
    if inputs.options.use == "train":
        calls = [call for call in calls if call.backward] or calls
    else:
        calls = [call for call in calls if not call.backward] or calls
    wanted = "packed" if inputs.options.packing else "plain"
    calls = next((same for kind in (wanted, "plain") if (same := [c for c in calls if c.inputs == kind])), calls)
    found: dict[tuple[int, int], dict[str, CallSpeed]] = {}
    for call in calls:
        found.setdefault((call.kv_len, call.batch), {})[call.implementation] = call
    met = {size: same for size, same in found.items() if inputs.seq_len is None or size[0] <= inputs.seq_len} or found
    for least in (2, 1):
        sizes = [size for size, same in met.items() if sum(name in same for name in names) >= least]
        if sizes:
            return met[max(sizes)]
    return {}


def place(call: CallSpeed | None, equals: Sequence[CallSpeed | None]) -> float:
    """A key to sort by: 0 for the fastest of its equals and what noise cannot tell from it, last what was not timed."""
    times = [other for other in equals if other is not None]
    if not times:
        return 0.0
    fastest = min(times, key=lambda other: other.median)
    if call is None:
        return float("inf")
    return call.median if faster(fastest, call) else 0.0


def faster(one: CallSpeed | SpeedRow, other: CallSpeed | SpeedRow) -> bool:
    """True when one takes less time than the other beyond the spread of both, and beyond that between two runs.

    Of a few repetitions nobody knows the spread: then it must be as much as a `slow-path`.
    """
    least = 1 + BETWEEN_RUNS if min(one.n, other.n) >= FEWEST else speed.FACTOR
    return one.p80 < other.p20 and one.median * least < other.median


def table(inputs: Inputs, calls: Mapping[str, CallSpeed], standings: Mapping[str, tuple[bool, str]]) -> Speeds | None:
    """What was timed in the call that decides, fastest first; None without a stored bench.

    calls: of `deciding`. standings: implementation -> (its time counts, what is said of it).
    """
    held = inputs.bench
    if held is None:
        return None
    found = Speeds(held.source, held.device, held.level, held.dtype, remarks=held.remarks, unused=held.unused)
    if not calls:
        why = "no implementation without an error was timed in a prefill"
        if inputs.framework is not None and inputs.framework.bypasses:
            why = f"{inputs.framework.framework} runs no implementation of transformers"
        return replace(found, unused=held.unused or why)
    eager, lead = calls.get(REFERENCE), next(iter(calls.values()))
    rows = [
        SpeedRow(
            name,
            call.subject,
            call.median,
            call.p20,
            call.p80,
            call.n,
            None if eager is None else call.median / eager.median,
            *standings.get(name, (False, "not compared")),
        )
        for name, call in calls.items()
    ]
    return replace(
        found,
        phase=lead.phase,
        backward=lead.backward,
        inputs=lead.inputs,
        batch=lead.batch,
        kv_len=lead.kv_len,
        layers=lead.layers,
        rows=tuple(sorted(rows, key=lambda row: row.median)),
        remarks=(*held.remarks, *_other_kind(inputs, lead)),
    )


def _other_kind(inputs: Inputs, call: CallSpeed) -> Iterator[str]:
    """Where the bench has not the kind of call that the user runs."""
    if call.backward != (inputs.options.use == "train"):
        yield f"it has no {'forward alone' if call.backward else 'backward'} of these sizes"
    if call.inputs != ("packed" if inputs.options.packing else "plain"):
        yield f"the inputs that decide are {call.inputs}"


def reasons(name: str, speeds: Speeds | None, held: HeldBench | None, default: str | None) -> list[str]:
    """Why it is recommended, as far as speed goes, and what is faster and is not recommended all the same."""
    rows = {row.implementation: row for row in speeds.rows} if speeds is not None else {}
    if speeds is None or held is None or name not in rows:
        return []
    best = rows[name]
    if not best.ordered:
        return []
    others = [row for row in speeds.rows if row is not best]
    right = [row for row in others if row.ordered and not faster(row, best)]
    beside = [row for row in right if row.implementation in (REFERENCE, default)] or right[:1]
    words = [_against(best, row) for row in beside]
    ahead = [
        f"{row.implementation} is {best.median / row.median:.1f} times as fast, but {row.standing}"
        for row in others
        if faster(row, best)
    ]
    what = "forward and backward" if speeds.backward else "forward"
    where = f"at {speeds.kv_len} tokens, {what}, measured by bench on {speeds.device}"
    found = [f"{' and '.join(words)} {where}"] if words else []
    found += [", ".join(ahead if words else (where, *ahead))] if ahead else []
    return found + _decode(name, speeds, held)


def _against(best: SpeedRow, other: SpeedRow) -> str:
    if faster(best, other):
        return f"{other.median / best.median:.1f} times as fast as {other.implementation}"
    return f"as fast as {other.implementation} within noise"


def _decode(name: str, speeds: Speeds, held: HeldBench) -> list[str]:
    """A right implementation that is faster in decode at the longest cache that both have."""
    calls = [call for call in held.calls if call.phase == "decode" and not speeds.backward]
    mine = {(call.kv_len, call.batch): call for call in calls if call.implementation == name}
    right = {row.implementation: row.standing for row in speeds.rows if row.ordered}
    sizes = [(call.kv_len, call.batch) for call in calls if call.implementation in right.keys() - {name}]
    if not (shared := [size for size in sizes if size in mine]):
        return []
    size = max(shared)
    best = min(
        (call for call in calls if call.implementation in right and (call.kv_len, call.batch) == size),
        key=lambda call: call.median,
    )
    if not faster(best, mine[size]):
        return []
    seen = right[best.implementation]
    but = "" if seen in (MEASURED_RIGHT, right.get(name)) else f", but {seen}"
    times = mine[size].median / best.median
    return [f"{best.implementation} is {times:.1f} times as fast in decode, at {size[0]} keys{but}"]


def slow_paths(inputs: Inputs, usable: Mapping[str, str], concerned: Sequence[str]) -> Iterator[Finding]:
    """The `slow-path` findings of the stored bench about some implementations, beside those without an error here.

    usable: implementations without an error -> what was seen of them, as in `SpeedRow.standing`; what this run did not
    compare is none of them. concerned: what the user runs, and what is recommended.
    """
    held = inputs.bench
    if held is None or held.bench is None:
        return
    names = {call.subject: call.implementation for call in held.calls}
    cells = tuple(
        cell
        for cell in held.bench.cells
        if names.get(cell.case.subject) in usable and not (cell.case.backward and inputs.options.use != "train")
    )
    met = tuple(cell for cell in cells if inputs.seq_len is None or cell.case.kv_len <= inputs.seq_len)
    typed = f"attncheck bench {inputs.target}"
    bench = replace(held.bench, cells=met or cells)

    def settings(subject: str) -> Recommendation:
        advice, seen = inputs.settings(names[subject]), usable[names[subject]]
        return advice if seen == MEASURED_RIGHT else replace(advice, text=f"{advice.text} ({seen})")

    for finding in speed.slow_paths(bench, typed, settings):
        if finding.implementation in concerned:
            evidence = replace(finding.evidence, figures={**finding.evidence.figures, "bench": held.source})
            message = f"{finding.message}; measured by bench on {held.device}"
            yield replace(finding, message=message, evidence=evidence)
