"""The use case of `bench`: measure the device, the kernels and the layers, and report as it goes."""

from __future__ import annotations

import time
from dataclasses import replace

from attncheck.bench import gate, kernels, layers, subjects
from attncheck.bench.grid import cases
from attncheck.bench.options import BenchOptions
from attncheck.bench.plan import Plan, check, device_and_dtype, plan
from attncheck.bench.session import Partial, Progress, Session, words
from attncheck.bench.target import compare_options
from attncheck.environment import read_environment
from attncheck.pipeline import check_plugins
from attncheck.probe.jobs import Jobs
from attncheck.probe.protocol import Job
from attncheck.report import Report
from attncheck.semantics.timing import DeviceRates

#: What takes seconds to import before a layer can be built.
LAYERS_NEED = ("transformers.modeling_utils", "transformers.models.auto.modeling_auto")


def bench(options: BenchOptions, progress: Progress = lambda _: None, partial: Partial = lambda _: None) -> Report:
    """Time what was asked for. partial: called after each cell with what makes a whole, incomplete report.

    Raises UsageError and TargetError before anything is timed. Interrupted later, it returns what is there, as
    incomplete.
    """
    started = time.perf_counter()
    check_plugins(options.plugins)
    modules = subjects.kernel_modules(options.plugins)
    apis = subjects.table(modules)
    check(options, apis)
    environment = read_environment()
    device, _ = device_and_dtype(options, environment)
    with Jobs(options.timeout, warm=device if device == "cuda" else "") as jobs:
        jobs.prepare()  # its imports go on while the target is read
        progress(f"reading {options.target}" if options.target else "starting")
        asked = time.perf_counter()
        planned = plan(options, environment, apis)
        session = Session(options, environment, planned, apis, modules, jobs, progress, partial, started)
        session.timed = time.perf_counter() - asked  # a worker imports transformers to read a target
        session.total = _count(planned)
        try:
            _measure(session)
        except KeyboardInterrupt:
            return session.report(complete=False)
        return session.report(complete=True)


def _measure(session: Session) -> None:
    planned = session.plan
    verdicts = [
        gate.LayerVerdicts(compare_options(session.options, layer.declared.target), layer.implementations)
        for layer in planned.layers
    ]
    _prepare(session)
    session.progress("measuring the device itself")
    session.rates = _device(session, "rates")
    for name in planned.kernels:
        kernels.measure(session, name)
    for layer, verdict in zip(planned.layers, verdicts):
        layers.measure(session, layer, verdict)
    if session.rates is not None and (last := _device(session, "clock")) is not None:
        reasons = dict.fromkeys(filter(None, (session.rates.throttled, last.throttled)))
        clock = (session.rates.clock[0], last.clock[0])
        session.rates = replace(session.rates, clock=clock, throttled=", ".join(reasons))


def _prepare(session: Session) -> None:
    """Start every process that will be needed, so that their imports go on beside the first measurements."""
    runnable = [session.apis[name][1] for name in session.plan.kernels if not kernels.lacks(session, name)]
    if session.plan.layers or any(api.needs_dynamo for api in runnable):
        session.jobs.prepare(dynamo=True, imports=LAYERS_NEED if session.plan.layers else ())
    for api in runnable:
        if api.environment:
            session.jobs.prepare(variables=api.environment, dynamo=api.needs_dynamo)


def _device(session: Session, step: str) -> DeviceRates | None:
    """What the job "bench-rates" says; None, with the reason in the report, where it broke."""
    arguments = {"device": session.plan.device, "dtype": session.plan.dtype}
    found = None
    for done in session.steps(Job("bench-rates", (step,), arguments)):
        if isinstance(done.outcome, tuple):
            found, spent = done.outcome
            session.timed += spent
        else:
            session.missing["rates"] = words(done.outcome)
    assert found is None or isinstance(found, DeviceRates)
    return found


def _count(planned: Plan) -> int:
    """Cells to come."""
    inside = sum(len(layer.implementations) * len(list(cases(layer.grid, "layer", ""))) for layer in planned.layers)
    return len(planned.kernels) * len(list(cases(planned.grid, "kernel", ""))) + inside
