"""Has the worker make the calls under which kernels are known to go wrong; a dead worker is an answer too."""

from __future__ import annotations

from collections.abc import Callable

from attncheck.probe.jobs import Jobs
from attncheck.probe.protocol import Job
from attncheck.semantics.convention import Ability, Outcome
from attncheck.semantics.observation import Basis, Crashed, NotRun, Rejected

#: The API that the known wrong numbers come from, and the steps of the job "defects" that it is put through.
API = "sdpa-cudnn"
STEPS = ("few-kv-heads", "masked-backward-704", "float32-mask")


def confirm(
    jobs: Jobs, *, device: str = "cuda", api: str = API, progress: Callable[[str], None] = lambda _: None
) -> tuple[Ability, ...]:
    """One `Ability` a step, in bfloat16 on that device. A step that broke or was not run says so."""
    job = Job("defects", STEPS, {"api": api, "device": device, "dtype": "bfloat16"})
    return tuple(_ability(api, done.step, done.outcome) for done in jobs.run(job, progress=progress))


def _ability(api: str, step: str, outcome: object) -> Ability:
    if isinstance(outcome, Ability):
        return outcome
    if isinstance(outcome, Rejected):
        reasons = "; ".join(reason.text for reason in outcome.reasons)
        return Ability(api, step, "refused", Outcome.REFUSED, Basis.MEASURED, detail=reasons)
    if isinstance(outcome, Crashed):
        return Ability(api, step, "broke", Outcome.CRASHED, Basis.MEASURED, detail=outcome.reason)
    reason = outcome.reason if isinstance(outcome, NotRun) else f"the worker answered {type(outcome).__name__}"
    return Ability(api, step, "not run", Outcome.NOT_RUN, None, detail=reason)
