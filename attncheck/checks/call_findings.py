"""Findings about calls of a running script: alike faults of several layers, steps and ranks become one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from attncheck.checks import call_words as words
from attncheck.checks.availability import RULES as AVAILABILITY
from attncheck.checks.registry import code_of, rule
from attncheck.findings import Evidence, Finding, Recommendation, Setting, Severity
from attncheck.semantics.observation import Basis
from attncheck.semantics.watched import WatchedCall

if TYPE_CHECKING:
    from attncheck.checks.watched import Judged

SILENT_FALLBACK = next(entry for entry in AVAILABILITY if entry.slug == "silent-fallback")

#: Masks of more keys stay out of a report: nobody reads them, and each takes a megabyte.
_LARGEST_MASK = 128

_SNIPPET = """\
import torch
from torch.nn.functional import scaled_dot_product_attention

queries, keys = {queries}, {keys}
q, k, v = torch.zeros(1, 1, queries, 8), torch.zeros(1, 1, keys, 8), torch.eye(keys)[None, None]
print((scaled_dot_product_attention(q, k, v, {arguments}) > 0).int()[0, 0])  # queries x keys: 1 is seen"""


def findings(judged: Iterable[Judged], command: str) -> list[Finding]:
    """One finding for each fault, implementation, place in the code and part; the first call leads."""
    together: dict[tuple[object, ...], list[tuple[Judged, Finding]]] = {}
    for entry in judged:
        for finding in _of(entry, command):
            key = (
                finding.slug,
                finding.implementation,
                finding.part,
                entry.call.where,
                "" if entry.call.part is None else finding.message,
            )
            together.setdefault(key, []).append((entry, finding))
    return [_merged(same) for same in together.values()]


def _of(entry: Judged, command: str) -> Iterator[Finding]:
    call = entry.call
    where = f"{call.where}: " if call.where and not call.implementation else ""
    for fault in entry.faults:
        seen = None if fault.seen is None else fault.seen.keep
        evidence = Evidence(
            declared=fault.expected,
            requested=words.arguments(call),
            effective=fault.effective,
            first_difference=_first(call, fault.seen.row if fault.seen else 0, fault.right, seen),
            heads=() if fault.seen is None else fault.seen.heads,
            leaked=_cells(seen, fault.right),
            missed=_cells(fault.right, seen),
            declared_mask=fault.right if _small(fault.right) and seen is not None else None,
            effective_mask=seen if _small(seen) and fault.right is not None else None,
            figures={"where": call.where, "call": call.number},
        )
        fixes = (Setting("torch", fault.paste.partition("=")[0], fault.paste.partition("=")[2], fault.paste),)
        advice = Recommendation(fault.fix or _fix(fault.slug), fixes if fault.paste else ())
        reproduction = _snippet(call, fault.slug, fault.arguments) or command
        found = _finding(call, fault.slug, f"{where}{fault.title}", evidence, advice, reproduction)
        yield replace(found, severity=fault.severity)
    for difference in entry.differences:
        for slug in difference.slugs:
            known = rule(slug)
            assert known is not None
            against = f": declared {difference.declared_short}, effective {difference.effective_short}"
            same = difference.declared_short == difference.effective_short
            small = _small(difference.declared)
            evidence = Evidence(
                declared=difference.declared_text,
                requested=words.arguments(call),
                effective=difference.effective_text,
                first_difference=(call.rows[difference.first[0]], *difference.first[1:]),
                leaked=difference.leaked,
                missed=difference.missed,
                heads=difference.heads if len(difference.heads) < call.num_heads else (),
                declared_mask=difference.declared if small else None,
                effective_mask=difference.effective if small else None,
                figures={"where": call.where, "call": call.number},
            )
            message = known.title + ("" if same else against)
            found = _finding(call, slug, message, evidence, Recommendation(known.fix), command)
            yield _meant(found) if slug == "causal-ignored" and call.switched is False else found
    if (replaced := _fallback(call)) is not None:
        yield replaced


def _finding(
    call: WatchedCall, slug: str, message: str, evidence: Evidence, advice: Recommendation, reproduction: str
) -> Finding:
    return Finding(
        code=code_of(slug),
        slug=slug,
        severity=Severity.ERROR,
        message=message,
        basis=Basis.MEASURED,
        implementation=call.implementation or call.function,
        kernel=call.kernel,
        part=call.part,
        layers=() if call.layer is None else (call.layer,),
        evidence=evidence,
        reproduction=reproduction,
        recommendations=(advice,),
    )


def _meant(finding: Finding) -> Finding:
    """A module whose own switch says bidirectional may be meant so (embedding models made of decoders)."""
    return replace(
        finding,
        severity=Severity.WARNING,
        message=f"{finding.message}; the config says causal, the module's own is_causal says False",
    )


def _fallback(call: WatchedCall) -> Finding | None:
    """A warning where another of transformers' own implementations runs than the config of the module names."""
    plain = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")
    if call.implementation not in plain or call.configured not in plain or call.implementation == call.configured:
        return None
    return Finding(
        code=SILENT_FALLBACK.code,
        slug=SILENT_FALLBACK.slug,
        severity=Severity.WARNING,
        message=f"the config says {call.configured}, and {call.implementation} runs",
        basis=Basis.MEASURED,
        implementation=call.implementation,
        kernel=call.kernel,
        part=call.part,
        layers=() if call.layer is None else (call.layer,),
        evidence=Evidence(requested=call.configured, effective=call.implementation, figures={"where": call.where}),
        recommendations=(Recommendation(SILENT_FALLBACK.fix),),
    )


def _merged(same: list[tuple[Judged, Finding]]) -> Finding:
    lead = same[0][1]
    layers = sorted({layer for _, finding in same for layer in finding.layers})
    figures = {**lead.evidence.figures, "calls": len(same)}
    worst = max((finding.severity for _, finding in same), key=lambda severity: severity.rank)
    return replace(lead, severity=worst, layers=tuple(layers), evidence=replace(lead.evidence, figures=figures))


def _fix(slug: str) -> str:
    known = rule(slug)
    return "" if known is None else known.fix


def _small(mask: object) -> bool:
    return getattr(mask, "kv_len", _LARGEST_MASK + 1) <= _LARGEST_MASK and getattr(mask, "q_len", 0) <= _LARGEST_MASK


def _cells(one: object, other: object) -> int:
    """How many cells the first keeps and the second does not."""
    mine, theirs = getattr(one, "rows", None), getattr(other, "rows", None)
    return 0 if mine is None or theirs is None else sum((a & ~b).bit_count() for a, b in zip(mine, theirs))


def _first(call: WatchedCall, row: int, right: object, seen: object) -> tuple[int, int, int] | None:
    mine, theirs = getattr(seen, "rows", None), getattr(right, "rows", None)
    if mine is None or theirs is None:
        return None
    for query, (effective, wanted) in enumerate(zip(mine, theirs)):
        if wrong := effective ^ wanted:
            return row, query + call.kv_len - call.q_len, (wrong & -wrong).bit_length() - 1
    return None


def _snippet(call: WatchedCall, slug: str, arguments: str) -> str:
    """Lines that show the fault by themselves, for calls of torch's function; "" where the script has to be run."""
    if call.function != "scaled_dot_product_attention" or call.implementation:
        return ""
    sizes = {"queries": min(call.q_len, 16), "keys": min(call.kv_len, 16)}
    if slug == "causal-misaligned":
        keys = min(call.kv_len, 16)
        queries = min(call.q_len, keys - 1)
        return _SNIPPET.format(queries=queries, keys=keys, arguments="is_causal=True")
    made = {
        "mask-inverted": "attn_mask=torch.ones(queries, keys).triu(1).bool()",
        "mask-hides-nothing": "attn_mask=torch.ones(queries, keys).tril()",
        "nothing-visible": "attn_mask=torch.zeros(queries, keys).bool()",
    }
    shown = arguments or made.get(slug, "")
    return _SNIPPET.format(**sizes, arguments=shown) if shown else ""
