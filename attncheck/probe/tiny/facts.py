"""What the installed transformers knows of a config's model type: classes, defaults, keys, declared support."""

from __future__ import annotations

import copy
from typing import Any

from attncheck.probe.protocol import ClassFacts, Config, UnknownType
from attncheck.probe.tiny import library, switch, target
from attncheck.probe.tiny.shrink import shrink


def describe(config: Config, trust_remote_code: bool = False) -> ClassFacts | UnknownType:
    """The facts of a raw config (the file with overrides applied), or why transformers cannot know them.

    A native type is described by transformers' own class even when the file also names remote code (`auto_map`).
    `kind` and `model_class` speak of the text tower of a multimodal type; `config_class`, `defaults` and `keys` of the
    whole config. Nothing is downloaded and no weights are allocated.
    """
    import torch
    import transformers

    model_type = str(config.get("model_type") or "")
    try:
        found = target.find(config, trust_remote_code)
    except library.UnknownModelType as error:
        return UnknownType(model_type, str(error), library.nearest_types(model_type) if model_type else ())
    except (target.NoModelClass, ImportError) as error:
        return _without_model(config, model_type, str(error))
    instance = _instance(found)
    return ClassFacts(
        model_type=model_type,
        kind=found.kind,
        config_class=found.top_class.__name__,
        model_class=found.model_class.__name__,
        transformers=str(transformers.__version__),
        torch=str(torch.__version__),
        defaults=library.defaults(found.top_class, config),
        keys=library.known_keys(found.top_class, config),
        supports={name: switch.supports(instance, name) for name in implementations()},
        compatible_flash=_compatible_flash(instance),
        default_implementation=_default(found, instance),
        forward_args=library.forward_arguments(found.model_class),
    )


def implementations() -> tuple[str, ...]:
    """The implementation names that the installed transformers has, `eager` first."""
    known = ["eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"]
    registered = switch.registered_implementations()
    return tuple(name for name in known if name == "eager" or name in registered)


def _without_model(config: Config, model_type: str, reason: str) -> ClassFacts | UnknownType:
    """A known config class for which no text model can be probed: its defaults and keys are still facts."""
    import torch
    import transformers

    try:
        cls = library.config_class(model_type)
    except library.UnknownModelType:
        return UnknownType(model_type, reason, library.nearest_types(model_type))
    return ClassFacts(
        model_type=model_type,
        kind="base",
        config_class=cls.__name__,
        model_class="",
        transformers=str(transformers.__version__),
        torch=str(torch.__version__),
        defaults=library.defaults(cls, config),
        keys=library.known_keys(cls, config),
    )


def _instance(found: target.Target) -> Any:
    """The model class with a config but without weights; a class whose flags are plain attributes where that fails."""
    try:
        raw = shrink(found.config, found.defaults, aliases=library.aliases(found.config_class))
        return switch.bare(found.model_class, library.make_config(found.config_class, raw))
    except Exception:  # a config the class refuses is reported by the build; the class's flags can still be read
        return found.model_class


def _compatible_flash(instance: Any) -> tuple[str, ...] | None:
    names = getattr(instance, "_compatible_flash_implementations", None)
    return tuple(str(name) for name in names) if names else None


def _default(found: target.Target, instance: Any) -> str | None:
    """What transformers picks when nobody asks, by the class's own check; None when it cannot be asked."""
    if isinstance(instance, type):
        return None
    chosen: Any = None
    try:
        if (method := getattr(instance, "_check_and_adjust_attn_implementation", None)) is not None:
            chosen = method(None, is_init_check=True)
        elif (auto := getattr(found.model_class, "_autoset_attn_implementation", None)) is not None:
            config = copy.deepcopy(instance.config)
            config._attn_implementation_internal = None
            chosen = auto(config, check_device_map=False)._attn_implementation
        else:  # 4.37 and before: the constructor does it
            chosen = getattr(instance.config, "_attn_implementation", None)
    except Exception:  # a check that needs more than a config says nothing about the default
        return None
    return str(chosen) if isinstance(chosen, str) else None
