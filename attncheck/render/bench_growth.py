"""How times grow with length, in words: the exponents of a bench's table, and why some calls have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from attncheck.render.bench_tables import BenchTable
from attncheck.render.bench_words import length, lengths
from attncheck.render.wording import plural
from attncheck.semantics.growth import FEWEST_LENGTHS, Series, least, series

#: Below this r2 lengths do not grow by one power, and the exponent is shown with its fit.
GOOD_FIT = 0.99


def lines(table: BenchTable) -> list[str]:
    """The exponents, then why there are no others; nothing where nothing was timed at several lengths."""
    return [line for line in (_exponents(table), _not_fitted(table)) if line]


def _exponents(table: BenchTable) -> str:
    """`flash-attn-2 n^1.02 · eager n^1.98 over 1k, 4k, 16k`, the slowest growing first; "" for no exponent.

    In brackets the fit where it is not close to one power, and the lengths where they are not those of most.
    """
    usual = _fitted(table)
    words = []
    for entry in sorted(table.growth, key=lambda entry: entry.exponent):
        aside = [f"r² {entry.r2:.2f}"] if entry.r2 < GOOD_FIT else []
        aside += [f"over {lengths(entry.lengths)}"] if entry.lengths != usual else []
        words.append(f"{entry.subject} n^{entry.exponent:.2f}" + (f" ({', '.join(aside)})" if aside else ""))
    return f"{' · '.join(words)} over {lengths(usual)}" if words else ""


def _fitted(table: BenchTable) -> tuple[int, ...]:
    """The lengths that most exponents of the table were fitted over; of equally many the longest list."""
    counts = Counter(entry.lengths for entry in table.growth)
    return max(counts, key=lambda found: (counts[found], len(found)), default=())


def _not_fitted(table: BenchTable) -> str:
    """`not fitted: 2 lengths of at least twice the window, 3 are needed; --seq-lens 8k,16k,32k,64k`.

    About calls with several lengths and no exponent, by name where others have one; "" for none.
    """
    fitted = {entry.subject for entry in table.growth}
    left = [
        entry
        for entry in series(table.cells)
        if entry.case.subject not in fitted
        and len(entry.times) < FEWEST_LENGTHS
        and len(entry.times.keys() | entry.near | entry.bound) > 1
    ]
    if not left:
        return ""
    counts = {len(entry.times) for entry in left}
    counted = ("at most " if len(counts) > 1 else "") + plural(max(counts), "length")
    limits = ["of at least twice the window"] if any(entry.near for entry in left) else []
    limits += ["not bound by launching"] if any(entry.bound for entry in left) else []
    who = f" ({', '.join(entry.case.subject for entry in left)})" if fitted else ""
    found = " ".join(filter(None, (counted, " and ".join(limits))))
    return f"not fitted{who}: {found}, {FEWEST_LENGTHS} are needed{_longer(left)}"


def _longer(left: Iterable[Series]) -> str:
    """What to type for enough lengths where the window is in the way; one more than needed, should memory end there."""
    first = next((least(entry.case) for entry in left if entry.near and not entry.bound), None)
    if first is None:
        return ""
    return f"; --seq-lens {','.join(length(first * 2**number) for number in range(FEWEST_LENGTHS + 1))}"
