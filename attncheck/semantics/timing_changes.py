"""Two benches of the same calls: how times and memory changed, and which changes are more than noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from attncheck.semantics.timing import Bench, BenchCase, BenchCell

#: How far medians of one call lie apart between separate runs with the same software, whatever the spread within a run.
#: Source: two benches of Mistral-7B on two H100 80GB (2026-11-22). Of the kernel calls that neither their launch bound
#: nor that were seen to drift by more than 5 %, 75 lie up to 7.3 % apart (median 0.6 %, 67 within 4 %; the farthest are
#: long prefills at the power limit: cudnn-graph at 32k 14.6 and 13.6 ms). Not covered: 6 of the 11 of
#: flex_attention-uncompiled and te-unfused, which launch many small kernels (up to 62 %). Of a third run's pairs with
#: both, 70 of 75 lie within this. Of the 107 pairs of two later whole runs (median 0.6 %), the spread within the runs
#: counted as well, all but 4 of flex_attention at 1k and 4k: uncompiled, or in a layer, where the time is Python's.
BETWEEN_RUNS = 0.08
#: How many times as long a launch from Python takes in one run as in another. Source: 121 pairs of calls that two
#: benches of Mistral-7B on two H100 80GB (2026-11-22) both found bound by it lie up to 2.7 apart.
LAUNCHES_DIFFER = 3.0
#: Repetitions from which on p20 and p80 lie between two of them each.
FEWEST = 6


@dataclass(frozen=True, slots=True)
class BenchChange:
    """One call that both benches timed.

    ratio: new median by old. low, high: what noise alone may explain around the ratio, from p20 and p80 of both and
    never less than `BETWEEN_RUNS` to either side, wider by the drift of the run that drifted more. memory_ratio: of the
    peaks, None where one of them is missing or 0.
    """

    old: BenchCell
    new: BenchCell
    ratio: float
    low: float
    high: float
    memory_ratio: float | None

    @property
    def repetitions(self) -> int:
        """Of the run that has fewer; below `FEWEST` p20 and p80 say little."""
        return min(self.old.n, self.new.n)

    @property
    def launch_bound(self) -> bool:
        """True where either run timed the launch, Python's time, of which low..high says nothing, and this may be all.

        No kernel takes longer than what was timed with its launch. So a call that took its launch's time before and is
        far slower now without (or the other way round, faster) has another kernel time, however launches differ.
        """
        old, new = self.old.launch_bound, self.new.launch_bound
        if old and not new:
            return self.ratio <= LAUNCHES_DIFFER
        if new and not old:
            return self.ratio >= 1 / LAUNCHES_DIFFER
        return old

    @property
    def beyond_noise(self) -> bool:
        """True when 1 lies outside of low..high, of a call that is not bound by its launch."""
        return not self.launch_bound and (self.low > 1.0 or self.high < 1.0)


@dataclass(frozen=True, slots=True)
class BenchChanges:
    """A new bench against a stored one.

    source: the stored file. changes: of what both timed, in the order of the new bench. lost, gained: (old, new) of
    calls in both that only one of them timed. only_old, only_new: timed calls that only one of them has; only_old is
    empty where the new run was interrupted and may still have come to them. differences: what
    else differs between the runs ("device", "torch") -> (old, new). complete: the stored run had come to its end.
    """

    source: str
    changes: tuple[BenchChange, ...] = ()
    lost: tuple[tuple[BenchCell, BenchCell], ...] = ()
    gained: tuple[tuple[BenchCell, BenchCell], ...] = ()
    only_old: tuple[BenchCell, ...] = ()
    only_new: tuple[BenchCell, ...] = ()
    differences: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    complete: bool = True


def compare(old: Bench, new: Bench, source: str, differences: Mapping[str, tuple[str, str]]) -> BenchChanges:
    """The new bench against the old one, call by call. Of a call that stands in a bench twice, the first counts."""
    before, after = _by_case(old), _by_case(new)
    changes: list[BenchChange] = []
    lost: list[tuple[BenchCell, BenchCell]] = []
    gained: list[tuple[BenchCell, BenchCell]] = []
    for case, cell in after.items():
        earlier = before.get(case)
        if earlier is None:
            continue
        if (found := _change(earlier, cell)) is not None:
            changes.append(found)
        elif earlier.median is not None:
            lost.append((earlier, cell))
        elif cell.median is not None:
            gained.append((earlier, cell))
    return BenchChanges(
        source,
        tuple(changes),
        tuple(lost),
        tuple(gained),
        tuple(cell for case, cell in before.items() if case not in after and cell.median) if new.complete else (),
        tuple(cell for case, cell in after.items() if case not in before and cell.median),
        dict(differences),
        old.complete,
    )


def _by_case(bench: Bench) -> dict[BenchCase, BenchCell]:
    found: dict[BenchCase, BenchCell] = {}
    for cell in bench.cells:
        found.setdefault(replace(cell.case, cells=0), cell)  # a count, not a part of the question
    return found


def _change(old: BenchCell, new: BenchCell) -> BenchChange | None:
    """None where one of them has no time."""
    if not old.median or not new.median:
        return None
    ratio = new.median / old.median
    low = min((new.p20 or new.median) / (old.p80 or old.median), ratio / (1 + BETWEEN_RUNS))
    high = max((new.p80 or new.median) / (old.p20 or old.median), ratio * (1 + BETWEEN_RUNS))
    wider = 1 + max(abs(old.drift or 0.0), abs(new.drift or 0.0))
    memory = new.peak_memory / old.peak_memory if new.peak_memory and old.peak_memory else None
    return BenchChange(old, new, ratio, low / wider, high * wider, memory)
