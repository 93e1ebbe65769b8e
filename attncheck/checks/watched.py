"""Judges what a watch recorded: each call by itself and by its model's config, then alike calls as one row each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from attncheck.checks import call_findings
from attncheck.checks import call_words as words
from attncheck.checks.calls import Fault, faults
from attncheck.declared import oracle
from attncheck.findings import Finding
from attncheck.semantics import describe
from attncheck.semantics.difference import Difference, compare
from attncheck.semantics.layer_masks import gather
from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import AttentionSpec, ModelSpec, Part
from attncheck.semantics.watched import Site, WatchedCall, WatchedModel, WatchedProcess

#: Shapes named in a row, before the others are only counted.
_SHAPES = 2


@dataclass(frozen=True, slots=True)
class Judged:
    """One call and what is to be said of it. declared: the layer's declaration, None where no config is reachable.

    verdict, reason: as in `Site`. faults: wrong by itself. differences: from what its config declares.
    """

    call: WatchedCall
    verdict: str
    reason: str = ""
    declared: AttentionSpec | None = None
    faults: tuple[Fault, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def slug(self) -> str | None:
        """Of the worst thing wrong with it."""
        if self.faults:
            return self.faults[0].slug
        return self.differences[0].slugs[0] if self.differences else None


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What all records together say."""

    sites: tuple[Site, ...]
    findings: tuple[Finding, ...]


def conclude(processes: Sequence[WatchedProcess], command: str = "") -> Conclusion:
    """Rows and findings over all processes. command: what to run to see a finding again, "" where there is none."""
    judged = [(judge(call, process.models), process.rank) for process in processes for call in process.calls]
    findings = call_findings.findings([entry for entry, _ in judged], command)
    ranked = sorted(findings, key=lambda finding: -finding.severity.rank)
    return Conclusion(tuple(_sites(judged)), tuple(ranked))


def judge(call: WatchedCall, models: Sequence[WatchedModel]) -> Judged:
    """One call, by itself and by the config of its model."""
    found = tuple(faults(call))
    spec = _declared(call, models)
    if not call.seen:
        return Judged(call, "mismatch" if found else "not_run", "" if found else call.unread, spec, found)
    verdict, reason, differences = _beside_config(call, spec)
    if found:
        # What the call is wrong by itself says more than how it then differs from the config.
        return Judged(call, "mismatch", "", spec, found)
    return Judged(call, verdict, reason, spec, (), differences)


def _beside_config(call: WatchedCall, spec: AttentionSpec | None) -> tuple[str, str, tuple[Difference, ...]]:
    """Verdict, why there is none, and the differences between what is seen and what the layer declares."""
    if spec is None:
        return "unknown", "", ()
    if not spec.attends or not spec.mask_known:
        return "unknown", "its config does not say what this layer may see", ()
    tokens = call.tokens
    if tokens.remarks or not tokens.known:
        return "unknown", "; ".join(tokens.remarks) or "what its model was fed is not known", ()
    layout, encoder = _layouts(call)
    if layout is None or (call.part is Part.CROSS and encoder is None):
        return "unknown", "what its model was fed is not known", ()
    masks = gather([words.observation(call, len(layout.steps) - 1)], layout, encoder, spec.part)
    if masks.unreadable or not masks.groups:
        return "unknown", masks.unreadable or "no query was read", ()
    differences = compare(spec.mask, masks)
    return ("mismatch" if differences else "ok"), "", differences


def _layouts(call: WatchedCall) -> tuple[Layout | None, Layout | None]:
    tokens = call.tokens
    if call.part is Part.ENCODER:
        return tokens.encoder or tokens.decoder, None
    if call.part is Part.CROSS:
        return tokens.decoder, tokens.encoder
    return tokens.decoder or tokens.encoder, None


def _declared(call: WatchedCall, models: Sequence[WatchedModel]) -> AttentionSpec | None:
    if call.model is None or call.part is None or call.layer is None or call.model >= len(models):
        return None
    layers = _specs(_Frozen(models[call.model])).of_part(call.part)
    return next((spec for spec in layers if spec.layer == call.layer), None)


class _Frozen:
    """A model as a cache key: by what it is, as its config is no value that could be one."""

    def __init__(self, model: WatchedModel) -> None:
        self.model = model

    def __hash__(self) -> int:
        return hash(self.model.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and self.model == other.model


@lru_cache(maxsize=64)
def _specs(frozen: _Frozen) -> ModelSpec:
    return oracle.declare(frozen.model.config)


def _sites(judged: Iterable[tuple[Judged, int | None]]) -> Iterator[Site]:
    """Rows in the order of their first call: alike but for layer, step, rank and length."""
    rows: dict[Site, tuple[list[WatchedCall], set[int]]] = {}
    for entry, rank in judged:
        calls, ranks = rows.setdefault(_row(entry), ([], set()))
        calls.append(entry.call)
        ranks |= set() if rank is None else {rank}
    for row, (calls, ranks) in rows.items():
        yield replace(
            row,
            layers=tuple(sorted({call.layer for call in calls if call.layer is not None})),
            shape=_shapes(calls),
            calls=len(calls),
            ranks=tuple(sorted(ranks)),
        )


def _row(entry: Judged) -> Site:
    call = entry.call
    declared = entry.declared.mask if entry.declared is not None and entry.declared.mask_known else None
    return Site(
        function=call.function,
        where=call.where,
        implementation=call.implementation,
        kernel=call.kernel,
        launched=call.launched,
        module=call.module_class or call.module,
        part=call.part,
        phase="train" if call.training else "eval",
        dtype=call.dtype,
        device=call.device,
        mask_kind=call.mask_kind,
        is_causal=call.is_causal,
        window=call.window,
        sees=words.sees(call, declared),
        declared="" if declared is None else describe.mask(declared),
        verdict=entry.verdict,
        difference=entry.slug,
        basis=Basis.MEASURED if call.seen else None,
        reason=entry.reason,
    )


def _shapes(calls: Sequence[WatchedCall]) -> str:
    """`2x8x128x64 on 512 keys, and 3 more`."""
    found = dict.fromkeys(_shape(call) for call in calls)
    named = list(found)[:_SHAPES]
    more = len(found) - len(named)
    return "; ".join(named) + (f"; {more} more" if more > 0 else "")


def _shape(call: WatchedCall) -> str:
    shape = "x".join(map(str, call.query))
    return shape if call.q_len == call.kv_len else f"{shape} on {call.kv_len} keys"


def implementations(calls: Iterable[WatchedCall]) -> Mapping[str, tuple[str, ...]]:
    """Implementation -> kernels that ran below it, in order."""
    found: dict[str, dict[str, None]] = {}
    for call in calls:
        found.setdefault(call.implementation or call.function, {})[call.kernel] = None
    return {name: tuple(kernel for kernel in kernels if kernel) for name, kernels in found.items()}
