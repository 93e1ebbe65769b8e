"""From options, preset or model to what is timed: grids of the kernel level and the layers of the framework level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from attncheck.bench import grid as grids
from attncheck.bench import subjects
from attncheck.bench.grid import Attention, Grid
from attncheck.bench.options import INPUTS, LEVELS, MASKS, PASSES, PHASES, BenchOptions
from attncheck.bench.presets import PRESETS, Preset
from attncheck.bench.target import Declared, read
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.frameworks import transformers as framework


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Layers to time inside transformers. implementations: in the order of the report."""

    declared: Declared
    grid: Grid
    implementations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run times. kernels: API names. left_out: layers that are not timed, in words."""

    device: str
    dtype: str
    grid: Grid
    kernels: tuple[str, ...]
    layers: tuple[LayerPlan, ...] = ()
    declared: Declared | None = None
    preset: str = ""
    published: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def check(options: BenchOptions, apis: subjects.Table) -> None:
    """Raise UsageError for what cannot be asked."""
    for name, given, allowed in (
        ("--level", options.levels, LEVELS),
        ("--phase", options.phases, PHASES),
        ("--pass", options.passes, PASSES),
        ("--mask", options.masks, MASKS),
        ("--inputs", options.inputs, INPUTS),
    ):
        if strange := [value for value in given if value not in allowed]:
            raise UsageError(f"{name} {strange[0]}: there is no such choice", f"choose from {', '.join(allowed)}")
    if options.preset and options.preset not in PRESETS:
        raise UsageError(
            f"--preset {options.preset}: there is no such preset", f"choose from {', '.join(sorted(PRESETS))}"
        )
    if options.preset and options.target is not None:
        raise UsageError(f"--preset {options.preset} has sizes of its own: leave {options.target} out")
    if strange_lengths := [length for length in options.seq_lens if length < 1]:
        raise UsageError(f"--seq-lens {strange_lengths[0]}: a length is at least 1 token")
    if options.batch is not None and options.batch < 1:
        raise UsageError(f"--batch {options.batch}: at least 1 sequence")
    _check_together(options)
    subjects.check(options.impl, apis, options.plugins)


def _check_together(options: BenchOptions) -> None:
    """Raise UsageError for an option that means nothing beside the others."""
    preset = PRESETS.get(options.preset)
    if options.masks and options.target is not None:
        raise UsageError(
            f"--mask {', '.join(options.masks)}: the masks of {options.target} are its own",
            "leave --mask out; without a model it chooses masks of the standard grid",
        )
    if preset is not None and preset.layer is None and options.levels == ("layer",):
        raise UsageError(
            f"--level layer: --preset {preset.name} has no layer, only kernels",
            f"leave --level out, or name a model: attncheck bench llama --level layer --seq-lens {preset.lengths[0]}",
        )
    if options.phases == ("decode",) and (others := [kind for kind in options.inputs if kind != "plain"]):
        raise UsageError(
            f"--inputs {', '.join(others)}: decode is timed with plain inputs only",
            "leave --inputs out, or time the prefill, too: --phase prefill,decode",
        )
    from_layer = preset is not None and preset.layer is not None and "layer" in (options.levels or LEVELS)
    for name, given, applies in (
        ("--set", options.assignments, from_layer),
        ("--set-unknown", options.unchecked, from_layer),
        ("--revision", (options.revision,) if options.revision else (), False),
    ):
        if given and options.target is None and not applies:
            why = f"--preset {preset.name} has sizes of its own" if preset is not None else "no model is named"
            raise UsageError(
                f"{name} {given[0]}: there is nothing to apply it to, {why}",
                f"name a model: attncheck bench llama {name} {given[0]}",
            )


def device_and_dtype(options: BenchOptions, environment: Environment) -> tuple[str, str]:
    """Where it runs and in which dtype. Raises UsageError for a GPU that is not there."""
    device = options.device if options.device != "auto" else ("cuda" if environment.gpus else "cpu")
    if device == "cuda" and not environment.gpus:
        note = environment.gpu_note or "NVML lists none"
        raise UsageError(f"--device cuda: no GPU is visible ({note})", "--device cpu")
    return device, options.dtype or ("bfloat16" if device == "cuda" else "float32")


def plan(options: BenchOptions, environment: Environment, apis: subjects.Table) -> Plan:
    """What to time, at least one call. Reads the target, if there is one. Raises UsageError and TargetError."""
    found = _planned(options, environment, apis)
    timed = {*found.kernels, *(name for layer in found.layers for name in layer.implementations)}
    for name in options.impl:
        if name in timed:
            continue
        if name in framework.implementations() or name not in apis:
            raise UsageError(
                f"--impl {name}: an implementation of transformers is timed in a layer, and {_no_layer(options)}",
                "name a decoder model and no --level, or a kernel API such as flash-attn-2",
            )
        raise UsageError(f"--impl {name}: a kernel API, and --level layer times none", "leave --level out")
    if not timed:
        raise UsageError(f"--level layer: {_no_layer(options)}", "--level kernel times the kernels at its sizes")
    grid = found.grid if found.kernels else found.layers[0].grid
    if next(grids.cases(grid, "", ""), None) is None:
        raise UsageError("--phase decode: layers with chunks are timed in prefill only", "--phase prefill")
    return found


def _no_layer(options: BenchOptions) -> str:
    """Why no layer is timed."""
    if options.levels and "layer" not in options.levels:
        return "--level kernel times no layer"
    return (
        f"{options.target} has no decoder layer" if options.target is not None else "there is no model to take it from"
    )


def _planned(options: BenchOptions, environment: Environment, apis: subjects.Table) -> Plan:
    """From options to the plan, which may be empty."""
    device, dtype = device_and_dtype(options, environment)
    if options.preset:
        return _of_preset(PRESETS[options.preset], options, environment, apis, device, dtype)
    if options.target is not None:
        return _of_model(options, environment, apis, device, dtype)
    lengths = options.seq_lens or _lengths(device)
    attentions = grids.standard(options.masks or MASKS, dtype)
    found = Grid(attentions, lengths, tokens=grids.TOKENS_ON_CPU if device == "cpu" else grids.TOKENS)
    if "layer" in options.levels and "kernel" not in options.levels:
        raise UsageError("--level layer needs a model to take the layer from", "attncheck bench llama --level layer")
    return Plan(device, dtype, _asked(found, options), _kernels(options, apis))


def _lengths(device: str) -> tuple[int, ...]:
    return grids.LENGTHS_ON_CPU if device == "cpu" else grids.LENGTHS


def _asked(found: Grid, options: BenchOptions) -> Grid:
    """The grid with what the user said about it."""
    return replace(
        found,
        lengths=options.seq_lens or found.lengths,
        phases=options.phases or found.phases,
        passes=options.passes or found.passes,
        inputs=options.inputs or found.inputs,
        batch=options.batch if options.batch is not None else found.batch,
    )


def _kernels(options: BenchOptions, apis: subjects.Table, usual: Sequence[str] = ()) -> tuple[str, ...]:
    """The APIs to time, eager first; none without the kernel level."""
    if options.levels and "kernel" not in options.levels:
        return ()
    wanted = options.impl or usual or tuple(apis)
    return tuple(name for name in apis if name in wanted)


def _implementations(options: BenchOptions, apis: subjects.Table, usual: Sequence[str]) -> tuple[str, ...]:
    """The implementations to time; none without the layer level. A plug-in may register names of its own."""
    if options.levels and "layer" not in options.levels:
        return ()
    known = framework.implementations()
    own = (name for name in options.impl if name in known or name not in apis)
    return tuple(own) if options.impl else tuple(usual)


def _of_model(options: BenchOptions, environment: Environment, apis: subjects.Table, device: str, dtype: str) -> Plan:
    assert options.target is not None
    declared = read(options, options.target, environment)
    attentions, left_out = grids.of_model(declared.groups, dtype)
    if not attentions:
        raise UsageError(f"{options.target}: no layer whose attention could be timed ({'; '.join(left_out)})")
    lengths = options.seq_lens or tuple(
        length for length in _lengths(device) if declared.longest is None or length <= declared.longest
    )
    lengths = lengths or (declared.longest or _lengths(device)[0],)
    found = _asked(Grid(attentions, lengths, phases=PHASES), options)
    layers = _layer_plan(options, apis, declared, found, tuple(declared.decisions))
    return Plan(device, dtype, found, _kernels(options, apis), layers, declared, left_out=left_out)


def _layer_plan(
    options: BenchOptions, apis: subjects.Table, declared: Declared, found: Grid, usual: Sequence[str]
) -> tuple[LayerPlan, ...]:
    implementations = _implementations(options, apis, usual)
    decoders = tuple(attention for attention in found.attentions if attention.part.value == "decoder")
    if not implementations or not decoders:
        return ()
    return (LayerPlan(declared, replace(found, attentions=decoders), implementations),)


def _of_preset(
    preset: Preset,
    options: BenchOptions,
    environment: Environment,
    apis: subjects.Table,
    device: str,
    dtype: str,
) -> Plan:
    dtypes = (options.dtype,) if options.dtype else preset.dtypes or (dtype,)
    attentions: tuple[Attention, ...] = tuple(
        grids.plain_attention(sizes.num_heads, sizes.head_dim, mask, kind, sizes.num_kv_heads)
        for kind in dtypes
        for sizes in preset.sizes
        for mask in preset.masks
        if not options.masks or mask in options.masks
    )
    if not attentions:
        raise UsageError(f"--mask {', '.join(options.masks)}: --preset {preset.name} has {', '.join(preset.masks)}")
    found = _asked(Grid(attentions, preset.lengths, passes=preset.passes, tokens=preset.tokens), options)
    layers: tuple[LayerPlan, ...] = ()
    if preset.layer is not None and (implementations := _implementations(options, apis, preset.layer.implementations)):
        declared = read(options, preset.layer.model_type, environment)
        kinds = (options.dtype,) if options.dtype else preset.layer.dtypes
        of_layers = tuple(attention for kind in kinds for attention in grids.of_model(declared.groups, kind)[0])
        layers = _layer_plan(options, apis, declared, replace(found, attentions=of_layers), implementations)
    return Plan(
        device,
        dtype,
        found,
        _kernels(options, apis, preset.subjects),
        layers,
        preset=preset.name,
        published=preset.published,
    )
