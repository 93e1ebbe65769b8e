"""Version-tolerant access to the installed transformers: config classes, their defaults and keys, model classes."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

#: How each kind of head is looked up, in the order in which a head is preferred.
_MAPPINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("causal-lm", ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",)),
    ("seq2seq", ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",)),
    ("masked-lm", ("MODEL_FOR_MASKED_LM_MAPPING_NAMES",)),
    ("base", ("MODEL_MAPPING_NAMES",)),
)

#: Fields every config class inherits that carry no information about the model (library bookkeeping).
_BOOKKEEPING = frozenset({"self", "args", "kwargs", "return"})

#: Names under which a composite config keeps the config of its text decoder, in the order of preference.
TEXT_KEYS = ("text_config", "thinker_config", "llm_config", "language_config", "decoder", "generator", "decoder_config")


class UnknownModelType(Exception):
    """The installed transformers has no config class for this type."""


def model_types() -> tuple[str, ...]:
    """Every model type the installed transformers knows, sorted."""
    from transformers import CONFIG_MAPPING

    return tuple(sorted(CONFIG_MAPPING.keys()))


def nearest_types(model_type: str) -> tuple[str, ...]:
    """Known model types whose names resemble this one, best first, at most three."""
    return tuple(difflib.get_close_matches(model_type, model_types(), n=3, cutoff=0.6))


def config_class(model_type: str) -> Any:
    """The config class of a model type. Raises UnknownModelType."""
    from transformers import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[model_type]
    except KeyError:
        raise UnknownModelType(model_type) from None


def json_like(value: Any) -> Any:
    """The value as JSON-like data: tuples become lists, keys text, torch dtypes and the rest their short names."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_like(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [json_like(item) for item in value]
    if isinstance(value, type):
        return value.__name__
    return str(value).removeprefix("torch.")


@functools.cache
def _own_defaults(cls: Any) -> Mapping[str, Any]:
    """Declared default of every field or constructor argument, sub-configs not expanded."""
    found: dict[str, Any] = {}
    if dataclasses.is_dataclass(cls):  # transformers 5
        for field in dataclasses.fields(cls):
            if field.default is not dataclasses.MISSING:
                found[field.name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory()
    if "__init__" in vars(cls) or not found:  # transformers 4, and classes that keep their own constructor
        for base in reversed(cls.__mro__):
            if "__init__" not in vars(base) or base is object:
                continue
            try:
                parameters = inspect.signature(base.__init__).parameters.values()
            except (TypeError, ValueError):
                continue
            for parameter in parameters:
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    found[parameter.name] = None if parameter.default is parameter.empty else parameter.default
    return {key: value for key, value in found.items() if key not in _BOOKKEEPING and not key.startswith("_")}


@functools.cache
def _swallowed_arguments(cls: Any) -> frozenset[str]:
    """Keys the constructor takes out of `**kwargs`: arguments that no signature names (`sliding_window_pattern`)."""
    found: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.split(".")[-1] == "configuration_utils":
            break
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):
            continue
        found.update(re.findall(r"kwargs\.(?:pop|get)\(\s*[\"'](\w+)[\"']", source))
        found.update(re.findall(r"[\"'](\w+)[\"'] in kwargs", source))
    return frozenset(found)


def sub_config_types(cls: Any) -> Mapping[str, tuple[str, Config]]:
    """Sub-configs of a composite class: key -> (default model type, arguments the class fills in when it is absent)."""
    found: dict[str, tuple[str, Config]] = {}
    specs = getattr(cls, "sub_configs_defaults", None)
    if specs:
        return {key: (spec.model_type, json_like(spec.init_kwargs)) for key, spec in specs.items()}
    declared = getattr(cls, "sub_configs", None) or {}
    for key, sub in declared.items():
        if model_type := getattr(sub, "model_type", ""):
            found[key] = (model_type, {})
    if set(found) >= set(declared) and hasattr(cls, "sub_configs"):
        return found
    default = default_config(cls)  # AutoConfig sub-configs, and versions before `sub_configs`: look at an instance
    for key, value in (vars(default) if default is not None else {}).items():
        if is_config(value):
            found.setdefault(key, (value.model_type, {}))
    return found


@functools.cache
def default_config(cls: Any) -> Any:
    """The class built without arguments, or None where it refuses."""
    try:
        return cls()
    except Exception:  # any class may refuse its own defaults in its own way
        return None


def is_config(value: Any) -> bool:
    """True for a transformers config object."""
    from transformers import PretrainedConfig

    return isinstance(value, PretrainedConfig)


def sub_class(cls: Any, key: str, model_type: str) -> Any:
    """The config class of a sub-config: the one the composite class names, else by model type; None when unknown."""
    spec = (getattr(cls, "sub_configs_defaults", None) or {}).get(key)
    named: Any = spec.config_class if spec is not None else (getattr(cls, "sub_configs", None) or {}).get(key)
    if inspect.isclass(named) and hasattr(named, "model_type"):  # AutoConfig has none
        return named
    try:
        return config_class(model_type)
    except UnknownModelType:
        return None


def defaults(cls: Any, config: Config | None = None) -> dict[str, Any]:
    """Constructor defaults as JSON-like data, sub-configs nested, their classes picked by the raw `config`."""
    found = {key: json_like(value) for key, value in _own_defaults(cls).items()}
    for key, (model_type, arguments) in sub_config_types(cls).items():
        raw = (config or {}).get(key)
        raw = raw if isinstance(raw, Mapping) else None
        sub = sub_class(cls, key, str((raw or {}).get("model_type") or model_type))
        if sub is None or sub is cls:
            continue
        nested = defaults(sub, raw)
        if raw is None:
            nested.update(arguments)
        nested["model_type"] = (raw or {}).get("model_type") or getattr(sub, "model_type", "") or model_type
        found[key] = nested
    return found


def aliases(cls: Any) -> Mapping[str, str]:
    """Other names of fields that the class accepts: alias -> field."""
    return dict(getattr(cls, "attribute_map", None) or {})


def known_keys(cls: Any, config: Config | None = None) -> frozenset[str]:
    """Every key the class takes, aliases and arguments hidden in `**kwargs` included, dotted for sub-configs."""
    names = set(_own_defaults(cls)) | set(aliases(cls)) | _swallowed_arguments(cls)
    default = default_config(cls)
    if default is not None:
        names.update(key for key in vars(default) if not key.startswith("_"))
    names |= {"model_type", "rope_scaling", "rope_theta", "partial_rotary_factor", "torch_dtype", "num_labels"}
    for key, (model_type, _) in sub_config_types(cls).items():
        raw = (config or {}).get(key)
        raw = raw if isinstance(raw, Mapping) else None
        sub = sub_class(cls, key, str((raw or {}).get("model_type") or model_type))
        if sub is not None and sub is not cls:
            names.update(f"{key}.{name}" for name in known_keys(sub, raw))
    return frozenset(names)


def make_config(cls: Any, config: Config) -> Any:
    """The config object, by the constructor alone: what `from_pretrained` does with the file. Raises what it raises."""
    arguments = copy.deepcopy(dict(config))
    arguments.pop("model_type", None)
    return cls(**arguments)


def model_class(model_type: str, kind: str) -> Any:
    """The model class that transformers maps this type to for a kind of head, or None. Raises ImportError."""
    return mapped_class(model_type, dict(_MAPPINGS)[kind])


def mapped_class(model_type: str, mappings: tuple[str, ...]) -> Any:
    """The class that the first of these mappings of transformers has for this type, or None. Raises ImportError."""
    import transformers
    from transformers.models.auto import configuration_auto, modeling_auto

    for names in mappings:
        entry = getattr(modeling_auto, names, {}).get(model_type)
        if entry is None:
            continue
        name = entry if isinstance(entry, str) else entry[0]
        module_name = configuration_auto.model_type_to_module_name(model_type)
        module = importlib.import_module(f"transformers.models.{module_name}")
        found = getattr(module, name, None) or getattr(transformers, name, None)
        if found is not None:
            return found
    return None


def probed_class(model_type: str) -> tuple[str, Any] | None:
    """(kind, model class) to probe: causal LM, else seq2seq, masked LM, base model. None when nothing maps."""
    return next(iter(probed_classes(model_type)), None)


def probed_classes(model_type: str) -> tuple[tuple[str, Any], ...]:
    """Every (kind, model class) that could be probed, the preferred one first."""
    found = ((kind, model_class(model_type, kind)) for kind, _ in _MAPPINGS)
    return tuple((kind, model) for kind, model in found if model is not None)


def forward_arguments(model_class: Any) -> tuple[str, ...]:
    """Argument names of the model's forward, `self` left out; none for a class whose optional package is missing."""
    try:
        forward = inspect.unwrap(model_class.forward)
    except ImportError:  # the stand-in that transformers exports then refuses every attribute
        return ()
    return tuple(name for name in inspect.signature(forward).parameters if name != "self")


@functools.cache
def _source(module: str) -> str:
    try:
        return inspect.getsource(importlib.import_module(module))
    except (ImportError, OSError, TypeError):
        return ""


@functools.cache
def fixed_at_construction(module: str) -> bool:
    """True when constructors in a modeling file remember the implementation: switching it later is not enough."""
    return bool(
        re.search(
            r"\[\s*(?:self\.)?config\._attn_implementation\s*\]|self\.\w+\s*=.*config\._attn_implementation"
            r"|_ATTENTION_CLASSES\[",
            _source(module),
        )
    )
