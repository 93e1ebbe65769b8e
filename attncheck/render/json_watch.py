"""What a watch saw, as JSON: domain types in, the wire types of `wire_watch.py` out."""

from __future__ import annotations

from attncheck.render import wire_watch as wire
from attncheck.semantics.watched import Site, Watch


def watch(entry: Watch) -> wire.WatchEntry:
    """The script and its attention calls."""
    return {
        "script": entry.script,
        "status": entry.status,
        "ended_by": entry.ended_by,
        "first": entry.first,
        "processes": entry.processes,
        "ranks": list(entry.ranks),
        "compiled": entry.compiled,
        "failures": list(entry.failures),
        "versions": dict(entry.versions),
        "sites": [_site(site) for site in entry.sites],
    }


def _site(site: Site) -> wire.SiteEntry:
    return {
        "function": site.function,
        "where": site.where,
        "implementation": site.implementation,
        "kernel": site.kernel,
        "launched": site.launched,
        "module": site.module,
        "part": None if site.part is None else site.part.value,
        "layers": list(site.layers),
        "phase": site.phase,
        "shape": site.shape,
        "dtype": site.dtype,
        "device": site.device,
        "mask_kind": site.mask_kind,
        "is_causal": site.is_causal,
        "window": site.window,
        "sees": site.sees,
        "declared": site.declared,
        "verdict": site.verdict,
        "difference": site.difference,
        "basis": None if site.basis is None else site.basis.value,
        "reason": site.reason,
        "calls": site.calls,
        "ranks": list(site.ranks),
    }
