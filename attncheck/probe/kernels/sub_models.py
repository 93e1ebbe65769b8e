"""What runs in each sub-model when attention is asked for in some way: functions reached, kernels launched."""

from __future__ import annotations

import copy
import functools
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch

from attncheck.probe.kernels import launched
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.torch_switches import switched
from attncheck.probe.randomness import random_state_kept
from attncheck.probe.reading import seam
from attncheck.probe.refusal import first_line
from attncheck.probe.tiny.whole import Member, Whole, whole
from attncheck.semantics.sub_models import Asked, AskedRun, Deviation, Phase, SubModelRun

#: Rows and tokens of the inputs whose outputs are compared: 256 positions.
ROWS, TOKENS = 4, 64
#: Tokens of a call under the profiler: which kernel runs does not depend on the length.
SHORT = 24
PADS = 5
_OUTPUTS = "outputs"

#: What is done before the profiler looks, and then gives the call.
Prepared = Callable[[], Callable[[], Any]]


def run(step: str, arguments: Mapping[str, Any]) -> AskedRun:
    """What came of the way `arguments["asked"][step]` to ask for attention.

    arguments: asked: step -> `Asked`; reference: the `Asked` whose outputs are compared with; config: raw keys; tower:
    raw keys of a tower that is loaded by itself, None for none; widths: as of `whole`; dtype, device, seed, plugins,
    trust_remote_code: as of `Probe`; phases: those to run, empty for all and for the comparison of outputs. Whatever
    building raises is let through.
    """
    for plugin in arguments.get("plugins", ()):
        importlib.import_module(plugin)
    asked: Asked = arguments["asked"][step]
    device, dtype = str(arguments["device"]), str(arguments["dtype"])
    chosen = frozenset(arguments.get("phases", ()))
    found: list[SubModelRun] = []
    with random_state_kept(torch.device(device)):
        for made, way, base in _models(asked, arguments):
            outputs = {} if chosen else _reference(made, base, dtype, device)
            with switched(asked.switches):
                model = made.build(way, dtype, device)
                found += [_sub_model(made, model, member, way, outputs, chosen) for member in made.members(model)]
    return AskedRun(asked, tuple(found))


def _models(asked: Asked, arguments: Mapping[str, Any]) -> Iterator[tuple[Whole, Asked, Asked]]:
    """(model, how attention is asked for there, the same for the reference) of the model, and of a tower of its own."""
    tower = arguments.get("tower")
    if tower is not None:  # the original repositories pass it nothing
        nothing = Asked("")
        yield _made(json.dumps([tower, dict(arguments["widths"]), False])), nothing, nothing
    text = json.dumps([dict(arguments["config"]), dict(arguments["widths"]), bool(arguments.get("trust_remote_code"))])
    yield _made(text), asked, arguments["reference"]


@functools.lru_cache(maxsize=4)
def _made(text: str) -> Whole:
    config, widths, trusted = json.loads(text)
    return whole(config, widths, trusted)


def _reference(made: Whole, base: Asked, dtype: str, device: str) -> dict[str, torch.Tensor]:
    """Sub-config key -> output under the reference; computed once. What cannot run leaves nothing to compare with."""
    kept = made.outputs.setdefault((base, dtype, device), {})
    if not kept and not base.predicted:
        with suppress(Exception), switched(base.switches):  # its own row says what it raised, not that of another way
            model = made.build(base, dtype, device)
            for member in made.members(model):
                if prepared := _calls(made, model, member).get(_OUTPUTS):
                    with torch.no_grad():
                        kept[member.key] = _output(prepared()())
    return kept


def _sub_model(
    made: Whole,
    model: Any,
    member: Member,
    asked: Asked,
    reference: Mapping[str, torch.Tensor],
    chosen: frozenset[str],
) -> SubModelRun:
    requested = asked.for_key(member.key) if made.composite else asked.for_key("")
    config = getattr(member.config, "_attn_implementation", "") or ""
    calls = _calls(made, model, member)
    missing = "" if calls else "attncheck does not know how to feed it"
    if asked.predicted:
        missing, calls = "its kernel cannot run here", {}
    outputs = calls.pop(_OUTPUTS, None)
    calls = {name: call for name, call in calls.items() if not chosen or name in chosen}
    reached, phases = _profiled(model, member, calls)
    deviation = None
    if outputs is not None and member.key in reference:
        with torch.no_grad():
            deviation = _deviation(_output(outputs()()), reference[member.key], logits=not member.plain)
    return SubModelRun(
        key=member.key,
        title=member.title,
        module=type(member.module).__name__,
        part=member.part,
        requested=requested,
        config=str(config),
        reached=reached,
        phases=phases,
        deviation=deviation,
        missing=missing,
    )


def _profiled(model: Any, member: Member, calls: Mapping[str, Prepared]) -> tuple[tuple[str, ...], tuple[Phase, ...]]:
    """(functions reached by the layers of the member, phases)."""
    inside = {id(module) for module in member.module.modules()}
    reached: dict[str, None] = {}
    phases = []
    with _watched(model, inside, reached):
        for name, prepared in calls.items():
            try:
                with torch.set_grad_enabled(name == "backward"):
                    phases.append(Phase(name, launched.of_attention(prepared())))
            except Exception as error:  # a refusal of one phase says nothing about the others
                phases.append(Phase(name, failure=f"{type(error).__name__}: {first_line(error)}"))
            finally:
                model.zero_grad(set_to_none=True)
    return tuple(reached), tuple(phases)


@contextmanager
def _watched(model: Any, inside: set[int], reached: dict[str, None]) -> Iterator[None]:
    """Notes the attention functions that modules of `inside` call; of one that calls another, the outer one."""
    depth = 0

    def stand_in(name: str, function: seam.Function) -> seam.Function:
        @functools.wraps(function)
        def noted(module: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            if not depth and id(module) in inside:
                reached[name] = None
            depth += 1
            try:
                return function(module, *args, **kwargs)
            finally:
                depth -= 1

        return noted

    with ExitStack() as stack:
        if hasattr(model, "modules"):
            stack.enter_context(seam.replaced(model, stand_in))
        yield


def _calls(made: Whole, model: Any, member: Member) -> dict[str, Prepared]:
    """Phase -> its call, and `_OUTPUTS` for the one whose result is compared; empty for what cannot be fed."""
    if member.plain:
        return _tower_calls(member)
    if member.key not in ("", "text_config"):
        return {}
    return _text_calls(made, model)


def _tower_calls(member: Member) -> dict[str, Prepared]:
    parameter = next(member.module.parameters())
    size = int(member.config.image_size)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(ROWS, 3, size, size, generator=generator).to(parameter)

    def forward() -> Any:
        return member.module(pixel_values=pixels)

    return {"image": lambda: forward, "backward": lambda: lambda: _backward(forward()), _OUTPUTS: lambda: forward}


def _text_calls(made: Whole, model: Any) -> dict[str, Prepared]:
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(64, 120, (ROWS, TOKENS), generator=generator).to(device)
    short = tokens[:, :SHORT]
    padded = torch.ones_like(short)
    padded[0, :PADS] = 0
    beside = ("decoder_input_ids",) if made.kind == "seq2seq" else ()

    def forward(ids: torch.Tensor = short, **further: Any) -> Any:
        return model(input_ids=ids, **dict.fromkeys(beside, ids), **further)

    calls: dict[str, Prepared] = {
        "prefill": lambda: forward,
        "left-padded": lambda: lambda: forward(attention_mask=padded),
        "backward": lambda: lambda: _backward(forward()),
        _OUTPUTS: lambda: lambda: forward(tokens),
    }
    if made.kind in ("causal-lm", "image-text", "text"):
        calls["decode"] = lambda: _decoding(model, short)
    return calls


def _decoding(model: Any, tokens: torch.Tensor) -> Callable[[], Any]:
    """One decoded token. The prompt is run first, out of the profiler's sight; each repetition gets its cache anew."""
    cache = model(input_ids=tokens[:, :-1], use_cache=True).past_key_values
    return lambda: model(input_ids=tokens[:, -1:], past_key_values=copy.deepcopy(cache), use_cache=True)


def _backward(output: Any) -> None:
    _output(output).float().sum().backward()


def _output(output: Any) -> torch.Tensor:
    """The logits, or the last hidden state of a tower."""
    values: Sequence[Any] = [getattr(output, name, None) for name in ("logits", "last_hidden_state")]
    found = next((value for value in values if isinstance(value, torch.Tensor)), None)
    return found if found is not None else torch.as_tensor(output[0])


def _deviation(output: torch.Tensor, reference: torch.Tensor, *, logits: bool) -> Deviation:
    one, other = output.detach().double(), reference.detach().double()
    gap = (one - other).abs()
    positions = one.numel() // one.shape[-1]
    top1 = float((one.argmax(-1) == other.argmax(-1)).double().mean()) if logits else None
    return Deviation(float(gap.max()), float(gap.median()), float(other.std()), positions, top1)


JOB = KernelJob("sub-models", run)
