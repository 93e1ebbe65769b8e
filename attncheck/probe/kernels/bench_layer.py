"""Times one attention layer of the real width inside transformers: mask construction and layout copies count."""

from __future__ import annotations

import copy
import functools
import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attncheck.probe import timing
from attncheck.probe.kernels.bench import cell_of, sdpa_kernel
from attncheck.probe.kernels.bench_calls import held, release, settle
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.refusal import memory_words, out_of_memory, outcome_of
from attncheck.probe.tiny import library, target
from attncheck.probe.tiny.one_layer import one_layer
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Rejected
from attncheck.semantics.timing import BenchCase, BenchCell
from attncheck.semantics.workload import lengths

#: What a layer's time holds, in words.
INCLUDED = (
    "mask construction, norms, q/k/v/o projections, rotary embedding{cache} and attention of one layer inside {model}; "
    "feed-forward cut to {width}"
)


def run(step: str, arguments: Mapping[str, Any]) -> tuple[BenchCell, float]:
    """(what came of the case, seconds spent in building and calls).

    arguments: device, seed; config: raw keys of the target; trust_remote_code; plugins: modules that register further
    implementations; cases: step -> (`BenchCase` whose subject is an implementation of transformers, index of the real
    layer). Refusals of transformers and exhausted memory are outcomes; whatever else is raised is let through.
    """
    for plugin in arguments.get("plugins", ()):
        importlib.import_module(plugin)
    case, layer = arguments["cases"][step]
    device = str(arguments.get("device", "cpu"))
    started = time.perf_counter()
    try:
        return _timed(case, layer, device, arguments), time.perf_counter() - started
    except Exception as error:
        became = outcome_of(error)
        if isinstance(became, Rejected):
            cell = BenchCell(case, Outcome.REFUSED, detail="; ".join(reason.text for reason in became.reasons))
        elif out_of_memory(error):
            cell = BenchCell(case, Outcome.CRASHED, detail=f"out of memory: {memory_words(error)}")
        else:
            raise
    finally:
        release(device)
    return cell, time.perf_counter() - started


def _timed(case: BenchCase, layer: int, device: str, arguments: Mapping[str, Any]) -> BenchCell:
    if case.subject == "flex_attention":
        # transformers compiles anew for each length; past its limit of graphs the compiler quietly stops compiling.
        torch._dynamo.reset()
    model, width = _model(case, layer, device, arguments)
    given = _inputs(model, case, device, int(arguments.get("seed", 0)))
    upstream = torch.randn_like(given["inputs_embeds"]) if case.backward else None
    before_calls = held(device)
    kernels: list[str] = []
    repeated = _repetition(model, given, upstream, _cache(model, case, device) if case.phase == "decode" else None)
    started = time.perf_counter()
    with _watched(kernels):
        repeated()
    if device == "cuda":
        torch.cuda.synchronize()
    first = time.perf_counter() - started
    found = timing.measure(repeated, device, held=before_calls)
    cached = ", extending the cache" if case.phase == "decode" else ""
    included = INCLUDED.format(model=type(model).__name__, width=width, cache=cached)
    cell = cell_of(case, found, kernel=", ".join(dict.fromkeys(kernels)), detail=included, before=first)
    return replace(cell, tflops=None)  # the projections take their share of the time


#: The last model that was built, by what it depends on, with the width of its feed-forward.
_built: dict[tuple[Any, ...], tuple[Any, int]] = {}


def _model(case: BenchCase, layer: int, device: str, arguments: Mapping[str, Any]) -> tuple[Any, int]:
    """(base model of one layer, width of its feed-forward)."""
    config = arguments["config"]
    key = (repr(config), layer, case.subject, case.dtype, device)
    if key not in _built:
        _built.clear()
        settle(case.subject, device)
        found = target.find(config, bool(arguments.get("trust_remote_code", False)))
        raw, width = one_layer(found, layer)
        _built[key] = construct(found, raw, case.subject, case.dtype, device), width
    return _built[key]


def construct(found: target.Target, raw: Mapping[str, Any], implementation: str, dtype: str, device: str) -> Any:
    """The base model (no head) in eval mode, its weights random. Raises what transformers raises."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    config = library.make_config(found.config_class, {**raw, "attn_implementation": implementation})
    named = {"attn_implementation": implementation}
    with torch.device(device):
        try:
            model = found.model_class._from_config(config, dtype=getattr(torch, dtype), **named)
        except TypeError as error:
            if "'dtype'" not in str(error):
                raise
            model = found.model_class._from_config(config, torch_dtype=getattr(torch, dtype), **named)
    return getattr(model, "base_model", model).eval()


def _inputs(model: Any, case: BenchCase, device: str, seed: int) -> dict[str, Any]:
    generator = torch.Generator(device).manual_seed(seed)
    width = model.get_input_embeddings().weight.shape[1]
    dtype = getattr(torch, case.dtype)
    shape = (case.batch, case.q_len, width)
    given: dict[str, Any] = {
        "inputs_embeds": torch.randn(shape, generator=generator, device=device, dtype=dtype),
        "use_cache": case.phase == "decode",
    }
    parts = lengths(case) if case.chunk is None else ()
    if case.inputs == "padded":
        ends = torch.tensor(parts, device=device)
        given["attention_mask"] = (torch.arange(case.q_len, device=device)[None, :] < ends[:, None]).long()
    elif case.inputs == "packed":
        places = torch.cat([torch.arange(part, device=device) for part in parts])
        given["position_ids"] = places.view(case.batch, case.q_len)
    return given


def _cache(model: Any, case: BenchCase, device: str) -> Any:
    """The cache that `generate` would use, with random keys and values of all tokens but the newest."""
    from transformers import DynamicCache

    try:
        cache = DynamicCache(config=model.config)
    except TypeError:  # before 4.56 a cache did not know its model
        cache = DynamicCache()
    sizes = (case.batch, case.num_kv_heads, case.kv_len - case.q_len)
    dtype = getattr(torch, case.dtype)
    key, value = (
        torch.randn((*sizes, width), device=device, dtype=dtype) for width in (case.head_dim, case.head_dim_v)
    )
    cache.update(key, value, 0)
    return cache


def copied(cache: Any) -> Any:
    """The same keys and values in containers of its own: a call that extends it leaves `cache` as it was."""
    twin = copy.copy(cache)
    for name in ("layers", "key_cache", "value_cache"):
        if isinstance(entries := getattr(cache, name, None), list):
            setattr(twin, name, [copy.copy(entry) for entry in entries])
    return twin


def _repetition(
    model: Any, given: Mapping[str, Any], upstream: Tensor | None, cache: Any = None
) -> Callable[[], object]:
    """What is repeated. cache: of decode, the keys before the newest; each call extends a copy of its own."""
    if upstream is None:

        def forward() -> object:
            with torch.no_grad():
                return model(**given, **({} if cache is None else {"past_key_values": copied(cache)}))[0]

        return forward
    embedded = given["inputs_embeds"].requires_grad_()
    leaves = [embedded, *(weight for weight in model.parameters() if weight.requires_grad)]

    def both() -> object:
        with torch.enable_grad():
            output = model(**given)[0]
            return torch.autograd.grad(output, leaves, upstream, allow_unused=True)

    return both


@contextmanager
def _watched(kernels: list[str]) -> Iterator[None]:
    """Note the kernel that torch takes for each call of scaled_dot_product_attention meanwhile."""
    functional = torch.nn.functional
    real = functional.scaled_dot_product_attention

    @functools.wraps(real)
    def seen(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **arguments: Any) -> Tensor:
        names = ("attn_mask", "dropout_p", "is_causal")
        kernels.append(sdpa_kernel(query, key, value, **dict(zip(names, rest)), **arguments))
        return real(query, key, value, *rest, **arguments)

    functional.scaled_dot_product_attention = seen
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = real


JOB = KernelJob("bench-layer", run)
