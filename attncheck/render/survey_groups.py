"""Findings of a survey's row that say the same thing as one entry: where it was seen, and the id that cells link to."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attncheck.surveyed import Row, State, SurveyCell, SurveyFinding

_RANK = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Group:
    """Findings that differ only in implementation, basis and scenario (and evidence, where that is not told).

    anchor: its id on the page.
    """

    anchor: str
    findings: tuple[SurveyFinding, ...]

    @property
    def lead(self) -> SurveyFinding:
        """The finding that speaks for all."""
        return self.findings[0]

    @property
    def where(self) -> str:
        """`eager, sdpa (measured): packed; flash_attention_2 (predicted): packed-batch`."""
        return places((entry.implementation, entry.basis, entry.scenario) for entry in self.findings)

    @property
    def evidence(self) -> list[tuple[str, str]]:
        """(label, words) of what was declared, asked of the kernel, and seen."""
        lead = self.lead
        pairs = (("declared", lead.declared), ("requested", lead.requested), ("effective", lead.effective))
        return [(label, text) for label, text in pairs if text]

    @property
    def shown(self) -> bool:
        """True when a run shows it again: remarks on a config or a version are no matter of one."""
        return self.lead.severity != "note" or bool(self.lead.implementation and self.lead.scenario)


def anchor(row: Row) -> str:
    """The id of a row's details."""
    return "t-" + "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in row.name)


def groups(row: Row, evidence: bool = True) -> list[Group]:
    """The findings of a row, worst first; those of one slug, severity, part and message as one.

    evidence: it is told too, so that what differs in it stays apart.
    """
    same: dict[tuple[str, ...], list[SurveyFinding]] = {}
    for entry in sorted(row.findings, key=lambda entry: _RANK[entry.severity]):
        told = (entry.declared, entry.requested, entry.effective) if evidence else ()
        same.setdefault((*_says(entry), *told), []).append(entry)
    slugs: Counter[str] = Counter()
    result = []
    for found in same.values():
        slug = found[0].slug
        slugs[slug] += 1
        number = f"-{slugs[slug]}" if slugs[slug] > 1 else ""
        result.append(Group(f"{anchor(row)}-{slug}{number}", tuple(found)))
    return result


def differences(found: Iterable[Group]) -> int:
    """How many things are wrong, whatever the evidence; notes are not."""
    return len({_says(group.lead) for group in found if group.lead.severity != "note"})


def _says(finding: SurveyFinding) -> tuple[str, ...]:
    return finding.severity, finding.slug, finding.part, finding.message


def by_place(found: Iterable[Group]) -> dict[tuple[str, str], list[Group]]:
    """(implementation, scenario) -> the groups that were seen there, worst first."""
    result: dict[tuple[str, str], list[Group]] = {}
    for group in found:
        for place in dict.fromkeys((entry.implementation, entry.scenario) for entry in group.findings):
            result.setdefault(place, []).append(group)
    return result


def behind(cell: SurveyCell, at: Mapping[tuple[str, str], Sequence[Group]]) -> Group | None:
    """The group that a cell is about: of the worst seen there, the one of its first difference. at: by_place.

    None without one, and for a cell that tells why it is not judged.
    """
    here = at.get((cell.implementation, cell.scenario), ())
    if not here or (cell.state not in (State.MISMATCH, State.BREAKS) and (cell.reason or cell.open)):
        return None
    worst = [group for group in here if group.lead.severity == here[0].lead.severity]
    return next((group for slug in cell.slugs for group in worst if group.lead.slug == slug), worst[0])


def places(found: Iterable[tuple[str, str, str]], most: int | None = None) -> str:
    """(implementation, basis, scenario)s in words; each of the three may be "". most: scenarios that are named."""
    scenarios: dict[tuple[str, str], dict[str, None]] = {}
    for implementation, basis, scenario in found:
        scenarios.setdefault((implementation, basis), {})[scenario] = None
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (implementation, basis), names in scenarios.items():
        alike.setdefault((basis, tuple(filter(None, names))), []).append(implementation)
    lines = []
    for (basis, known), implementations in alike.items():
        who = ", ".join(filter(None, implementations))
        who = " ".join(filter(None, (who, f"({basis})" if basis and who else basis)))
        lines.append(": ".join(filter(None, (who, few(known, most)))))
    return "; ".join(lines)


def few(names: Sequence[str], most: int | None = 6) -> str:
    """The first of many names, and how many more there are."""
    left = len(names) - len(names[:most])
    return ", ".join(names[:most]) + (f" and {left} more" if left else "")


def command(row: Row, group: Group) -> str:
    """The command that measures this row again where the group was seen."""
    found = group.findings
    names = [entry.implementation.partition(":")[0] for entry in found if entry.implementation]
    scenarios = [entry.scenario for entry in found if entry.scenario]
    words = ["attncheck", "compare", row.model_type]
    for text in row.assignments:
        words += ["--set", shlex.quote(text)]
    if names:
        words += ["--impl", ",".join(dict.fromkeys(names if "eager" in names else ["eager", *names]))]
    if scenarios:
        words += ["--scenario", ",".join(dict.fromkeys(scenarios))]
    return " ".join(words)
