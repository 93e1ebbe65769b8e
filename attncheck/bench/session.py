"""One run of the bench as it grows: the cells so far, the time accounted for, and the report they make."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import attncheck
from attncheck.backends.interface import Api
from attncheck.bench import figures
from attncheck.bench.grid import Attention
from attncheck.bench.options import BenchOptions
from attncheck.bench.plan import Plan
from attncheck.bench.presets import PRESETS
from attncheck.bench.subjects import Table
from attncheck.checks import speed
from attncheck.environment import Environment
from attncheck.findings import Finding, Recommendation
from attncheck.frameworks import transformers as framework
from attncheck.probe import baselines
from attncheck.probe.jobs import Jobs
from attncheck.probe.protocol import Job, StepDone
from attncheck.report import Report
from attncheck.semantics.convention import Outcome
from attncheck.semantics.growth import growth
from attncheck.semantics.observation import Crashed, NotRun, Rejected
from attncheck.semantics.timing import Bench, BenchCase, BenchCell, DeviceRates

Progress = Callable[[str], None]
#: Called with what makes a report of all cells so far.
Partial = Callable[[Callable[[], Report]], None]


@dataclass(slots=True)
class Session:
    """What a run has to work with, and what it has found.

    modules: further ones with kernel APIs. started: `time.perf_counter` at the start. total: cells to come in all.
    timed: as of `Bench`. excluded: case -> slug of what is wrong with it. wrong: (implementation of transformers,
    attention, backward) -> slug of what is wrong with the kernel that it calls.
    """

    options: BenchOptions
    environment: Environment
    plan: Plan
    apis: Table
    modules: tuple[str, ...]
    jobs: Jobs
    progress: Progress
    partial: Partial
    started: float
    total: int = 0
    timed: float = 0.0
    cells: list[BenchCell] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    rates: DeviceRates | None = None
    excluded: dict[BenchCase, str] = field(default_factory=dict)
    wrong: dict[tuple[str, Attention, bool], str] = field(default_factory=dict)

    def add(self, cell: BenchCell) -> None:
        """Keep a finished cell and offer the report so far."""
        self.cells.append(figures.with_shares(cell, self.rates))
        self.partial(self._so_far)

    def note(self, finding: Finding) -> None:
        """Keep a finding, once."""
        if finding not in self.findings:
            self.findings.append(finding)

    def cell(self, case: BenchCase, outcome: object, before: float = 0.0) -> BenchCell:
        """The cell that a timing step gave. before: seconds of the first call of its check, where things compile."""
        if not isinstance(outcome, tuple):
            became = {Rejected: Outcome.REFUSED, Crashed: Outcome.CRASHED}.get(type(outcome), Outcome.NOT_RUN)
            return BenchCell(case, became, detail=words(outcome))
        cell, spent = outcome
        assert isinstance(cell, BenchCell)
        self.timed += spent
        if cell.first_call is not None:
            cell = replace(cell, first_call=cell.first_call + before)
        return replace(cell, excluded=self.excluded.get(case, ""))

    def steps(
        self, job: Job, api: Api | None = None, said: Mapping[str, BenchCase] | None = None, *, dynamo: bool = False
    ) -> Iterator[StepDone]:
        """The steps of a job, in the process that its API needs; waiting for that process to import is accounted for.

        said: step -> case, for the line of progress.
        """
        if not job.steps:
            return
        asked = time.perf_counter()
        waited = False

        def began(text: str) -> None:
            nonlocal waited
            if not waited:
                self.timed += time.perf_counter() - asked
                waited = True
            step = text.rpartition(": ")[2]
            if said is not None and step in said:
                self.progress(f"{len(self.cells) + 1} of {self.total}: {described(said[step])}")

        variables = api.environment if api is not None else {}
        needs = dynamo or (api is not None and api.needs_dynamo)
        yield from self.jobs.run(job, variables=variables, dynamo=needs, progress=began)

    def report(self, *, complete: bool) -> Report:
        """All that is known by now."""
        return self._report(complete=complete, last=True)

    def _so_far(self) -> Report:
        return self._report(complete=False, last=False)  # what needs whole series waits for the end

    def _report(self, *, complete: bool, last: bool) -> Report:
        declared = self.plan.declared
        measured = Bench(
            figures.with_ratios(self.cells),
            growth(self.cells) if last else (),
            self.rates,
            self.plan.preset,
            time.perf_counter() - self.started,
            self.timed,
            self.plan.published,
            complete,
        )
        off = PRESETS[self.plan.preset].switched_off if self.plan.preset else ()
        slow = speed.slow_paths(measured, self.typed, self.settings, off) if last else ()
        return Report(
            command="bench",
            version=attncheck.__version__,
            environment=self.environment,
            arguments=self._arguments(),
            model=None if declared is None else declared.model,
            findings=tuple(sorted((*self.findings, *slow), key=lambda finding: -finding.severity.rank)),
            missing=dict(self.missing),
            bench=measured,
        )

    @property
    def typed(self) -> str:
        """The command that repeats the run, without its filters."""
        declared, preset = self.plan.declared, self.plan.preset
        parts = ("attncheck bench", declared.typed if declared else "", f"--preset {preset}" if preset else "")
        return " ".join(filter(None, parts))

    def settings(self, subject: str) -> Recommendation:
        """What to paste for a subject: an implementation of transformers, or an API by its own call.

        No setting of transformers makes SDPA take one of its kernels.
        """
        api = self.apis[subject][1] if subject in self.apis else None
        name = api.serves if api is not None else subject
        if not name or (name == baselines.SDPA and subject != name):
            return Recommendation(f"call {api.call if api is not None else subject}")
        return self.plan.declared.settings(name) if self.plan.declared is not None else framework.settings(name)

    def _arguments(self) -> dict[str, str]:
        """What the run was asked, as text, for the report's header."""
        options = self.options
        said = {
            "preset": options.preset,
            "set": " ".join((*options.assignments, *options.unchecked)),
            "inputs": ", ".join(options.inputs),
            "include_wrong": "yes" if options.include_wrong else "",
            "not timed": "; ".join(self.plan.left_out),
        }
        return {
            "dtype": self.plan.dtype,
            "device": self.plan.device,
            **{name: text for name, text in said.items() if text},
        }


def described(case: BenchCase) -> str:
    """A case in a few words: "kernel sdpa-flash, 16384 causal, forward"."""
    what = "decode" if case.phase == "decode" else "forward and backward" if case.backward else "forward"
    inputs = f" {case.inputs}" if case.inputs != "plain" else ""
    return f"{case.level} {case.subject}, {case.kv_len} {case.mask}{inputs}, {what}"


def words(outcome: object) -> str:
    """Why a step gave nothing."""
    if isinstance(outcome, Rejected):
        return "; ".join(reason.text for reason in outcome.reasons)
    if isinstance(outcome, Crashed):
        return f"out of memory: {outcome.reason}" if outcome.kind == "memory" else outcome.reason
    return outcome.reason if isinstance(outcome, NotRun) else f"unexpected answer: {outcome!r}"
