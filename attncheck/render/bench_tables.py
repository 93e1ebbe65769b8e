"""The cells of a bench put in order for every renderer: one table a kind of call, in it one block a length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attncheck.render.wording import first_line
from attncheck.semantics.convention import Outcome
from attncheck.semantics.growth import growth
from attncheck.semantics.timing import Bench, BenchCase, BenchCell, Growth
from attncheck.verdicts import Status

#: What a table is about: level, phase, backward, inputs, mask, heads, kv heads, head_dim, head_dim_v, dtype, rest.
Key = tuple[str, str, bool, str, str, int, int, int, int, str, str]

_STATUS = {
    Outcome.READ: Status.OK,
    Outcome.REFUSED: Status.REJECTED,
    Outcome.CRASHED: Status.CRASHED,
    Outcome.NOT_RUN: Status.NOT_RUN,
}


@dataclass(frozen=True, slots=True)
class Block:
    """The cells of one length that have a time, the fastest first. batch: sequences a call."""

    q_len: int
    kv_len: int
    batch: int
    cells: tuple[BenchCell, ...]


@dataclass(frozen=True, slots=True)
class Without:
    """Cells of one subject without a time, for one reason. lengths: keys. slug: of the excluding finding, or ""."""

    subject: str
    status: Status
    reason: str
    slug: str
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BenchTable:
    """All cells of one kind of call. case: any of theirs, for what they share."""

    case: BenchCase
    blocks: tuple[Block, ...]
    without: tuple[Without, ...]
    growth: tuple[Growth, ...]

    @property
    def cells(self) -> tuple[BenchCell, ...]:
        """Those with a time, by length, the fastest first."""
        return tuple(cell for block in self.blocks for cell in block.cells)

    @property
    def decode(self) -> bool:
        """True when one query meets a cache: then bandwidth limits, not the matrix units."""
        return self.case.phase == "decode"


def tables(bench: Bench) -> list[BenchTable]:
    """In the order in which their first cells were measured; without what `never_ran`."""
    together: dict[Key, list[BenchCell]] = {}
    idle = never_ran(bench)
    for cell in bench.cells:
        if (cell.case.level, cell.case.subject) in idle:
            continue
        together.setdefault(_key(cell.case), []).append(cell)
    exponents = _exponents(bench)
    return [_table(cells, exponents) for cells in together.values()]


def _exponents(bench: Bench) -> Sequence[Growth]:
    """Those of the run; of an older one anew where its cells are of several dtypes or bound by their launch."""
    dtypes = {cell.case.dtype for cell in bench.cells}
    mixed = len(dtypes) > 1 or any(cell.launch_bound for cell in bench.cells)
    old = any(not entry.dtype for entry in bench.growth)
    return growth(bench.cells) if old and mixed else bench.growth


def never_ran(bench: Bench) -> dict[tuple[str, str], str]:
    """(level, subject) -> why none of its calls was tried: one cell stands for all of them."""
    found: dict[tuple[str, str], set[str]] = {}
    for cell in bench.cells:
        idle = cell.outcome is Outcome.NOT_RUN and cell.median is None and not cell.excluded
        reason = first_line(cell.detail) if idle else ""
        found.setdefault((cell.case.level, cell.case.subject), set()).add(reason)
    return {key: next(iter(reasons)) for key, reasons in found.items() if len(reasons) == 1 and "" not in reasons}


def _key(case: BenchCase) -> Key:
    rest = f"{case.softcap} {case.scale} {case.chunk} {case.sinks} {case.alibi}"
    sizes = (case.num_heads, case.num_kv_heads, case.head_dim, case.head_dim_v)
    return (case.level, case.phase, case.backward, case.inputs, case.mask, *sizes, case.dtype, rest)


def _table(cells: list[BenchCell], exponents: Iterable[Growth]) -> BenchTable:
    case = cells[0].case
    lengths: dict[tuple[int, int, int], list[BenchCell]] = {}
    for cell in cells:
        if cell.median is not None:
            lengths.setdefault((cell.case.kv_len, cell.case.q_len, cell.case.batch), []).append(cell)
    blocks = [
        Block(q_len, kv_len, batch, tuple(sorted(timed, key=lambda cell: cell.median or 0.0)))
        for (kv_len, q_len, batch), timed in sorted(lengths.items())
    ]
    grown = tuple(entry for entry in exponents if entry.of(case))
    return BenchTable(case, tuple(blocks), tuple(_without(cells)), grown)


def _without(cells: Iterable[BenchCell]) -> list[Without]:
    """What has no time, the wrong ones first; one entry a subject and reason."""
    together: dict[tuple[str, Status, str, str], list[int]] = {}
    for cell in cells:
        if cell.median is None:
            status = Status.MISMATCH if cell.excluded else _STATUS[cell.outcome]
            status = Status.NOT_RUN if status is Status.OK else status  # read, but nobody timed it
            reason = first_line(cell.detail)
            together.setdefault((cell.case.subject, status, reason, cell.excluded), []).append(cell.case.kv_len)
    found = [
        Without(subject, status, reason, slug, tuple(sorted(set(lengths))))
        for (subject, status, reason, slug), lengths in together.items()
    ]
    order = (Status.MISMATCH, Status.CRASHED, Status.REJECTED, Status.NOT_RUN)
    return sorted(found, key=lambda entry: order.index(entry.status))


def right(cells: Iterable[BenchCell]) -> list[BenchCell]:
    """Those with a time and without an error finding: a fast wrong kernel is no winner."""
    return [cell for cell in cells if cell.median is not None and not cell.excluded]


def out_of_memory(reason: str) -> bool:
    """True when a library's words say that memory ran out."""
    return "out of memory" in reason.lower() or "outofmemory" in reason.lower()
