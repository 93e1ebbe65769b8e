"""What a finding's evidence sets against one another, as its rule calls it; what of it stands for all."""

from __future__ import annotations

from collections.abc import Sequence

from attncheck.findings import SIDES, Finding, Recommendation
from attncheck.render.wording import layer_ranges
from attncheck.semantics.observation import Basis


def sides(finding: Finding) -> tuple[str, str]:
    """The names of `Evidence.declared` and `Evidence.effective`; the usual ones for a rule of another release."""
    from attncheck.checks import registry

    rule = registry.rule(finding.slug)
    return SIDES if rule is None else rule.sides


def apart(finding: Finding) -> bool:
    """True where each finding of the rule is a figure of its own, which no other one stands for."""
    return sides(finding) != SIDES


def distinct(findings: Sequence[Finding]) -> list[Recommendation]:
    """Each distinct recommendation of findings of one rule; of figures, the first with a setting stands for all."""
    found: dict[str, Recommendation] = {}
    for finding in findings:
        for entry in finding.recommendations:
            found.setdefault(entry.paste if entry.paste and apart(finding) else entry.text, entry)
    return list(found.values())


def first_difference(finding: Finding) -> str:
    """`query 8 sees key 0; 136 cells leaked; heads 0, 2 only`; "" where no cell is known.

    Of a probe that looked at chosen keys: `of the 39 keys probed, over 32 heads: 320 cells leaked`.
    """
    evidence = finding.evidence
    words = []
    if evidence.first_difference is not None:
        row, query, key = evidence.first_difference
        verb = "and" if bool(evidence.leaked) == bool(evidence.missed) else "sees" if evidence.leaked else "misses"
        words.append(f"query {query} {verb} key {key}" + (f" in batch row {row}" if row else ""))
    kinds = ((evidence.leaked, "leaked"), (evidence.missed, "missed"))
    counts = "; ".join(f"{many} cell{'' if many == 1 else 's'} {what}" for many, what in kinds if many)
    if counts and (of := _counted_over(finding)) is not None:
        words.append(of + counts)
    if evidence.heads:
        words.append(f"heads {layer_ranges(evidence.heads)} only")
    return "; ".join(words)


def _counted_over(finding: Finding) -> str | None:
    """What counts of cells are of: "" for the whole mask; None where an older report does not say which keys."""
    figures = finding.evidence.figures
    keys, heads = figures.get("keys_probed"), figures.get("heads_probed")
    if keys is not None:
        return f"of the {keys} keys probed, over {heads} head{'' if heads == 1 else 's'}: "
    # Older reports name the queries beside counts of cells of chosen keys, and not how many keys those were.
    return None if finding.basis is Basis.MEASURED and "queries" in figures else ""
