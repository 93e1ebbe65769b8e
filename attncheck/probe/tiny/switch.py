"""Puts an attention implementation under a model that is already built, the class's own refusals included."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from attncheck.probe.flash.virtual import shared_file
from attncheck.probe.reading import seam
from attncheck.probe.tiny import library


def bare(cls: Any, config: Any) -> Any:
    """An instance without weights: enough to ask the class's own checks and properties about an implementation."""
    import torch

    instance = cls.__new__(cls)
    torch.nn.Module.__init__(instance)
    object.__setattr__(instance, "config", config)
    return instance


def check(model: Any, implementation: str) -> str:
    """The name the model's class settles on for a requested one. Raises the class's ValueError when it refuses.

    Some versions answer an unsupported request with another implementation instead of a refusal; that name is returned
    then. A missing flash package is no refusal of the class: whether it is installed is known elsewhere, and a stand-in
    may take its place.
    """
    if implementation == "eager":
        return implementation
    if seam.is_flash(implementation) and not supports(model, implementation):
        raise ValueError(
            f"{type(model).__name__} does not support FlashAttention ({implementation}): "
            "the class declares no flash support"
        )
    for name in ("get_correct_attn_implementation", "_check_and_adjust_attn_implementation"):
        if (method := getattr(model, name, None)) is not None:
            try:
                return str(method(implementation, is_init_check=True))
            except ImportError:
                if not seam.is_flash(implementation):
                    raise
            return implementation
    return _check_before_4_54(model, implementation)


def _check_before_4_54(model: Any, implementation: str) -> str:
    """The same for versions whose checks are class methods that change the config they are given."""
    names = {"sdpa": "_check_and_enable_sdpa", "flex_attention": "_check_and_enable_flex_attn"}
    method = getattr(type(model), names.get(implementation, ""), None)
    if method is not None:
        method(copy.deepcopy(model.config), hard_check_only=True)
        return implementation
    known = registered_implementations()
    if implementation not in known:
        raise ValueError(
            f"{implementation!r} is no attention implementation of the installed transformers: expected one of "
            f"{', '.join(sorted({'eager', *known}))}"
        )
    return implementation


def registered_implementations() -> frozenset[str]:
    """Names the installed transformers knows besides "eager", those that plug-ins registered included."""
    try:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError:  # before 4.48 there is no registry, and these two are spelled out in the code
        return frozenset(("sdpa", "flash_attention_2"))
    keys = getattr(ALL_ATTENTION_FUNCTIONS, "valid_keys", ALL_ATTENTION_FUNCTIONS.keys)
    return frozenset(str(key) for key in keys())


def supports(model: Any, implementation: str) -> bool:
    """What the class declares for an implementation; the attribute's name depends on the version."""
    flags = {
        "eager": (),
        "sdpa": ("_supports_sdpa",),
        "flex_attention": ("_supports_flex_attn",),
        "flash_attention_2": ("_supports_flash_attn", "_supports_flash_attn_2"),
        "flash_attention_3": ("_supports_flash_attn", "_supports_flash_attn_3", "_supports_flash_attn_2"),
        "flash_attention_4": ("_supports_flash_attn", "_supports_flash_attn_2"),
    }.get(implementation)
    if flags is None:
        return bool(getattr(model, "_supports_attention_backend", False))
    return not flags or any(bool(getattr(model, flag, False)) for flag in flags)


def needs_rebuild(model: Any) -> bool:
    """True when a part of the model chose its attention at construction."""
    modules = {type(module).__module__ for module in model.modules()}
    return any(library.fixed_at_construction(name) for name in modules if name.startswith("transformers"))


def preload(implementation: str) -> None:
    """Load the real flash package as `from_pretrained` does: flash classes of a type's own ask for it without a name.

    Raises what the library raises when it cannot be loaded.
    """
    # Before 4.43 there is no such file: every model file imports the package itself.
    if (load := getattr(shared_file(), "lazy_import_flash_attention", None)) is not None:
        load(implementation)


def set_name(model: Any, implementation: str) -> None:
    """Writes the name into every config the model's modules hold, sub-configs included."""
    seen: set[int] = set()
    for module in model.modules():
        config = getattr(module, "config", None)
        if library.is_config(config):
            _write(config, implementation, seen)


def _write(config: Any, implementation: str, seen: set[int]) -> None:
    if id(config) in seen:
        return
    seen.add(id(config))
    config._attn_implementation_internal = implementation
    if "_attn_implementation_autoset" in vars(config):
        config._attn_implementation_autoset = True
    for value in list(vars(config).values()):
        for item in value if isinstance(value, list | tuple) else (value,):
            if library.is_config(item):
                _write(item, implementation, seen)


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Constructors take the implementation they are told, without asking for its package."""
    from transformers import PreTrainedModel

    def keep(self: Any, implementation: str | None, *args: Any, **kwargs: Any) -> str | None:
        return implementation

    def keep_config(cls: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        for value in vars(config).values():
            if library.is_config(value):
                value._attn_implementation_internal = config._attn_implementation_internal
        config._attn_implementation_autoset = True
        return config

    patches: dict[str, Any] = {
        "_check_and_adjust_attn_implementation": keep,
        "_autoset_attn_implementation": classmethod(keep_config),
    }
    saved = {name: vars(PreTrainedModel)[name] for name in patches if name in vars(PreTrainedModel)}
    for name in saved:
        setattr(PreTrainedModel, name, patches[name])
    try:
        yield
    finally:
        for name, original in saved.items():
            setattr(PreTrainedModel, name, original)
