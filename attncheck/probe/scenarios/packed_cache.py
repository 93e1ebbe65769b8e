"""packed-cache: a packed row with `use_cache=True`, which is what a training loop gets that does not switch it off."""

from __future__ import annotations

from attncheck.probe.scenario import (
    DOCUMENTS,
    CacheInput,
    Plan,
    Scenario,
    Subject,
    refuses_cache,
    refuses_packing,
    with_and_without_mask,
)
from attncheck.semantics.layout import documents


def plan(subject: Subject) -> Plan:
    """One row; the presence of an empty cache object alone changes how masks are made."""
    if reason := refuses_packing(subject) or refuses_cache(subject):
        return reason
    row = documents(*DOCUMENTS)
    return with_and_without_mask(**subject.lay(row), positions=(row.position,), cache=CacheInput.DEFAULT)


SCENARIO = Scenario("packed-cache", "a packed row while a cache object exists", core=False, order=7, plan=plan)
