"""Words and figures of a bench: times, sizes, lengths, shares with three digits; what a table is about; the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attncheck.render.bench_tables import BenchTable, Block, Without, out_of_memory
from attncheck.render.symbols import STATUS
from attncheck.render.wording import plural
from attncheck.semantics.timing import Bench, BenchCase, BenchCell, DeviceRates, setting

#: Repetitions whose last tenth is that much slower than the first are remarked upon: the device slowed down.
DRIFT = 0.05
#: Above `published_elsewhere`.
PUBLISHED = "Published, without a time at these settings here"
#: First calls from here on, in seconds, are named one by one: compiling, not launching.
LONG_CALL = 0.5

#: Share of the matrix product's rate that is printed as more than 100%.
_MORE = 1.005

#: Behind the name of a call that is bound by its launch.
MARK = "*"
#: For the memory of a call that has none to tell.
FREED = "–"

#: How TFLOP/s are counted, and what the columns of a table are; printed with every bench.
LEGEND = {
    "FLOP/s": "2 (head_dim + head_dim_v) heads x visible pairs / median; with backward x 3.5",
    "memory": "the peak above the inputs",
    "of rate": "FLOP/s by what the matrix product of this device reaches",
    "of copy": "bytes of keys and values by what a copy of this device moves in that time",
    "to eager": "time by that of eager: above 1 is slower",
    "to best": "time by that of the fastest right one",
}


def digits(value: float) -> str:
    """Three significant digits without an exponent: `0.872`, `15.6`, `1234`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(float(f'{value:.3g}')))))}f}"


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which a time reads best, and how many seconds it has."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if float(f"{seconds:.3g}") >= size:
            return unit, size
    return "µs", 1e-6


def time(seconds: float) -> str:
    """`1.55 ms`, `873 µs`, `10.6 s`."""
    unit, size = time_unit(seconds)
    return f"{digits(seconds / size)} {unit}"


def common_unit(table: BenchTable) -> tuple[str, float]:
    """One unit for all times of a table, so that they compare at a glance: that of their geometric mean."""
    logarithms = [math.log(cell.median) for cell in table.cells if cell.median]
    return time_unit(math.exp(sum(logarithms) / len(logarithms))) if logarithms else ("ms", 1e-3)


def spread(cell: BenchCell, size: float) -> str:
    """`1.53..1.61`, in a unit of `size` seconds."""
    if cell.p20 is None or cell.p80 is None:
        return ""
    return f"{digits(cell.p20 / size)}..{digits(cell.p80 / size)}"


def short_spread(cell: BenchCell) -> str:
    """`±2%`: half the distance from p20 to p80 by the median, for narrow pages."""
    if not cell.median or cell.p20 is None or cell.p80 is None:
        return ""
    share = (cell.p80 - cell.p20) / 2 / cell.median
    return f"±{share:.0%}" if share >= 0.095 else f"±{share * 100:.1f}%"


def memory(size: int | None) -> str:
    """`32 MiB`, `1.2 GiB`; "" for what was not measured."""
    if size is None:
        return ""
    for unit, step in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= step:
            return f"{size / step:.0f} {unit}" if size >= 9.95 * step else f"{size / step:.1f} {unit}"
    return f"{size} B"


def peak(cell: BenchCell, table: BenchTable) -> str:
    """The `memory` of a call, `–` for none; "" in a table where none has any."""
    there = any(other.peak_memory is not None for other in table.cells)
    return memory(cell.peak_memory) or (FREED if there else "")


def length(tokens: int) -> str:
    """`512`, `16k` (x 1024), `1000`."""
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)


def lengths(found: Sequence[int]) -> str:
    """`1k, 4k, 16k`."""
    return ", ".join(length(tokens) for tokens in found)


def ratio(value: float | None) -> str:
    """`1.00x`, `0.03x`, `15.2x`, `.004x`; "" for none."""
    if value is None:
        return ""
    if value < 0.00995:
        return f"{value:.3f}x".removeprefix("0")
    return f"{value:.2f}x" if value < 9.995 else f"{digits(value)}x"


def flop_unit(table: BenchTable) -> tuple[str, float]:
    """("TFLOP", 1) or ("GFLOP", 0.001): one unit for all rates of a table, and how many TFLOP it has."""
    return ("GFLOP", 1e-3) if all((cell.tflops or 0.0) < 1 for cell in table.cells) else ("TFLOP", 1.0)


def legend(tables: Sequence[BenchTable]) -> dict[str, str]:
    """What the columns that there are mean."""
    cells = [cell for table in tables for cell in table.cells]
    there = {
        "FLOP/s": any(cell.tflops is not None for table in tables if not table.decode for cell in table.cells),
        "memory": any(cell.peak_memory is not None for cell in cells),
        "of rate": any(cell.matrix_share is not None for table in tables if not table.decode for cell in table.cells),
        "of copy": any(cell.copy_share is not None for cell in cells),
        "to eager": any(cell.to_eager is not None for cell in cells),
        "to best": any(cell.to_best is not None for cell in cells),
    }
    found = {name: text for name, text in LEGEND.items() if there[name]}
    if any(peak(cell, table) == FREED for table in tables for cell in table.cells):
        found["memory"] += f"; {FREED}: none to tell, the call freed more than it took"
    if there["of rate"] and any((cell.matrix_share or 0.0) >= _MORE for cell in cells):
        found["of rate"] += "; above 100%: the device held another clock while that was read"
    return found


def share(value: float | None) -> str:
    """`79%`; "" for none."""
    return "" if value is None else f"{value:.0%}" if value >= 0.0995 else f"{value * 100:.1f}%"


def title(case: BenchCase) -> str:
    """`kernel: prefill, forward and backward, causal, padded`."""
    way = "forward and backward" if case.backward else "forward"
    inputs = "" if case.inputs == "plain" else f", {case.inputs}"
    return f"{case.level}: {case.phase}, {way}, {case.mask}{inputs}"


def shape(case: BenchCase) -> str:
    """`16 heads / 4 kv, head_dim 128, bfloat16`."""
    kv = "" if case.num_kv_heads == case.num_heads else f" / {case.num_kv_heads} kv"
    value = "" if case.head_dim_v == case.head_dim else f" (v {case.head_dim_v})"
    words = [f"{plural(case.num_heads, 'head')}{kv}", f"head_dim {case.head_dim}{value}", case.dtype]
    words += [f"softcap {case.softcap:g}"] if case.softcap is not None else []
    words += [f"scale {case.scale:.4g}"] if case.scale is not None and not _usual(case) else []
    words += ["sinks"] if case.sinks else []
    words += ["ALiBi"] if case.alibi else []
    return ", ".join(words)


def _usual(case: BenchCase) -> bool:
    return case.scale is None or abs(case.scale - case.head_dim**-0.5) <= 1e-6


def block(entry: Block) -> str:
    """`16k tokens`, `4k tokens x batch 4`, `1 query, 16k keys`."""
    batch = "" if entry.batch == 1 else f" x batch {entry.batch}"
    if entry.q_len == entry.kv_len:
        return f"{length(entry.kv_len)} tokens{batch}"
    queries = "1 query" if entry.q_len == 1 else f"{length(entry.q_len)} queries"
    return f"{queries}, {length(entry.kv_len)} keys{batch}"


def verdict(entry: Without) -> tuple[str, str, str]:
    """Symbol, word and colour of what has no time."""
    symbol, word, colour = STATUS[entry.status]
    if entry.slug:
        return symbol, "wrong", colour
    return (symbol, "out of memory", colour) if out_of_memory(entry.reason) else (symbol, word, colour)


def why(entry: Without, table: BenchTable) -> str:
    """The reason, and at which lengths where it is not all of them."""
    every = {block.kv_len for block in table.blocks} | {n for other in table.without for n in other.lengths}
    where = f" at {lengths(entry.lengths)}" if set(entry.lengths) != every and len(every) > 1 else ""
    reason = entry.reason
    if entry.slug:
        reason = entry.slug + (f": {reason}" if reason and reason != entry.slug else "")
    return (f"{where.strip()}: " if where else "") + (reason or "no reason given")


def device(rates: DeviceRates) -> str:
    """`NVIDIA H100: matrix product 798 TFLOP/s (8192^3 bfloat16), copy 3.00 TB/s, SM clock 1980 -> 1755 MHz, 700 W`."""
    words = []
    if rates.matrix is not None:
        shape = f" ({rates.matrix_shape})" if rates.matrix_shape else ""
        words.append(f"matrix product {flops(rates.matrix)}{shape}")
    if rates.copy is not None:
        words.append(f"copy {bandwidth(rates.copy)} (read + written)")
    before, after = rates.clock
    if before is not None or after is not None:
        clock = str(before) if before == after else f"{_said(before)} → {_said(after)}"
        words.append(f"SM clock {clock} MHz")
    if rates.power_limit is not None:
        words.append(f"power limit {rates.power_limit:.0f} W")
    words.append(f"THROTTLED: {rates.throttled}" if rates.throttled else "")
    return f"{rates.name}: {', '.join(filter(None, words)) or 'its rates were not measured'}"


def _said(value: int | None) -> str:
    return "?" if value is None else str(value)


def flops(rate: float) -> str:
    """`798 TFLOP/s`, `85.2 GFLOP/s`."""
    return f"{digits(rate / 1e12)} TFLOP/s" if rate >= 1e12 else f"{digits(rate / 1e9)} GFLOP/s"


def bandwidth(rate: float) -> str:
    """`3.00 TB/s`, `25.3 GB/s`."""
    return f"{digits(rate / 1e12)} TB/s" if rate >= 1e12 else f"{digits(rate / 1e9)} GB/s"


def name(cell: BenchCell) -> str:
    """`sdpa [cudnn]`: the subject and, where it chose one by itself, its kernel; `*` behind it as of `launch_bound`."""
    chosen = f" [{cell.kernel}]" if cell.kernel else ""
    return f"{cell.case.subject}{chosen}{MARK if cell.launch_bound else ''}"


def winner(cell: BenchCell) -> str:
    """`sdpa*`: the subject alone, with the mark of `name`."""
    return f"{cell.case.subject}{MARK if cell.launch_bound else ''}"


def launch_bound(table: BenchTable) -> str:
    """`flash-attn-4 at 2k: launching ... `, what `*` behind a name says; "" where no name has one."""
    found: dict[str, list[int]] = {}
    for cell in table.cells:
        if cell.launch_bound:
            found.setdefault(cell.case.subject, []).append(cell.case.kv_len)
    who = ", ".join(f"{subject} at {lengths(tokens)}" for subject, tokens in found.items())
    return f"{who}: launching the call from Python takes as long as the call; left out of growth" if who else ""


def first_calls(table: BenchTable) -> list[str]:
    """`flex_attention 10.6 s`, `others up to 31 ms`: the longest first call of each subject, the longest first."""
    found: dict[str, float] = {}
    for cell in table.cells:
        if cell.first_call is not None:
            found[cell.case.subject] = max(cell.first_call, found.get(cell.case.subject, 0.0))
    long = {name: seconds for name, seconds in found.items() if seconds >= LONG_CALL}
    words = [f"{name} {time(seconds)}" for name, seconds in sorted(long.items(), key=lambda item: -item[1])]
    others = max((seconds for name, seconds in found.items() if name not in long), default=None)
    return words if others is None else [*words, f"{'others' if words else 'all'} up to {time(others)}"]


def drifts(table: BenchTable) -> list[str]:
    """`sdpa at 16k: the last repetitions were 8% slower than the first`."""
    return [
        f"{cell.case.subject} at {length(cell.case.kv_len)}: the last repetitions were "
        f"{abs(cell.drift):.0%} {'slower' if cell.drift > 0 else 'faster'} than the first"
        for cell in table.cells
        if cell.drift is not None and abs(cell.drift) > DRIFT
    ]


def repetitions(table: BenchTable) -> str:
    """`21..115 repetitions`."""
    counts = [cell.n for cell in table.cells]
    low, high = min(counts, default=0), max(counts, default=0)
    return plural(low, "repetition") if low == high else f"{low}..{high} repetitions"


def overhead(bench: Bench) -> str:
    """`87 s: 45 s first calls (compiling, loading); of the other 42 s 11% not in kernels, warm-up or imports`."""
    if not bench.wall:
        return ""
    first = sum(cell.first_call or 0.0 for cell in bench.cells)
    told = f"{time(bench.wall)}: {time(first)} first calls (compiling, loading)"
    rest = bench.wall - first
    if not bench.timed or rest <= 0:
        return told
    lost = max(0.0, bench.wall - bench.timed) / rest
    return f"{told}; of the other {time(rest)} {lost:.0%} not in kernels, warm-up or imports"


def published_at(cell: BenchCell) -> str:
    """The settings of a cell as `Bench.published` names them."""
    return setting(cell.case.subject, cell.case.mask, cell.case.head_dim, cell.case.q_len)


def published_elsewhere(bench: Bench, every: Sequence[BenchTable]) -> dict[str, str]:
    """Published figures at settings that the bench has no time of: settings -> figure with its source."""
    matched = {published_at(cell) for table in every for cell in table.cells}
    return {where: figure for where, figure in bench.published.items() if where not in matched}
