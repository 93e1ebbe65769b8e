"""The use case of `verify`: the attention of a live model against what it declares, without leaving a trace in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attncheck.environment import read_environment
from attncheck.errors import UsageError
from attncheck.live import judging, measuring, patched
from attncheck.live.settings import DEFAULT_MEMORY, Measured, Settings
from attncheck.report import Report

if TYPE_CHECKING:
    from attncheck.probe.inside.facts import LiveFacts

_COMPILED = (
    "parts of the model are compiled; they were read as they are written, because reading them compiled would compile "
    "them anew: what the compiler made of them was not looked at"
)

__all__ = ["DEFAULT_MEMORY", "Measured", "Settings", "judge", "measure", "verify"]


def verify(
    model: Any,
    batch: Mapping[str, Any] | None = None,
    *,
    forward: Callable[[Any, Mapping[str, Any]], Any] | None = None,
    layers: Sequence[int] | None = None,
    method: str = "auto",
    fit: bool = True,
    use: str | None = None,
    packing: bool | None = None,
    seq_len: int | None = None,
    memory: int = DEFAULT_MEMORY,
    implementation: str = "",
    declared: Any = None,
    seed: int = 0,
    fail_on: str = "error",
) -> Report:
    """Declared against effective attention of a model that is loaded, on its device and in its mode.

    Weights, gradients, buffers, random state, hooks, flags, the caller's cache and compiled code stay as they are; the
    model runs forward a few times without gradients, as it is written (code under torch.compile runs uncompiled).
    Wrap the call in `torch.autocast` where your steps are. With FSDP or DeepSpeed, call it on every rank.

    model: a transformers model, or what PEFT, torch.compile, Unsloth or a data-parallel wrapper made of one.
    batch: keyword arguments of one forward call; None feeds small batches of our own (plain, padded, cached). With a
    batch a short one of our own is fed besides, for the softmax terms. forward: `forward(model, batch)` where
    `model(**batch)` is not how the model is called. layers: numbers of the layers to read, from 0; None reads each call
    that differs from those read before, so at least one layer of each declared group. method: "interface" repeats the
    live attention calls with identity values; "perturbation" re-runs single attention modules with one token replaced;
    "auto" takes the first where a module uses the attention interface, else the second. fit: also read scale, softcap,
    sinks and head map. use: "train" or "generate", what `model.training` says by default. packing: also feed packed
    documents of our own. seq_len: longest sequence that will be run, in tokens. memory: bytes that reading may add to
    one forward pass without gradients; what needs more is not read, and says so. implementation: the name that the
    report shall use, by default what the config says. declared: a config to judge by instead of the model's own.
    fail_on: as of `Report`.

    Raises UsageError for what is no such model, for a batch without tokens or with ids that have no embedding, and for
    unknown values and layers.
    """
    settings = Settings(
        forward=forward,
        layers=None if layers is None else tuple(layers),
        method=method,
        fit=fit,
        use=use,
        packing=packing,
        seq_len=seq_len,
        memory=memory,
        implementation=implementation,
        declared=declared,
        seed=seed,
        fail_on=fail_on,
    )
    return judge(model, [measure(model, batch, settings)], settings)


def measure(model: Any, batch: Mapping[str, Any] | None, settings: Settings) -> Measured:
    """What `verify` measures, not yet judged: the user's batch, our own, or both."""
    from attncheck.probe.inside import unwrap

    settings.check()
    inner = unwrap.unwrapped(model)
    facts = _facts(inner, settings)
    if unwrap.learned_prompts(inner):
        raise UsageError(
            f"verify: the model has learned prompts ({unwrap.adapters(inner)}), whose keys belong to no token",
            "verify the base model: model.get_base_model()",
        )
    _check_layers(facts, settings)
    names = _own_names(inner, batch, settings)
    looks = [measuring.own_batches(inner, facts, settings, names)] if names else []
    if batch is not None:
        if not isinstance(batch, Mapping):
            raise UsageError(
                f"verify: the batch is a {type(batch).__name__}, expected a mapping of forward's keyword arguments"
            )
        looks.append(measuring.users_batch(inner, batch, facts, settings))
    return measuring.joined(looks)


def judge(model: Any, measured: Sequence[Measured], settings: Settings) -> Report:
    """The report on what was measured: the same checks as `compare`, for the layers of this model."""
    from attncheck.probe.inside import unwrap

    inner = unwrap.unwrapped(model)
    facts = _facts(inner, settings)
    config = unwrap.config_of(inner)
    name = str(getattr(config, "_name_or_path", "") or "") or facts.spec.model_type
    title = os.path.basename(name.rstrip("/\\")) if os.path.exists(name) or name.count("/") > 1 else name
    kind = type(unwrap.base_of(inner)).__name__
    state = [kind, str(facts.device), "train mode" if inner.training else "eval mode"]
    state += [word for word in (unwrap.adapters(inner), "" if inner is model else type(model).__name__) if word]
    return judging.report(
        facts,
        measured,
        settings,
        title=title,
        detail="the model in this process: " + ", ".join(state),
        training=bool(inner.training),
        own=patched.resolution(facts, inner, read_environment()),
        remarks=[_COMPILED] if unwrap.compiled(model, inner) else [],
    )


def _facts(inner: Any, settings: Settings) -> LiveFacts:
    from attncheck.probe.inside.facts import facts

    return patched.named(facts(inner, settings.declared), inner)


def _check_layers(facts: LiveFacts, settings: Settings) -> None:
    """Raise UsageError for a layer that the model does not have: nothing would be read of it."""
    last = max((spec.layer for spec in facts.spec.layers), default=None)
    if strange := [number for number in settings.layers or () if last is not None and number > last]:
        raise UsageError(
            f"verify: layers={list(settings.layers or ())}: the model has no layer {strange[0]}; "
            f"its layers are 0 to {last}",
            "layers are counted from 0; leave out layers to read each kind of layer once",
        )


def _own_names(inner: Any, batch: Mapping[str, Any] | None, settings: Settings) -> tuple[str, ...]:
    """The scenarios to feed ourselves: beside a batch only the short plain one that gives the softmax terms."""
    if settings.forward is not None and batch is not None:
        return ()
    use = settings.use or ("train" if inner.training else "generate")
    names = measuring.OWN[use] if batch is None else ("plain",) if settings.fit else ()
    return (*names, *(("packed",) if settings.packing else ()))
