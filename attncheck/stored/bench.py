"""How a stored report spells timed calls and their changes, and how they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.semantics.convention import Outcome
from attncheck.semantics.timing import LAUNCH_BOUND, Bench, BenchCase, BenchCell, DeviceRates
from attncheck.semantics.timing_changes import FEWEST, BenchChange, BenchChanges
from attncheck.stored.decoding import Decoder, Fault, Special


def case(read: Decoder, found: Any, where: str) -> BenchCase:
    """`cells` is called `visible` there: the report has cells of its own."""
    entry = {key: value for key, value in read.entries(found, where).items() if key != "cells"}
    seen = read.record(BenchCase, entry, where, cells=read.of(int, entry, "visible", where, 0))
    for name in ("batch", "q_len", "kv_len", "num_heads", "num_kv_heads", "head_dim", "head_dim_v", "chunk"):
        if (size := getattr(seen, name)) is not None and size < 1:
            raise Fault(f"{where}.{name} is {size}, not at least 1")
    return seen


def cell(read: Decoder, found: Any, where: str) -> BenchCell:
    """Memory says its unit. Before `launch_bound` was a key of its own it stood in the remarks."""
    entry = read.entries(found, where)
    entry = {"launch_bound": LAUNCH_BOUND in str(entry.get("detail", "")), **entry}
    memory = read.of(int | None, entry, "peak_memory_bytes", where)
    seen = read.record(BenchCell, entry, where, peak_memory=memory)
    for name in ("median", "p20", "p80"):
        if (time := getattr(seen, name)) is not None and time <= 0:
            raise Fault(f"{where}.{name} is {time:g}, not a time")
    if seen.p20 is not None and seen.p80 is not None and seen.p20 > seen.p80:
        raise Fault(f"{where}.p20 is {seen.p20:g}, above its p80 of {seen.p80:g}")
    for name in ("n", "peak_memory"):
        if (count := getattr(seen, name)) is not None and count < 0:
            raise Fault(f"{where}.{name} is {count}, not a count")
    return seen


def bench(read: Decoder, found: Any, where: str) -> Bench:
    """The whole run."""
    entry = read.entries(found, where)
    return read.record(Bench, entry, where, **{name: _number(read, entry, name, where) for name in ("wall", "timed")})


def rates(read: Decoder, found: Any, where: str) -> DeviceRates:
    """Rates, clock and power say their units."""
    entry = read.entries(found, where)
    return read.record(
        DeviceRates,
        entry,
        where,
        matrix=read.of(float | None, entry, "matrix_flops", where),
        copy=read.of(float | None, entry, "copy_bytes", where),
        clock=read.of(tuple[int | None, int | None], entry, "clock_mhz", where, (None, None)),
        power_limit=read.of(float | None, entry, "power_limit_watts", where),
    )


def changes(read: Decoder, found: Any, where: str) -> BenchChanges:
    """Of calls that only one run timed, the case stands there and why the other did not."""
    entry = read.entries(found, where)

    def only(name: str) -> list[tuple[BenchCell, BenchCell]]:
        """(timed, not timed) of each."""
        pairs = []
        for number, one in enumerate(read.list(entry.get(name, []), f"{where}.{name}")):
            place = f"{where}.{name}[{number}]"
            row = read.entries(one, place)
            about = read.value(BenchCase, row.get("case"), f"{place}.case")
            reason = read.of(str, row, "reason", place, "")
            pairs.append((BenchCell(about, Outcome.READ), BenchCell(about, Outcome.NOT_RUN, detail=reason)))
        return pairs

    differences = read.rows(entry, "differences", where, "what", "old", "new")
    return BenchChanges(
        read.of(str, entry, "source", where, ""),
        read.of(tuple[BenchChange, ...], entry, "changes", where, ()),
        lost=tuple(only("lost")),
        gained=tuple((silent, timed) for timed, silent in only("gained")),
        only_old=tuple(timed for timed, _ in only("only_old")),
        only_new=tuple(timed for timed, _ in only("only_new")),
        differences={what: (old, new) for what, old, new in differences},
        complete=read.of(bool, entry, "old_complete", where, True),
    )


def change(read: Decoder, found: Any, where: str) -> BenchChange:
    """Of the two cells, the case, the medians, the smaller number of repetitions and who was bound stand there."""
    entry = read.entries(found, where)
    about = read.value(BenchCase, entry.get("case"), f"{where}.case")
    count = read.of(int, entry, "repetitions", where, FEWEST)
    bound = read.of(bool, entry, "launch_bound", where, False)
    old, new = (
        BenchCell(about, Outcome.READ, median=read.of(float | None, entry, name, where), n=count, launch_bound=bound)
        for name in ("old_median", "new_median")
    )
    ratios = {name: _number(read, entry, name, where) for name in ("ratio", "low", "high")}
    memory = read.of(float | None, entry, "memory_ratio", where)
    return BenchChange(old, new, **ratios, memory_ratio=memory)


def _number(read: Decoder, entry: Mapping[str, Any], name: str, where: str) -> float:
    """0 where there is none. Raises Fault for null."""
    value = read.of(float | None, entry, name, where, 0.0)
    if value is None:
        raise Fault(f"{where}.{name} is null, not a number")
    return float(value)


SPECIALS: Mapping[type, Special] = {
    Bench: bench,
    BenchCase: case,
    BenchCell: cell,
    DeviceRates: rates,
    BenchChanges: changes,
    BenchChange: change,
}
