"""`--bench FILE`: a report of `attncheck bench`, held against the target: what it timed at its sizes, what differs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from attncheck.backends import interface as backends
from attncheck.backends.interface import Api, Backend
from attncheck.comparison.options import CompareOptions, run_dtype
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.probe import baselines
from attncheck.probe.apis import known
from attncheck.render import bench_words
from attncheck.render.wording import declared_line, layer_ranges
from attncheck.report import Report
from attncheck.semantics.shape import Shape, declared_shape
from attncheck.semantics.spec import Part
from attncheck.semantics.speeds import CallSpeed, HeldBench
from attncheck.semantics.timing import Bench, BenchCase, BenchCell
from attncheck.semantics.workload import right
from attncheck.stored import report as stored
from attncheck.verdicts import LayerGroup

#: Of the layer level first: there the framework's masks and copies count, too.
_LEVELS = ("layer", "kernel")
#: Whose versions decide about speed, besides those of kernel libraries that are in both places.
_ALWAYS = ("torch", "transformers")

_PARTS = (Part.DECODER, Part.ENCODER, Part.VISION)

#: Shape without its dtype and its scale, which costs no time -> layers of the target that declare it.
Wanted = Mapping[Shape, int]


def read(path: str) -> Report:
    """The report that `--bench` names. Raises UsageError for what is no report, or one without a bench."""
    hint = "attncheck bench TARGET --format json -o bench.json writes one"
    try:
        report = stored.read(path)
    except UsageError as error:
        raise UsageError(f"--bench {error.message}", hint) from None
    if report.bench is None:
        raise UsageError(f"--bench {path} is a report of attncheck {report.command} without any times", hint)
    return report


def held(
    report: Report,
    options: CompareOptions,
    model_type: str,
    groups: Sequence[LayerGroup],
    environment: Environment,
    device: str,
) -> HeldBench:
    """The bench in a report of `read`, as far as it concerns these layers. device: of this run, "cuda" or "cpu"."""
    assert report.bench is not None
    bench, where, meant = report.bench, _device(report), run_dtype(options)
    remarks = tuple(_remarks(report, model_type, environment, device, where))
    nothing = HeldBench(options.bench or "", where, remarks=remarks)
    groups = _own(groups)
    if options.without:
        return replace(nothing, unused="its times include flash kernels; `--without flash` times its ways itself")
    if not groups:
        return replace(nothing, unused="no layer of this model has an attention matrix")
    wanted: dict[Shape, int] = {}
    for group in groups:
        if (shape := _shape(group)) is None:
            where = f"{group.part.value} layers {layer_ranges(group.layers)}"
            return replace(nothing, unused=f"sizes or mask of the {where} are not declared")
        wanted[shape] = wanted.get(shape, 0) + len(group.layers)
    if report.arguments.get("device") == "cpu" and device == "cuda":
        return replace(nothing, unused="it was measured on a CPU, and this run is on a GPU")
    fitting = [cell for cell in bench.cells if right(cell) and _sizes(cell.case) in wanted]
    timed = {_sizes(cell.case) for cell in fitting}
    if len(timed) < len(wanted):
        return replace(nothing, unused=_untimed_sizes(bench, groups, timed))
    dtypes = list(dict.fromkeys(cell.case.dtype for cell in fitting))
    if meant not in dtypes and (options.dtype or options.weights or device == "cuda"):
        return replace(nothing, unused=f"it timed these sizes in {', '.join(dtypes)}, and this run is in {meant}")
    dtype = meant if meant in dtypes else dtypes[0]
    for level in _LEVELS:
        cells = [cell for cell in fitting if (cell.case.level, cell.case.dtype) == (level, dtype)]
        calls = tuple(_calls(cells, wanted))
        if len({call.implementation for call in calls}) > 1:
            names = {call.subject for call in calls}
            kept = replace(bench, cells=tuple(cell for cell in cells if cell.case.subject in names))
            return replace(nothing, level=level, dtype=dtype, calls=calls, bench=kept)
    return replace(nothing, unused="it has times of fewer than two implementations of transformers at these sizes")


def _own(groups: Sequence[LayerGroup]) -> tuple[LayerGroup, ...]:
    """The decoder's own layers that attend; the encoder's where there is no decoder."""
    attending = [group for group in groups if group.spec.attends]
    part = next((part for part in _PARTS if any(group.part is part for group in attending)), None)
    return tuple(group for group in attending if group.part is part)


def _shape(group: LayerGroup) -> Shape | None:
    shape = declared_shape(group.spec, "")
    return None if shape is None else replace(shape, scale=None)


def _sizes(case: BenchCase) -> Shape:
    """As the keys of `Wanted`."""
    return replace(case.shape, scale=None, dtype="")


def _calls(cells: Iterable[BenchCell], wanted: Wanted) -> Iterator[CallSpeed]:
    """One for each implementation and kind of call at which every size of the target was timed."""
    table = known((baselines.__name__,))
    found: dict[tuple[Any, ...], dict[Shape, BenchCell]] = {}
    for cell in cells:
        case = cell.case
        if name := _implementation(case, table):
            call = (name, case.subject, case.phase, case.backward, case.inputs, case.batch, case.kv_len)
            found.setdefault(call, {})[_sizes(case)] = cell
    for call, by_size in found.items():
        if len(by_size) == len(wanted):
            whole = [(layers, by_size[shape]) for shape, layers in wanted.items()]
            yield CallSpeed(
                *call,
                layers=sum(wanted.values()),
                median=sum(layers * (cell.median or 0.0) for layers, cell in whole),
                p20=sum(layers * (cell.p20 or cell.median or 0.0) for layers, cell in whole),
                p80=sum(layers * (cell.p80 or cell.median or 0.0) for layers, cell in whole),
                n=min(cell.n for _, cell in whole),
            )


def _implementation(case: BenchCase, table: Mapping[str, tuple[Backend, Api]]) -> str:
    """The implementation of transformers that such a case stands for, "" for none."""
    if case.level == "layer":
        return case.subject
    api = table[case.subject][1] if case.subject in table else None
    return api.serves if api is not None and baselines.called_by_layers(api, case.inputs) else ""


def _device(report: Report) -> str:
    rates = report.bench.rates if report.bench is not None else None
    if rates is not None and rates.name:
        return rates.name
    gpus = report.environment.gpus
    return gpus[0].name if gpus and report.arguments.get("device") != "cpu" else "a CPU"


def _remarks(report: Report, model_type: str, here: Environment, device: str, where: str) -> Iterator[str]:
    """What was not the same there."""
    model, bench = report.model, report.bench
    assert bench is not None
    if model is None:
        of = f"of preset {bench.preset}" if bench.preset else "of the standard grid"
        yield f"it is a bench {of}, not of this model: its sizes alone decide what is taken"
    elif model.model_type != model_type:
        yield f"it is a bench of {model.model_type}, not of {model_type}: its sizes alone decide what is taken"
    gpu = here.gpus[0].name if device == "cuda" and here.gpus else ""
    if report.arguments.get("device") == "cuda" and where != gpu:
        yield f"it was measured on {where}; here is {gpu or 'no GPU in use'}"
    others = []
    kernels = {backend.name for backend in backends.find()}
    for library in report.environment.libraries:
        name, before, now = library.name, library.version, here.version(library.name)
        if before is not None and before != now and (name in _ALWAYS or (name in kernels and now is not None)):
            others.append(f"{name} {before} (here {now or 'absent'})")
    if others:
        yield f"it was measured with {', '.join(others)}"
    if bench.rates is not None and bench.rates.throttled:
        yield f"the device throttled: {bench.rates.throttled}"
    if not bench.complete:
        yield "it was interrupted: only what had been measured until then counts"


def _untimed_sizes(bench: Bench, groups: Sequence[LayerGroup], timed: Collection[Shape]) -> str:
    """Which layers of the target it has no right time for, and what it timed instead."""
    said = {f"{cell.case.mask}, {bench_words.shape(cell.case)}": None for cell in bench.cells if right(cell)}
    if not said:
        return "it has no time of anything right"
    missing = "; ".join(declared_line(group.spec) for group in groups if _shape(group) not in timed)
    more = f"; and {len(said) - 2} more" if len(said) > 2 else ""
    return f"it has no time of what this model declares ({missing}); it timed {'; '.join([*said][:2])}{more}"
