"""Gets to the transformers model inside what users hold: compiled, wrapped for several GPUs, or with adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attncheck.errors import UsageError


def unwrapped(model: Any) -> Any:
    """The module whose forward is the model's own: without torch.compile's and the data-parallel wrappers.

    Adapters (PEFT) stay: they are part of what runs. Raises UsageError for what is no torch module with a config.
    """
    seen = model
    for _ in range(8):  # wrappers in wrappers; a cycle would be somebody's joke
        inner = getattr(seen, "_orig_mod", None)
        if inner is None and type(seen).__name__ in _WRAPPERS:
            inner = getattr(seen, "module", None)
        if inner is None:
            break
        seen = inner
    if not hasattr(seen, "named_modules") or config_of(seen) is None:
        raise UsageError(
            f"verify: {type(model).__name__} is no transformers model (no torch module with a `config`)",
            "pass the model that from_pretrained returned, or what PEFT, Unsloth or torch.compile made of it",
        )
    return seen


#: Wrappers that keep the whole model inside. FSDP is none of them: only its own forward puts the weights together.
_WRAPPERS = ("DistributedDataParallel", "DataParallel", "DeepSpeedEngine")


def base_of(model: Any) -> Any:
    """The transformers model below adapters: the one whose class and forward signature say what it takes."""
    inner = getattr(model, "get_base_model", None)
    return inner() if callable(inner) else model


def config_of(model: Any) -> Any:
    """The model's config object, None without one."""
    return getattr(base_of(model), "config", None) or getattr(model, "config", None)


def text_config(config: Any) -> Any:
    """The config of the text stack of a multimodal model; the config itself for others."""
    inner = getattr(config, "get_text_config", None)
    return inner() if callable(inner) else config


def compiled(model: Any, inner: Any) -> bool:
    """True where torch.compile wrapped the model or some module of it. inner: the model unwrapped."""
    wrapped = hasattr(model, "_orig_mod")
    return wrapped or any(getattr(module, "_compiled_call_impl", None) is not None for module in inner.modules())


def adapters(model: Any) -> str:
    """What adapters do to the model, in words; "" without any. Learned prompts put keys in front of all tokens."""
    known = getattr(model, "peft_config", None)
    if not isinstance(known, Mapping) or not known:
        return ""
    kinds = sorted({str(getattr(entry.peft_type, "value", entry.peft_type)) for entry in known.values()})
    return ", ".join(kinds)


def learned_prompts(model: Any) -> bool:
    """True when an adapter puts virtual tokens before the input, so that keys are no longer the tokens alone."""
    known = getattr(model, "peft_config", None)
    entries = known.values() if isinstance(known, Mapping) else ()
    return any(bool(getattr(entry, "is_prompt_learning", False)) for entry in entries)


def implementation_of(model: Any) -> str:
    """The attention implementation that the text config names, "" without one."""
    name = getattr(text_config(config_of(model)), "_attn_implementation", None)
    return name if isinstance(name, str) else ""
